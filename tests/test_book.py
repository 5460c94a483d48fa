"""The book: chapters run in smoke, what is stored is whole, the report builds strictly and offline."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "book"), str(ROOT / "benchmarks")]

import chapters  # noqa: E402
import kill  # noqa: E402

NAMES = chapters.chapter_names()
SMOKE = {"profile": "smoke", "data_root": "", "seed": 0}


@pytest.fixture(scope="session", autouse=True)
def limit_cells():
    """A cell of smoke never takes minutes; a hanging one must not hang the tests."""
    chapters.CELL_SECONDS = 180


def test_the_chapters_are_numbered_in_order():
    assert [name[:2] for name in NAMES] == [f"{i:02}" for i in range(1, len(NAMES) + 1)]
    assert len(NAMES) >= 8


@pytest.mark.parametrize("name", NAMES)
def test_a_chapter_runs_in_smoke(name, tmp_path):
    notebook = chapters.execute(name, tmp_path / f"{name}.ipynb", SMOKE)
    assert not any(o.output_type == "error" for c in notebook.cells for o in c.get("outputs", []))
    assert notebook.metadata["reproduced"]["parameters"] == SMOKE


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_chapter_is_in_order(name):
    assert chapters.problems_of(name) == []


def test_all_chapters_together_are_small():
    total = sum((chapters.BOOK / f"{name}.ipynb").stat().st_size for name in NAMES)
    assert total < chapters.BOOK_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_has_a_caption_and_an_alt_text(name):
    notebook = nbformat.read(chapters.BOOK / f"{name}.ipynb", as_version=4)
    for cell in notebook.cells:
        pictures = {"image/png", "image/jpeg"}
        if any(pictures & set(o.get("data", {})) for o in cell.get("outputs", [])):
            settings = cell.metadata.get("mystnb", {})
            assert settings.get("figure", {}).get("caption"), cell.id
            assert settings.get("image", {}).get("alt"), cell.id


def test_an_unknown_parameter_is_an_error(tmp_path):
    with pytest.raises(chapters.ChapterError, match="no parameter epochs: expected profile"):
        chapters.execute(NAMES[0], tmp_path / "x.ipynb", {"epochs": 3})


@pytest.fixture
def small_book(tmp_path, monkeypatch) -> Path:
    """A book of one chapter with one more cell than the parameters."""
    folder = tmp_path / "book"
    folder.mkdir()
    (folder / "_toc.yml").write_text("root: intro\nchapters:\n- file: one\n")
    monkeypatch.setattr(chapters, "BOOK", folder)
    write_chapter(folder, "print('fine', object())")
    return folder


def write_chapter(folder: Path, source: str) -> None:
    cells = [
        nbformat.v4.new_code_cell('profile = "mini"\ndata_root = ""\nseed = 0', id="a"),
        nbformat.v4.new_code_cell(source, id="b"),
    ]
    cells[0].metadata["tags"] = ["parameters"]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    nbformat.write(notebook, folder / "one.ipynb")


def test_a_failing_chapter_leaves_its_copy_with_the_error(small_book, tmp_path):
    write_chapter(small_book, "1 / 0")
    target = tmp_path / "out.ipynb"
    with pytest.raises(Exception, match="ZeroDivisionError"):
        chapters.execute("one", target, SMOKE)
    outputs = [o for c in nbformat.read(target, 4).cells for o in c.get("outputs", [])]
    assert any(o.output_type == "error" and o.ename == "ZeroDivisionError" for o in outputs)


SOURCES = {
    "fails": "1 / 0",
    "killed": "import os\nif not os.path.exists('mended'): os.kill(os.getppid(), 9)",
    "fine": "print('fine')",
}


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_a_batch_goes_on_after_failures_and_repeats_only_what_is_needed(tmp_path):
    """One chapter fails, the process that runs another is killed: the others do not notice."""
    kill.make_small_book(tmp_path, SOURCES)
    command = [sys.executable, str(tmp_path / "book" / "chapters.py"), "run", "--jobs", "2"]

    def batch() -> tuple[int, dict[str, str]]:
        done = subprocess.run(
            [*command, "--profile", "smoke"],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        return done.returncode, dict(re.findall(r"^\[\d/3\] (\w+): (.*)$", done.stdout, re.M))

    status, said = batch()
    assert status == 1 and sorted(said) == sorted(SOURCES)
    assert "ZeroDivisionError" in said["fails"] and "SIGKILL" in said["killed"]
    assert said["fine"].endswith(" s")
    copy = nbformat.read(tmp_path / "build/smoke/book/fails.ipynb", as_version=4)
    assert any(o.output_type == "error" for c in copy.cells for o in c.get("outputs", []))
    (tmp_path / "book" / "mended").touch()
    failing = tmp_path / "book" / "fails.ipynb"
    failing.write_text(failing.read_text().replace("1 / 0", "1 / 2"))
    status, said = batch()
    assert status == 0 and said["fine"] == "unchanged"
    assert said["fails"].endswith(" s") and said["killed"].endswith(" s")
    left = {file.name for file in (tmp_path / "build/smoke/book").glob("[!.]*")}
    assert left == {f"{name}.ipynb" for name in SOURCES}


def test_a_chapter_that_failed_is_in_no_report(small_book, tmp_path, monkeypatch):
    monkeypatch.setattr(chapters, "ROOT", tmp_path)
    write_chapter(small_book, "1 / 0")
    with pytest.raises(Exception, match="ZeroDivisionError"):
        chapters.execute("one", tmp_path / "build/smoke/book/one.ipynb", SMOKE)
    with pytest.raises(chapters.ChapterError, match="one failed in smoke"):
        chapters.report("smoke")


def test_a_damaged_copy_is_run_again(small_book, tmp_path):
    for damaged in ("", "{", "[]", '{"cells": 3}'):
        (tmp_path / "one.ipynb").write_text(damaged)
        assert not chapters.is_fresh(tmp_path / "one.ipynb", SMOKE)


def test_a_cell_that_times_out_is_an_error(small_book, tmp_path, monkeypatch):
    monkeypatch.setattr(chapters, "CELL_SECONDS", 1)
    write_chapter(small_book, "import time; time.sleep(30)")
    with pytest.raises(chapters.ChapterError, match="one: a cell did not finish in 1 s"):
        chapters.execute("one", tmp_path / "out.ipynb", SMOKE)


def test_running_twice_gives_the_same_bytes(small_book, tmp_path):
    first, second = tmp_path / "1.ipynb", tmp_path / "2.ipynb"
    for target in (first, second):
        chapters.execute("one", target, {**SMOKE, "profile": "mini"})
    assert first.read_bytes() == second.read_bytes()
    assert "0x…" in first.read_text()


def test_a_chapter_of_real_labels_is_not_that_of_the_citys(small_book, tmp_path, monkeypatch):
    write_chapter(small_book, "import os; os.environ.get('VIGOR_LABELS')")
    monkeypatch.setenv("VIGOR_LABELS", "somewhere")
    target = tmp_path / "out.ipynb"
    chapters.execute("one", target, SMOKE)
    assert chapters.is_fresh(target, SMOKE)
    monkeypatch.delenv("VIGOR_LABELS")
    assert not chapters.is_fresh(target, SMOKE)


def test_a_chapter_is_old_when_a_record_it_names_changes(small_book, tmp_path, monkeypatch):
    monkeypatch.setattr(chapters, "ROOT", tmp_path)
    write_chapter(small_book, "profile = 'smoke'  # shows named.json")
    target, results = tmp_path / "out.ipynb", tmp_path / "results"
    results.mkdir()
    chapters.execute("one", target, SMOKE)
    (results / "another.json").write_text("1")
    assert chapters.is_fresh(target, SMOKE)
    (results / "named.json").write_text("1")
    assert not chapters.is_fresh(target, SMOKE)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda nb: nb.cells[1].update(source="print(2)"), "stale"),
        (lambda nb: nb.cells[1].update(execution_count=7), "not run in order"),
        (lambda nb: nb.cells[1].update(id="a"), "duplicate"),
        (lambda nb: nb.cells[1].update(source="open('/home/me/x')"), "absolute path"),
        (lambda nb: nb.cells[0].metadata.pop("tags"), "parameters cell"),
        (lambda nb: nb.metadata.update(widgets={}), "widget"),
        (
            lambda nb: nb.cells[1].outputs.append(
                nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])
            ),
            "stored error",
        ),
        (lambda nb: nb.cells[1].update(source="#" * 2**20), "above"),
    ],
)
def test_the_check_finds(small_book, change, problem):
    chapters.execute("one", small_book / "one.ipynb", {**SMOKE, "profile": "mini"})
    assert chapters.problems_of("one") == []
    notebook = nbformat.read(small_book / "one.ipynb", as_version=4)
    change(notebook)
    (small_book / "one.ipynb").write_text(json.dumps(notebook))  # as it is, not mended
    assert any(problem in found for found in chapters.problems_of("one"))


def test_the_report_builds_strictly_and_needs_no_network(tmp_path):
    """The user's third use, word for word: no kernel, no warning, nothing from elsewhere."""
    shutil.copytree(ROOT / "book", tmp_path / "book")
    shutil.copyfile(ROOT / "_config.yml", tmp_path / "_config.yml")
    tool = Path(sys.executable).with_name("jupyter-book")
    done = subprocess.run(
        [str(tool), "build", "book/", "-W", "-n", "--keep-going"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    html = tmp_path / "_build" / "html"
    pages = list(html.glob("*.html"))
    assert {f"{name}.html" for name in NAMES} <= {page.name for page in pages}
    assert (html / "_static" / "mathjax" / "tex-svg.js").exists()
    loaded = re.compile(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(https?://[^"]+)"')
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not loaded.findall(text), page.name
        assert "cdn" not in text.lower().split("</head>")[0], page.name
