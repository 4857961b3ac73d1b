"""The pictures of a page, each kind drawn as soon as what it shows is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.beside import Beside
from jcs_ct.progress import CountProgress
from jcs_ct.reporting.lung_views import LungView, lung_views
from jcs_ct.reporting.outlines import lesion_outlines
from jcs_ct.reporting.slice_images import LUNG_DISPLAY, MEDIASTINAL_DISPLAY, Display, ct_picture, map_picture
from jcs_ct.volume import CTVolume, spread_over

if TYPE_CHECKING:
    from jcs_ct.reading.diagnosis import Diagnosis
    from jcs_ct.reading.lesions import Lesion

#: A page shows at most this many slices; longer studies are thinned evenly (tables and plots stay whole).
MOST_SLICES_SHOWN = 320

_Drawn = list[Future[dict[str, Any]]]


def shown_slices(slice_count: int) -> list[int]:
    """Indices of the slices the page shows: all, or an even selection of ``MOST_SLICES_SHOWN``."""
    return spread_over(slice_count, MOST_SLICES_SHOWN)


class PagePictures:
    """The pictures that a page shows, drawn in threads: most of their time holds no interpreter's lock.

    Args:
        volume: The study's.
    """

    def __init__(self, volume: CTVolume) -> None:
        self.display = Display.of(volume)
        self.shown = shown_slices(volume.shape[0])
        self._volume = volume
        self._ct: _Drawn = []
        self._maps: _Drawn = []
        self._outlines: _Drawn = []
        self._views: Future[tuple[LungView, ...]] | None = None

    def begin_ct(self, beside: Beside) -> None:
        """Draw the CT, which needs no diagnosis."""
        self._ct = self._begun(beside, self._draw_ct)

    def begin_maps(self, activation: NDArray[np.float16], beside: Beside) -> None:
        """Draw the activation map, (slices, rows, columns), which needs no lesion."""
        self._maps = self._begun(beside, lambda index: {"map": map_picture(activation[index])})

    def begin_lesions(
        self, lungs: NDArray[np.uint8], labels: NDArray[np.uint16], lesions: Sequence[Lesion], beside: Beside
    ) -> None:
        """Draw the lesions' outlines and the views through the lungs; arguments as of :func:`lung_views`."""
        self._begin_outlines(labels, beside)
        self._views = beside.start(lung_views, self._volume, lungs, labels, lesions)

    def begin_rest(self, diagnosis: Diagnosis, beside: Beside) -> None:
        """Draw what nobody began to; the lungs are viewed where lesions were sought."""
        if not self._ct:
            self.begin_ct(beside)
        if not self._maps:
            self.begin_maps(diagnosis.activation, beside)
        if self._outlines:
            return
        if diagnosis.segmented:
            self.begin_lesions(diagnosis.lung_labels, diagnosis.lesion_labels, diagnosis.lesions, beside)
        else:
            self._begin_outlines(diagnosis.lesion_labels, beside)

    def views(self) -> tuple[LungView, ...]:
        """The views through the lungs, none where no lesion was sought; waits for them."""
        return () if self._views is None else self._views.result()

    def drawn(self, progress: CountProgress | None = None) -> list[dict[str, Any]]:
        """Of every shown slice: the CT in two windows, the activation map, the lesions' outlines; waits for them.

        Args:
            progress: Called with the slices drawn and those there are to draw.
        """
        pictures: list[dict[str, Any]] = []
        for parts in zip(self._ct, self._maps, self._outlines, strict=True):
            pictures.append({key: picture for part in parts for key, picture in part.result().items()})
            if progress is not None:
                progress(len(pictures), len(self.shown))
        return pictures

    def _begin_outlines(self, labels: NDArray[np.uint16], beside: Beside) -> None:
        def outlines(index: int) -> dict[str, Any]:
            return {"outlines": lesion_outlines(labels[index], self.display)}

        self._outlines = self._begun(beside, outlines)

    def _begun(self, beside: Beside, draw: Callable[[int], dict[str, Any]]) -> _Drawn:
        return [beside.start(draw, index) for index in self.shown]

    def _draw_ct(self, index: int) -> dict[str, Any]:
        hu = self._volume.hu[index]
        return {window.key: ct_picture(hu, window) for window in (LUNG_DISPLAY, MEDIASTINAL_DISPLAY)}
