"""A real Orthanc on loopback (Debian packages orthanc, orthanc-dicomweb), where it is installed."""

from __future__ import annotations

import pytest
from orthanc_server import ORTHANC, PLUGIN
from orthanc_server import Orthanc as Orthanc

needs_orthanc = pytest.mark.skipif(
    ORTHANC is None or not PLUGIN.exists(), reason="needs Orthanc (Debian packages orthanc, orthanc-dicomweb)"
)
