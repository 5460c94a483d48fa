"""Fixtures: the embedded city at smoke size, made once a session."""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests compare bits: one thread, one order of sums


@pytest.fixture(scope="session")
def city_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VIGOR folder: four small procedural cities."""
    from data_prep import city

    return city.make(tmp_path_factory.mktemp("city") / "smoke", size="smoke", progress=False)


@pytest.fixture
def no_window():
    """Figures are drawn without a screen, and closed."""
    before = matplotlib.get_backend()
    plt.switch_backend("agg")
    yield
    plt.close("all")
    plt.switch_backend(before)


@pytest.fixture
def no_trace(no_window):
    """What a test draws leaves the user's settings and open figures as they were."""
    mine = plt.figure()
    with matplotlib.rc_context({"font.size": 17.0, "axes.grid": False, "lines.linewidth": 3.25}):
        before = dict(matplotlib.rcParams)
        yield
        assert dict(matplotlib.rcParams) == before
    assert plt.get_fignums() == [mine.number] and plt.gcf() is mine
