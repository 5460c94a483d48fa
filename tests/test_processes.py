"""Two processes (gloo, on the CPU) do what one does, and one that fails ends both."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
import torch
import two_processes
from filelock import FileLock
from torch import nn
from typer.testing import CliRunner

from vigorlib import processes, runs
from vigorlib.__main__ import app

TESTS = Path(__file__).parent


def launch(*program, home, timeout=300):
    """``accelerate launch`` as for two GPUs, but on the CPU (its ``--cpu`` starts one process)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    return subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2"]
        + ["--main_process_port", port, *map(str, program)],
        env={
            **os.environ,
            "ACCELERATE_USE_CPU": "true",
            "VIGOR_BOOK_HOME": str(home),
            "OMP_NUM_THREADS": str(torch.get_num_threads()),  # tests compare bits
            "PYTHONPATH": str(TESTS.parent),
        },
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def train(city_root, home):
    command = ["-m", "vigorlib", "train", "--recipe", "vigor", "--profile", "smoke"]
    return launch(*command, "--data-root", city_root, home=home)


def load(home):
    (file,) = home.glob("runs/smoke/*/record.json")
    with np.load(file.with_name("evaluation.npz")) as stored:
        return json.loads(file.read_text()), dict(stored)


def numbers(metrics):
    """Metrics without levels, for ``pytest.approx`` compares no nested ones."""
    flat = {name: value for name, value in metrics.items() if name != "intervals"}
    for name, ends in metrics["intervals"].items():
        flat[f"{name} from"], flat[f"{name} to"] = ends
    return flat


@pytest.fixture(scope="module")
def one(city_root, tmp_path_factory):
    """The smoke run of vigor in this process."""
    home = tmp_path_factory.mktemp("one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIGOR_BOOK_HOME", str(home))
        runs.load_or_train("vigor", "smoke", data_root=city_root, progress=False)
    return load(home)


@pytest.fixture(scope="module")
def two(city_root, tmp_path_factory):
    """The same in two processes, from the command line: what it left, and what it printed."""
    home = tmp_path_factory.mktemp("two")
    done = train(city_root, home)
    assert done.returncode == 0, done.stderr[-3000:]
    return *load(home), done.stdout


def test_two_processes_follow_one(one, two):
    """The same global batch: losses to 1e-4, at the end the same metrics and ranks but for one tie."""
    (record, arrays), (shared, shared_arrays, _) = one, two
    assert (record["made"]["processes"], shared["made"]["processes"]) == (1, 2)
    losses = [[entry["loss"] for entry in r["history"]["losses"]] for r in (record, shared)]
    assert len(losses[0]) > 10
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    for alone, together in zip(*(r["history"]["watched"] for r in (record, shared)), strict=True):
        one_query = 1 / alone["queries"]  # rounding may decide for one that is all but a tie
        assert together == pytest.approx(alone, abs=1.01 * one_query)
    for name in ("rank", "rank_without_semi_positives"):
        apart = np.abs(shared_arrays[name] - arrays[name])
        assert apart.max() <= 1 and (apart > 0).sum() <= 1, apart  # a tie but for rounding
    assert numbers(shared["metrics"]) == pytest.approx(numbers(record["metrics"]), rel=1e-5)


def test_only_the_main_process_speaks(two):
    assert two[2].count("trained just now") == 1


def test_a_run_whose_process_died_ends_and_resumes_exactly(two, city_root, tmp_path):
    """The other process does not wait for ever; what is resumed ends as if nothing had been."""
    started = time.monotonic()
    died = launch(TESTS / "two_processes.py", "dying", tmp_path, city_root, home=tmp_path)
    assert died.returncode != 0 and "this process lost its GPU" in died.stderr
    assert time.monotonic() - started < processes.PATIENCE.total_seconds() / 10
    assert len(list(tmp_path.glob("runs/smoke/*/checkpoint.pt"))) == 1
    resumed = train(city_root, tmp_path)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    record, arrays = load(tmp_path)
    assert record["history"] == two[0]["history"]
    for name, values in two[1].items():
        assert np.array_equal(arrays[name], values), name


@pytest.fixture(scope="module")
def units(city_root, tmp_path_factory):
    """What each of two processes found (see ``two_processes.units``)."""
    out = tmp_path_factory.mktemp("units")
    done = launch(TESTS / "two_processes.py", "units", out, city_root, home=out)
    assert done.returncode == 0, done.stderr[-3000:]
    results = [torch.load(out / f"{index}.pt", weights_only=False) for index in range(2)]
    return results, (out / "order").read_text()


@pytest.fixture(scope="module")
def photos(city_root):
    return runs.photographs(city_root, two_processes.SMOKE, "same-area", "test", progress=False)


def test_every_process_gets_the_descriptors_of_one_bit_for_bit(units, photos):
    expected = two_processes.descriptors(photos)
    for found in units[0]:
        for a, b in zip(found["descriptors"], expected, strict=True):
            assert torch.equal(a, b)


def test_every_process_gets_the_evaluation_of_one_bit_for_bit(units, photos):
    metrics, curves, arrays = two_processes.evaluation(photos)
    for found in units[0]:
        assert found["evaluation"][:2] == (metrics, curves)
        for name, values in arrays.items():
            assert np.array_equal(found["evaluation"][2][name], values), name


def test_batch_normalisation_sees_the_whole_batch(units):
    images = torch.randn(6, 3, 4, 5, generator=torch.Generator().manual_seed(0)).double()
    output, gradient, *rest = two_processes.normalised(
        images, nn.BatchNorm2d(3).double(), slice(0, 6)
    )
    parts = [found["normalised"] for found in units[0]]
    torch.testing.assert_close(torch.cat([part[0] for part in parts]), output)
    torch.testing.assert_close(torch.cat([part[1] for part in parts]), gradient)
    for part in parts:
        torch.testing.assert_close(part[2:], rest)


def test_other_batch_normalisation_is_refused_on_the_cpu(units):
    for found in units[0]:
        assert "BatchNorm1d cannot be shared by processes on cpu" in found["norm_error"]


def test_the_main_process_decides_and_acts_first(units):
    results, order = units
    assert [found["from_main"] for found in results] == ["process 0 says"] * 2
    assert order == "01"


def test_an_error_of_the_main_process_is_raised_in_all(units):
    assert [found["error"] for found in units[0]] == ["process 0 refuses"] * 2


def test_work_is_divided_without_loss(units):
    first, second = units[0]
    assert (first["dealt"], second["dealt"]) == ([0, 2, 4], [1, 3, 4])
    assert (first["share"], second["share"]) == (slice(0, 2), slice(2, 5))
    assert first["everyones"] == second["everyones"] == [0, 1]


def test_one_process_does_all_the_work_itself():
    assert (processes.count(), processes.index(), processes.is_main()) == (1, 0, True)
    assert processes.dealt(3) == [0, 1, 2] and processes.share(3) == slice(0, 3)
    assert processes.everyones("mine") == ["mine"]
    with pytest.raises(ZeroDivisionError):
        processes.from_main(lambda: 1 // 0)


def test_a_lock_is_waited_for(tmp_path):
    held = FileLock(tmp_path / "lock", thread_local=False)
    held.acquire()
    Timer(0.2, held.release, [True]).start()
    started = time.monotonic()
    with processes.locked(tmp_path / "lock"):
        assert time.monotonic() - started > 0.1


def test_runs_side_by_side_are_refused_under_a_launcher(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    outcome = CliRunner().invoke(app, ["train", "--recipe", "vigor", "--jobs", "2"])
    assert outcome.exit_code != 0
    assert "--jobs 2 under a launcher: expected 1" in " ".join(outcome.output.split())
