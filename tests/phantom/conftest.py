"""Tiny phantoms that the tests of this folder share."""

from __future__ import annotations

import pytest

from jcs_ct.phantom import Phantom, PhantomConfig, make_phantom

SMALL = {"slices": 16, "size": 128}


@pytest.fixture(scope="session")
def positive() -> Phantom:
    return make_phantom(PhantomConfig(seed=5, lesions=8, **SMALL))


@pytest.fixture(scope="session")
def negative() -> Phantom:
    return make_phantom(PhantomConfig(seed=5, negative=True, **SMALL))
