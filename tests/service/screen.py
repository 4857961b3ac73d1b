"""What a reader does on the page, by Playwright."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from .conftest import PASSWORDS


def log_in(page, server, name: str) -> None:
    page.goto(server.url)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORDS[name])
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Worklist").wait_for()


def send(page, label: str, *, folder: Path | None = None, files: list[dict] | str | None = None) -> None:
    page.get_by_label("Name of the study").fill(label)
    page.set_input_files("#pick-folder" if folder else "#pick-files", str(folder) if folder else files)
    page.locator("#rows tr", has_text=label).wait_for()


def open_study(page, label: str) -> None:
    page.locator("#rows tr[data-state=done]", has_text=label).wait_for()
    page.locator("#rows tr", has_text=label).get_by_role("link").click()
    page.locator("body[data-viewer=ready]").wait_for()


def slice_shown(page) -> int:
    return int(re.match(r"slice (\d+) of", page.locator("#where").inner_text()).group(1))


def mask_of(page) -> np.ndarray:
    """The painted mask in the browser's memory, as (x, y, z)."""
    shape = page.evaluate("JSON.parse(document.getElementById('page-data').textContent).grid.shape")
    places = page.evaluate(
        "(() => { const found = []; const m = jcsState.viewer.mask;"
        " for (let i = 0; i < m.length; i += 1) if (m[i] > 0) found.push(i); return found; })()"
    )
    mask = np.zeros(int(np.prod(shape)), dtype=bool)
    mask[places] = True
    return mask.reshape(shape, order="F")


def drag(page, start: tuple[float, float], stop: tuple[float, float], tile: int = 0, button: str = "left") -> None:
    """A stroke on a picture, in shares of its width and height."""
    box = page.locator("#canvas").bounding_box()
    left, top, width, height = page.evaluate(f"[...jcsState.viewer.nv.screenSlices[{tile}].leftTopWidthHeight]")
    points = [(box["x"] + left + x * width, box["y"] + top + y * height) for x, y in (start, stop)]
    page.mouse.move(*points[0])
    page.mouse.down(button=button)
    page.mouse.move(*points[1], steps=8)
    page.mouse.up(button=button)
    page.wait_for_timeout(400)
