"""What is said of networks whose own training, or that of the networks behind them, may have seen the slices."""

from pathlib import Path

import pytest
import torch

from jcs_ct.checkpoints import CheckpointInfo, save_checkpoint
from jcs_ct.data.manifest import Manifest, ManifestRow
from jcs_ct.evaluation.pages.unseen_slices import manifest_warnings, start_warnings
from jcs_ct.preprocessing import SlicePreprocessor

ROWS = (
    ManifestRow(Path("a.png"), "a", 1, Path("a-mask.png"), "test"),
    ManifestRow(Path("b.png"), "b", None, None, "test"),
)
TABLE = Manifest(ROWS)
OURS, WITH_MASKS = TABLE.sha256, TABLE.with_masks().sha256
OTHER = "was trained with another manifest: whether it has seen these slices is not known"
NOT_STATED = "was trained is not stated: whether it has seen these slices is not known"


@pytest.mark.parametrize(
    ("provenance", "said"),
    [
        ({"manifest_sha256": OURS, "ancestor_manifests": {"teacher": WITH_MASKS}}, []),
        ({}, [f"net {OTHER}"]),
        (
            {"manifest_sha256": OURS, "ancestor_manifests": {"classifier": "ab", "teacher of the classifier": "cd"}},
            [f"the classifier of net {OTHER}", f"the teacher of the classifier of net {OTHER}"],
        ),
        (
            {"manifest_sha256": "ab", "ancestor_manifests": {"pretrained network": "ab", "teacher": "cd"}},
            [f"net {OTHER}", f"the teacher of net {OTHER}"],
        ),
        (
            {"manifest_sha256": OURS, "ancestor_manifests": {"classifier": None, "teacher": None}},
            [f"with which manifest the classifier of net {NOT_STATED}"],
        ),
        (
            {"manifest_sha256": OURS, "ancestor_manifests": {"operating point": "ab"}},
            [f"the operating point of net {OTHER.replace('trained', 'chosen')}"],
        ),
    ],
    ids=["all with this one", "itself", "ancestors", "one manifest is named once", "none is stated", "its cut"],
)
def test_every_network_behind_is_compared(provenance, said):
    assert manifest_warnings("net", provenance, TABLE) == said


@pytest.mark.parametrize(
    ("named", "who"),
    [
        ({"classifier_sha256": "ab"}, "classifier"),
        ({"teacher_sha256": "ab", "pretrained": None}, "teacher"),
        ({"pretrained": {"part": "whole", "sha256": "ab"}}, "pretrained network"),
        ({"pretrained": {"part": "trunk", "sha256": "ab"}, "classifier_sha256": None}, None),
    ],
)
def test_a_network_of_an_earlier_version_names_its_ancestors_without_their_manifests(named, who):
    said = manifest_warnings("net", {"manifest_sha256": OURS, **named}, TABLE)
    assert said == ([f"with which manifest the {who} of net {NOT_STATED}"] if who else [])
    assert manifest_warnings("net", {"manifest_sha256": "cd", **named}, TABLE) == [f"net {OTHER}"]


@pytest.mark.parametrize(
    ("provenance", "of_file", "of_folder"),
    [
        ({}, False, False),
        ({"pretrained": {"part": "trunk", "sha256": "ab"}}, False, False),
        ({"manifest_sha256": "ab"}, True, False),
        ({"manifest_sha256": "ab", "ancestor_manifests": {"classifier": "ab"}}, True, False),
        ({"manifest_sha256": "ab", "ancestor_manifests": {"pretrained network": "cd"}}, True, True),
        ({"manifest_sha256": "ab", "pretrained": {"part": "whole", "sha256": "cd"}}, True, True),
    ],
    ids=["untrained", "ImageNet's trunk", "trained", "its fold's classifier", "started from another", "not stated"],
)
def test_weights_that_every_fold_starts_from_may_have_seen_all_of_them(tmp_path, provenance, of_file, of_folder):
    path = tmp_path / "earlier" / "fold0" / "last.safetensors"
    path.parent.mkdir(parents=True)
    info = CheckpointInfo("classifier", "compact", {}, SlicePreprocessor(), provenance=provenance)
    save_checkpoint(path, torch.nn.Linear(1, 1), info)
    unknown = "whether it has seen these slices is not known"
    said = "networks start from {}, which goes back to an earlier training: " + unknown
    assert start_warnings(path) == ([said.format("last.safetensors")] if of_file else [])
    assert start_warnings(tmp_path / "earlier") == ([said.format("earlier")] if of_folder else [])
    assert start_warnings(None) == []
