"""Do recorded results hold? One is trained again from nothing and compared within its interval.

Profiles whose runs are recorded (mini, full) are compared with those; smoke, which records nothing,
with the expectation in ``results/expected/``. The fresh run lives in ``build/verify/`` and takes
nothing from ``runs/``; an interrupted one is gone on with.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot
from pathlib import Path
from typing import Any

from vigorlib import runs
from vigorlib.dataset import Protocol
from vigorlib.files import sealed, write_json
from vigorlib.home import home
from vigorlib.recipes import get_profile, get_recipe
from vigorlib.training import PRECISIONS


class NothingRecorded(ValueError):
    """There is no recorded result to compare with."""


@dataclass(frozen=True)
class Check:
    """A measurement then and now. interval: see :func:`compare`; None where none is recorded."""

    metric: str
    recorded: float
    fresh: float
    interval: tuple[float, float] | None

    @property
    def same(self) -> bool:
        return self.recorded == self.fresh

    @property
    def holds(self) -> bool:
        """Within the interval; recorded ends are rounded to four digits."""
        if self.interval is None:
            return True
        low, high = self.interval
        return low - 5e-5 <= self.fresh <= high + 5e-5


def verify(
    recipe: str = "vigor",
    profile: str = "mini",
    protocol: Protocol = "same-area",
    seed: int = 0,
    data_root: str | Path = "",
    progress: bool = True,
) -> tuple[runs.Run, list[Check]]:
    """Train a recorded run again, in its precision. Returns the fresh one and every measurement
    beside the recorded.

    Raises :class:`NothingRecorded` where there is no record, ValueError where it is of other data.
    """
    what, size = get_recipe(recipe), get_profile(profile)
    recorded = expected(what.name, size.name, protocol, seed)
    (precision,) = (p for p, name in PRECISIONS.items() if name == recorded["made"]["precision"])
    size = dataclasses.replace(size, precision=precision)
    folder = home() / "build" / "verify" / size.name / recorded["name"]
    fresh = runs.train_afresh(folder, what, size, seed, protocol, data_root, progress)
    if fresh.record["data"] != recorded["data"]:
        raise ValueError(
            f"{recorded['name']} was recorded on data {recorded['data']}: expected the same, these "
            f"are {fresh.record['data']} (the embedded city is made anew when its maker changes)"
        )
    checks = compare(recorded["metrics"], fresh.metrics, other_seeds(recorded))
    shutil.rmtree(folder)
    return fresh, checks


def compare(
    recorded: dict[str, Any], fresh: dict[str, Any], others: Sequence[dict[str, Any]] = ()
) -> list[Check]:
    """Every number that both have, those with an interval first.

    The recorded interval is one over queries (95 %), and does not know that a training elsewhere
    rounds otherwise and ends as far away as one with another seed. others: metrics of such; the
    interval is widened by the farthest, as two independent errors add.
    """
    names: Sequence[str] = [n for n, v in recorded.items() if isinstance(v, float) and n in fresh]
    intervals = {}
    for name, (low, high) in recorded["intervals"].items():
        value = recorded[name]
        if seeds := max((abs(other[name] - value) for other in others), default=0.0):
            low, high = value - hypot(value - low, seeds), value + hypot(high - value, seeds)
        intervals[name] = (low, high)
    checks = [Check(name, recorded[name], fresh[name], intervals.get(name)) for name in names]
    return sorted(checks, key=lambda check: check.interval is None)


def other_seeds(recorded: dict[str, Any]) -> list[dict[str, Any]]:
    """Metrics of the recorded runs that differ from this one in the seed alone."""
    named = f"-seed{recorded['seed']}-"
    return [
        record["metrics"]
        for record in runs.recorded_runs(recorded["profile"]["name"])
        if record["seed"] != recorded["seed"]
        and record["name"] == recorded["name"].replace(named, f"-seed{record['seed']}-")
        and record["data"] == recorded["data"]
    ]


def expected(recipe: str, profile: str, protocol: str, seed: int) -> dict[str, Any]:
    """The record to compare with. Raises :class:`NothingRecorded`."""
    name = runs.run_name(get_recipe(recipe), get_profile(profile), protocol, seed)
    for folder in (home() / "results" / profile, home() / "results" / "expected"):
        record = runs.read_record(folder / f"{name}.json")
        if record is not None:
            return record
    raise NothingRecorded(
        f"no result of {name} is recorded in results/: expected one to compare with. `python -m "
        "vigorlib runs` lists them; `--record` makes today's result what is expected"
    )


def record_expected(
    recipe: str, profile: str, protocol: Protocol, seed: int, data_root: str | Path = ""
) -> runs.Run:
    """Make today's measurements of a run what :func:`expected` gives from now on."""
    what, size = get_recipe(recipe), get_profile(profile)
    folder = home() / "build" / "verify" / size.name / runs.run_name(what, size, protocol, seed)
    run = runs.train_afresh(folder, what, size, seed, protocol, data_root)
    kept = {k: v for k, v in run.record.items() if k not in ("curves", "history", "files")}
    write_json(home() / "results" / "expected" / f"{run.record['name']}.json", sealed(kept))
    shutil.rmtree(folder)
    return run
