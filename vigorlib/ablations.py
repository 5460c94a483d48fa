"""The questions that the book puts to VIGOR, each a handful of recipes that differ in one thing.

The four main rows are trained with two seeds under both protocols, everything else once. Ablations
of ``mini`` use the profile ``mini-short``: the same city and network, three epochs instead of seven;
in other profiles they are trained as long as the main rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from vigorlib.evaluation import SUCCEEDED, bootstrap_interval, paired_difference
from vigorlib.grid import Job
from vigorlib.recipes import MAIN_ROWS
from vigorlib.runs import Run, find

SHORT = {"mini": "mini-short"}
"""Profiles whose ablations are trained in another one."""


@dataclass(frozen=True)
class Question:
    """rows: recipes to compare, in the order to show them; base: the one differences are taken from."""

    name: str
    title: str
    rows: tuple[str, ...]
    base: str = "vigor"


QUESTIONS: tuple[Question, ...] = (
    Question(
        "semi-positives",
        "What should become of semi-positives?",
        ("vigor-semi-ignored", "vigor-semi-negative", "vigor-semi-positive")
        + ("vigor-semi-distance", "vigor"),
    ),
    Question(
        "offset",
        "How should the offset be learned?",
        ("vigor-no-offset", "vigor-offset-classes", "vigor"),
    ),
    Question(
        "mining",
        "How much mining?",
        ("vigor-no-mining", "vigor-small-pool", "vigor-mined-most", "vigor"),
    ),
    Question(
        "heads",
        "How many SAFA heads?",
        ("vigor-heads-1", "vigor-heads-2", "vigor-heads-4", "vigor"),
    ),
    Question(
        "aggregator",
        "What turns a map into a descriptor?",
        ("vigor-average", "vigor-gem", "vigor"),
    ),
    Question(
        "flatten",
        "Sum over positions, or the report's flatten head?",
        ("vigor-flatten", "vigor-resnet"),
        base="vigor-resnet",
    ),
    Question("backbone", "Which backbone?", ("vigor-resnet", "vigor-regnet", "vigor")),
    Question("alpha", "How steep a loss?", ("vigor-alpha-5", "vigor", "vigor-alpha-20")),
    Question("heading", "What is the heading worth?", ("vigor-any-heading", "vigor")),
    Question("data", "What are more queries worth?", ("vigor-quarter-data", "vigor")),
)

DISAGREEMENTS = ("vigor-paper-weights", "vigor-restart", "vigor-fresh-pool")
"""Recipes that do what the paper says (or might say) where its code does something else."""
CROSS_DISAGREEMENTS = ("vigor-epoch-less",)
"""The same under the cross-area protocol, trained as long as the main rows."""
SEEDS = (0, 1)


def short(profile: str) -> str:
    """The profile in which a profile's ablations are trained."""
    return SHORT.get(profile, profile)


def jobs(profile: str) -> list[Job]:
    """Every run of the book: the main rows, the report's, the ablations, the ledger's. Longest first."""
    areas = ("same-area", "cross-area")
    main = [Job(n, profile, a, s) for a in areas for s in SEEDS for n in reversed(MAIN_ROWS)]
    main += [Job("vigor-resnet", profile, area) for area in areas]
    main += [Job(name, profile, "cross-area") for name in CROSS_DISAGREEMENTS]
    names = [name for question in QUESTIONS for name in question.rows] + list(DISAGREEMENTS)
    brief = [Job(name, short(profile), "same-area") for name in names]
    brief += [Job("vigor", short(profile), "same-area", seed) for seed in SEEDS[1:]]
    return list(dict.fromkeys(main + brief))


def found(question: Question, profile: str, data_root: str = "") -> dict[str, Run]:
    """The runs of a question that exist, on this machine or recorded; nothing is trained."""
    runs = {name: find(name, short(profile), 0, "same-area", data_root) for name in question.rows}
    return {name: run for name, run in runs.items() if run is not None}


def yardstick(profile: str, data_root: str = "") -> dict[str, Run]:
    """VIGOR with each seed, as far as trained: what changes when nothing but chance does."""
    runs = {
        f"seed {seed}": find("vigor", short(profile), seed, "same-area", data_root)
        for seed in SEEDS
    }
    return {name: run for name, run in runs.items() if run is not None}


OUTCOMES = {
    "top-1 (%)": SUCCEEDED["top1"],
    "top-10 (%)": SUCCEEDED["top10"],
    "within 10 m (%)": SUCCEEDED["within_10m"],
    "10 m, given tile (%)": SUCCEEDED["given_within_10m"],
}
"""Four ways to count."""


def shares(runs: dict[str, Run], data_root: str = "") -> pd.DataFrame:
    """Share of queries that succeeded, in percent, with its 95 % interval: a row a run and outcome.

    Columns: recipe, title, outcome, share, low, high.
    """
    rows = []
    for name, run in runs.items():
        answers = run.answers(data_root)
        for outcome, succeeded in OUTCOMES.items():
            hits = succeeded(answers).astype(float)
            low, high = bootstrap_interval(hits)
            rows.append((name, run.title, outcome, 100 * hits.mean(), 100 * low, 100 * high))
    return pd.DataFrame(rows, columns=["recipe", "title", "outcome", "share", "low", "high"])


@dataclass(frozen=True)
class Answer:
    """What the runs of a question say.

    shares: as :func:`shares`; differences: from the base, as :func:`differences`; missing: recipes
    that nobody has trained in this profile. Tables are empty where the base is missing.
    """

    question: Question
    profile: str
    shares: pd.DataFrame
    differences: pd.DataFrame
    missing: tuple[str, ...]
    provenance: str

    def sentences(self, outcome: str = "top-1 (%)") -> list[str]:
        """Each row against the base in one line; a difference inside its interval is called none."""
        chosen = self.differences[self.differences["outcome"] == outcome]
        return [
            f"{row['title']}: {row['difference']:+.1f} points ({row['low']:+.1f} to "
            f"{row['high']:+.1f})" + ("" if row["differs"] else ": none shown")
            for row in chosen.to_dict("records")
        ]


def answer(question: Question, profile: str, data_root: str = "") -> Answer:
    """Everything the runs of a question say; nothing is trained."""
    runs = found(question, profile, data_root)
    missing = tuple(name for name in question.rows if name not in runs)
    known = runs if question.base in runs else {}
    table = differences(known, question.base, data_root) if known else _NO_DIFFERENCES
    where = sorted({run.provenance for run in known.values()})
    return Answer(
        question, short(profile), shares(known, data_root), table, missing, ", ".join(where)
    )


def differences(runs: dict[str, Run], base: str, data_root: str = "") -> pd.DataFrame:
    """Each run less the base on the same queries, in points, with its 95 % interval.

    Columns: recipe, title, outcome, difference, low, high, differs; a difference whose interval
    holds zero does not count as one.
    """
    if base not in runs:
        raise ValueError(f"no run of {base!r} among {', '.join(runs) or 'none'}: train it first")
    reference = runs[base].answers(data_root)
    rows = []
    for name, run in runs.items():
        if name == base:
            continue
        answers = run.answers(data_root)
        for outcome, succeeded in OUTCOMES.items():
            values = paired_difference(succeeded(answers), succeeded(reference))
            difference, low, high = (100 * value for value in values)
            rows.append((name, run.title, outcome, difference, low, high, low > 0 or high < 0))
    return pd.DataFrame(rows, columns=_NO_DIFFERENCES.columns)


_NO_DIFFERENCES = pd.DataFrame(
    columns=["recipe", "title", "outcome", "difference", "low", "high", "differs"]
)
