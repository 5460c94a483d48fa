"""What the runs of a profile say, as numbers with 95 % intervals; nothing is trained.

The ledger (:mod:`vigorlib.ledger`) and the claims (:mod:`vigorlib.claims`) both ask here. What a run
would have to be there for is a :class:`Missing` that names the command.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vigorlib.ablations import SEEDS, short
from vigorlib.dataset import Vigor, data_folder
from vigorlib.evaluation import SUCCEEDED, bootstrap_interval
from vigorlib.recipes import get_profile
from vigorlib.runs import Run, find

Answers = dict[str, NDArray[Any]]
Outcome = Callable[[Answers], NDArray[np.bool_]]

OUTCOMES: dict[str, Outcome] = {
    "top-1": SUCCEEDED["top1"],
    "top-5": SUCCEEDED["top5"],
    "top-10": SUCCEEDED["top10"],
    "hit rate": SUCCEEDED["hit_rate"],
    "within 10 m": SUCCEEDED["within_10m"],
    "within 10 m by the centre": SUCCEEDED["centre_within_10m"],
    "within 10 m, tile given": SUCCEEDED["given_within_10m"],
    "within 10 m by the centre, tile given": SUCCEEDED["given_centre_within_10m"],
    "top-1 near a GPS fix": SUCCEEDED["near_top1"],
}
"""Ways to count, by the names that findings bear."""


class Missing(LookupError):
    """A run, or a part of its evaluation, that is not there; says which command makes it."""


@dataclass(frozen=True)
class Finding:
    """A number, its 95 % interval, and how to print it.

    unit: ``points`` (differences of percentages), ``%``, ``times``, or empty. basis: on what.
    """

    value: float
    low: float
    high: float
    unit: str = "points"
    basis: str = ""

    def __str__(self) -> str:
        decimals = {"points": 1, "%": 1}.get(self.unit, 2)
        sign = "+" if self.unit == "points" else ""
        value, low, high = (f"{v:{sign}.{decimals}f}" for v in (self.value, self.low, self.high))
        unit = f" {self.unit}" if self.unit else ""
        return f"{value}{unit}" if low == value == high else f"{value}{unit} ({low} to {high})"


@dataclass
class Evidence:
    """The answers of a profile's runs, each read once."""

    profile: str
    data_root: str = ""
    _runs: dict[tuple[str, str, int, str], Run | None] = field(default_factory=dict, repr=False)
    _answers: dict[tuple[str, str, int, str], Answers] = field(default_factory=dict, repr=False)

    def answers(
        self, recipe: str, protocol: str, brief: bool, needs: Outcome
    ) -> dict[int, Answers]:
        """Seed -> answers of every run of the recipe that can tell ``needs``.

        brief: runs of the profile in which ablations are trained. Raises Missing for none.
        """
        profile = short(self.profile) if brief else self.profile
        found = {}
        for seed in SEEDS:
            answers = self._read(recipe, protocol, seed, profile)
            if answers is not None and _can_tell(needs, answers):
                found[seed] = answers
        if found:
            return found
        if any(self._runs.get((recipe, protocol, seed, profile)) for seed in SEEDS):
            raise Missing(
                f"the runs of {recipe} were not asked for this: python -m vigorlib evaluate "
                f"--store --recipe {recipe} --profile {profile} --protocol {protocol}"
            )
        raise Missing(f"no answers here: python -m vigorlib grid --profile {self.profile}")

    def share(self, recipe: str, outcome: str, protocol: str = "same-area") -> Finding:
        """Of a recipe's queries that succeeded."""
        succeeded = OUTCOMES[outcome]
        found = self.answers(recipe, protocol, False, succeeded)
        return _finding(_mean(found, succeeded), len(found), "%")

    def difference(
        self,
        one: tuple[str, str],
        other: tuple[str, str],
        protocol: str = "same-area",
        brief: bool = False,
    ) -> Finding:
        """(recipe, outcome) less (recipe, outcome) on the same queries, in points.

        Where both recipes have several seeds, a query's success is the mean over those in common.
        """
        answers = [self.answers(r, protocol, brief, OUTCOMES[o]) for r, o in (one, other)]
        seeds = sorted(set(answers[0]) & set(answers[1]))
        if not seeds:
            raise Missing(f"no seed in common: python -m vigorlib grid --profile {self.profile}")
        first, second = (
            _mean({seed: found[seed] for seed in seeds}, OUTCOMES[outcome])
            for found, (_, outcome) in zip(answers, (one, other), strict=True)
        )
        return _finding(first - second, len(seeds), "points")

    def between_protocols(self, recipe: str, outcome: str) -> Finding:
        """Same-area less cross-area, in points: other queries, so both sides are drawn anew."""
        rng = np.random.default_rng(0)
        same, cross = (
            _mean(self.answers(recipe, area, False, OUTCOMES[outcome]), OUTCOMES[outcome])
            for area in ("same-area", "cross-area")
        )
        gaps = [
            rng.choice(same, len(same)).mean() - rng.choice(cross, len(cross)).mean()
            for _ in range(1000)
        ]
        low, high = (100 * float(bound) for bound in np.quantile(gaps, [0.025, 0.975]))
        basis = f"{len(same):,} and {len(cross):,} queries"
        return Finding(100 * float(same.mean() - cross.mean()), low, high, "points", basis)

    def ratio(self, recipe: str, others: tuple[str, ...], outcome: str, protocol: str) -> Finding:
        """How many times as often a recipe succeeds as the best of the others."""
        names = (recipe, *others)
        found = {n: self.answers(n, protocol, False, OUTCOMES[outcome]) for n in names}
        seeds = sorted(set.intersection(*(set(f) for f in found.values())))
        values = {
            n: _mean({seed: f[seed] for seed in seeds}, OUTCOMES[outcome]) for n, f in found.items()
        }
        best = max(others, key=lambda name: values[name].mean())
        pairs = np.stack([values[recipe], values[best]], axis=1)

        def quotient(drawn: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
            means = drawn.mean(axis=axis)  # (..., 2)
            return means[..., 0] / np.maximum(means[..., 1], 1e-9)

        low, high = bootstrap_interval(pairs, quotient)
        value = float(quotient(pairs, 0))
        return Finding(value, low, high, "times", _basis(pairs[:, 0], len(seeds)))

    def data(self, subset: str, protocol: str = "same-area") -> Vigor:
        """The label files that the profile uses."""
        labels = get_profile(self.profile).labels
        root = data_folder(self.profile, self.data_root)
        return Vigor(root, protocol, subset, labels)  # type: ignore[arg-type]

    def provenance(self) -> str:
        """Of all runs read so far."""
        found = {run.provenance for run in self._runs.values() if run is not None}
        return ", ".join(sorted(found)) or "no run"

    def _read(self, recipe: str, protocol: str, seed: int, profile: str) -> Answers | None:
        key = (recipe, protocol, seed, profile)
        if key not in self._runs:
            run = self._runs[key] = find(recipe, profile, seed, protocol, self.data_root)  # type: ignore[arg-type]
            if run is not None:
                try:
                    self._answers[key] = run.arrays()
                except FileNotFoundError:  # a bare record says nothing query by query
                    self._runs[key] = None
        return self._answers.get(key)


def share_of(succeeded: NDArray[Any], what: str = "queries") -> Finding:
    """(N,) bools, or shares in [0, 1], -> their mean in percent with a bootstrap interval."""
    low, high = bootstrap_interval(succeeded.astype(float))
    mean = 100 * float(succeeded.mean())
    return Finding(mean, 100 * low, 100 * high, "%", f"{len(succeeded):,} {what}")


def _can_tell(outcome: Outcome, answers: Answers) -> bool:
    try:
        outcome(answers)
    except KeyError:  # evaluated before this was measured
        return False
    return True


def _mean(found: dict[int, Answers], succeeded: Outcome) -> NDArray[np.float64]:
    """(Q,) in how many of the seeds each query succeeded, as a share."""
    return np.mean([succeeded(answers).astype(float) for answers in found.values()], axis=0)


def _finding(values: NDArray[np.float64], seeds: int, unit: str) -> Finding:
    low, high = bootstrap_interval(values)
    return Finding(100 * float(values.mean()), 100 * low, 100 * high, unit, _basis(values, seeds))


def _basis(values: NDArray[np.float64], seeds: int) -> str:
    return f"{len(values):,} queries, {seeds} seed" + "s" * (seeds > 1)
