"""``python -m data_prep.doctor ROOT``: a summary for people, JSON for programs, a status for scripts."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from data_prep.doctor import Finding, NotVigor, Report, examine
from vigorlib.files import write_json

COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


def main(
    root: Annotated[Path, typer.Argument(help="a copy of VIGOR, whole, partial or labels only")],
    json_file: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it at run time
        typer.Option("--json", help="write the report as JSON to this file, or - for the output"),
    ] = None,
    images: Annotated[bool, typer.Option(help="decode every photograph")] = True,
    state: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="folder that remembers what was decoded; default: ROOT"),
    ] = None,
    workers: Annotated[int, typer.Option(help="processes; default: one a core")] = 0,
) -> None:
    """Tell what a copy of VIGOR holds and what is wrong with it.

    Exit status: 0 fine (perhaps with warnings), 1 errors found, 2 not a VIGOR folder. An
    interrupted check of the photographs goes on at the next call.
    """
    to_output = json_file is not None and str(json_file) == "-"
    console = Console(stderr=to_output, width=None if Console().is_terminal else 116)
    try:
        report = examine(root, images, state, workers or None, progress=True)
        status, value = report.status, report.as_json()
        _show(report, console)
    except NotVigor as error:
        status, value = 2, {"root": str(root), "status": 2, "error": str(error)}
        typer.echo(str(error), err=True)
    except KeyboardInterrupt:
        typer.echo("stopped; the same call goes on from here", err=True)
        raise typer.Exit(130) from None
    if to_output:
        typer.echo(json.dumps(value, indent=1))
    elif json_file is not None:
        write_json(json_file, value)
    raise typer.Exit(status)


def _show(report: Report, console: Console) -> None:
    console.print(_cities(report))
    for (level, what, advice), group in groupby(_sorted(report.findings), _kind):
        members = list(group)
        where = ", ".join(
            f"{one.city} {one.count:,}" if one.city else ", ".join(one.examples) for one in members
        )
        console.print(
            f"[{COLOURS[level]}]{level}[/] {escape(what)}: [bold]{escape(where)}[/]", soft_wrap=True
        )
        if level != "note":  # of notes the number says enough
            for example in (text for one in members if one.city for text in one.examples[:2]):
                console.print(f"    {escape(example)}", highlight=False, soft_wrap=True)
        console.print(f"    -> {escape(advice)}", highlight=False, soft_wrap=True)
    levels = [level for level, *_ in dict.fromkeys(map(_kind, report.findings))]
    errors, warnings = levels.count("error"), levels.count("warning")
    console.print(
        f"errors of {errors} kinds, warnings of {warnings}"
        if errors or warnings
        else "no error, no warning"
    )


def _cities(report: Report) -> Table:
    table = Table(title=escape(f"{report.kind} in {report.root}"))
    for column in ("city", "tiles", "train", "test", "labels", "leakage", "semi\noutside",
                   "distrac-\ntors", "panoramas\non disk", "tiles\non disk"):  # fmt: skip
        table.add_column(column, justify="left" if column in ("city", "labels") else "right")
    for city, row in report.cities.items():
        counts = [_count(row.get(key)) for key in ("tiles", "train", "test")]
        shares = [
            _percent(row.get(k)) for k in ("leakage", "semi_positives_outside", "distractors")
        ]
        views = [_count(row.get(view, {}).get("files")) for view in ("panorama", "satellite")]
        table.add_row(city, *counts, _systems(row), *shares, *views)
    return table


def _systems(row: dict[str, Any]) -> str:
    """``corrected 100 %, original 100 %``: the systems found, the lowest agreement of each."""
    lowest: dict[str, float] = {}
    for file in row.get("label_files", {}).values():
        system = file["system"] or "unknown"
        share = file["agreement"].get(system, 0.0)
        lowest[system] = min(lowest.get(system, 1.0), share)
    return "\n".join(f"{system} {_percent(share)}" for system, share in lowest.items()) or "-"


def _kind(finding: Finding) -> tuple[str, str, str]:
    return finding.level, finding.what, finding.advice


def _sorted(findings: tuple[Finding, ...]) -> list[Finding]:
    """Of one kind together, otherwise as they come."""
    kinds = list(dict.fromkeys(map(_kind, findings)))
    return sorted(findings, key=lambda finding: kinds.index(_kind(finding)))


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


if __name__ == "__main__":
    typer.run(main)
