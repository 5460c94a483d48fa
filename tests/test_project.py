"""The project's frame: one list of dependencies, the names that scripts call, quick imports."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent


def test_conda_users_get_what_pip_users_get():
    """environment.yml installs the project itself, so only python's version can drift."""
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (pip,) = [d for d in conda["dependencies"] if isinstance(d, dict)]
    assert pip["pip"] == ["-e .[dev]"]
    assert f"python{project['requires-python']}" in conda["dependencies"]


def test_every_import_is_a_declared_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {d.split(">")[0].split("[")[0].lower() for d in project["dependencies"]}
    names = {"cv2": "opencv-python-headless", "PIL": "pillow", "yaml": "jupyter-book"}
    names["markdown_it"] = "markdown-it-py"
    extra = {
        "data_prep/official/variables.py": "tensorflow"
    }  # asked for by name, in its own process
    assert set(extra.values()) <= set(project["optional-dependencies"])
    ours = {"vigorlib", "data_prep", "chapters", "matplotlib_inline", "cycler"}
    found: set[str] = set()
    for file in [*ROOT.glob("vigorlib/**/*.py"), *ROOT.glob("data_prep/**/*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
                found -= {extra.get(file.relative_to(ROOT).as_posix(), "")}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    external = found - set(sys.stdlib_module_names) - ours - {"__future__"}
    missing = {m for m in external if names.get(m, m).lower() not in declared}
    assert not missing, missing


@pytest.mark.parametrize(
    "name",
    [
        "geometry.tile_iou",
        "geometry.great_circle_m",
        "geometry.label_offsets",
        "geometry.predicted_latlon",
        "dataset.Vigor",
        "losses.soft_margin_triplet",
        "losses.iou_semi_positive",
        "losses.offset_regression",
        "model.SAFA",
        "model.build",
        "retrieval.ranks",
        "retrieval.Ranking",
        "evaluation.retrieval_metrics",
        "evaluation.metre_errors",
        "runs.load_or_train",
        "explain.grad_cam",
        "localize.Localizer",
        "app.App",
        "runs.Run",
    ],
)
def test_names_that_other_peoples_scripts_call(name):
    import importlib

    module, attribute = name.split(".")
    assert hasattr(importlib.import_module(f"vigorlib.{module}"), attribute)


def test_importing_the_library_changes_nothing_and_loads_no_network():
    code = (
        "import random, sys; before = random.getstate()\n"
        "import vigorlib, vigorlib.geometry, vigorlib.recipes\n"
        "assert random.getstate() == before and 'torch' not in sys.modules, 'torch at import'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_command_line_explains_itself():
    for arguments in (["--help"], ["recipes"], ["train", "--help"]):
        done = subprocess.run(
            [sys.executable, "-m", "vigorlib", *arguments],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stderr
    assert "--data-root" in done.stdout
    unknown = subprocess.run(
        [sys.executable, "-m", "vigorlib", "train", "--recipe", "nonsense"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert unknown.returncode != 0
    assert "unknown recipe 'nonsense'" in " ".join(unknown.stderr.split())


def test_make_lists_its_targets():
    done = subprocess.run(["make", "help"], capture_output=True, text=True, cwd=ROOT, check=True)
    for target in ("book", "test", "lab", "check", "refresh", "report"):
        assert f"\n{target} " in "\n" + done.stdout


def test_the_readme_shows_the_recorded_results():
    from vigorlib.tables import summary

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = readme.split("<!-- results: python -m vigorlib results -->")[1]
    assert shown.split("<!-- /results -->")[0].strip() == summary("mini")
