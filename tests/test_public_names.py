"""The public surface is what ``jcs_ct`` lists, and importing it is light."""

import subprocess
import sys

import pytest

import jcs_ct

PUBLIC = {
    "NOTICE", "__version__", "CTVolume", "LabelVolume", "JCSError", "StudyError", "MaskError", "CheckpointError",
    "ConfigError", "OutputError", "Window", "SlicePreprocessor", "Study", "open_study", "Diagnosis", "OperatingPoint",
    "Execution", "Models", "load_checkpoint", "load_models", "diagnose", "write_report",
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
