"""Every promise of chapter 16 has its tests, its record is whole, its environment is the one it names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import matplotlib.pyplot as plt
from packaging.requirements import Requirement

from vigorlib import figures, promises

ROOT = Path(__file__).resolve().parent.parent
TRIED = json.loads((ROOT / "results" / "promises.json").read_text(encoding="utf-8"))


def test_every_promise_is_held_by_tests_that_exist():
    assert promises.missing_tests(ROOT) == []
    invented = ["tests/test_promises.py::test_that_nobody_wrote", "tests/no_file.py::test_x"]
    assert promises.missing_tests(ROOT, invented) == invented


def test_every_bug_that_was_found_has_a_test():
    assert len(TRIED["bugs"]) > 10
    assert promises.missing_tests(ROOT, [bug["test"] for bug in TRIED["bugs"]]) == []


def test_the_record_says_that_every_kill_was_survived():
    jobs = TRIED["kills"]["results"]["jobs"]
    assert len(jobs) == 5 and sum(len(job["kills"]) for job in jobs.values()) >= 20
    for job in jobs.values():
        assert job["identical"] == job["finished"] and job["leftovers"] == 0


def test_the_figure_of_kills_is_drawn(no_window, tmp_path):
    job = {"seconds": 10.0, "kills": [1.0, 5.0], "finished": 1, "identical": 1}
    figure = figures.kill_moments({"training": job, "caching": job}, "note")
    (axes,) = figure.axes
    assert axes.get_xlabel() and axes.get_ylabel() and "note" in figure.get_supxlabel()
    assert axes.lines[0].get_xdata().tolist() == [10.0, 50.0]
    figure.savefig(tmp_path / "figure.png", dpi=40)
    assert plt.imread(tmp_path / "figure.png")[..., :3].std() > 0.02


def test_the_constraints_are_within_the_bounds_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))
    pins = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    for line in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        wanted = Requirement(line)
        assert wanted.specifier.contains(pins[wanted.name.lower().replace("_", "-")]), line


def test_the_oldest_versions_are_read_from_the_bounds():
    command = [sys.executable, str(ROOT / "benchmarks" / "oldest.py")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "torch==2.6.*" in said and len(said) >= len(project["dependencies"])
    for line in said:
        assert line.count("==") == 1
