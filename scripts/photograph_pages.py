"""The pictures of the report page and of the served page for README and docs, of phantoms, in Debian's Chromium.

    python scripts/photograph_pages.py docs/images

Needs the extra ``service`` and playwright (``make test`` installs both), and ``chromium`` on the PATH. Two studies of
one phantom are read, the second two weeks later with fewer lesions.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from playwright.sync_api import Browser, Page, sync_playwright
from pydicom import dcmread
from pydicom.uid import generate_uid

_READ_MS = 600_000
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader"]
FIRST, LATER = "Phantom, first visit", "Phantom, two weeks later"


def main() -> None:
    """Read the phantoms, and photograph what is said of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the pictures are written")
    folder: Path = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        studies = Path(place)
        _jcs("phantom", "-o", studies / "first", "--slices", 60, "--lesions", 9, "--seed", 11)
        _jcs("phantom", "-o", studies / "later", "--slices", 60, "--lesions", 2, "--seed", 11)
        _two_weeks_later(studies / "later" / "dicom")
        _jcs("diagnose", studies / "first" / "dicom", "-o", studies / "report")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_ARGUMENTS)
        _report(browser, studies / "report" / "report.html", folder)
        with _served(studies / "served", studies) as url:
            _served_pages(browser, url, studies, folder)
        browser.close()


def _jcs(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "jcs_ct", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def _two_weeks_later(folder: Path) -> None:
    """Make a phantom's series another study of the same patient."""
    study, series = generate_uid(entropy_srcs=["later"]), generate_uid(entropy_srcs=["later", "series"])
    for path in sorted(folder.iterdir()):
        dataset = dcmread(path)
        dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = "20200415"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=["later", path.name])
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(path)


def _report(browser: Browser, page: Path, folder: Path) -> None:
    context = browser.new_context(
        color_scheme="dark", viewport={"width": 1200, "height": 844}, device_scale_factor=0.8
    )
    opened = context.new_page()
    opened.goto(page.as_uri())
    opened.wait_for_timeout(1500)
    opened.screenshot(path=folder / "report.png")
    context.close()


@contextmanager
def _served(folder: Path, studies: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "jcs_ct", "serve", "--folder", str(folder), "--port", str(port)]
    process = subprocess.Popen([*command, "--studies", str(studies)], stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urlopen(f"{url}/health").close()
                break
            except URLError:
                time.sleep(0.3)
        yield url
    finally:
        process.terminate()
        process.wait()


def _served_pages(browser: Browser, url: str, studies: Path, folder: Path) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(_READ_MS)
    page.goto(url)
    for label, name in ((FIRST, "first"), (LATER, "later")):
        page.get_by_label("Name of the study").fill(label)
        page.set_input_files("#pick-folder", str(studies / name / "dicom"))
        page.locator("#rows tr[data-state=done]", has_text=label).wait_for()
    page.evaluate("document.getElementById('folders').open = true")
    page.screenshot(path=folder / "serve-worklist.png")
    _open(page, url, FIRST)
    page.screenshot(path=folder / "serve-study.png", full_page=True)
    _open(page, url, LATER)
    page.get_by_role("link", name="2020-04-01").click()
    page.locator("body[data-viewer=ready]").wait_for()
    page.wait_for_timeout(20_000)
    page.screenshot(path=folder / "serve-compare.png", full_page=True)
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 1280, "height": 900})
    _open(page, url, FIRST)
    page.get_by_role("button", name="All three").click()
    page.evaluate("document.getElementById('limits').open = false")
    page.get_by_text("What other thresholds would say").click()
    page.wait_for_timeout(3000)
    page.screenshot(path=folder / "serve-dark.png")
    context.close()


def _open(page: Page, url: str, label: str) -> None:
    page.goto(url)
    page.locator("#rows tr", has_text=label).get_by_role("link").first.click()
    page.locator("body[data-viewer=ready]").wait_for()
    page.wait_for_timeout(1500)


if __name__ == "__main__":
    main()
