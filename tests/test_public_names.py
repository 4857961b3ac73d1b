"""The public surface is what ``jcs_ct`` lists, and importing it is light."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jcs_ct

REPOSITORY = Path(__file__).resolve().parents[1]

PUBLIC = {
    "BackendError", "Burden", "CTVolume", "CheckpointError", "ConfigError", "Diagnosis", "Execution",
    "GateCode", "JCSError", "LabelVolume", "Lesion", "MaskError", "Models", "NOTICE", "OperatingPoint",
    "OutputError", "QualityFlag", "ReportPaths", "SeriesInfo", "SlicePrediction", "SlicePreprocessor",
    "StoppedError", "Study", "StudyError", "Verdict", "Window", "__version__", "diagnose", "list_series",
    "load_checkpoint", "load_models", "open_study", "write_dicom_results", "write_report",
}  # fmt: skip


def test_the_list_is_the_whole_surface():
    assert set(jcs_ct.__all__) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_is_there(name):
    assert getattr(jcs_ct, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'diagnosis_of'"):
        _ = jcs_ct.diagnosis_of


@pytest.mark.parametrize("module", ["jcs_ct", "jcs_ct.cli"])
def test_importing_is_light(module):
    heavy = ["torch", "numpy", "scipy", "pydicom", "matplotlib"]
    code = f"import {module}, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_type_checkers_see_what_is_imported_on_use():
    tree = ast.parse(Path(jcs_ct.__file__).read_text(encoding="utf-8"))
    stated = {
        alias.name: node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    for name in ("annotations", "import_module", "Any"):
        del stated[name]
    assert stated == jcs_ct._PUBLIC


#: What a program that uses the package writes; every name is looked at by the type checker.
CONSUMER = """
import jcs_ct as jcs
from pathlib import Path

{names}
study = jcs.open_study("study")
models = jcs.load_models("compact")
found = jcs.diagnose(study, models, cancelled=lambda: False)
hu, affine = study.as_array("RAS")
reveal_type(study)
reveal_type(models)
reveal_type(found)
reveal_type(found.lesions[0].volume_ml)
reveal_type(study.save_nifti(found.lesion_labels, "lesions.nii.gz"))
reveal_type(jcs.write_report(study, found, Path("report"), language="de"))
reveal_type(jcs.list_series("study"))
jcs.diagnose(study, models, segment="sometimes")
jcs.no_such_name
"""


@pytest.mark.slow
def test_no_public_name_is_any_to_a_type_checker(tmp_path):
    program = tmp_path / "consumer.py"
    program.write_text(CONSUMER.format(names="\n".join(f"reveal_type(jcs.{name})" for name in sorted(PUBLIC))))
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(REPOSITORY / "pyproject.toml")]
    done = subprocess.run([*command, str(program)], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    revealed = re.findall(r"consumer\.py:\d+: note: Revealed type is \"(.*)\"", done.stdout)
    assert len(revealed) == len(PUBLIC) + 7, done.stdout
    assert [found for found in revealed if found == "Any"] == []
    wrong = re.findall(r"consumer\.py:\d+: error: .*\[(\S+)\]$", done.stdout, re.MULTILINE)
    assert sorted(wrong) == ["arg-type", "attr-defined"], "a wrong setting and a wrong name are found, nothing else"


#: The package's own imports change nothing that a program would notice; what its dependencies do is theirs.
LEAVES_NO_TRACE = """
import logging, os, random, signal, sys, warnings
import gdcm, highdicom, lightning_fabric, matplotlib, nibabel, numpy, pydicom, scipy.ndimage, skimage, sklearn
import torch, yaml
import pydantic, jinja2, PIL.Image, rich.console, typer, safetensors.torch

def state():
    return {
        "random": random.getstate(), "numpy": str(numpy.random.get_state()), "torch": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(), "dtype": torch.get_default_dtype(), "grad": torch.is_grad_enabled(),
        "handlers": list(logging.getLogger().handlers), "level": logging.getLogger().level,
        "warnings": list(warnings.filters), "environment": dict(os.environ), "folder": os.getcwd(),
        "signals": [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)], "path": list(sys.path),
        "backend": matplotlib.rcParams["backend"], "pydicom": pydicom.config.settings.reading_validation_mode,
        "hooks": (sys.excepthook, sys.displayhook),
    }

before = state()
import jcs_ct
for name in jcs_ct.__all__:
    getattr(jcs_ct, name)
after = state()
assert before == after, [name for name in before if before[name] != after[name]]
"""


def test_importing_prints_nothing_and_changes_no_global_state():
    done = subprocess.run([sys.executable, "-c", LEAVES_NO_TRACE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
