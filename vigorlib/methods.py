"""Which methods can be tried: every recipe that has a run with weights, here or recorded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vigorlib import runs
from vigorlib.home import home
from vigorlib.recipes import MAIN_ROWS, RECIPES


@dataclass(frozen=True)
class Method:
    """A trained recipe that can be opened. ``label`` tells it from all others in a list."""

    title: str
    recipe: str
    profile: str
    protocol: str
    seed: int
    provenance: str
    top1: float

    @property
    def label(self) -> str:
        return f"{self.title} ({self.protocol}, seed {self.seed}, {self.provenance})"

    def run(self, data_root: str | Path = "") -> runs.Run:
        """The run itself. Raises ValueError if it has gone or its settings have changed since."""
        found = runs.find(self.recipe, self.profile, self.seed, self.protocol, data_root)  # type: ignore[arg-type]
        if found is None:
            raise ValueError(
                f"{self.label} has no run of today's settings and data: train it with `python -m "
                f"vigorlib train --recipe {self.recipe} --profile {self.profile}`"
            )
        return found


def available_methods(
    profile: str = "mini", protocol: str = "", all_seeds: bool = False
) -> list[Method]:
    """Every recipe with stored weights: this machine's before recorded ones, VIGOR first.

    protocol: only this one. all_seeds: not only the lowest seed of each.
    """
    found: dict[tuple[str, str, int], Method] = {}
    sources = (
        (runs.LOCAL, "runs", runs.local_runs),
        (runs.RECORDED, "results", runs.recorded_runs),
    )
    for provenance, folder, records in sources:
        for record in records(profile):
            weights = home() / folder / profile / record["name"] / "network.safetensors"
            if record["recipe"]["name"] in RECIPES and weights.exists():
                method = _method(record, profile, provenance)
                found.setdefault((method.recipe, method.protocol, method.seed), method)
    order = [*reversed(MAIN_ROWS), *(name for name in RECIPES if name not in MAIN_ROWS)]
    methods = sorted(
        (m for m in found.values() if protocol in ("", m.protocol)),
        key=lambda m: (order.index(m.recipe), m.protocol != "same-area", m.seed),
    )
    if all_seeds:
        return methods
    first = {(m.recipe, m.protocol): m for m in reversed(methods)}
    return [m for m in methods if first[m.recipe, m.protocol] is m]


def _method(record: dict[str, Any], profile: str, provenance: str) -> Method:
    return Method(
        RECIPES[record["recipe"]["name"]].title,
        record["recipe"]["name"],
        profile,
        record["protocol"],
        int(record["seed"]),
        provenance,
        float(record["metrics"]["top1"]),
    )
