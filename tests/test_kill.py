"""Killed jobs end as undisturbed ones: a short form of ``benchmarks/kill.py``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import kill  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")


@pytest.mark.parametrize(
    ("job", "kills"), [("training", 2), ("caching", 1), ("writing records", 1)]
)
def test_a_job_killed_at_random_moments_ends_as_an_undisturbed_one(job, kills, city_root, tmp_path):
    outcome = kill.torment(job, kills, city_root, tmp_path, np.random.default_rng(5), False)
    assert len(outcome.kills) == kills and outcome.finished >= 1
    assert outcome.identical == outcome.finished
    assert outcome.leftovers == 0 and outcome.most_checkpoints <= 3
