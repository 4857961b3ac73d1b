"""The grey window between HU and a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Window:
    """A linear grey window: HU -> [0, 1] (PS3.3 C.11.2.1.2, LINEAR_EXACT).

    Args:
        level: Centre in HU.
        width: Width in HU, greater than 0.
    """

    level: float = -600.0
    width: float = 1500.0

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise ValueError(f"window width must be greater than 0 HU, got {self.width}")

    def __call__(self, hu: NDArray[Any]) -> NDArray[np.float32]:
        """HU, any shape -> grey in [0, 1], float32, same shape."""
        grey = (np.asarray(hu, dtype=np.float32) - np.float32(self.level - self.width / 2)) / np.float32(self.width)
        return np.clip(grey, 0.0, 1.0, out=grey)

    def inverse(self, grey: NDArray[Any]) -> NDArray[np.float32]:
        """Grey in [0, 1] -> HU under this window; what the window clipped stays clipped."""
        return np.asarray(grey, dtype=np.float32) * np.float32(self.width) + np.float32(self.level - self.width / 2)


#: -1350 to 150 HU: what slices are shown to networks and readers under.
LUNG_WINDOW = Window(-600.0, 1500.0)
