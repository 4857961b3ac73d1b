import pytest
import torch

from jcs_ct.checkpoints.published import PUBLISHED
from jcs_ct.errors import ConfigError
from jcs_ct.recipes import recipe_names
from jcs_ct.training.classifier_task import recipe_classifier
from jcs_ct.training.optimisation import learning_rate
from jcs_ct.training.recipe import load_recipe, make_preprocessor
from jcs_ct.training.segmenter_task import recipe_segmenter


def write(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_overrides_reach_nested_settings(tmp_path):
    path = write(tmp_path, "task: classifier\npreset: compact\n")
    recipe = load_recipe(path, {"optimiser.learning_rate": 0.1, "steps": 7})
    assert recipe.optimiser.learning_rate == 0.1
    assert recipe.steps == 7


def test_every_problem_is_listed_at_once(tmp_path):
    path = write(tmp_path, "task: painter\npreset: compact\nsteps: 0\nlerning_rate: 1\n")
    with pytest.raises(ConfigError, match=r"(?s)3 problem.*task.*steps.*lerning_rate"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"step": 3}, "step: there is no such setting; did you mean steps?"),
        ({"learning_rate": 0.1}, "learning_rate: there is no such setting; did you mean optimiser.learning_rate?"),
        ({"optimiser.learning_rat": 1}, "there is no such setting; did you mean optimiser.learning_rate?"),
        ({"quux": 1}, "quux: there is no such setting$"),
        ({"steps": "many"}, r"steps: Input should be a valid integer.*\(got 'many'\)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_set_wrong_is_not_the_recipes_fault(given, said):
    whole = rf"(?s)^1 setting\(s\) given beside the recipe \(--set\).*{said}"
    with pytest.raises(ConfigError, match=whole) as refused:
        load_recipe("compact-classifier", given)
    assert ".yaml" not in str(refused.value)


def test_faults_of_the_file_and_of_what_is_set_are_told_apart(tmp_path):
    path = write(tmp_path, "task: painter\npreset: compact\n")
    with pytest.raises(ConfigError, match=r"(?s)^1 setting\(s\) given.*steps.*recipe.yaml has 1 problem.*task"):
        load_recipe(path, {"steps": 0})


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("optimiser.step_fraction", 0),
        ("optimiser.betas", [0.9, 1.0]),
        ("optimiser.learning_rate", float("inf")),
        ("dice_epsilon", float("nan")),
        ("seed", -1),
        ("augmentation.crop_scale", [1.2, 0.8]),
        ("accumulate", 8),
    ],
)
def test_what_would_end_a_run_is_refused_before_it_begins(setting, value):
    named = rf"(?s)^1 setting\(s\) given beside the recipe.*{setting.rpartition('.')[2]}"
    if setting == "accumulate":  # fits each by itself
        named = r"accumulate \(8\) must be at most batch_size \(4\)"
    with pytest.raises(ConfigError, match=named):
        load_recipe("paper-segmenter", {"batch_size": 4, setting: value})


def test_a_setting_below_a_value_is_refused():
    with pytest.raises(ConfigError, match=r"steps\.x cannot be set: steps has no settings below it"):
        load_recipe("compact-classifier", {"steps.x": 1})


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [("copy_paste", "0.5", "copy_paste"), ("augmentation", "{fade: 0.5}", r"augmentation\.fade")],
)
def test_settings_that_do_not_fit_together_are_explained_without_the_whole_recipe(tmp_path, setting, value, named):
    path = write(tmp_path, f"task: classifier\npreset: compact\n{setting}: {value}\n")
    with pytest.raises(ConfigError, match=rf"recipe: {named} is for segmenters: .*`jcs data paint`\)$"):
        load_recipe(path)


@pytest.mark.parametrize("name", ["lesion_pixel_weight", "encoder_feature_weight", "unlabelled_share"])
def test_what_is_learnt_beside_labels_is_for_classifiers(tmp_path, name):
    path = write(tmp_path, f"task: segmenter\npreset: compact\n{name}: 1\n")
    with pytest.raises(ConfigError, match=f"recipe: {name} is for classifiers"):
        load_recipe(path)


@pytest.mark.parametrize("beside", ["", "encoder_feature_weight: 1\nmixup_alpha: 0.5\n"])
def test_slices_without_a_label_need_a_teacher_and_are_not_mixed(tmp_path, beside):
    path = write(tmp_path, f"task: classifier\npreset: compact\nunlabelled_share: 0.2\n{beside}")
    with pytest.raises(ConfigError, match=r"unlabelled_share needs encoder_feature_weight .* and no mixup_alpha"):
        load_recipe(path)


def test_lungs_are_cut_out_of_the_body(tmp_path):
    path = write(tmp_path, "task: classifier\npreset: compact\npreprocessing: {region: lungs}\n")
    with pytest.raises(ConfigError, match="preprocessing: region lungs is cut out of the body: it needs body_crop"):
        make_preprocessor(load_recipe(path).preprocessing)
    assert make_preprocessor(load_recipe(path, {"preprocessing.body_crop": True}).preprocessing).region == "lungs"


def test_a_recipe_that_is_no_mapping_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="must be a mapping of settings, got list"):
        load_recipe(write(tmp_path, "- 1\n"))


def test_a_recipe_that_is_no_utf8_is_refused(tmp_path):
    (tmp_path / "r.yaml").write_bytes("# für später\ntask: classifier".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"r\.yaml: it is no text in UTF-8"):
        load_recipe(tmp_path / "r.yaml")


def test_broken_yaml_says_where(tmp_path):
    with pytest.raises(ConfigError, match=r"(?s)not valid YAML.*line 1"):
        load_recipe(write(tmp_path, "task: [classifier"))


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_describe_a_network_and_its_input(name):
    recipe = load_recipe(name)
    assert recipe.batch_size % recipe.accumulate == 0
    with torch.device("meta"):
        network = recipe_classifier(recipe) if recipe.task == "classifier" else recipe_segmenter(recipe)[0]
    trunk = network.config.backbone if recipe.task == "classifier" else network.config.encoder
    assert make_preprocessor(recipe.preprocessing).channels == trunk.in_channels


def test_the_recipes_of_the_paper_are_what_it_says():
    assert {"paper-classifier", "paper-classifier-lseg", "paper-segmenter", "paper-joint"} <= set(recipe_names())
    classifier = load_recipe("paper-classifier")
    rates = [learning_rate(classifier.optimiser, step, 4021) for step in (0, 1206, 1207, 2413, 3619)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.001, 0.0001])
    assert (classifier.batch_size, classifier.mixup_alpha, classifier.preprocessing.size) == (256, 0.5, 224)
    with_maps = load_recipe("paper-classifier-lseg")
    assert with_maps.model_copy(update={"activation_map_weight": 0.0}) == classifier
    segmenter = load_recipe("paper-segmenter")
    assert (segmenter.steps, segmenter.batch_size, segmenter.preprocessing.size) == (21_000, 4, 512)
    assert learning_rate(segmenter.optimiser, 10_500, 21_000) == pytest.approx(2.5e-5 * 0.5**0.9)
    assert load_recipe("paper-joint").model_copy(update={"preset": "paper"}) == segmenter


def test_the_published_classifier_sees_what_its_checkpoint_says():
    assert {"official-classifier", "official-segmenter", "official-joint"} <= set(recipe_names())
    recipe = load_recipe("official-classifier")
    assert make_preprocessor(recipe.preprocessing) == PUBLISHED["official-classifier"].preprocessor
    with torch.device("meta"):
        assert recipe_classifier(recipe).config == PUBLISHED["official-classifier"].config
    other = {"preset": recipe.preset, "preprocessing": recipe.preprocessing}
    assert load_recipe("paper-classifier-lseg").model_copy(update=other) == recipe
