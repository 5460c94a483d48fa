"""Several runs side by side, and the command line that starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def vigorlib(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VIGOR_BOOK_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "vigorlib", *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def home(city_root, tmp_path_factory) -> Path:
    """Two runs trained side by side by the command line."""
    folder = tmp_path_factory.mktemp("home")
    wanted = ["--recipe", "siamese", "--recipe", "safa", "--profile", "smoke", "--jobs", "2"]
    done = vigorlib(folder, "train", *wanted, "--data-root", str(city_root))
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("trained just now") == 2
    return folder


def test_runs_side_by_side_leave_their_records(home):
    records = [json.loads(f.read_text()) for f in home.glob("runs/smoke/*/record.json")]
    assert sorted(r["recipe"]["name"] for r in records) == ["safa", "siamese"]
    assert {r["made"]["threads"] for r in records} == {max((os.cpu_count() or 1) // 2, 1)}


def test_what_is_there_is_reused(home, city_root):
    again = vigorlib(
        home, "train", "--recipe", "safa", "--profile", "smoke", "--data-root", str(city_root)
    )
    assert "trained on this machine" in again.stdout


def test_an_evaluation_from_the_command_line_repeats_the_record(home, city_root):
    done = vigorlib(
        home, "evaluate", "--recipe", "safa", "--profile", "smoke", "--data-root", str(city_root)
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line.split("│") for line in done.stdout.splitlines() if line.count("│") == 4]
    values = {cells[1].strip(): (cells[2].strip(), cells[3].strip()) for cells in rows}
    assert len(values) > 8
    assert all(now == recorded for now, recorded in values.values())


def test_the_list_of_runs_names_their_provenance(home):
    done = vigorlib(home, "runs", "--profile", "smoke")
    assert done.returncode == 0 and "SAFA" in done.stdout


def test_kept_runs_become_records_with_their_network(home):
    done = vigorlib(home, "keep", "--profile", "smoke", "--weights", "safa")
    assert done.returncode == 0, done.stderr[-2000:]
    kept = sorted(p.name.split("-")[0] for p in home.glob("results/smoke/*.json"))
    assert kept == ["safa", "siamese"]
    (weights,) = home.glob("results/smoke/*/network.safetensors")
    assert weights.parent.name.startswith("safa-same-area-seed0")
