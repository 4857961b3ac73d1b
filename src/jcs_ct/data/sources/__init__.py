"""Makers: data sets in the form they are handed out -> manifests, split by patient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jcs_ct.data.manifest import Manifest
from jcs_ct.data.sources.covid_cs_lists import covid_cs
from jcs_ct.data.sources.plain_folders import phantom
from jcs_ct.data.sources.public_sets import ct100, iq_othnccd, lungs267, pneumonia224, sarscov2, ucsd, zenodo20

__all__ = ["MAKERS", "ct100"]

MAKERS: dict[str, Callable[[Path], Manifest]] = {
    "ucsd": ucsd,
    "lungs267": lungs267,
    "zenodo20": zenodo20,
    "sarscov2": sarscov2,
    "iq-othnccd": iq_othnccd,
    "pneumonia224": pneumonia224,
    "phantom": phantom,
    "covid-cs": covid_cs,
}
