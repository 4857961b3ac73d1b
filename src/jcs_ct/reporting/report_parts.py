"""What a report needs and can be made before its diagnosis is whole: begun early, taken by ``write_report``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from jcs_ct.beside import Beside
from jcs_ct.files import temporary_folder
from jcs_ct.imaging.nifti_writing import write_activation_volume
from jcs_ct.reporting.page_pictures import PagePictures
from jcs_ct.reporting.run_record import voxels_sha256

if TYPE_CHECKING:
    from jcs_ct.imaging.study import Study
    from jcs_ct.reading.diagnosis import Diagnosis
    from jcs_ct.reading.lesions import Lesion

Format = Literal["json", "nifti", "html"]
FORMATS: tuple[Format, ...] = ("json", "nifti", "html")


class ReportParts:
    """Pictures, the packed activation map and the hash of the voxels, made in threads.

    Args:
        study: What is read.
        formats: Of the report.
    """

    def __init__(self, study: Study, formats: Collection[Format] = FORMATS) -> None:
        self.pictures = PagePictures(study.volume)
        self._study, self._formats = study, formats
        self._voxels: Future[str] | None = None
        self._activation: Future[bytes] | None = None

    def begin_with_study(self, beside: Beside) -> None:
        """What needs the study alone."""
        if "html" in self._formats:
            self.pictures.begin_ct(beside)
        self._voxels = beside.start(voxels_sha256, self._study)

    def begin_with_activation(self, activation: NDArray[np.float16], beside: Beside) -> None:
        """What needs the activation map, (slices, rows, columns), too."""
        if "nifti" in self._formats:
            self._activation = beside.start(self._pack, activation)
        if "html" in self._formats:
            self.pictures.begin_maps(activation, beside)

    def begin_with_lesions(
        self, lungs: NDArray[np.uint8], labels: NDArray[np.uint16], lesions: Sequence[Lesion], beside: Beside
    ) -> None:
        """What needs lungs and lesions, too; arguments as of ``lung_views``."""
        if "html" in self._formats:
            self.pictures.begin_lesions(lungs, labels, lesions, beside)

    def begin_rest(self, diagnosis: Diagnosis, beside: Beside) -> None:
        """What nobody began, but for the pictures, which ``render_report`` begins."""
        if self._voxels is None:
            self._voxels = beside.start(voxels_sha256, self._study)
        if self._activation is None and "nifti" in self._formats:
            self._activation = beside.start(self._pack, diagnosis.activation)

    def voxels(self) -> str:
        """The study's :func:`voxels_sha256`; waits for it."""
        return voxels_sha256(self._study) if self._voxels is None else self._voxels.result()

    def activation(self, diagnosis: Diagnosis) -> bytes:
        """The activation map as the bytes of a ``.nii.gz``; waits for them."""
        return self._pack(diagnosis.activation) if self._activation is None else self._activation.result()

    def _pack(self, activation: NDArray[np.float16]) -> bytes:
        affine = self._study.source_affine
        description = f"jcs-ct activation map 0..1{geometry_note(affine)}"
        with temporary_folder("jcs-report-") as folder:
            path = folder / "activation.nii.gz"
            write_activation_volume(path, self._study.on_source_grid(activation), affine, description=description)
            return path.read_bytes()


def geometry_note(affine: NDArray[np.float64] | None) -> str:
    """What the description of a volume says where the geometry is not known."""
    return "" if affine is not None else "; geometry unknown: voxel units"
