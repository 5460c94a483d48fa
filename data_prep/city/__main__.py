"""Make the embedded city: ``python -m data_prep.city data/mini``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console
from rich.table import Table

from data_prep.city.build import SIZES, make


def main(
    root: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it at run time
        typer.Argument(help="target folder; default: data/<size> in the project"),
    ] = None,
    size: Annotated[str, typer.Option(help=f"one of {', '.join(SIZES)}")] = "mini",
    seed: Annotated[int, typer.Option(help="another seed is another city")] = 0,
    tiles: Annotated[int, typer.Option(help="tiles along one side of each city")] = 0,
    tile_px: Annotated[int, typer.Option(help="width of a tile in pixels, up to 640")] = 0,
    panorama_width: Annotated[int, typer.Option(help="width in pixels, height is half")] = 0,
    resolution_m: Annotated[float, typer.Option(help="cell of the map behind both views")] = 0.0,
    workers: Annotated[int, typer.Option(help="processes; default: one a core")] = 0,
) -> None:
    """Write four procedural cities in VIGOR's folder format.

    A call that was interrupted goes on where it stopped; a finished city is left alone. For images
    of VIGOR's own size: --tile-px 640 --panorama-width 2048 --resolution-m 0.15.
    """
    from vigorlib.home import home

    if size not in SIZES:
        raise typer.BadParameter(f"unknown size {size!r}: expected one of {', '.join(SIZES)}")
    changes = {
        "tiles": tiles,
        "tile_px": tile_px,
        "panorama_px": (panorama_width // 2, panorama_width) if panorama_width else 0,
        "resolution_m": resolution_m,
    }
    try:
        wanted = dataclasses.replace(SIZES[size], **{k: v for k, v in changes.items() if v})  # type: ignore[arg-type]
        made = make(root or home() / "data" / size, wanted, seed, workers or None)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from error
    _show(made)


def _show(root: Path) -> None:
    cities = json.loads((root / "manifest.json").read_text(encoding="utf-8"))["cities"]
    table = Table(
        "city", "tiles", "queries", "a tile", "distractors", "test to train", "leakage",
        title=f"embedded city in {root}",
    )  # fmt: skip
    for name, row in cities.items():
        table.add_row(
            name,
            f"{row['tiles']:,}",
            f"{row['queries']:,}",
            f"{row['queries_per_tile']:.2f}",
            f"{row['distractor_share']:.1%}",
            f"{row['test_to_train_median_m']:.1f} m (median)",
            f"{row['leakage']:.0%}",
        )
    Console(width=116).print(table)


if __name__ == "__main__":
    typer.run(main)
