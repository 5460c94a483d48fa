"""Killed jobs end as undisturbed ones: a short form of ``benchmarks/kill.py``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vigorlib.locks import Lock

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import kill  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")


def check(outcome: kill.Outcome, kills: int) -> None:
    assert len(outcome.kills) == kills and outcome.finished >= 1
    assert outcome.identical == outcome.finished
    assert outcome.leftovers == 0 and outcome.most_checkpoints <= 3


@pytest.fixture(scope="module")
def training(city_root, tmp_path_factory):
    """What an undisturbed training leaves, and its seconds."""
    return kill.undisturbed("training", city_root, tmp_path_factory.mktemp("alone") / "home", False)


def test_a_training_killed_at_random_moments_ends_as_an_undisturbed_one(
    training, city_root, tmp_path
):
    rng = np.random.default_rng(5)
    check(kill.torment("training", 2, city_root, tmp_path, rng, *training), 2)


@pytest.mark.parametrize("job", ["caching", "writing records"])
def test_a_killed_job_ends_as_an_undisturbed_one(job, city_root, tmp_path):
    alone = kill.undisturbed(job, city_root, tmp_path / "alone", False)
    check(kill.torment(job, 1, city_root, tmp_path, np.random.default_rng(5), *alone), 1)


def test_of_two_that_want_a_run_one_waits_and_goes_on_where_the_other_died(
    training, city_root, tmp_path
):
    job = kill.JOBS["training"]
    first = kill.Running(job, tmp_path, city_root)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("runs/*/*/checkpoint.pt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    second = kill.Running(job, tmp_path, city_root)
    assert second.wait(0.5) is None
    (folder,) = tmp_path.glob("runs/*/*")
    note = Lock(folder / "lock").holder()
    assert note is not None and note.pid == first.process.pid
    first.kill()
    assert second.wait(120) == 0
    assert job.left(tmp_path) == training[0]
    assert not (folder / "lock.holder").exists()
