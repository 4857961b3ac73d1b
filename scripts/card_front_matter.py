"""The Hugging Face metadata at the head of the model card, from the figures and the files that it is of.

    python scripts/card_front_matter.py           exit code 1 where the card says something else
    python scripts/card_front_matter.py --write   put it there

Licence, tags and data sets stand here; measures come from ``weights/figures.json``, hashes from the files themselves.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jcs_ct.checkpoints import shipped_checkpoint
from jcs_ct.evaluation.pages.model_card import card_head, card_metadata
from jcs_ct.reporting.model_limits import LesionFigures, SliceFigures, shipped_figures

CARD = Path(__file__).resolve().parents[1] / "src/jcs_ct/weights/MODEL_CARD.md"
_FENCE = "---\n"
NAME = "jcs-ct compact"
#: Source in the figures -> an identifier without blanks, as the metadata wants it.
DATASETS = {
    "COVID-CT-MD": "covid-ct-md",
    "CT100": "medseg-covid-19-ct-100",
    "COVID-CT (UCSD)": "ucsd-covid-ct",
    "finding-lungs": "finding-lungs-267",
}
#: What the networks were trained on, besides.
TRAINED_ON = ("zenodo-3757476", "sars-cov-2-ct-scan", "iq-othnccd", "pneumonia224")


def front_matter() -> dict[str, Any]:
    """The metadata as Hugging Face's model cards have it, with the weights' hashes."""
    weights = shipped_figures().weights
    return {
        "license": "apache-2.0",
        **card_metadata([shipped_checkpoint("classifier"), shipped_checkpoint("segmenter")]),
        "datasets": sorted({*DATASETS.values(), *TRAINED_ON} - {DATASETS["COVID-CT-MD"]}),
        "metrics": ["sensitivity", "specificity", "dice"],
        "model-index": [
            {
                "name": NAME,
                "results": [
                    *(
                        _result("image-classification", "Slices infected or not", row, _shares(row))
                        for row in weights.classifier.slices
                    ),
                    *(
                        _result("image-segmentation", "Opacities", row, _dice(row))
                        for row in weights.segmenter.lesions
                    ),
                ],
            }
        ],
    }


def _result(
    task: str, name: str, row: SliceFigures | LesionFigures, metrics: Iterator[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "task": {"type": task, "name": name},
        "dataset": {"type": DATASETS[row.source], "name": row.source, "args": {"held_out": row.held_out}},
        "metrics": list(metrics),
    }


def _shares(row: SliceFigures) -> Iterator[dict[str, Any]]:
    for name, share, slices in (
        ("sensitivity", row.sensitivity, row.infected),
        ("specificity", row.specificity, row.not_infected),
    ):
        if share is not None:
            yield {"type": name, "name": f"{name.capitalize()} of {slices} slices", "value": share}


def _dice(row: LesionFigures) -> Iterator[dict[str, Any]]:
    name = f"Mean Dice of {row.images} slices of {row.patients} patients, per cent"
    yield {"type": "dice", "name": name, "value": row.dice_percent}


def with_front_matter(card: str) -> str:
    """The card with today's metadata, whatever stood there."""
    body = card.split(_FENCE, 2)[2] if card.startswith(_FENCE) else card
    return f"{card_head(front_matter())}{body}"


def main() -> int:
    """Compare, or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    card = CARD.read_text(encoding="utf-8")
    wanted = with_front_matter(card)
    if parser.parse_args().write:
        CARD.write_text(wanted, encoding="utf-8")
    elif card != wanted:
        print(f"{CARD.name} says something else than figures and files: python scripts/card_front_matter.py --write")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
