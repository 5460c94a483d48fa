"""Several runs side by side, and the command line that starts them."""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vigorlib import ablations, grid

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


def test_the_grid_says_what_it_takes_before_it_starts(home, city_root):
    said = vigorlib(home, "grid", "--profile", "smoke", "--plan", "--data-root", str(city_root))
    assert said.returncode == 0, said.stderr[-2000:]
    wanted = len(ablations.jobs("smoke"))
    assert f"{wanted} runs, 2 there already" in " ".join(said.stdout.split())
    assert "min with 1 side by side" in said.stdout
    assert len(list(home.glob("runs/smoke/*/record.json"))) == 2


def test_make_trains_from_the_list_what_is_not_there(home, city_root, tmp_path):
    """GNU make is what spreads the grid over machines; RUN goes before each command."""
    file = tmp_path / "grid.mk"
    options = ["--list", str(file), "--jobs", "2", "--data-root", str(city_root)]
    listed = vigorlib(home, "grid", "--profile", "smoke", *options)
    assert listed.returncode == 0, listed.stderr[-2000:]
    targets = re.findall(r"^(/\S+record.json):$", file.read_text(), flags=re.MULTILINE)
    assert len(targets) == len(ablations.jobs("smoke"))
    safa = next(t for t in targets if "/safa-same-area-seed0" in t)
    gem = next(t for t in targets if "/vigor-gem-" in t)
    environment = {**os.environ, "VIGOR_BOOK_HOME": str(home)}
    done = subprocess.run(
        ["make", "-f", str(file), "-j", "2", "RUN=env WHO=me", safa, gem],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert Path(gem).exists() and "env WHO=me" in done.stdout
    assert "--recipe vigor-gem" in done.stdout and "--recipe safa " not in done.stdout


def test_workers_share_out_the_gpus_there_are(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert grid._gpu(0) == ("0" if torch.cuda.is_available() else "")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [grid._gpu(i) for i in range(3)] == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert [grid._gpu(i) for i in range(3)] == ["4", "6", "4"]


def test_a_run_sees_the_gpu_it_was_given_and_no_other(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")

    def seen(*_, **__):
        raise ValueError(os.environ["CUDA_VISIBLE_DEVICES"])

    monkeypatch.setattr("vigorlib.runs.load_or_train", seen)
    job = grid.Job("safa", "smoke", "same-area")
    with pytest.raises(ValueError, match="^6$"):
        grid._train_one(job, "", torch.get_num_threads(), queue.Queue(), "6")
