"""From a click on Locate to 50 thumbnails on the screen, in a real browser.

    python benchmarks/app.py                     # profile mini, the page by Voila
    python benchmarks/app.py --rival "SAFA"      # two methods side by side

Chromium: ``$CHROMIUM``, one of the system, or Playwright's own. The clock is the browser's: from the
click to the frame after the last card was drawn. Median and slowest; opening the page is apart.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import time

import typer
from playwright.sync_api import Page, sync_playwright

from vigorlib.app import serve

CLICK_TO_CARDS = """(galleries) => new Promise((resolve) => {
    const start = performance.now();
    const done = () => [...document.querySelectorAll(".vg-grid")]
        .filter((grid) => grid.dataset.count === "50").length >= galleries;
    const look = () => done()
        ? requestAnimationFrame(() => resolve(performance.now() - start)) : requestAnimationFrame(look);
    document.querySelector(".va-locate").click();
    requestAnimationFrame(look);
})"""


def opened(page: Page, port: int) -> float:
    """Seconds until the app can be used."""
    start = time.perf_counter()
    page.goto(f"http://127.0.0.1:{port}")
    page.wait_for_selector(".vq-row[data-filled]", timeout=120_000)
    return time.perf_counter() - start


def clicks(page: Page, times: int, galleries: int) -> list[float]:
    """Milliseconds of each click, on another query each time."""
    taken = []
    for _ in range(times):
        page.get_by_role("button", name="Next").click()
        page.wait_for_function("document.querySelectorAll('.vg-card').length === 0")
        taken.append(page.evaluate(CLICK_TO_CARDS, galleries))
    return taken


def main(profile: str = "mini", data_root: str = "", rival: str = "", times: int = 20) -> None:
    """Serve the app, open it in a browser, click."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        serve.command(port=port, browser=False),
        env=serve.environment(profile, data_root),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(0.2)
        with sync_playwright() as playwright:
            chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1400, "height": 1100})
            seconds = opened(page, port)
            if rival:
                page.get_by_label("compare with").select_option(rival)
            first, *others = clicks(page, times + 1, 2 if rival else 1)
    finally:
        server.terminate()
    found = {
        "open_page_s": round(seconds, 1),
        "click_to_thumbnails_ms": {
            "first": round(first),
            "median": round(statistics.median(others)),
            "slowest": round(max(others)),
        },
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    typer.run(main)
