"""All benchmarks: one JSON record and one table.

    make bench                                  # everything: an hour, 8 GB
    python benchmarks --quick                   # a few seconds: does everything still run?
    python benchmarks --only ranks --out my.json

A benchmark is a module here with a function ``measured(quick) -> list of rows``; add its name below.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import measure
import typer
from measure import machine, record, show

MODULES = (
    "ranks", "mine", "one_query", "growth", "where", "read_images", "training_loop", "full_step",
    "layouts", "where_training", "growth_training", "make_city", "start", "two_runs",
)  # fmt: skip


def main(
    quick: Annotated[bool, typer.Option("--quick", help="tiny sizes")] = False,
    only: Annotated[str, typer.Option(help=f"one of {', '.join(MODULES)}")] = "",
    out: Annotated[Path, typer.Option(help="the record")] = Path("build/benchmarks.json"),
) -> None:
    """Measure, print a table, write the record (other benchmarks' rows in it stay)."""
    if only and only not in MODULES:
        raise typer.BadParameter(f"{only!r}: expected one of {', '.join(MODULES)}")
    if quick:
        measure.REST_S = 0
    for name in (only,) if only else MODULES:
        before = machine()  # the commit that is measured, not one made meanwhile
        rows = __import__(name).measured(quick)
        show(rows)
        record(out, name, rows, quick, before)
    print(f"written to {out}")


if __name__ == "__main__":
    typer.run(main)
