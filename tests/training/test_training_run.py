import json
import math
import os
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jcs_ct.checkpoints import file_sha256, load_checkpoint, read_info
from jcs_ct.data.manifest import Manifest, read_manifest
from jcs_ct.errors import CheckpointError, ConfigError, OutputError
from jcs_ct.training.recipe import Recipe, make_preprocessor
from jcs_ct.training.run_log import RunExtras
from jcs_ct.training.training_data import make_pasting, open_inputs
from jcs_ct.training.training_run import train
from jcs_ct.training.training_tasks import make_task


def recipe(task: str, preset: str, **more) -> Recipe:
    settings = {
        "task": task,
        "preset": preset,
        "preprocessing": {"size": 32, "channels": 1, "mean": [0.45], "std": [0.3]},
        "augmentation": {"rotate_degrees": 10, "noise": 0.05},
        "optimiser": {"name": "adamw", "learning_rate": 2e-3, "gradient_clip": 1.0, "weight_decay": 0.01},
        "steps": 6,
        "batch_size": 4,
        "ema_decay": 0.9,
        "validate_every": 3,
        "checkpoint_every": 2,
        "balance": "source",
    }
    return Recipe.model_validate(settings | more)


CLASSIFIER = recipe("classifier", "compact", mixup_alpha=0.5, activation_map_weight=1.0)


class Killed(BaseException):
    """Stands for SIGKILL between two steps."""


def kill_at(step):
    def progress(done, steps, losses):
        if done == step:
            raise Killed

    return progress


def same(first, second) -> bool:
    one, other = load_file(first), load_file(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def trained_classifier(drawn_slices, tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    train(make_task(CLASSIFIER), CLASSIFIER, drawn_slices, folder)
    return folder


def test_a_resumed_classifier_equals_an_uninterrupted_one(drawn_slices, trained_classifier, tmp_path):
    with pytest.raises(Killed):
        train(make_task(CLASSIFIER), CLASSIFIER, drawn_slices, tmp_path, progress=kill_at(5))
    assert not (tmp_path / "last.safetensors").exists()
    train(make_task(CLASSIFIER), CLASSIFIER, drawn_slices, tmp_path)
    assert same(trained_classifier / "last.safetensors", tmp_path / "last.safetensors")
    assert same(trained_classifier / "best.safetensors", tmp_path / "best.safetensors")


@pytest.mark.parametrize(
    ("mixup_alpha", "unlabelled_share"),
    [pytest.param(0.0, 0.0, marks=pytest.mark.slow), pytest.param(0.5, 0.0, marks=pytest.mark.slow), (0.0, 0.25)],
)
def test_a_taught_trunk_resumes_exactly_and_ships_the_classifier_alone(
    drawn_slices, tmp_path, mixup_alpha, unlabelled_share
):
    teacher = written(recipe("segmenter", "compact", seed=3), tmp_path / "segmenter.safetensors")
    weights = {"lesion_pixel_weight": 0.5, "encoder_feature_weight": 0.5}
    shares = {"mixup_alpha": mixup_alpha, "unlabelled_share": unlabelled_share}
    taught = recipe("classifier", "compact", steps=4, **weights, **shares)
    if unlabelled_share:
        with pytest.raises(ConfigError, match="the split 'train' has no row without a label"):
            train(make_task(taught, teacher=teacher), taught, drawn_slices, tmp_path / "labelled")
        first, second, *others = drawn_slices.rows
        drawn_slices = Manifest((replace(first, label=None), replace(second, label=None), *others))
    for name, stops in (("whole", ()), ("killed", (1, 3))):
        for stop in stops:
            with pytest.raises(Killed):
                task = make_task(taught, teacher=teacher)
                train(task, taught, drawn_slices, tmp_path / name, progress=kill_at(stop))
        train(make_task(taught, teacher=teacher), taught, drawn_slices, tmp_path / name)
    assert same(tmp_path / "whole/last.safetensors", tmp_path / "killed/last.safetensors")
    kept = load_checkpoint(tmp_path / "whole/last.safetensors").network
    assert kept.state_dict().keys() == make_task(CLASSIFIER).network.state_dict().keys()


def test_a_resumed_joint_segmenter_equals_an_uninterrupted_one(drawn_slices, trained_classifier, tmp_path):
    joint = recipe("segmenter", "compact-joint", batch_size=2, steps=4, infected_share=0.75)
    borrowed = trained_classifier / "best.safetensors"
    for name, stops in (("whole", ()), ("killed", (1, 3))):
        for stop in stops:
            with pytest.raises(Killed):
                train(make_task(joint, borrowed), joint, drawn_slices, tmp_path / name, progress=kill_at(stop))
        train(make_task(joint, borrowed), joint, drawn_slices, tmp_path / name)
    assert same(tmp_path / "whole/last.safetensors", tmp_path / "killed/last.safetensors")


@pytest.mark.slow
def test_a_resumed_segmenter_with_every_change_of_slices_equals_an_uninterrupted_one(drawn_slices, tmp_path):
    changes = {"elastic": 0.05, "marks": 0.5, "rotate_degrees": 10, "fade": 0.7}
    strong = recipe("segmenter", "compact", batch_size=2, steps=4, copy_paste=0.7, augmentation=changes)
    for name, stops in (("whole", ()), ("killed", (1, 3))):
        for stop in stops:
            with pytest.raises(Killed):
                train(make_task(strong), strong, drawn_slices, tmp_path / name, progress=kill_at(stop))
        train(make_task(strong), strong, drawn_slices, tmp_path / name)
    assert same(tmp_path / "whole/last.safetensors", tmp_path / "killed/last.safetensors")


def test_pasting_without_a_lesion_mask_is_refused(drawn_slices):
    pasting = recipe("segmenter", "compact", copy_paste=0.5)
    healthy = Manifest(tuple(row for row in drawn_slices if row.label == 0))
    with pytest.raises(ConfigError, match="copy_paste: pasting lesions needs a training slice with a lesion mask"):
        make_pasting(healthy, pasting)


def test_a_damaged_state_falls_back_to_the_one_before(drawn_slices, trained_classifier, tmp_path):
    with pytest.raises(Killed):
        train(make_task(CLASSIFIER), CLASSIFIER, drawn_slices, tmp_path, progress=kill_at(5))
    newest = sorted(tmp_path.glob("state-*.pt"))[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    train(make_task(CLASSIFIER), CLASSIFIER, drawn_slices, tmp_path)
    assert same(trained_classifier / "last.safetensors", tmp_path / "last.safetensors")


def test_only_damaged_states_are_an_error(drawn_slices, tmp_path):
    (tmp_path / "state-0000002.pt").write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match=r"no state in .* can be read"):
        train(make_task(CLASSIFIER), CLASSIFIER, drawn_slices, tmp_path)


def test_another_recipe_does_not_continue_a_run(drawn_slices, trained_classifier):
    other = CLASSIFIER.model_copy(update={"steps": 8})
    with pytest.raises(ConfigError, match=r"other settings \(steps changed\)"):
        train(make_task(other), other, drawn_slices, trained_classifier)


def test_two_runs_never_train_in_one_folder(drawn_slices, tmp_path):
    def second(step, steps, losses):
        with pytest.raises(OutputError, match=rf"another training works in {tmp_path} \(process {os.getpid()} on"):
            train(make_task(CLASSIFIER), CLASSIFIER, drawn_slices, tmp_path)
        raise Killed

    with pytest.raises(Killed):
        train(make_task(CLASSIFIER), CLASSIFIER, drawn_slices, tmp_path, progress=second)
    train(make_task(CLASSIFIER), CLASSIFIER, drawn_slices, tmp_path)


def written(untrained: Recipe, path: Path) -> Path:
    make_task(untrained).write(path, make_preprocessor(untrained.preprocessing), {})
    return path


@pytest.mark.parametrize(("option", "named"), [("pretrained", "--pretrained"), ("teacher", "--teacher")])
def test_a_classifier_does_not_go_on_with_other_weights_beside_it(drawn_slices, tmp_path, option, named):
    """Nor without those it was started with: what is said of its origin would be wrong."""
    kind = "segmenter" if option == "teacher" else "classifier"
    one, other = (written(recipe(kind, "compact", seed=seed), tmp_path / f"{seed}.safetensors") for seed in (3, 4))
    taught = recipe("classifier", "compact", steps=2, encoder_feature_weight=0.5 if option == "teacher" else 0.0)
    train(make_task(taught, **{option: one}), taught, drawn_slices, tmp_path / "run")
    for given in ({option: other}, {}) if option == "pretrained" else ({option: other},):
        with pytest.raises(ConfigError, match=rf"other settings \({named} changed\)"):
            train(make_task(taught, **given), taught, drawn_slices, tmp_path / "run")
    again = one.rename(tmp_path / "moved.safetensors")
    train(make_task(taught, **{option: again}), taught, drawn_slices, tmp_path / "run")


def test_a_joint_segmenter_does_not_go_on_with_another_classifier(drawn_slices, tmp_path):
    joint = recipe("segmenter", "compact-joint", batch_size=2, steps=2)
    one, other = (
        written(recipe("classifier", "compact", seed=seed), tmp_path / f"{seed}.safetensors") for seed in (3, 4)
    )
    train(make_task(joint, one), joint, drawn_slices, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"other settings \(--classifier changed\)"):
        train(make_task(joint, other), joint, drawn_slices, tmp_path / "run")
    provenance = read_info(tmp_path / "run/last.safetensors").provenance
    assert provenance["classifier_sha256"] == file_sha256(one)


def test_a_run_that_an_earlier_version_began_goes_on(drawn_slices, trained_classifier, tmp_path):
    """Its states say which manifest, and nothing of weights."""
    with pytest.raises(Killed):
        train(make_task(CLASSIFIER), CLASSIFIER, drawn_slices, tmp_path, progress=kill_at(5))
    for path in tmp_path.glob("state-*.pt"):
        content = torch.load(path, weights_only=True)
        content["manifest_sha256"] = content.pop("origins")["the manifest"]
        torch.save(content, path)
    train(make_task(CLASSIFIER), CLASSIFIER, drawn_slices, tmp_path)
    assert same(trained_classifier / "last.safetensors", tmp_path / "last.safetensors")


def test_a_manifest_typed_otherwise_continues_a_run(drawn_slices, trained_classifier, tmp_path, monkeypatch):
    folder = drawn_slices.rows[0].path.parent
    drawn_slices.write(folder / "slices.csv")
    monkeypatch.chdir(folder)
    train(make_task(CLASSIFIER), CLASSIFIER, read_manifest(Path("slices.csv")), trained_classifier)
    relabelled = Manifest((replace(drawn_slices.rows[0], label=1), *drawn_slices.rows[1:]))
    with pytest.raises(ConfigError, match="other settings \\(the manifest changed\\)"):
        train(make_task(CLASSIFIER), CLASSIFIER, relabelled, trained_classifier)


def test_an_empty_split_is_named(drawn_slices, tmp_path):
    with pytest.raises(ConfigError, match="no labelled slice in the split 'val'"):
        train(make_task(CLASSIFIER), CLASSIFIER, Manifest(drawn_slices.split("train").rows), tmp_path)


@pytest.mark.parametrize(
    ("lacking", "choose", "named"),
    [("train", "best", "'train'"), ("train", "last", "'train'"), ("val", "best", "'val'")],
)
def test_a_segmenter_is_not_taught_or_chosen_without_a_lesion(drawn_slices, tmp_path, lacking, choose, named):
    """The best weights on uninfected slices are those that mark nothing."""
    segmenter = recipe("segmenter", "compact", choose_weights=choose)
    part = Manifest(tuple(row for row in drawn_slices if row.split != lacking or row.label == 0))
    with pytest.raises(ConfigError, match=rf"none in the split\(s\) {named}\. `jcs data split`"):
        train(make_task(segmenter), segmenter, part, tmp_path)
    assert not list(tmp_path.glob("state-*.pt"))


def test_pixel_labels_without_a_mask_are_missed(drawn_slices, caplog):
    without = Manifest(tuple(replace(row, mask=None) for row in drawn_slices))
    for data in (without, drawn_slices):
        open_inputs(data, CLASSIFIER, make_preprocessor(CLASSIFIER.preprocessing), make_task(CLASSIFIER).network)
    said = "no infected training slice has a mask: activation_map_weight cannot teach lesions"
    assert caplog.messages.count(said) == 1


@pytest.mark.parametrize(
    ("clip", "what"), [(0.0, "the loss is not finite after step 4"), (1.0, "the gradient is not finite after step 4")]
)
def test_a_training_that_diverges_ends_and_spoils_no_state(drawn_slices, tmp_path, clip, what, monkeypatch):
    diverging = recipe(
        "classifier", "compact", optimiser={"name": "adamw", "gradient_clip": clip}, checkpoint_every=1
    )
    task = make_task(diverging)
    loss, steps = type(task).loss, []

    def from_step_four(self, *arguments):
        steps.append(None)
        return {name: value * (math.nan if len(steps) > 3 else 1.0) for name, value in loss(self, *arguments).items()}

    monkeypatch.setattr(type(task), "loss", from_step_four)
    with pytest.raises(ConfigError, match=f"{what} of 6: the training has diverged"):
        train(task, diverging, drawn_slices, tmp_path, progress=lambda *_: None)
    newest = max(tmp_path.glob("state-*.pt"))
    assert newest.name == "state-0000003.pt"
    weights = torch.load(newest, weights_only=True)["network"].values()
    assert all(torch.isfinite(value).all() for value in weights)


def test_no_state_with_weights_that_are_not_finite_is_kept(drawn_slices, tmp_path):
    """Nobody looks at the loss here, and nothing validates before the state of step 2."""
    wild = recipe("classifier", "compact", optimiser={"name": "sgd", "learning_rate": 1e38}, choose_weights="last")
    with pytest.raises(ConfigError, match="a weight is not finite after step 2 of 6"):
        train(make_task(wild), wild, drawn_slices, tmp_path)
    assert not list(tmp_path.glob("state-*.pt"))


@pytest.mark.parametrize(("choose", "file"), [("best", "best.safetensors"), ("last", "state-0000001.pt")])
def test_a_state_or_weights_without_room_are_an_error_that_is_explained(drawn_slices, tmp_path, choose, file):
    """In C++ and Rust a failed write is no OSError; the limit on a file's size stands for a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    few = recipe("classifier", "compact", steps=1, choose_weights=choose)
    task = make_task(few)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=f"cannot write .*{file}: files may not grow so large here"):
            train(task, few, drawn_slices, tmp_path / "run", shown=RunExtras(samples=0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not [path for path in (tmp_path / "run").rglob("*") if path.suffix in (".pt", ".safetensors")]


def test_a_run_leaves_a_log_and_its_provenance(trained_classifier):
    log = [json.loads(line) for line in (trained_classifier / "log.jsonl").read_text().splitlines()]
    assert [json.dumps(record["step"]) for record in log] == ["3", "6"]
    assert all(0 <= record["auc"] <= 1 for record in log)
    info = read_info(trained_classifier / "best.safetensors")
    assert info.provenance["recipe"]["mixup_alpha"] == 0.5
    assert len(list(trained_classifier.glob("state-*.pt"))) == 2


def test_the_written_network_is_ready_to_use(trained_classifier):
    ready = load_checkpoint(trained_classifier / "best.safetensors")
    assert not ready.network.training
    assert ready.preprocessor.size == 32


@pytest.mark.slow
def test_training_learns(drawn_slices, tmp_path):
    longer = recipe("classifier", "compact", steps=120, batch_size=8, validate_every=120)
    state = train(make_task(longer), longer, drawn_slices, tmp_path)
    assert state.history[-1]["auc"] > 0.9


def test_a_joint_preset_without_a_classifier_says_what_to_do(drawn_slices):
    with pytest.raises(ConfigError, match="train one first and give it with --classifier, or start from a trained"):
        make_task(recipe("segmenter", "compact-joint"))
