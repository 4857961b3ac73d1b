"""How well tensors fit a network, key by key: what is missing, unexpected and mis-shaped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

#: How many keys of a kind a message lists; `jcs weights show --json` gives them all.
LISTED = 8


@dataclass(frozen=True)
class Fit:
    """The differences between a state dict and what a network expects.

    Args:
        missing: Expected, but not there.
        unexpected: There, but not expected.
        misshaped: There with another shape: ``name is (1, 2), expected (3, 4)``.
        matching: Number of keys that are right.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshaped: tuple[str, ...]
    matching: int

    @property
    def differences(self) -> int:
        """Number of keys that are wrong."""
        return len(self.missing) + len(self.unexpected) + len(self.misshaped)

    @property
    def came(self) -> int:
        """Number of keys that were compared, right or wrong."""
        return self.matching + len(self.unexpected) + len(self.misshaped)

    def lines(self) -> list[str]:
        """One line per kind of difference."""
        kinds = (("missing", self.missing), ("unexpected", self.unexpected), ("mis-shaped", self.misshaped))
        return [
            f"{label} ({len(names)}): {', '.join(names[:LISTED])}{' ...' if len(names) > LISTED else ''}"
            for label, names in kinds
            if names
        ]


def compare(expected: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Tensor]) -> Fit:
    """Compare names and shapes.

    Args:
        expected: Name -> shape.
        tensors: What came.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return Fit(
        missing=tuple(name for name in expected if name not in shapes),
        unexpected=tuple(name for name in shapes if name not in expected),
        misshaped=tuple(
            f"{name} is {shapes[name]}, expected {shape}"
            for name, shape in expected.items()
            if name in shapes and shapes[name] != shape
        ),
        matching=sum(shapes.get(name) == shape for name, shape in expected.items()),
    )
