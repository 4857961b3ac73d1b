"""A model card and a CLAIM checklist, filled with what checkpoints and evaluation runs say and with nothing else."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from jcs_ct import NOTICE, __version__
from jcs_ct.checkpoints import CheckpointInfo, file_sha256
from jcs_ct.errors import ConfigError, NotFoundError
from jcs_ct.evaluation.pages.tables import MEASURED
from jcs_ct.files import read_json

#: What only the authors of a study know.
OPEN = "to be filled in by the authors"

#: CLAIM (Mongan, Moy, Kahn, Radiology: AI 2020), item by item.
CLAIM_ITEMS = (
    "Identification as a study of AI methodology, with the category of technology",
    "Structured summary of design, methods, results and conclusions",
    "Scientific and clinical background, intended use and clinical role",
    "Study objectives and hypotheses",
    "Prospective or retrospective study",
    "Study goal",
    "Data sources",
    "Eligibility criteria",
    "Data pre-processing",
    "Selection of data subsets",
    "Definitions of data elements",
    "De-identification",
    "Handling of missing data",
    "Definition of the reference standard",
    "Rationale for the reference standard",
    "Source of annotations and qualifications of annotators",
    "Annotation tools",
    "Inter- and intrarater variability",
    "Intended sample size",
    "How data were assigned to partitions",
    "Level at which partitions are disjoint",
    "Description of the model, its inputs and outputs",
    "Software libraries and frameworks",
    "Initialisation of parameters",
    "Training approach, augmentation, hyperparameters",
    "How the final model was selected",
    "Ensembling",
    "Metrics of performance",
    "Statistical measures of significance and uncertainty",
    "Robustness or sensitivity analysis",
    "Explainability",
    "Testing on external data",
    "Flow of participants or cases",
    "Demographic and clinical characteristics",
    "Performance of the model on all partitions",
    "Diagnostic accuracy and its precision",
    "Failure analysis",
    "Limitations",
    "Implications for practice",
    "Registration number",
    "Access to the full protocol",
    "Funding",
)


#: The tasks of networks as item 1 names them.
_TASK_WORDS = {"classifier": "classification", "segmenter": "segmentation"}
#: Tables of runs in which no answer of a network is judged: of data, of speed.
_JUDGE_NO_ANSWER = {"counts", "table_ii"}
#: What a table of an evaluation holds.
_TABLE = {"name", "title", "columns", "rows", "notes"}


def read_evaluation(folder: Path) -> dict[str, Any]:
    """``evaluation.json`` of a folder that `jcs evaluate` or `jcs crossval` wrote.

    Raises:
        ConfigError: there is none, or it is not one.
    """
    path = folder / "evaluation.json"
    if not path.is_file():
        raise NotFoundError(f"there is no {path}; give folders that `jcs evaluate` wrote")
    content = read_json(path)
    if not isinstance(content, dict) or not {"tables", "warnings", "title"} <= set(content):
        raise ConfigError(f"{path} is not an evaluation; give folders that `jcs evaluate` wrote")
    if not isinstance(content.get("facts", {}), dict):
        raise ConfigError(f"{path} is not an evaluation: its facts are no object")
    tables = content["tables"]
    if not isinstance(tables, dict) or not all(
        isinstance(one, dict) and set(one) >= _TABLE for one in tables.values()
    ):
        raise ConfigError(f"{path} is not an evaluation: a table has {', '.join(sorted(_TABLE))}")
    return content


def judged_weights(evaluation: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """SHA-256 of the weights that a run states: of the networks it compares, by name, and of the one of each task."""
    facts = evaluation.get("facts", {})
    compared = dict(facts.get("weights_sha256", {}))
    for name, pair in facts.get("weights", {}).items():  # of `jcs evaluate speed`
        compared |= {f"{name} {task}": sha256 for task, sha256 in pair.items() if sha256}  # none where drawn
    tasks = ("classifier", "segmenter")
    return compared, {task: facts[f"{task}_sha256"] for task in tasks if f"{task}_sha256" in facts}


def require_own_weights(run: Path, evaluation: Mapping[str, Any], paths: Sequence[Path]) -> None:
    """Refuse a run of other networks than a card's; one that compares them with others may stay.

    Raises:
        ConfigError: none of the networks that it compares is of the card, or the one of a task is not.
    """
    own = {file_sha256(path): path for path in paths}
    compared, alone = judged_weights(evaluation)
    strange = {name: sha256 for name, sha256 in alone.items() if sha256 not in own}
    if not own.keys() & set(compared.values()):
        strange |= compared
    if strange:
        judged = ", ".join(f"{name} {sha256[:12]}" for name, sha256 in strange.items())
        given = ", ".join(f"{path} {sha256[:12]}" for sha256, path in own.items())
        raise ConfigError(
            f"{run} holds figures of other networks than the card's: by SHA-256 it judged {judged}, and there are "
            f"{given}; evaluate these, or give --models the folder of those that were judged"
        )


def card_head(metadata: Mapping[str, Any]) -> str:
    """Metadata as Hugging Face's model cards have them: YAML between two lines of dashes."""
    return f"---\n{yaml.safe_dump(dict(metadata), sort_keys=False, width=118, allow_unicode=True)}---\n"


def card_metadata(paths: Sequence[Path]) -> dict[str, Any]:
    """What every card of networks of this package says of them: kind, version, and the files' sizes and hashes."""
    return {
        "library_name": "jcs-ct",
        "pipeline_tag": "image-segmentation",
        "tags": [
            "medical",
            "chest-ct",
            "covid-19",
            "image-classification",
            "image-segmentation",
            "research-use-only",
        ],
        "notice": NOTICE,
        "software_version": __version__,
        "files": [
            {"path": path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in sorted(paths)
        ],
    }


def model_card(infos: Mapping[Path, CheckpointInfo], evaluations: Sequence[Mapping[str, Any]]) -> str:
    """Markdown, with the metadata of Hugging Face's cards but the licence, which only the authors know.

    Args:
        infos: What the checkpoints say of themselves, by their file.
        evaluations: From :func:`read_evaluation`.
    """
    parts = [
        card_head(card_metadata([*infos])),
        "# Model card",
        "",
        f"**{NOTICE}**",
        "",
        f"Written by jcs-ct {__version__} from checkpoints and evaluations.",
    ]
    own = {entry["sha256"] for entry in card_metadata([*infos])["files"]}
    for path, info in infos.items():
        parts += ["", f"## {path.stem}", "", *_network_lines(info)]
    parts += ["", "## Figures", ""]
    if not evaluations:
        parts.append("No evaluation was given: nothing is said of how good these networks are.")
    for evaluation in evaluations:
        parts += [f"### {evaluation['title']}", ""]
        parts += [f"> {said}" for said in (*_weights_notes(evaluation, own), *evaluation["warnings"])]
        for table in evaluation["tables"].values():
            parts += _measured_lines(table)
    parts += [
        "",
        "## Intended use, limits, ethics",
        "",
        f"Intended use and clinical role: {OPEN}. Whatever they are, the notice above holds.",
        "",
        f"Limits, known failures, groups for which no figure is given: {OPEN}.",
        "",
    ]
    return "\n".join(parts)


def _weights_notes(evaluation: Mapping[str, Any], own: Collection[str]) -> list[str]:
    """Which figures below are not of the card's own weights, ``own`` by SHA-256, as far as the run states it."""
    compared, alone = judged_weights(evaluation)
    if not compared and not alone:
        of_data = "counts" in evaluation["tables"]  # `jcs data stats`, where no network is judged
        return [] if of_data else ["of weights that are not stated"]
    others = [name for name, sha256 in compared.items() if sha256 not in own]
    return [f"other networks than this card's: {', '.join(others)}"] if others else []


def _network_lines(info: CheckpointInfo) -> list[str]:
    preprocessor, recipe = info.preprocessor, info.provenance.get("recipe")
    lines = [
        f"- task: {info.task}, preset `{info.preset}`",
        f"- input: {preprocessor.size} x {preprocessor.size} pixels, {preprocessor.channels} channel(s), window "
        f"level {preprocessor.window.level:g} HU, width {preprocessor.window.width:g} HU"
        + (", cut to the body" if preprocessor.body_crop else ""),
        f"- trained on the manifest with SHA-256 `{info.provenance.get('manifest_sha256', 'not known')}`",
    ]
    if isinstance(recipe, Mapping):
        optimiser = recipe["optimiser"]
        lines.append(
            f"- training: {recipe['steps']} steps of batch {recipe['batch_size']}, {optimiser['name']} at "
            f"{optimiser['learning_rate']:g} ({optimiser['schedule']}), image mixing alpha "
            f"{recipe['mixup_alpha']:g}, L_seg weight {recipe['activation_map_weight']:g}, seed {recipe['seed']}; "
            f"weights of step {info.provenance.get('step', 'not known')}"
        )
    if info.operating_point is not None:
        point = info.operating_point
        lines.append(
            f"- operating point, chosen on validation patients: slice probability {point.slice_probability:g}, "
            f"positive with more than {point.positive_slice_threshold} slices, "
            f"lesion probability {point.lesion_probability:g}"
        )
    return lines


def _measured_lines(table: Mapping[str, Any]) -> list[str]:
    """A table's measured rows as Markdown; long ones and single slices stay in their CSV."""
    rows = [row for row in table["rows"] if row.get("origin") in (None, MEASURED)]
    if not rows or len(rows) > 12 or table["name"] == "per_image":
        return []
    keys = [column["key"] for column in table["columns"] if any(row.get(column["key"]) is not None for row in rows)]
    titles = {column["key"]: column["title"] for column in table["columns"]}
    lines = [
        f"**{table['title']}**",
        "",
        "| " + " | ".join(titles[key] for key in keys) + " |",
        "|---" * len(keys) + "|",
    ]
    lines += ["| " + " | ".join(_cell(row, key) for key in keys) + " |" for row in rows]
    return [*lines, "", *table["notes"], ""]


def _cell(row: Mapping[str, Any], key: str) -> str:
    value, low, high = (row.get(name) for name in (key, f"{key}_low", f"{key}_high"))
    if value is None:
        return "not given"
    if isinstance(value, float):
        return f"{value:.3g}" if low is None or high is None else f"{value:.3g} [{low:.3g}, {high:.3g}]"
    return str(value)


def claim_table(infos: Mapping[Path, CheckpointInfo], evaluations: Sequence[Mapping[str, Any]]) -> str:
    """The CLAIM checklist as Markdown; items that no file answers are left open, never guessed."""
    answers = _answers(infos, evaluations)
    rows = [
        f"| {number} | {item} | {answers.get(number, OPEN)} |" for number, item in enumerate(CLAIM_ITEMS, start=1)
    ]
    filled = sum(number in answers for number in range(1, len(CLAIM_ITEMS) + 1))
    head = [
        "# CLAIM checklist",
        "",
        f"**{NOTICE}**",
        "",
        f"{filled} of {len(CLAIM_ITEMS)} items are answered by the checkpoints and evaluations; the others are open.",
        "",
        "| item | | answer |",
        "|---|---|---|",
    ]
    return "\n".join([*head, *rows, ""])


def _answers(infos: Mapping[Path, CheckpointInfo], evaluations: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    tables = {name for evaluation in evaluations for name in evaluation["tables"]}
    judging = [evaluation for evaluation in evaluations if not _JUDGE_NO_ANSWER & set(evaluation["tables"])]
    found: dict[int, str] = {}
    if infos:
        tasks = " and ".join(sorted({_TASK_WORDS[info.task] for info in infos.values()}))
        found[1] = f"Convolutional networks for {tasks} of CT slices (JCS)"
        found[9] = "Model card: input of each network; stored in its checkpoint"
        found[22] = "; ".join(f"{path.stem}: {info.task}, preset {info.preset}" for path, info in infos.items())
        found[23] = f"jcs-ct {__version__}, torch" + ("; versions in evaluation.json" if evaluations else "")
        if all("manifest_sha256" in info.provenance for info in infos.values()):
            found[21] = "Patient: a manifest that has one in two splits is refused (of lists of features: not known)"
        if all("recipe" in info.provenance for info in infos.values()):
            found[25] = "Recipe in each checkpoint's metadata; summary in the model card"
            found[24] = "; ".join(f"{path.stem}: {_start(info)}" for path, info in infos.items())
            found[26] = "; ".join(f"{path.stem}: {_choice(info)}" for path, info in infos.items())
            found[27] = "; ".join(f"{path.stem}: {_ensembling(info)}" for path, info in infos.items())
    if judging:
        titles = "; ".join(str(evaluation["title"]) for evaluation in judging)
        found[28] = f"docs/reference/metrics.md; evaluated: {titles}"
        found[35] = "Model card, Figures: the split that each title names"
        if uncertainty := _uncertainty(judging):
            found[29] = uncertainty
    if "explanations" in tables:
        found[31] = "Activation maps scored against masks, with ceilings and randomised weights: explanations.csv"
    if "table_iv" in tables:
        found[36] = "table_iv.csv, auc.csv: sensitivity, specificity and AUC of patients with 95 % intervals"
    if "dice_shares" in tables:
        found[37] = "dice_shares.csv (slices below 0.1 and 0.6), per_image.csv, Fig. 11; causes: " + OPEN
    if "table_iii" in tables:
        found[34] = "Data set statistics: patients.csv, table_iii.csv, lesions.csv"
    return found


def _uncertainty(evaluations: Sequence[Mapping[str, Any]]) -> str:
    """How the intervals and the p-values that the tables hold were made; empty where they hold none."""
    methods = set()
    for table in (table for evaluation in evaluations for table in evaluation["tables"].values()):
        given = {key for row in table["rows"] for key, value in row.items() if value is not None}
        if any(key.endswith("_low") for key in given):
            is_wilson = any("Wilson" in note for note in table["notes"])
            methods.add("Wilson intervals" if is_wilson else "percentile bootstrap over patients")
        if "p_holm" in given:
            methods.add("paired permutation tests (Holm)")
    said = ", ".join(sorted(methods, key=str.lower))
    return said[:1].upper() + said[1:]


def _ensembling(info: CheckpointInfo) -> str:
    averaged = info.provenance.get("averaged")
    if averaged is None:
        return "none"
    return (
        f"one network, its weights the mean of two trainings' ({averaged['share_of_the_later']:g} of the later; the "
        f"earlier has SHA-256 {averaged['earlier_sha256'][:12]})"
    )


def _start(info: CheckpointInfo) -> str:
    start = info.provenance.get("pretrained")
    return "weights drawn at random" if start is None else f"from {start['origin']} (SHA-256 {start['sha256'][:12]})"


def _choice(info: CheckpointInfo) -> str:
    if info.provenance["recipe"].get("choose_weights", "best") == "last":
        return "weights of the last step; no score was looked at"
    return "weights of the best validation score; test slices were not looked at"
