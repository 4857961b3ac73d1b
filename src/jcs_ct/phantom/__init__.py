"""Procedural chest CT with exact lesion and lung masks."""

from __future__ import annotations

from jcs_ct.phantom.config import Phantom, PhantomConfig
from jcs_ct.phantom.phantom_pictures import write_png
from jcs_ct.phantom.phantom_series import write_dicom
from jcs_ct.phantom.phantom_volumes import write_nifti
from jcs_ct.phantom.rendering import make_phantom

__all__ = ["Phantom", "PhantomConfig", "make_phantom", "write_dicom", "write_nifti", "write_png"]
