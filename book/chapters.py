"""Run, store and check the chapters; build the report.

python book/chapters.py run [NAMES] --profile mini      execute into build/mini/book/
python book/chapters.py run --store                     ... and store the outputs in book/
python book/chapters.py report --profile mini           build/mini/_build/html
python book/chapters.py check                           what is stored is whole and fresh
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import nbformat
import typer
import yaml
from nbformat import NotebookNode
from PIL import Image
from rich.console import Console

from vigorlib.apart import run_apart, side_by_side
from vigorlib.files import remove_leftovers, write_atomically
from vigorlib.locks import held

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent
CHAPTER_BYTES, BOOK_BYTES = 2**20, 8 * 2**20
CELL_SECONDS = 7 * 24 * 3600
"""A cell of profile full may train for days; tests set less."""
MACHINE_PATHS = (f"{ROOT}/", f"{Path.home()}/.", "/home/", "/Users/", ":\\\\Users")
PHOTO_BYTES = 150_000
"""A figure larger than this, as base64 PNG, holds photographs."""
NOISE = ("execution", "papermill", "iopub.execute_input", "iopub.status.busy")

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, rich_markup_mode=None)
console = Console()


class ChapterError(ValueError):
    """A chapter is not what the book needs."""


def chapter_names() -> list[str]:
    """Names of the notebooks in the table of contents, in order."""
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text(encoding="utf-8"))
    return [name for name in _files(toc) if (BOOK / f"{name}.ipynb").exists()]


def _files(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from _files(item)
    elif isinstance(node, dict):
        if "file" in node:
            yield node["file"]
        for key in ("parts", "chapters", "sections"):
            yield from _files(node.get(key, []))


# -- running ---------------------------------------------------------------------------------


def execute(name: str, target: Path, parameters: dict[str, Any]) -> NotebookNode:
    """Run a chapter with papermill into ``target``, normalised and stamped.

    Raises ChapterError for a parameter the chapter does not have (papermill would only warn) and
    papermill's error when a cell fails; the executed copy with the error then stays in ``target``.
    """
    import papermill
    from nbclient.exceptions import CellTimeoutError

    source = BOOK / f"{name}.ipynb"
    known = papermill.inspect_notebook(str(source))
    if unknown := set(parameters) - set(known):
        raise ChapterError(
            f"{name} has no parameter {', '.join(sorted(unknown))}: expected {', '.join(known)}"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".running.ipynb")
    partial.unlink(missing_ok=True)  # of a call that was killed
    _use_own_ipython_profile()
    try:
        papermill.execute_notebook(
            str(source), str(partial), parameters, kernel_name="python3", cwd=str(BOOK),
            progress_bar=False, log_output=False, execution_timeout=CELL_SECONDS,
        )  # fmt: skip
        _require_whole(name, partial)  # papermill calls some cells that timed out completed
    except Exception as error:
        if partial.exists():  # else it failed before a cell ran
            partial.replace(target)  # the copy shows the error
        if isinstance(error, CellTimeoutError):
            raise ChapterError(f"{name}: a cell did not finish in {CELL_SECONDS} s") from error
        raise
    notebook = normalised(nbformat.read(partial, as_version=4))
    values = {key: known[key]["default"] for key in known}
    notebook.metadata["reproduced"] = {
        "parameters": parameters,
        "sources": source_hash(notebook, parameters),
        "records": records_hash(parameters["profile"], notebook) if "profile" in values else "",
        "real_labels": uses_real_labels(notebook),
        "pictures": pictures_hash(notebook),
    }
    write_atomically(target, lambda path: nbformat.write(notebook, path))
    partial.unlink()
    return notebook


def _use_own_ipython_profile() -> None:
    """Kernels of chapters read no start-up files of yours and do not warn of their local sockets."""
    folder = ROOT / "build" / "ipython"
    config = folder / "profile_default" / "ipython_kernel_config.py"
    text = "c = get_config()\nc.IPKernelApp.log_level = 50\n"
    write_atomically(config, lambda path: path.write_text(text, encoding="utf-8"))
    os.environ["IPYTHONDIR"] = str(folder)


def _require_whole(name: str, file: Path) -> None:
    """Every code cell ran to its end."""
    for cell in nbformat.read(file, as_version=4).cells:
        if cell.cell_type == "code" and cell.execution_count is None:
            raise ChapterError(f"{name}: cell {cell.id} did not finish")


def normalised(notebook: NotebookNode) -> NotebookNode:
    """Drop what would make noise in a diff or cannot live in a static page."""
    notebook.cells = [
        cell
        for cell in notebook.cells
        if "injected-parameters" not in cell.metadata.get("tags", [])
    ]
    notebook.metadata.pop("papermill", None)
    notebook.metadata.pop("widgets", None)  # a widget without a kernel only looks alive
    notebook.metadata["language_info"] = {"name": "python"}
    count = 0
    for cell in notebook.cells:
        for key in NOISE:
            cell.metadata.pop(key, None)
        if cell.cell_type != "code":
            continue
        if cell.execution_count is not None:
            count += 1
            cell.execution_count = count
        cell.outputs = [_lighter(_clean(o)) for o in cell.outputs if not _is_noise(o)]
        for output in cell.outputs:
            if "execution_count" in output:
                output["execution_count"] = cell.execution_count
    return notebook


def _is_noise(output: NotebookNode) -> bool:
    """Progress bars, warnings on stderr, and widget views."""
    if output.output_type == "stream" and output.name == "stderr":
        return True
    return "application/vnd.jupyter.widget-view+json" in output.get("data", {})


def _clean(output: NotebookNode) -> NotebookNode:
    """Memory addresses are not part of a result."""
    for holder, key in ((output, "text"), (output.get("data", {}), "text/plain")):
        if isinstance(holder.get(key), str):
            holder[key] = re.sub(r"0x[0-9a-f]{6,}", "0x…", holder[key])
    return output


def _lighter(output: NotebookNode) -> NotebookNode:
    """A figure with photographs is stored as JPEG: a tenth of the size, and it looks the same."""
    data = output.get("data", {})
    if len(data.get("image/png", "")) < PHOTO_BYTES:
        return output
    picture = Image.open(io.BytesIO(base64.b64decode(data.pop("image/png")))).convert("RGB")
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80, optimize=True, progressive=True)
    data["image/jpeg"] = base64.b64encode(buffer.getvalue()).decode()
    return output


# -- stamps ----------------------------------------------------------------------------------


def source_hash(notebook: NotebookNode, parameters: dict[str, Any]) -> str:
    """Of the code cells, the library and the parameters: what a stored output depends on."""
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    for cell in notebook.cells:
        if cell.cell_type == "code":
            digest.update(cell.source.encode() + b"\0")
    for package in ("vigorlib", "data_prep"):
        for file in sorted((ROOT / package).rglob("*.py")):
            if file.name != "__main__.py":  # command lines change no chapter
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def pictures_hash(notebook: NotebookNode) -> str:
    """Of all pictures in the outputs: one that no run made is noticed."""
    digest = hashlib.sha256()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            for kind, value in sorted(output.get("data", {}).items()):
                if kind.startswith("image/"):
                    digest.update(f"{cell.get('id')} {kind} {value}\n".encode())
    return digest.hexdigest()[:16]


def records_hash(profile: str, notebook: NotebookNode) -> str:
    """Of all runs and records of a profile, and of other records that a chapter names: it is old
    when they change."""
    digest = hashlib.sha256()
    text = "".join(cell.source for cell in notebook.cells)
    named = (file for file in (ROOT / "results").glob("*.json") if file.name in text)
    local = (ROOT / "runs").glob(f"{profile}*/*/record.json")  # mini and mini-short
    for file in sorted([*local, *named, *(ROOT / "results").glob(f"{profile}*/*.json")]):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def uses_real_labels(notebook: NotebookNode) -> bool:
    """Whether a chapter that can show VIGOR's own label files has them here."""
    asks = any("VIGOR_LABELS" in cell.source for cell in notebook.cells)
    return asks and bool(os.environ.get("VIGOR_LABELS"))


def is_fresh(file: Path, parameters: dict[str, Any]) -> bool:
    """Whether an executed chapter is what running it again would give."""
    if not file.exists():
        return False
    try:
        notebook = nbformat.read(file, as_version=4)
    except Exception:  # damaged, in any of nbformat's ways: run it again
        return False
    stamp = notebook.metadata.get("reproduced", {})
    return (
        stamp.get("sources") == source_hash(notebook, parameters)
        and stamp.get("real_labels") == uses_real_labels(notebook)
        and stamp.get("records") == records_hash(parameters["profile"], notebook)
    )


def same_text(name: str, file: Path) -> bool:
    """Whether an executed copy still has the cells of the chapter."""
    chapter, copy = (nbformat.read(f, as_version=4) for f in (BOOK / f"{name}.ipynb", file))
    return [c.source for c in chapter.cells] == [c.source for c in copy.cells]


# -- commands --------------------------------------------------------------------------------


@app.command()
def run(
    names: Annotated[list[str], typer.Argument(help="chapters; all by default")] = [],  # noqa: B006
    profile: str = "mini",
    data_root: str = "",
    seed: int = 0,
    store: Annotated[bool, typer.Option(help="store mini outputs in book/")] = False,
    force: Annotated[bool, typer.Option(help="run what is unchanged, too")] = False,
    jobs: Annotated[int, typer.Option(help="chapters side by side")] = 1,
) -> None:
    """Execute chapters into build/PROFILE/book/; go on after a failure, exit 1 at the end.

    The next call repeats those that failed, were interrupted or are old.
    """
    if store and (profile != "mini" or data_root):
        raise typer.BadParameter("only profile mini on the embedded city may be stored in book/")
    parameters = {"profile": profile, "data_root": data_root, "seed": seed}
    failed, chosen = [], names or chapter_names()
    console.print(f"{len(chosen)} chapters in {profile}, {jobs} at a time ...")
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // jobs, 1)))

    def work(name: str) -> tuple[str, bool]:
        return _run_one(name, parameters, store, force)

    finished = side_by_side(chosen, work, jobs)
    for number, (name, outcome, error) in enumerate(finished, start=1):
        what, whole = outcome or (f"failed ({error})", False)
        console.print(f"[{number}/{len(chosen)}] {name}: {what}", markup=False)
        failed += [] if whole else [name]
    if failed:
        console.print(f"{len(failed)} of {len(chosen)} chapters failed: {', '.join(failed)}")
        raise typer.Exit(1)


def _run_one(name: str, parameters: dict[str, Any], store: bool, force: bool) -> tuple[str, bool]:
    """Run and store a chapter, unless it is fresh. Returns what happened in words, and whether well.

    Who asks for a chapter that another process runs waits for it, and finds it done.
    """
    target = ROOT / "build" / parameters["profile"] / "book" / f"{name}.ipynb"
    with held(target.with_name(f".{name}.lock")):
        remove_leftovers(target.parent)
        said = "unchanged"
        if force or not is_fresh(target, parameters) or not same_text(name, target):
            started = time.perf_counter()
            try:
                run_apart(execute, name, target, parameters)
            except Exception as error:
                last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
                return f"failed ({last}); see {target.relative_to(ROOT)}", False
            said = f"{time.perf_counter() - started:.0f} s"
        if store:
            stored = BOOK / f"{name}.ipynb"
            write_atomically(stored, lambda path: shutil.copyfile(target, path))
    return said, True


@app.command()
def report(profile: str = "mini") -> None:
    """Build the report of build/PROFILE/book/ and print its address."""
    folder = ROOT / "build" / profile
    for name in chapter_names():
        copy = folder / "book" / f"{name}.ipynb"
        if not copy.exists():
            raise ChapterError(f"{name} was not run in {profile}: `chapters.py run` comes first")
        if "reproduced" not in nbformat.read(copy, as_version=4).metadata:
            raise ChapterError(f"{name} failed in {profile}, see {copy}: `chapters.py run` again")
    for file in BOOK.iterdir():
        if file.suffix in (".md", ".bib", ".yml", ".py"):
            shutil.copyfile(file, folder / "book" / file.name)
    for name in ("_static", "images"):
        shutil.copytree(BOOK / name, folder / "book" / name, dirs_exist_ok=True)
    shutil.copyfile(ROOT / "_config.yml", folder / "_config.yml")
    shutil.rmtree(folder / "_build", ignore_errors=True)
    tool = Path(sys.executable).with_name("jupyter-book")
    command = [str(tool), "build", str(folder / "book"), "-W", "-n", "--keep-going", "-q"]
    if subprocess.run(command, check=False).returncode:
        raise typer.Exit(1)
    console.print(f"the report: {(folder / '_build/html/index.html').as_uri()}", soft_wrap=True)


@app.command()
def check() -> None:
    """Are the stored chapters whole, fresh and small enough?"""
    problems = [f"{name}: {p}" for name in chapter_names() for p in problems_of(name)]
    total = sum((BOOK / f"{name}.ipynb").stat().st_size for name in chapter_names())
    if total > BOOK_BYTES:
        problems.append(f"all chapters together hold {total:,} bytes: at most {BOOK_BYTES:,}")
    for problem in problems:
        console.print(problem, soft_wrap=True)
    if problems:
        raise typer.Exit(1)
    console.print(f"{len(chapter_names())} chapters are in order")


def problems_of(name: str) -> list[str]:
    """What is wrong with a stored chapter, in words."""
    file = BOOK / f"{name}.ipynb"
    notebook = nbformat.read(file, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    stamp = notebook.metadata.get("reproduced", {})
    parameters = stamp.get("parameters", {})
    text = file.read_text(encoding="utf-8")
    ids = [cell.get("id") for cell in json.loads(text)["cells"]]  # nbformat would mend them
    counts = [cell.execution_count for cell in code]
    found = {
        "no parameters cell first": not code
        or "parameters" not in code[0].metadata.get("tags", []),
        "not run in mini on the embedded city": parameters.get("profile") != "mini"
        or bool(parameters.get("data_root")),
        "its stamp is stale: `make refresh`": stamp.get("sources")
        != source_hash(notebook, parameters),
        "a picture that its run did not make": "pictures" in stamp
        and stamp["pictures"] != pictures_hash(notebook),
        "a stored error": any(o.output_type == "error" for c in code for o in c.outputs),
        "cells not run in order": counts != list(range(1, len(code) + 1)),
        "an absolute path": any(place in text for place in MACHINE_PATHS),
        "duplicate cell ids": len(set(ids)) != len(ids),
        f"above {CHAPTER_BYTES:,} bytes": len(text.encode()) > CHAPTER_BYTES,
        "widget state": "widgets" in notebook.metadata,
    }
    return [problem for problem, wrong in found.items() if wrong]


if __name__ == "__main__":
    app()
