"""Published, recorded and fresh figures side by side, never mixed.

``published``: what VIGOR's authors or the report published; a question mark means that the figure was
recalled and not read. ``recorded``: mean over the seeds that came with the project. ``this run``:
what ran on this machine. What does not exist is a dash.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from vigorlib.evaluation import SUCCEEDED, paired_difference
from vigorlib.home import home
from vigorlib.recipes import get_recipe
from vigorlib.runs import RECORDED, Run, recorded_runs

DASH = "—"
PUBLISHED_AS = {
    "siamese": "Siamese-VGG",
    "safa": "SAFA",
    "safa-mining": "SAFA+Mining",
    "vigor": "VIGOR (ours of the paper)",
    "vigor-resnet": "VIGOR (report's ResNet)",
}
MEASURES = {
    "top1": "top-1",
    "top5": "top-5",
    "top10": "top-10",
    "top1pct": "top-1 %",
    "hit_rate": "hit rate",
    "hit_rate_covering": "hit rate (covering)",
    "within_10m": "within 10 m",
}


@lru_cache(maxsize=1)
def published() -> pd.DataFrame:
    """method, setting, metric, value (percent), source, certainty: one row a published figure."""
    return pd.read_csv(home() / "results" / "paper_results.csv")


def other_published(protocol: str) -> pd.DataFrame:
    """Published figures of methods that are none of our recipes, in percent, with their source."""
    table = published()
    ours = set(PUBLISHED_AS.values())
    chosen = table[~table["method"].isin(ours) & (table["setting"] == protocol)]
    shown = [
        f"{value:.1f}" + " ?" * (certainty != "read")
        for value, certainty in zip(chosen["value"], chosen["certainty"], strict=True)
    ]
    chosen = chosen.assign(shown=shown, metric=chosen["metric"].map(MEASURES))
    wide = chosen.pivot(index=["method", "source"], columns="metric", values="shown").fillna(DASH)
    return wide.reindex(columns=[m for m in MEASURES.values() if m in wide]).reset_index("source")


def paper_cell(recipe: str, protocol: str, measure: str) -> str:
    """A published figure in percent, ``?`` behind it when nobody checked it; a dash for none."""
    table = published()
    row = table[
        (table["method"] == PUBLISHED_AS.get(recipe))
        & (table["setting"] == protocol)
        & (table["metric"] == measure)
    ]
    if row.empty:
        return DASH
    mark = "" if row["certainty"].iloc[0] == "read" else " ?"
    return f"{row['value'].iloc[0]:.1f}{mark}"


def recorded_cell(recipe: str, protocol: str, measure: str, profile: str) -> str:
    """Mean over the recorded seeds, in percent, with their number; a dash for none."""
    values = [
        record["metrics"][measure]
        for record in recorded_runs(profile)
        if record["recipe"]["name"] == recipe and record["protocol"] == protocol
    ]
    return f"{100 * np.mean(values):.1f} ({len(values)})" if values else DASH


def measured(runs: Mapping[str, Run], measures: Sequence[str]) -> pd.DataFrame:
    """What the runs measured, in percent, with median error and provenance. Rows are methods."""
    rows = {}
    for run in runs.values():
        row = {MEASURES[m]: f"{100 * run.metrics[m]:.1f}" for m in measures}
        rows[run.title] = {**row, "provenance": _provenance(run)}
    return pd.DataFrame.from_dict(rows, orient="index")


def compared(
    runs: Mapping[str, Run], protocol: str, measures: Sequence[str], profile: str
) -> pd.DataFrame:
    """published | recorded | this run for each measure, in percent. Rows are methods."""
    columns = {}
    for measure in measures:
        label = MEASURES[measure]
        columns[label, "published"] = [paper_cell(r, protocol, measure) for r in runs]
        columns[label, "recorded"] = [recorded_cell(r, protocol, measure, profile) for r in runs]
        columns[label, "this run"] = [_fresh(run, measure) for run in runs.values()]
    columns["", "provenance"] = [_provenance(run) for run in runs.values()]
    table = pd.DataFrame(columns, index=[run.title for run in runs.values()])
    table.columns = pd.MultiIndex.from_tuples(list(columns))
    return table


def verdict(one: Run, other: Run, measure: str = "top1") -> str:
    """Whether two runs differ on the same queries; a difference inside its interval is called none.

    measure: top1, top5, hit_rate or within_10m. Without the runs' answers query by query (bare
    records), their separate intervals are compared, which is blunter.
    """
    names = f"{one.title} and {other.title}, {MEASURES[measure]}"
    try:
        first, second = (SUCCEEDED[measure](run.arrays()) for run in (one, other))
    except FileNotFoundError:
        (low, high), (low2, high2) = (run.metrics["intervals"][measure] for run in (one, other))
        apart = low > high2 or low2 > high
        return (
            f"{names}: intervals {'apart' if apart else 'overlap: no difference shown'} (records)"
        )
    difference, low, high = paired_difference(first, second)
    inside = "" if low > 0 or high < 0 else ": none"
    return (
        f"{names}: {100 * difference:+.1f} points, 95 % interval "
        f"{100 * low:+.1f} to {100 * high:+.1f}{inside}"
    )


def summary(profile: str = "mini") -> str:
    """The README's table in Markdown: published beside recorded, both protocols."""
    measures = ("top1", "hit_rate", "within_10m")
    head = ["", "protocol", *(f"published {MEASURES[m]}" for m in measures)]
    head += [f"embedded city {MEASURES[m]}" for m in measures]
    rows = [head, ["---"] * len(head)]
    for protocol in ("same-area", "cross-area"):
        for recipe in PUBLISHED_AS:
            paper = [paper_cell(recipe, protocol, m) for m in measures]
            city = [recorded_cell(recipe, protocol, m, profile) for m in measures]
            rows.append([get_recipe(recipe).title, protocol, *paper, *city])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _fresh(run: Run, measure: str) -> str:
    return DASH if run.provenance == RECORDED else f"{100 * run.metrics[measure]:.1f}"


def _provenance(run: Run) -> str:
    return f"{run.provenance}, {run.profile.name}, seed {run.seed}"


def wrapped(table: pd.DataFrame, narrow: Sequence[str] = ()) -> str:
    """A table whose long cells wrap. narrow: columns of a word or a figure, which do not.

    Written out rather than styled by pandas: no random names, so that the same table is the same text.
    """
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in table.columns)
    wide = "white-space: normal; min-width: 6.5em; text-align: left"
    styles = ["text-align: left" if name in narrow else wide for name in table.columns]
    body = ""
    for row in table.itertuples(index=False):
        cells = "".join(
            f'<td style="{style}; vertical-align: top">{html.escape(str(value))}</td>'
            for style, value in zip(styles, row, strict=True)
        )
        body += f"<tr>{cells}</tr>\n"
    return f'<table class="words"><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>'
