"""`jcs pacs`: what is said when something is missing."""

from __future__ import annotations

import re
import sys

import pytest

from jcs_ct.errors import ConfigError


@pytest.mark.parametrize("package", ["requests", "pynetdicom"])
def test_without_the_extra_the_error_says_what_to_install(jcs, monkeypatch, tmp_path, package):
    monkeypatch.setitem(sys.modules, package, None)
    for module in ("jcs_ct.pacs.dicomweb", "jcs_ct.pacs.transport", "jcs_ct.pacs.receiver"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    command = {
        "requests": ("fetch", "http://localhost", "1.2.3", "-o", tmp_path),
        "pynetdicom": ("receive", "--folder", tmp_path, "--caller", "A"),
    }[package]
    result = jcs("pacs", *command)
    assert isinstance(result.exception, ConfigError)
    assert "pip install 'jcs-ct[pacs]'" in str(result.exception)


def test_what_is_no_result_is_sent_only_when_asked(jcs, tmp_path):
    jcs("phantom", "-o", tmp_path, "--slices", "5", "--size", "64", "--format", "dicom")
    result = jcs("pacs", "send", "http://localhost:9", tmp_path / "dicom")
    assert isinstance(result.exception, ConfigError)
    assert re.search(
        r"5 of 5 files are no results of jcs-ct, such as 0001.dcm; .* --any-dicom", str(result.exception)
    )
    asked = jcs("pacs", "send", "ftp://localhost", tmp_path / "dicom", "--any-dicom")
    assert "no results" not in str(asked.exception), "the address is what is wrong now"
    assert isinstance(asked.exception, ConfigError)


def test_a_folder_without_results_is_not_sent(jcs, tmp_path):
    result = jcs("pacs", "send", "http://localhost", tmp_path)
    assert isinstance(result.exception, ConfigError)
    assert "write them with `jcs diagnose STUDY -o REPORT --dicom`" in str(result.exception)
