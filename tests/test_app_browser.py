"""The app in a real browser, as a page by Voila and in JupyterLab, without a network.

Chromium: ``$CHROMIUM``, one of the system, or Playwright's own (``playwright install chromium``).
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vigorlib import runs
from vigorlib.app import serve

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Error, Page, expect, sync_playwright

MATCHES = 50
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)  # its own five seconds are too few beside other tests
LOCAL = ("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:")


def installed() -> str | None:
    """A Chromium that is there already."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        try:  # no sandbox: root has none, and the pages are ours
            chromium = playwright.chromium.launch(
                executable_path=installed(), args=["--no-sandbox"]
            )
        except Error as error:
            pytest.skip(f"no Chromium: {str(error).splitlines()[0]}; `playwright install chromium`")
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def settings(tmp_path_factory, city_root) -> dict[str, str]:
    """The environment of a server that offers two methods of profile smoke."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIGOR_BOOK_HOME", str(home))
        for recipe in ("vigor", "safa"):
            runs.load_or_train(recipe, "smoke", data_root=city_root, progress=False)
        return serve.environment("smoke", str(city_root))


@contextmanager
def serving(command: list[str], settings: dict[str, str], port: int, folder: Path) -> Iterator[str]:
    """A server while it is needed; its log if it does not come up."""
    log, address = folder / "server.log", f"http://127.0.0.1:{port}"
    with log.open("w") as out:
        server = subprocess.Popen(command, env=settings, cwd=folder, stdout=out, stderr=out)
    try:
        for _ in range(240):
            if server.poll() is not None:
                pytest.fail(f"the server stopped:\n{log.read_text()[-3000:]}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.25)
        yield address
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def voila_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("voila")


@pytest.fixture(scope="module")
def voila(settings, voila_folder) -> Iterator[str]:
    port, command = free_port(), serve.command
    with serving(command(port=port, browser=False), settings, port, voila_folder) as address:
        yield address


@pytest.fixture(scope="module")
def lab(settings, tmp_path_factory) -> Iterator[str]:
    port, folder = free_port(), tmp_path_factory.mktemp("lab")
    shutil.copy(serve.NOTEBOOK, folder / "app.ipynb")
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
        "--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={folder}", "--ServerApp.token=",
        "--ServerApp.password=", "--LabApp.extension_manager=readonly", "--LabApp.news_url=",
    ]  # fmt: skip
    own = {k: v for k, v in settings.items() if k != "JUPYTER_PATH"}  # no kernel of Voila's
    with serving(command, own, port, folder) as address:
        yield address


@pytest.fixture(scope="module", params=["voila", "lab"])
def opened(request, browser) -> Iterator[Page]:
    """The app on a page that notes what it asks of others."""
    address = request.getfixturevalue(request.param)
    page = browser.new_page(viewport={"width": 1400, "height": 1100}, accept_downloads=True)
    page.set_default_timeout(PATIENCE_MS)
    page.asked, page.failed = [], []
    page.on("request", lambda asked: page.asked.append(asked.url))
    page.on("pageerror", lambda error: page.failed.append(str(error)))
    if request.param == "voila":
        page.goto(address)
    else:
        page.goto(f"{address}/lab/tree/app.ipynb")
        page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]")
        run_first_cell(page)
    page.wait_for_selector(".vigor-app[data-ready]")
    page.wait_for_selector(".vq-row[data-filled]")
    yield page
    page.close()


def run_first_cell(page: Page) -> None:
    """JupyterLab forgets a key that is pressed too soon: press until the cell is taken up."""
    asked, said = page.locator(".jp-Dialog"), ""
    for _ in range(40):
        if asked.count():  # on a busy machine JupyterLab asks for a kernel before it has one
            said = asked.first.inner_text()
            asked.first.locator(".jp-mod-accept").click()
        with contextlib.suppress(Error):  # it may ask meanwhile
            page.click(".jp-Notebook .jp-CodeCell .jp-InputArea-editor", timeout=3000)
        page.keyboard.press("Shift+Enter")
        page.wait_for_timeout(1000)
        if page.locator(".jp-CodeCell .jp-InputPrompt").first.inner_text() != "[ ]:":
            expect(page.locator(".jp-CodeCell .jp-InputPrompt").first).to_have_text(
                re.compile(r"\[\d+\]:")  # whole, and not pressed a second time
            )
            page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]")
            return
    pytest.fail(f"JupyterLab does not run the cell; it asked: {said or 'nothing'}")


@pytest.fixture
def page(opened) -> Page:
    """As it is at the beginning. That the help closes shows that Reset has come before what follows."""
    manual = opened.locator(".va-help-text")
    if manual.is_hidden():
        opened.get_by_role("button", name="Help").click()
        expect(manual).to_be_visible()
    opened.get_by_role("button", name="Reset").click()
    expect(manual).to_be_hidden()
    expect(opened.locator(".va-status")).to_have_text("Choose a street, then Locate.")
    return opened


def locate(page: Page, galleries: int = 1) -> None:
    page.get_by_role("button", name="Locate").click()
    for k in range(galleries):
        expect(page.locator(".vg-grid").nth(k)).to_have_attribute("data-count", str(MATCHES))


def status(page: Page):
    return page.locator(".va-status")


def jpeg(height: int, width: int) -> bytes:
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[:, : width // 2] = (200, 60, 20)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG")
    return out.getvalue()


def upload(page: Page, name: str, data: bytes) -> None:
    page.set_input_files(".vu input", {"name": name, "mimeType": "image/jpeg", "buffer": data})


# -- the test set ----------------------------------------------------------------------------


def test_three_clicks_localize_a_street(page):
    page.locator(".vq-row").nth(3).click()
    expect(page.locator(".va-caption")).to_contain_text("Query 3")
    locate(page)
    expect(page.locator(".vg-line")).to_have_text([re.compile("m$")] * MATCHES)
    expect(page.locator(".vg-rank")).to_have_text([str(k + 1) for k in range(MATCHES)])
    expect(status(page)).to_contain_text("tiles searched")
    expect(page.locator(".vg-verdict").first).to_contain_text("m")
    expect(page.locator(".vm-truth").first).to_be_attached()
    expect(page.locator(".va-facts")).to_contain_text("predicted to truth")


def test_the_chosen_query_is_shown_with_north_marked(page):
    shown = page.locator(".va-pano img")
    first = shown.get_attribute("src")
    assert page.locator(".va-compass span").all_inner_texts() == ["S", "W", "N", "E", "S"]
    page.locator(".vq-row").nth(1).click()
    expect(shown).not_to_have_attribute("src", first)


def hovered_on_the_map(page: Page, tries: int = 10) -> str:
    """Hover a match of the query's city till the map shows it; the map comes later than the cards."""
    for _ in range(tries):
        tile = page.locator(".vm-tile").first.get_attribute("data-tile")
        page.mouse.move(0, 0)
        page.locator(f".vg-card[data-tile='{tile}']").hover()
        with contextlib.suppress(AssertionError):
            expect(page.locator(f".vm-tile.hovered[data-tile='{tile}']")).to_be_attached(
                timeout=2_000
            )
            return tile
    raise AssertionError("no match that was hovered was shown on the map")


def test_hovering_a_match_shows_it_on_the_map_and_the_reverse(page):
    locate(page)
    tile = hovered_on_the_map(page)
    page.locator(".vg-head").first.hover()
    expect(page.locator(".vm-tile.hovered")).to_have_count(0)
    page.locator(f".vm-tile[data-tile='{tile}']").dispatch_event("pointermove")
    expect(page.locator(f".vg-card.hovered[data-tile='{tile}']")).to_be_attached()


def test_a_click_on_a_match_shows_it_in_large_and_what_made_it_similar(page):
    locate(page)
    page.locator(".vg-card").nth(4).click()
    expect(page.locator(".va-pair-head")).to_contain_text("5th match")
    plain = page.locator(".va-tile img").get_attribute("src")
    page.get_by_role("button", name="Grad-CAM").click()
    expect(page.locator(".va-tile img")).not_to_have_attribute("src", plain)
    page.get_by_role("button", name="picture", exact=True).click()
    expect(page.locator(".va-tile img")).to_have_attribute("src", plain)


def test_two_methods_side_by_side(page):
    page.get_by_label("compare with").select_option("SAFA")
    locate(page, galleries=2)
    heads = page.locator(".vg-head b").all_inner_texts()
    assert heads[:2] == ["VIGOR", "SAFA"]
    expect(page.locator(".vm-tile.m1").first).to_be_attached()


def test_queries_are_filtered(page):
    count = page.locator(".va-left small", has_text="queries")
    everything = count.inner_text()
    page.get_by_placeholder("part of the name").fill("no such name")
    expect(page.locator(".vq-empty")).to_be_visible()
    page.get_by_placeholder("part of the name").fill("")
    expect(page.locator(".vq-empty")).to_be_hidden()
    page.locator(".va-filters select").nth(0).select_option("Seattle")
    expect(count).not_to_have_text(everything)
    expect(page.locator(".vq-row").first).to_contain_text("Seattle")


def test_the_search_is_limited_to_a_circle_that_a_click_moves(page):
    page.get_by_text("search only near a GPS fix", exact=True).click()
    expect(page.locator(".vm-circle")).to_be_attached()
    page.get_by_role("button", name="Locate").click()
    expect(status(page)).to_contain_text("tiles searched")
    searched = int(status(page).inner_text().split(" tiles")[0].strip("✓ ").replace(",", ""))
    assert 0 < searched < 200
    before = page.locator(".vm-circle").get_attribute("cx")
    page.locator(".vm-svg").click(position={"x": 250, "y": 260})
    expect(page.locator(".va-left")).to_contain_text("where you clicked")
    expect(page.locator(".vm-circle")).not_to_have_attribute("cx", before)


def test_the_matches_can_be_kept(page):
    locate(page)
    with page.expect_download() as csv:
        page.get_by_text("VIGOR: CSV").click()
    assert len(Path(csv.value.path()).read_text().splitlines()) == MATCHES + 1
    with page.expect_download() as geojson:
        page.get_by_text("VIGOR: GeoJSON").click()
    assert geojson.value.suggested_filename == "matches-VIGOR.geojson"


# -- the keyboard ----------------------------------------------------------------------------


def test_the_keyboard_works(page):
    page.locator(".va-caption").click()
    chosen = page.locator(".va-caption b")
    page.keyboard.press("n")
    expect(chosen).to_have_text("Query 1")
    page.keyboard.press("ArrowRight")
    expect(chosen).to_have_text("Query 2")
    page.keyboard.press("ArrowLeft")
    expect(chosen).to_have_text("Query 1")
    page.keyboard.press("Enter")
    expect(page.locator(".vg-grid").first).to_have_attribute("data-count", str(MATCHES))
    page.locator(".vg-card").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".vg-card").nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".va-pair-head")).to_contain_text("2nd match")
    page.keyboard.press("Escape")
    expect(page.locator(".va-pair-head")).to_have_count(0)
    page.keyboard.press("r")
    expect(chosen).to_contain_text("Query")


def test_typing_is_not_taken_for_commands(page):
    field = page.get_by_placeholder("part of the name")
    field.press_sequentially("nr")
    expect(field).to_have_value("nr")
    expect(page.locator(".va-help-text")).to_be_hidden()
    field.fill("")


def test_help_says_what_the_distances_mean_and_what_it_cannot_do(page):
    page.get_by_role("button", name="Help").click()
    manual = page.locator(".va-help-text")
    expect(manual).to_be_visible()
    expect(manual).to_contain_text("the distance from the tile's centre to where the photograph")
    expect(manual).to_contain_text("What it cannot do")
    page.keyboard.press("Escape")
    expect(manual).to_be_hidden()
    page.keyboard.press("?")
    expect(manual).to_be_visible()


# -- pictures of one's own -------------------------------------------------------------------


def test_a_panorama_of_ones_own_is_turned_and_located(page):
    page.get_by_role("button", name="my own picture").click()
    upload(page, "mine.jpg", jpeg(128, 256))
    expect(page.locator(".va-caption")).to_contain_text("mine.jpg")
    shown = page.locator(".va-pano img")
    before = shown.get_attribute("src")
    page.get_by_role("slider").first.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    expect(shown).not_to_have_attribute("src", before)
    locate(page)
    expect(page.locator(".vg-verdict").first).to_contain_text("not known")


def test_an_unknown_heading_is_looked_for(page):
    page.get_by_role("button", name="my own picture").click()
    upload(page, "phone.jpg", jpeg(90, 120))
    expect(page.locator(".va-left")).to_contain_text("field of view")
    page.get_by_role("button", name="Heading unknown").click()
    expect(status(page)).to_contain_text("fits best")
    expect(page.locator(".va-headings")).to_be_visible()
    expect(page.locator(".vg-grid").first).to_have_attribute("data-count", str(MATCHES))


def test_bad_uploads_are_refused_and_the_session_goes_on(page):
    page.get_by_role("button", name="my own picture").click()
    for name, data, said in (
        ("notes.jpg", b"this is no picture", "expected a JPEG"),
        ("nothing.jpg", b"", "empty"),
        ("half.jpg", jpeg(512, 1024)[:900], "decoded"),
        ("<img src=x onerror=window.harmed=1>.jpg", b"\xff\xd8\xff" + bytes(99), "decoded"),
    ):
        upload(page, name, data)
        expect(status(page)).to_contain_text(said)
        upload(page, "<i>good</i>.jpg", jpeg(64, 128))
        expect(page.locator(".va-caption")).to_contain_text("i>.jpg")
        expect(status(page)).to_contain_text("Ready")
    assert page.evaluate("window.harmed === undefined")
    expect(page.locator(".va-caption i")).to_have_count(0)


def test_a_large_upload_arrives_and_one_too_large_is_refused_unsent(page, tmp_path):
    page.get_by_role("button", name="my own picture").click()
    noise = np.random.default_rng(0).integers(0, 256, (1500, 3000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png", compress_level=0)
    assert (tmp_path / "large.png").stat().st_size > 12e6  # more than a web socket takes at once
    page.set_input_files(".vu input", tmp_path / "large.png")
    expect(page.locator(".va-left")).to_contain_text("PNG, 3000 x 1500", timeout=60_000)
    (tmp_path / "huge.png").write_bytes(bytes(41_000_000))
    page.set_input_files(".vu input", tmp_path / "huge.png")
    expect(status(page)).to_contain_text("at most 40 MB")


def test_reset_brings_everything_back(page):
    page.get_by_label("compare with").select_option("SAFA")
    page.locator(".vq-row").nth(2).click()
    locate(page, galleries=2)
    page.get_by_role("button", name="my own picture").click()
    upload(page, "mine.jpg", jpeg(128, 256))
    expect(page.locator(".va-caption")).to_contain_text("mine.jpg")
    page.get_by_role("button", name="Reset").click()
    expect(page.locator(".va-caption")).to_contain_text("Query 0")
    expect(page.locator(".vg-card")).to_have_count(0)
    chosen = page.get_by_label("compare with").evaluate("e => e.selectedOptions[0].label")
    assert chosen.replace("\xa0", " ") == "no other"


# -- what it must not do ---------------------------------------------------------------------


def test_nothing_is_asked_of_other_machines_and_no_script_fails(page):
    assert [url for url in page.asked if not url.startswith(LOCAL)] == []
    assert page.failed == []


def get(address: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


@pytest.mark.parametrize(
    "path",
    ["voila/files/app.ipynb", "voila/files/images/pair.jpg", "voila/files/../pyproject.toml",
     "voila/tree", "voila/api/contents", "api/contents", "api/kernels", "api/sessions", "api/terminals"],
)  # fmt: skip
def test_voila_hands_out_no_file_and_no_list(voila, path):
    code, text = get(f"{voila}/{path}")
    assert code in (403, 404), text[:200]


def test_voila_runs_no_code_of_a_visitor(voila, browser, tmp_path):
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(voila)
    page.wait_for_selector(".vigor-app[data-ready]")
    replies = page.evaluate(
        """async (code) => {
        const config = JSON.parse(document.getElementById("jupyter-config-data").textContent);
        const socket = new WebSocket(
            `ws://${location.host}/api/kernels/${config.kernelId}/channels?session_id=visitor`);
        const replies = [];
        socket.onmessage = (event) => {
            if (typeof event.data === "string") replies.push(JSON.parse(event.data).msg_type);
        };
        await new Promise((resolve) => { socket.onopen = resolve; });
        const send = (type, content) => socket.send(JSON.stringify({
            channel: "shell", content, metadata: {}, parent_header: {}, buffers: [],
            header: { msg_id: type, msg_type: type, session: "visitor", username: "visitor",
                      date: new Date().toISOString(), version: "5.3" } }));
        send("execute_request", { code, silent: false, store_history: false, user_expressions: {},
                                  allow_stdin: false, stop_on_error: true });
        send("kernel_info_request", {});
        for (let i = 0; i < 100 && !replies.includes("kernel_info_reply"); i++)
            await new Promise((resolve) => setTimeout(resolve, 100));
        await new Promise((resolve) => setTimeout(resolve, 1000));
        socket.close();
        return replies;
    }""",
        f"open({str(tmp_path / 'harmed')!r}, 'w')",
    )
    page.close()
    assert "kernel_info_reply" in replies  # the line was open
    assert "execute_reply" not in replies and not (tmp_path / "harmed").exists()


def test_the_terminal_tells_of_no_trouble_where_there_is_none(voila, voila_folder, browser):
    page = browser.new_page()
    page.goto(voila)
    page.wait_for_selector(".vq-row", timeout=PATIENCE_MS)
    page.close()
    said = (voila_folder / "server.log").read_text()
    assert "is running at" in said and "encrypt" not in said


def test_the_page_is_for_this_machine_only():
    assert "--Voila.ip=127.0.0.1" in serve.command()
