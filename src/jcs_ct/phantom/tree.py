"""Branching trees: pulmonary arteries, veins and airways, grown into a lung and drawn as tapering tubes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jcs_ct.phantom.grid import Plane, SliceGrid

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tubes:
    """Straight tapering pieces of vessel or airway.

    Args:
        start: (n, 3) x, y, z in mm.
        end: (n, 3) x, y, z in mm.
        start_radius: (n,) in mm.
        end_radius: (n,) in mm.
    """

    start: Points
    end: Points
    start_radius: NDArray[np.float64]
    end_radius: NDArray[np.float64]

    def select(self, keep: NDArray[np.bool_]) -> Tubes:
        """The pieces where ``keep`` is True."""
        return Tubes(self.start[keep], self.end[keep], self.start_radius[keep], self.end_radius[keep])

    def scaled(self, factor: float, extra_mm: float = 0.0) -> Tubes:
        """The same centre lines with radius * factor + extra."""
        return Tubes(self.start, self.end, self.start_radius * factor + extra_mm, self.end_radius * factor + extra_mm)

    @staticmethod
    def joined(parts: list[Tubes]) -> Tubes:
        """All pieces of several sets."""
        return Tubes(
            np.concatenate([p.start for p in parts]),
            np.concatenate([p.end for p in parts]),
            np.concatenate([p.start_radius for p in parts]),
            np.concatenate([p.end_radius for p in parts]),
        )

    @staticmethod
    def polyline(points: list[tuple[float, float, float]], radii: list[float]) -> Tubes:
        """A tube through points, with a radius at each."""
        line, radius = np.asarray(points, dtype=np.float64), np.asarray(radii, dtype=np.float64)
        return Tubes(line[:-1], line[1:], radius[:-1], radius[1:])


def grow_tree(
    generator: np.random.Generator,
    root: Points,
    targets: Points,
    *,
    tip_radius_mm: float,
    exponent: float = 2.7,
    directness: float = 0.45,
) -> Tubes:
    """Connect targets to a root by a tree that is short in all and direct for each.

    Targets join one by one, nearest to the root first, at the node with the least new length plus
    ``directness`` times the way from there to the root; radii then follow Murray's law
    (parent^e = sum of children^e), which makes the tree taper towards the pleura.

    Args:
        generator: Bends the branches.
        root: (3,) where the tree enters the lung, mm.
        targets: (n, 3) points to reach, mm.
        tip_radius_mm: Radius of the last branches.
        exponent: Of Murray's law.
        directness: 0 gives the shortest tree, large values a star.
    """
    order = np.argsort(np.linalg.norm(targets - root, axis=1), kind="stable")
    nodes = np.concatenate([root[None], targets[order]])
    parent = np.zeros(len(nodes), dtype=np.int64)
    way = np.zeros(len(nodes))
    for i in range(1, len(nodes)):
        gap = np.sqrt(((nodes[:i] - nodes[i]) ** 2).sum(axis=1))
        parent[i] = int(np.argmin(gap + directness * way[:i]))
        way[i] = way[parent[i]] + gap[parent[i]]
    tips = np.zeros(len(nodes))
    for i in range(len(nodes) - 1, 0, -1):
        tips[i] += tips[i] == 0
        tips[parent[i]] += tips[i]
    radius = tip_radius_mm * np.maximum(tips, 1) ** (1 / exponent)
    nodes = _relax(nodes, parent)
    return _bent(generator, nodes, parent, radius)


def _relax(nodes: Points, parent: NDArray[np.int64]) -> Points:
    """Smooth the paths: every inner node moves towards the middle of its parent and its children."""
    children = np.bincount(parent[1:], minlength=len(nodes))
    inner = (children > 0) & (np.arange(len(nodes)) > 0)
    for _ in range(2):
        total = np.zeros_like(nodes)
        np.add.at(total, parent[1:], nodes[1:])
        mean = total[inner] / children[inner, None]
        moved = nodes.copy()
        moved[inner] = 0.5 * nodes[inner] + 0.25 * nodes[parent[inner]] + 0.25 * mean
        nodes = moved
    return nodes


def _bent(
    generator: np.random.Generator, nodes: Points, parent: NDArray[np.int64], radius: NDArray[np.float64]
) -> Tubes:
    """Two pieces per branch with the middle a little off the straight line."""
    start, end = nodes[parent[1:]], nodes[1:]
    length = np.linalg.norm(end - start, axis=1, keepdims=True)
    middle = 0.5 * (start + end) + generator.normal(0, 0.07, start.shape) * length
    # A branch starts at its own radius, not at its much wider parent's.
    first = np.minimum(radius[parent[1:]], 1.25 * radius[1:])
    centre = 0.5 * (first + radius[1:])
    return Tubes(
        np.concatenate([start, middle]),
        np.concatenate([middle, end]),
        np.concatenate([first, centre]),
        np.concatenate([centre, radius[1:]]),
    )


def tube_share(grid: SliceGrid, tubes: Tubes, z_mm: float) -> Plane:
    """(rows, columns): share of each pixel that lies in a tube, on the plane at ``z_mm``.

    All pixels of all tubes' bounding boxes are laid out in one ragged array, so the cost does not depend on
    the number of tubes in Python.
    """
    share = np.zeros(grid.shape, dtype=np.float32)
    reach = np.maximum(tubes.start_radius, tubes.end_radius) + grid.pixel_mm
    low = np.minimum(tubes.start[:, 2], tubes.end[:, 2]) - reach
    high = np.maximum(tubes.start[:, 2], tubes.end[:, 2]) + reach
    crossing = (low < z_mm) & (high > z_mm)
    tubes, reach = _clip_to_slab(tubes.select(crossing), z_mm, reach[crossing]), reach[crossing]
    left = np.searchsorted(grid.x_mm, np.minimum(tubes.start[:, 0], tubes.end[:, 0]) - reach)
    right = np.searchsorted(grid.x_mm, np.maximum(tubes.start[:, 0], tubes.end[:, 0]) + reach)
    front = np.searchsorted(grid.y_mm, np.minimum(tubes.start[:, 1], tubes.end[:, 1]) - reach)
    back = np.searchsorted(grid.y_mm, np.maximum(tubes.start[:, 1], tubes.end[:, 1]) + reach)
    width, count = right - left, (right - left) * (back - front)
    which = np.repeat(np.arange(len(count)), count)
    if not len(which):
        return share
    offset = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    row, column = front[which] + offset // width[which], left[which] + offset % width[which]
    inside = _distance_inside(grid, tubes, which, row, column, z_mm)
    # Tubes thinner than a pixel cover only part of it.
    edge = np.float32(grid.pixel_mm)
    thin = np.minimum(1.0, (2.0 * tubes.end_radius / grid.pixel_mm) ** 2).astype(np.float32)
    cover = np.clip(inside / edge + np.float32(0.5), 0, 1) * thin[which]
    np.maximum.at(share.reshape(-1), row * grid.shape[1] + column, cover)
    return share


def _clip_to_slab(tubes: Tubes, z_mm: float, reach: NDArray[np.float64]) -> Tubes:
    """Shorten each piece to the part that can touch the plane, which keeps the bounding boxes small."""
    rise = tubes.end[:, 2] - tubes.start[:, 2]
    safe = np.where(np.abs(rise) < 1e-6, 1e-6, rise)
    a, b = (z_mm - reach - tubes.start[:, 2]) / safe, (z_mm + reach - tubes.start[:, 2]) / safe
    flat = np.abs(rise) < 1e-6
    first = np.where(flat, 0.0, np.clip(np.minimum(a, b), 0, 1))[:, None]
    last = np.where(flat, 1.0, np.clip(np.maximum(a, b), 0, 1))[:, None]
    step = tubes.end - tubes.start
    taper = tubes.end_radius - tubes.start_radius
    return Tubes(
        tubes.start + first * step,
        tubes.start + last * step,
        tubes.start_radius + first[:, 0] * taper,
        tubes.start_radius + last[:, 0] * taper,
    )


def _distance_inside(
    grid: SliceGrid,
    tubes: Tubes,
    which: NDArray[np.int64],
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    z_mm: float,
) -> Plane:
    start = tubes.start.astype(np.float32)
    step = (tubes.end - tubes.start).astype(np.float32)
    dx = grid.x_mm[column] - start[which, 0]
    dy = grid.y_mm[row] - start[which, 1]
    dz = (np.float32(z_mm) - start[:, 2])[which]
    scale = (1 / np.maximum((step**2).sum(axis=1), 1e-6)).astype(np.float32)
    direction = step * scale[:, None]
    t = np.clip(dx * direction[which, 0] + dy * direction[which, 1] + dz * direction[which, 2], 0, 1)
    dx -= t * step[which, 0]
    dy -= t * step[which, 1]
    dz = dz - t * step[which, 2]
    taper = (tubes.end_radius - tubes.start_radius).astype(np.float32)
    radius = tubes.start_radius.astype(np.float32)[which] + t * taper[which]
    inside: Plane = radius - np.sqrt(dx * dx + dy * dy + dz * dz)
    return inside
