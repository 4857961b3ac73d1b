"""Procedural chest CT with exact lesion and lung masks."""

from __future__ import annotations

from jcs_ct.phantom.config import Phantom, PhantomConfig
from jcs_ct.phantom.dicom import write_dicom
from jcs_ct.phantom.nifti import write_nifti
from jcs_ct.phantom.pictures import write_png
from jcs_ct.phantom.rendering import make_phantom

__all__ = ["Phantom", "PhantomConfig", "make_phantom", "write_dicom", "write_nifti", "write_png"]
