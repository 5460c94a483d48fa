"""Nothing that is loaded is executed; no photograph of VIGOR comes with the project."""

from __future__ import annotations

import ast
import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book"))

import chapters  # noqa: E402
import licences  # noqa: E402

SOURCES = [f for folder in ("vigorlib", "data_prep", "book", "benchmarks")
           for f in sorted((ROOT / folder).rglob("*.py"))]  # fmt: skip
MAY_PICKLE = {"data_prep/official/pickles.py": "the restricted reader of the original's dictionary",
              "vigorlib/apart.py": "tests whether an error of our own process can be sent"}  # fmt: skip


def calls(tree: ast.AST):
    """(dotted name, keyword arguments) of every call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            words = {
                k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)
            }
            yield ast.unparse(node.func), words


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_is_loaded_by_executing_it(file):
    tree, name = ast.parse(file.read_text(encoding="utf-8")), str(file.relative_to(ROOT))
    for call, words in calls(tree):
        if call == "torch.load":
            assert words.get("weights_only") is True
        if call.endswith("np.load"):
            assert not words.get("allow_pickle")
        assert call not in ("eval", "exec", "joblib.load", "yaml.load", "torch.hub.load")
        assert call not in ("pd.read_pickle", "pandas.read_pickle", "shelve.open")
    imported = {alias.name.split(".")[0] for node in ast.walk(tree)
                if isinstance(node, ast.Import) for alias in node.names}  # fmt: skip
    assert not imported & {"pickle", "dill", "cloudpickle", "marshal"} or name in MAY_PICKLE


def committed() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git checkout: nothing says what is committed")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def pictures_in(notebook: Path):
    """Every embedded picture of a notebook: outputs, attachments, and data in text."""
    for cell in nbformat.read(notebook, as_version=4).cells:
        held = [o.get("data", {}) for o in cell.get("outputs", [])]
        held += list(cell.get("attachments", {}).values())
        for data in held:
            for kind, value in data.items():
                if kind.startswith("image/") and kind != "image/svg+xml":
                    yield cell, base64.b64decode(value)
        text = json.dumps(cell)
        for found in re.finditer(
            r"data:image/(?:png|jpeg|webp|gif);base64,([A-Za-z0-9+/=]+)", text
        ):
            yield cell, base64.b64decode(found[1])


def looks_like_vigors(data: bytes) -> bool:
    """A picture of a size that only VIGOR's own files have, or with a camera's or service's tags."""
    image = Image.open(io.BytesIO(data))
    return image.size in {(640, 640), (2048, 1024)} or bool(dict(image.getexif()))


@pytest.mark.parametrize("name", chapters.chapter_names())
def test_the_pictures_of_a_chapter_are_those_its_run_on_the_embedded_city_made(name):
    file = chapters.BOOK / f"{name}.ipynb"
    notebook = nbformat.read(file, as_version=4)
    stamp = notebook.metadata["reproduced"]
    assert stamp["parameters"]["profile"] == "mini" and stamp["parameters"]["data_root"] == ""
    for cell, data in pictures_in(file):
        assert cell.cell_type == "code", f"a picture in the text of {cell.id}: no run made it"
        assert not cell.get("attachments") and not looks_like_vigors(data), cell.id
    if "pictures" in stamp:
        assert stamp["pictures"] == chapters.pictures_hash(notebook), "one was put in by hand"


def test_a_picture_put_into_a_chapter_by_hand_is_noticed():
    figure = io.BytesIO()
    Image.new("RGB", (640, 640)).save(figure, "JPEG")
    output = nbformat.v4.new_output(
        "display_data", {"image/jpeg": base64.b64encode(figure.getvalue()).decode()}
    )
    cell = nbformat.v4.new_code_cell("show()", outputs=[])
    notebook = nbformat.v4.new_notebook(cells=[cell])
    before = chapters.pictures_hash(notebook)
    notebook.cells[0].outputs.append(output)
    assert chapters.pictures_hash(notebook) != before
    assert looks_like_vigors(figure.getvalue())


def test_no_other_committed_file_is_a_picture_or_holds_one():
    """Known ones are made from the city; arrays hold answers, never pixels."""
    known = {"book/images/pair.jpg", "book/images/app.jpg", "tests/city_as_recorded.png"}
    for file in committed():
        name = str(file.relative_to(ROOT))
        head = file.read_bytes()[:16]
        magic = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"II*\0", b"MM\0*", b"GIF8", b"BM")
        assert not head.startswith(magic) or name in known, name
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as stored:
                for array in stored.files:
                    values = stored[array]
                    pixels = values.dtype == np.uint8 or (
                        values.ndim >= 3 and values.shape[-1] == 3
                    )
                    assert not pixels, f"{name} holds {array} {values.dtype} {values.shape}"
        if file.suffix in (".json", ".md", ".py") and name != "tests/test_safety.py":
            text = file.read_text(encoding="utf-8")
            assert not re.search(r"data:image/\w+;base64,[A-Za-z0-9+/]{200}", text), name


def test_the_cover_picture_is_of_no_size_of_vigors():
    assert not looks_like_vigors((ROOT / "book" / "images" / "pair.jpg").read_bytes())


def test_the_licence_of_every_dependency_is_listed():
    page = (ROOT / "book" / "data_licences.md").read_text(encoding="utf-8")
    table = licences.between_marks(page)
    for name in licences.dependencies():
        assert f"| {name} |" in table, f"run `python book/licences.py`: {name} is missing"
    assert "| unknown |" not in table
