import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from typer.testing import CliRunner

from jcs_ct.checkpoints import CheckpointInfo, file_sha256
from jcs_ct.cli import app
from jcs_ct.data.manifest import Manifest, ManifestRow
from jcs_ct.errors import ConfigError
from jcs_ct.evaluation.pages.data_statistics import describe_manifest
from jcs_ct.evaluation.pages.model_card import (
    CLAIM_ITEMS,
    OPEN,
    claim_table,
    model_card,
    read_evaluation,
    require_own_weights,
)
from jcs_ct.evaluation.pages.page import Evaluation, write_evaluation
from jcs_ct.evaluation.pages.tables import MEASURED, PAPER, Column, Table
from jcs_ct.operating_point import OperatingPoint
from jcs_ct.preprocessing import SlicePreprocessor
from jcs_ct.training.recipe import Recipe

RECIPE = Recipe(task="segmenter", preset="compact", steps=7)
INFO = CheckpointInfo(
    "segmenter",
    "compact",
    {},
    SlicePreprocessor(size=64),
    OperatingPoint(0.4, 25, 1.0, 0.35),
    {
        "recipe": Recipe(task="segmenter", preset="compact", steps=7).model_dump(mode="json"),
        "manifest_sha256": "ab12",
    },
)


@pytest.fixture
def evaluation(tmp_path):
    columns = (Column("method", "method"), Column("origin", "origin"), Column("dice_percent", "Dice %", 2, True))
    rows = (
        {
            "method": "ours",
            "origin": MEASURED,
            "dice_percent": 71.25,
            "dice_percent_low": 60.0,
            "dice_percent_high": 80.0,
        },
        {"method": "JCS", "origin": PAPER, "dice_percent": 78.5},
    )
    table = Table("scores", "Per image", columns, rows, ("A note.",))
    write_evaluation(tmp_path, Evaluation("Segmentation", (table,), {}, {}, ("short budget: 7 steps",)))
    return read_evaluation(tmp_path)


@pytest.fixture
def jcs_card(tmp_path):
    """What `jcs evaluate card` says when it refuses."""

    def refused(run, models):
        command = ["evaluate", "card", run, "--models", models, "-o", tmp_path / "card"]
        done = CliRunner().invoke(app, [str(word) for word in command])
        assert isinstance(done.exception, ConfigError)
        return str(done.exception)

    return refused


def test_the_card_says_what_the_files_say_and_no_figure_of_others(evaluation, tmp_path):
    weights = tmp_path / "segmenter.safetensors"
    weights.write_bytes(b"weights")
    card = model_card({weights: INFO}, [evaluation])
    assert "Research use only" in card
    assert "| ours | measured here | 71.2 [60, 80] |" in card
    assert "78.5" not in card
    assert "> short budget: 7 steps" in card
    assert "7 steps of batch 4, adam at 2.5e-05 (poly)" in card
    assert "lesion probability 0.35" in card
    assert "`ab12`" in card
    assert "No evaluation was given" in model_card({weights: INFO}, [])
    metadata = ModelCard(card, ignore_metadata_errors=False).data.to_dict()
    assert metadata["files"] == [
        {"path": "segmenter.safetensors", "bytes": 7, "sha256": hashlib.sha256(b"weights").hexdigest()}
    ]
    assert "license" not in metadata, "only the authors know it"


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"weights_sha256": {"segmenter": "OWN"}}, None),
        ({"weights_sha256": {"plain": "ab" * 32, "ours": "OWN"}}, "> other networks than this card's: plain\n"),
        ({"weights": {"compact": {"classifier": "ab" * 32, "segmenter": "OWN"}}}, "card's: compact classifier\n"),
        ({}, "> of weights that are not stated\n"),
    ],
)
def test_the_card_says_which_figures_are_not_of_its_networks(evaluation, tmp_path, facts, said):
    weights = tmp_path / "segmenter.safetensors"
    weights.write_bytes(b"weights")
    stated = json.loads(json.dumps(facts).replace("OWN", hashlib.sha256(b"weights").hexdigest()))
    run = {**evaluation, "facts": stated}
    require_own_weights(tmp_path, run, [weights])
    card = model_card({weights: INFO}, [run])
    assert said in card if said else "\n> short budget" in card.split("### Segmentation\n")[1][:20]


def test_statistics_of_data_are_of_no_weights(evaluation, tmp_path):
    statistics = describe_manifest(Manifest((ManifestRow(Path("a.png"), "a", 0, None, "test"),)), title="ours")
    write_evaluation(tmp_path / "statistics", statistics)
    weights = tmp_path / "segmenter.safetensors"
    weights.write_bytes(b"weights")
    card = model_card({weights: INFO}, [read_evaluation(tmp_path / "statistics")])
    assert "### Data set: ours" in card
    assert "not stated" not in card
    assert "not stated" in model_card({weights: INFO}, [evaluation])


@pytest.mark.parametrize(
    ("facts", "judged"),
    [
        ({"weights_sha256": {"plain": "ab" * 32, "lseg": "cd" * 32}}, "plain abababababab, lseg cdcdcdcdcdcd"),
        ({"classifier_sha256": "ab" * 32}, "classifier abababababab"),
        ({"weights": {"compact": {"segmenter": "ab" * 32}}}, "compact segmenter abababababab"),
    ],
)
def test_a_run_of_other_networks_is_refused(tmp_path, random_models, jcs_card, facts, judged):
    content = {"title": "t", "warnings": [], "tables": {}, "facts": facts}
    (tmp_path / "evaluation.json").write_text(json.dumps(content))
    done = jcs_card(tmp_path, random_models)
    assert f"{tmp_path} holds figures of other networks than the card's: by SHA-256 it judged {judged}, and" in done
    segmenter = random_models / "segmenter.safetensors"
    assert f"{segmenter} {file_sha256(segmenter)[:12]}; evaluate these" in done
    assert not (tmp_path / "card").exists()


def test_claim_items_that_nothing_answers_stay_open(evaluation):
    table = claim_table({Path("segmenter.safetensors"): INFO}, [evaluation])
    assert len(CLAIM_ITEMS) == 42
    assert table.count("\n| ") == 43
    assert f"| 42 | Funding | {OPEN} |" in table
    assert f"| 36 | Diagnostic accuracy and its precision | {OPEN} |" in table
    assert "| 24 | Initialisation of parameters | segmenter: weights drawn at random |" in table
    assert "| 26 | How the final model was selected | segmenter: weights of the best validation score" in table
    assert "12 of 42 items are answered" in table


def test_claim_says_what_training_started_from_and_which_weights_were_taken():
    recipe = {**INFO.provenance["recipe"], "choose_weights": "last"}
    start = {"origin": "start.safetensors", "sha256": "0123456789abcdef", "part": "whole", "loaded": 4}
    info = replace(INFO, provenance={**INFO.provenance, "recipe": recipe, "pretrained": start})
    table = claim_table({Path("segmenter.safetensors"): info}, [])
    assert "| 24 | Initialisation of parameters | segmenter: from start.safetensors (SHA-256 0123456789ab) |" in table
    assert "| segmenter: weights of the last step; no score was looked at |" in table


def test_claim_says_of_imported_weights_nothing_that_only_their_training_knows():
    imported = replace(INFO, provenance={"imported_as": "jcs-official", "file_sha256": "ab" * 32})
    table = claim_table({Path("own.safetensors"): INFO, Path("theirs.safetensors"): imported}, [])
    for number in (21, 24, 25, 26, 27):
        assert f"| {number} | {CLAIM_ITEMS[number - 1]} | {OPEN} |" in table
    assert "| Convolutional networks for segmentation of CT slices (JCS) |" in table


def test_claim_says_which_weights_are_means_of_two():
    mean = replace(
        INFO,
        provenance={**INFO.provenance, "averaged": {"earlier_sha256": "0123456789abcdef", "share_of_the_later": 0.5}},
    )
    table = claim_table({Path("a.safetensors"): INFO, Path("b.safetensors"): mean}, [])
    assert (
        "| 27 | Ensembling | a: none; b: one network, its weights the mean of two trainings' (0.5 of the later; the "
        "earlier has SHA-256 0123456789ab) |" in table
    )


@pytest.mark.parametrize(
    ("name", "row", "note", "said"),
    [
        ("scores", {"dice_percent": 70.0}, "", OPEN),
        ("scores", {"dice_percent": 70.0, "dice_percent_low": 60.0}, "", "Percentile bootstrap over patients"),
        ("table_iv", {"dice_percent": 70.0, "dice_percent_low": 60.0}, "Wilson 95 %", "Wilson intervals"),
        ("differences", {"p_holm": 0.1}, "", "Paired permutation tests (Holm)"),
        ("differences", {"p_holm": None}, "", OPEN),
        ("table_ii", {"dice_percent": 70.0}, "", OPEN),
        ("counts", {"dice_percent": 70.0}, "", OPEN),
    ],
)
def test_claim_names_the_statistics_that_the_tables_hold(name, row, note, said):
    table = {"name": name, "title": "t", "columns": [], "rows": [row], "notes": [note]}
    answers = claim_table({}, [{"title": "t", "warnings": [], "tables": {name: table}, "facts": {}}])
    assert f"| 29 | Statistical measures of significance and uncertainty | {said} |" in answers
    assert (f"| 35 | {CLAIM_ITEMS[34]} | {OPEN} |" in answers) == (name in ("table_ii", "counts"))


def test_a_folder_without_an_evaluation_is_named(tmp_path):
    with pytest.raises(ConfigError, match="give folders that `jcs evaluate` wrote"):
        read_evaluation(tmp_path)
    for text in ("[]", '{"title": "no warnings", "tables": {}, "facts": {}}'):
        (tmp_path / "evaluation.json").write_text(text)
        with pytest.raises(ConfigError, match="is not an evaluation"):
            read_evaluation(tmp_path)
    (tmp_path / "evaluation.json").write_text('{"title": "t", "warnings": [], "tables": {"scores": {"rows": []}}}')
    with pytest.raises(ConfigError, match="a table has columns, name, notes, rows, title"):
        read_evaluation(tmp_path)
    (tmp_path / "evaluation.json").write_text('{"title": "t", "warnings": [], "tables": {}, "facts": []}')
    with pytest.raises(ConfigError, match="its facts are no object"):
        read_evaluation(tmp_path)
    (tmp_path / "evaluation.json").write_bytes('{"title": "Säle"}'.encode("latin-1"))
    with pytest.raises(ConfigError, match="no text in UTF-8"):
        read_evaluation(tmp_path)
