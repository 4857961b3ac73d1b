"""A release whose version, tag and change log do not agree is found."""

import tarfile
import zipfile

import pytest
from release_check import content_problems, version_problems


@pytest.fixture
def checkout(tmp_path):
    """The files of a release 1.2.0."""
    (tmp_path / "src/jcs_ct").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.0"\n')
    (tmp_path / "src/jcs_ct/__init__.py").write_text('__version__ = "1.2.0"\n')
    (tmp_path / "CITATION.cff").write_text("version: 1.2.0\ndate-released: 2026-11-26\n")
    (tmp_path / "CHANGELOG.md").write_text(
        "## [Unreleased]\n\n## [1.2.0] - 2026-11-26\n\n- One.\n\n## [1.1.0] - 2026-01-01\n"
    )
    return tmp_path


def test_a_release_that_agrees(checkout):
    assert list(version_problems(checkout, "v1.2.0")) == []
    assert list(version_problems(checkout, None)) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("pyproject.toml", "1.2.0", "1.3.0", "jcs_ct.__version__ is 1.2.0, pyproject.toml says 1.3.0"),
        ("CITATION.cff", "1.2.0", "1.1.0", "CITATION.cff has version 1.1.0, pyproject.toml says 1.2.0"),
        ("CHANGELOG.md", "[1.2.0]", "[1.2.1]", "CHANGELOG.md has no section [1.2.0] on top of the released ones"),
        ("CHANGELOG.md", "] - 2026-11-26", "]", "CHANGELOG.md states no date for [1.2.0]"),
        ("CITATION.cff", "11-26", "11-25", "CITATION.cff was released 2026-11-25, CHANGELOG.md says 2026-11-26"),
        ("CHANGELOG.md", "d]\n", "d]\n\n- New.\n", "CHANGELOG.md has changes under Unreleased; move them to [1.2.0]"),
    ],
)
def test_what_does_not_agree_is_said(checkout, file, old, new, problem):
    path = checkout / file
    path.write_text(path.read_text().replace(old, new, 1))
    assert problem in list(version_problems(checkout, "v1.2.0"))


def test_a_tag_of_another_version_is_said(checkout):
    assert list(version_problems(checkout, "v1.2.1")) == ["the tag is v1.2.1, pyproject.toml says 1.2.0"]


def test_archives_that_lack_a_recipe_or_hold_more_are_found(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.writestr("jcs_ct/__init__.py", "")
        wheel.writestr("tests/test_a.py", "")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz"):
        pass
    problems = list(content_problems(tmp_path / "a.tar.gz", tmp_path / "a.whl"))
    assert problems[0].startswith("the wheel lacks ")
    assert problems[1].startswith("the sdist lacks ")
    assert problems[2] == "the wheel has files that are none of the package: tests/test_a.py"
