"""What studies look like at one moment, as text that everyone who listens then is told."""

from __future__ import annotations

import threading
from collections.abc import Hashable


class DescribedOnce:
    """Descriptions by study, written for the first who asks at a moment, and read by the others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._moment: Hashable = None
        self._texts: dict[str, str] = {}

    def at(self, moment: Hashable) -> dict[str, str]:
        """Texts by study_id, to read and to add to; a new moment begins with none."""
        with self._lock:
            if moment != self._moment:
                self._moment, self._texts = moment, {}
            return self._texts
