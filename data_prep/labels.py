"""Label files of any system from file names alone: ``python -m data_prep.labels ROOT --out DIR``.

A panorama and a tile bear their positions in their names, so their offset needs no label file.
What names cannot tell is which queries train and which test, and in which order rows stand: that is
kept from the label files of ROOT where there are any. Where there are only photographs, every
query's four tiles follow from the grid and ``pano_label_balanced`` alone is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal, Optional

import numpy as np
import typer
from numpy.typing import ArrayLike, NDArray
from rich.console import Console
from rich.table import Table

from vigorlib import geometry
from vigorlib.dataset import LABEL_FOLDERS, LabelError, Labels, Vigor, panorama_latlon, tile_latlon
from vigorlib.files import write_atomically
from vigorlib.geometry import LabelSystem

SYSTEMS: tuple[LabelSystem, ...] = ("original", "corrected", "mercator")
PUBLISHED: tuple[Labels, ...] = ("corrected", "original")
"""Systems whose files the reader knows; the first that a folder has says how the queries are split."""
SUFFIXES = {s: "" if s == "original" else f"__{s}" for s in SYSTEMS}
TRAIN, TEST, ALL = "same_area_balanced_train", "same_area_balanced_test", "pano_label_balanced"
STEMS: dict[str, tuple[Literal["same-area", "cross-area"], Literal["train", "test"]]] = {
    TRAIN: ("same-area", "train"),
    TEST: ("same-area", "test"),
    ALL: ("cross-area", "test"),
}


OFF_GRID = 0.01
"""Steps by which a tile may be off its grid; VIGOR's grids are regular to a millionth."""


@dataclass(frozen=True)
class Rows:
    """A label file without its offsets.

    panoramas: (Q,) names; tiles: (Q, 4) names, positive first, the diagonal one last.
    """

    panoramas: NDArray[np.str_]
    tiles: NDArray[np.str_]

    @property
    def pano_latlon(self) -> NDArray[np.float64]:
        """(Q, 2) degrees."""
        return np.array([panorama_latlon(name) for name in self.panoramas]).reshape(-1, 2)

    @property
    def tile_latlon(self) -> NDArray[np.float64]:
        """(Q, 4, 2) degrees."""
        return np.array([tile_latlon(name) for name in self.tiles.flat]).reshape(-1, 4, 2)

    def offsets(self, city: str, system: LabelSystem) -> NDArray[np.float64]:
        """(Q, 4, 2) pixels as the files of a system hold them: whole ones, but for ``mercator``."""
        exact = geometry.label_offsets(self.pano_latlon[:, None], self.tile_latlon, city, system)
        return exact if system == "mercator" else np.rint(exact)


@dataclass(frozen=True)
class CityNames:
    """All that the label files of a city say beside offsets: its tiles, and rows by file stem."""

    city: str
    tiles: list[str]
    rows: dict[str, Rows]


# -- reading ---------------------------------------------------------------------------------


def read_city(root: str | Path, city: str) -> CityNames:
    """Names of a city: from its label files, plain or .gz, else from its photographs.

    A missing ``pano_label_balanced`` is train and test together, as it is in VIGOR. Raises
    FileNotFoundError when there is neither, and LabelError for rows and names that do not parse.
    """
    root = Path(root)
    rows: dict[str, Rows] = {}
    tiles: list[str] = []
    for labels in PUBLISHED:
        for stem in STEMS:
            if stem not in rows and (data := published(root, city, stem, labels)):
                names = data.tiles.names
                tiles = tiles or names.tolist()
                rows[stem] = Rows(data.queries.names, names[data.references])
    if not rows:
        return _from_photographs(root, city)
    if ALL not in rows:
        rows[ALL] = _together(list(rows.values()))
    return CityNames(city, tiles, rows)


def published(root: Path, city: str, stem: str, labels: Labels) -> Vigor | None:
    """One label file as the library reads it, or None where the folder has no such file."""
    protocol, subset = STEMS[stem]
    try:
        return Vigor(root, protocol, subset, labels, cities=[city])
    except FileNotFoundError:
        pattern = f"{stem}{SUFFIXES[labels]}.txt*"
        places = (root / LABEL_FOLDERS[labels] / city, root / city)
        if any(list(place.glob(pattern)) for place in places):
            raise  # rows without their tile list: going on would lose the split
        return None


def _from_photographs(root: Path, city: str) -> CityNames:
    photos = [
        sorted(p.name for p in (root / city / folder).glob("*.[jp][pn]g"))
        for folder in ("satellite", "panorama")
    ]
    if not all(photos):
        raise FileNotFoundError(
            f"{root} has neither label files nor photographs of {city}: expected "
            f"splits/{city}/satellite_list.txt and rows, or {city}/satellite/*.png and "
            f"{city}/panorama/*.jpg"
        )
    tiles = sorted(photos[0], key=tile_latlon)  # from the south-west, as VIGOR lists them
    panoramas = np.array(photos[1])
    references = assign(
        np.array([panorama_latlon(name) for name in photos[1]]),
        np.array([tile_latlon(name) for name in tiles]),
        city,
    )
    return CityNames(city, tiles, {ALL: Rows(panoramas, np.array(tiles)[references])})


def assign(
    panoramas_latlon: NDArray[np.float64], tiles_latlon: NDArray[np.float64], city: str
) -> NDArray[np.int64]:
    """The four tiles of every query, by the grid: nearest, its two neighbours by distance, diagonal.

    panoramas_latlon (Q, 2), tiles_latlon (T, 2) degrees -> (Q, 4) indices of tiles. Distances are
    in steps of the grid. Names hold six decimals (0.1 m): where two tiles are equally near to that,
    published rows may have them the other way round (0.3 % of Chicago's).
    """
    from data_prep.city.sampling import covering_tiles  # loads the generator

    cell, corner, steps = _grid(tiles_latlon, city)
    side = int(cell.max()) + 1
    index = np.full(side**2, -1)  # the smallest square grid; -1: no tile here
    index[cell @ (side, 1)] = np.arange(len(cell))
    at = (panoramas_latlon - corner) / steps
    inside = ((at >= 0) & (at <= side - 1)).all(axis=1)
    references = np.full((len(at), 4), -1)
    references[inside] = index[covering_tiles(at[inside], side)]
    short = np.flatnonzero((references < 0).any(axis=1))
    if len(short):
        raise LabelError(
            f"{len(short)} of {len(at)} panoramas of {city} lack one of their four tiles, the "
            f"first at {panoramas_latlon[short[0]].tolist()}: expected tiles all around every "
            "panorama; add the tiles or take these panoramas out"
        )
    return references


def _grid(
    tiles_latlon: NDArray[np.float64], city: str
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """(T, 2) rows from the north and columns from the west, and corner and steps in degrees."""
    step_deg = geometry.city_constants(city, 0, 0).longitude_step_deg
    steps = np.array([-geometry.LATITUDE_STEP_DEG, step_deg])
    corner = np.array([tiles_latlon[:, 0].max(), tiles_latlon[:, 1].min()])
    position = (tiles_latlon - corner) / steps
    cell = np.rint(position).astype(np.int64)
    off_grid = np.abs(position - cell).max(axis=1)
    if off_grid.max() > OFF_GRID:
        worst = tiles_latlon[off_grid.argmax()].tolist()
        raise LabelError(
            f"the tile at {worst} is {off_grid.max():.2f} steps off the grid of {city}: expected a "
            f"tile every {step_deg} degrees of longitude; look for a tile of another city"
        )
    return cell, corner, steps


# -- writing ---------------------------------------------------------------------------------


def label_files(names: CityNames, system: LabelSystem, out: str | Path) -> dict[Path, list[str]]:
    """Lines of every label file of one system, by the path under ``out`` where the reader looks."""
    folder = Path(out) / LABEL_FOLDERS[system] / names.city
    files = {folder / "satellite_list.txt": names.tiles}
    for stem, rows in names.rows.items():
        files[folder / f"{stem}{SUFFIXES[system]}.txt"] = list(lines(rows, names.city, system))
    return files


def write(files: Mapping[Path, Sequence[str]], force: bool = False) -> list[Path]:
    """Write label files, each in one step; returns those that were not there yet.

    A file that already holds the same lines is left alone. One that holds others stops everything
    before anything is written (FileExistsError), unless ``force``.
    """
    missing = [path for path, text in files.items() if not _holds(path, text)]
    if not force and (others := [str(path) for path in missing if path.exists()]):
        raise FileExistsError(
            f"{', '.join(others)} would change: expected no label files there, or the same lines; "
            "name another folder, or force it"
        )
    for path in missing:
        joined = "\n".join(files[path]).encode()  # no newline after the last line, as published
        write_atomically(path, lambda partial, data=joined: partial.write_bytes(data))  # type: ignore[misc]
    return missing


def lines(rows: Rows, city: str, system: LabelSystem) -> Iterator[str]:
    """Rows as VIGOR writes them: the panorama, then four times tile, north, east."""
    offsets = rows.offsets(city, system).tolist()
    for panorama, tiles, away in zip(rows.panoramas, rows.tiles.tolist(), offsets, strict=True):
        fields = [f"{tile} {north} {east}" for tile, (north, east) in zip(tiles, away, strict=True)]
        yield " ".join([panorama, *fields])


def _holds(path: Path, text: Sequence[str]) -> bool:
    return path.exists() and path.read_text(encoding="utf-8").splitlines() == list(text)


# -- comparing -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """How far two sets of label pairs are apart: pixels of the tile, metres on the ground."""

    pairs: int
    equal: float
    median_px: float
    max_px: float
    median_m: float
    max_m: float


def ground_distance_m(
    tile_latlon: ArrayLike, first_px: ArrayLike, second_px: ArrayLike
) -> NDArray[np.float64]:
    """Metres between what a tile shows at two offsets. (..., 2) each -> (...).

    Tiles are cut from Web-Mercator, so their pixels are places whatever a label says of them.
    """
    first, second = (
        np.moveaxis(geometry.predicted_latlon(tile_latlon, px, None, "mercator"), -1, 0)
        for px in (first_px, second_px)
    )
    return geometry.great_circle_m(*first, *second)


def difference(
    tile_latlon: NDArray[np.float64], first_px: NDArray[np.float64], second_px: NDArray[np.float64]
) -> Difference:
    """Compare label pairs. tile_latlon, first_px, second_px: (..., 2) of the same shape."""
    away = np.hypot(*np.moveaxis(first_px - second_px, -1, 0))
    metres = ground_distance_m(tile_latlon, first_px, second_px)
    return Difference(
        away.size,
        float((away == 0).mean()),
        float(np.median(away)),
        float(away.max()),
        float(np.median(metres)),
        float(metres.max()),
    )


def compare_city(root: str | Path, city: str) -> dict[tuple[str, str], Difference]:
    """All label files of a folder against every system, then the systems among each other."""
    table: dict[tuple[str, str], Difference] = {}
    for labels in PUBLISHED:
        files = [d for stem in STEMS if (d := published(Path(root), city, stem, labels))]
        if not files:
            continue
        own = _together([Rows(d.queries.names, d.tiles.names[d.references]) for d in files])
        offsets, place = np.concatenate([d.offsets_px for d in files]), own.tile_latlon
        for system in SYSTEMS:
            against = difference(place, offsets, own.offsets(city, system))
            table[f"{LABEL_FOLDERS[labels]}/", system] = against
    rows = read_city(root, city).rows[ALL]
    computed = {system: rows.offsets(city, system) for system in SYSTEMS}
    for first, second in combinations(SYSTEMS, 2):
        table[first, second] = difference(rows.tile_latlon, computed[first], computed[second])
    return table


def _together(parts: Sequence[Rows]) -> Rows:
    return Rows(
        np.concatenate([part.panoramas for part in parts]),
        np.concatenate([part.tiles for part in parts]),
    )


# -- command line ----------------------------------------------------------------------------


def main(
    root: Annotated[Path, typer.Argument(help="a copy of VIGOR, its photographs or its labels")],
    system: Annotated[str, typer.Option(help=f"one of {', '.join(SYSTEMS)}")] = "corrected",
    out: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it at run time
        typer.Option(help="where the folder of label files is written"),
    ] = None,
    city: Annotated[list[str], typer.Option(help="repeat for several; all that ROOT has")] = [],  # noqa: B006
    compare: Annotated[bool, typer.Option(help="print how far systems and files differ")] = False,
    force: Annotated[bool, typer.Option(help="replace label files that differ")] = False,
) -> None:
    """Write the label files of a system, from file names alone; or --compare.

    OUT/splits (original), OUT/splits__corrected or OUT/splits__mercator get satellite_list.txt,
    the two same-area files where ROOT says who trains, and pano_label_balanced.
    """
    if system not in SYSTEMS:
        expected = ", ".join(SYSTEMS)
        raise typer.BadParameter(f"unknown label system {system!r}: expected one of {expected}")
    if out is None and not compare:
        raise typer.BadParameter("nothing to do: name --out, or say --compare")
    console = Console(width=116)  # tables in a log are not cut
    try:
        cities = city or cities_in(root)
        if compare:
            console.print(_table({name: compare_city(root, name) for name in cities}))
        if out is not None:
            files: dict[Path, list[str]] = {}
            for name in cities:
                files |= label_files(read_city(root, name), system, out)  # type: ignore[arg-type]
            written = write(files, force)
            console.print(
                f"{len(written)} label files written under {out / LABEL_FOLDERS[system]}, "  # type: ignore[index]
                f"{len(files) - len(written)} were there already"
            )
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from error


def cities_in(root: Path) -> list[str]:
    """VIGOR's cities that a folder has photographs or label files of."""
    found = [c for c in geometry.CITIES if (root / c).is_dir() or any(root.glob(f"splits*/{c}"))]
    if not found:
        raise FileNotFoundError(
            f"{root} has no city: expected one of {', '.join(geometry.CITIES)} in it or in its "
            "splits/ or splits__corrected/"
        )
    return found


def _table(compared: Mapping[str, Mapping[tuple[str, str], Difference]]) -> Table:
    table = Table("city", "labels", "against", "pairs", "equal", title="label pairs: how far apart")
    for unit in ("px", "m"):
        for which in ("median", "max"):
            table.add_column(f"{which} {unit}", justify="right", no_wrap=True)
    for city, pairs in compared.items():
        for (first, second), d in pairs.items():
            numbers = (
                f"{d.median_px:.2f}",
                f"{d.max_px:.2f}",
                f"{d.median_m:.2f}",
                f"{d.max_m:.2f}",
            )
            table.add_row(city, first, second, f"{d.pairs:,}", f"{d.equal:.2%}", *numbers)
        table.add_section()
    return table


if __name__ == "__main__":
    typer.run(main)
