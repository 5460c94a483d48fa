"""Fixtures: the embedded city at smoke size, made once a session."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests compare bits: one thread, one order of sums


@pytest.fixture(scope="session")
def city_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VIGOR folder: four small procedural cities."""
    from data_prep import city

    return city.make(tmp_path_factory.mktemp("city") / "smoke", size="smoke", progress=False)
