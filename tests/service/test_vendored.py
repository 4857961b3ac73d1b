"""Scripts of others: what they were, and what was changed."""

from __future__ import annotations

import hashlib

import pytest

from jcs_ct.service.pages import PAGE

VENDOR = PAGE / "static" / "vendor"
#: File: SHA-256 of what was published, and (ours, theirs) of each change.
PUBLISHED = {
    "niivue-0.69.0.umd.js": (
        "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af",
        [
            (
                "(this.volumeTexture=i,this.gradientTextureAmount>0)&&(this.gradientTexture=Ti({",
                "(this.volumeTexture=i,this.gradientTexture=Ti({",
            )
        ],
    ),
    "htmx-2.0.4.min.js": ("e209dda5c8235479f3166defc7750e1dbcd5a5c1808b7792fc2e6733768fb447", []),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_vendored_scripts_are_what_was_published_but_for_the_changes_that_are_told(name):
    expected, changes = PUBLISHED[name]
    text = (VENDOR / name).read_text(encoding="utf-8")
    for ours, theirs in changes:
        assert text.count(ours) == 1
        text = text.replace(ours, theirs)
    assert hashlib.sha256(text.encode()).hexdigest() == expected
    license_text = (VENDOR / f"{name.partition('-')[0]}-LICENSE.txt").read_text(encoding="utf-8")
    assert ("Changed in the copy beside this file" in license_text) == bool(changes)
