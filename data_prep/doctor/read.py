"""Label files read tolerantly: every bad row is reported, the good ones go on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.doctor import findings as f
from data_prep.doctor.findings import Check, Findings
from vigorlib.dataset import (
    FIELDS,
    LABEL_FOLDERS,
    label_file,
    panorama_latlon,
    read_lines,
    tile_latlon,
)
from vigorlib.geometry import CITIES

TRAIN, TEST, ALL = "same_area_balanced_train", "same_area_balanced_test", "pano_label_balanced"
STEMS = (TRAIN, TEST, ALL)
TILE_LIST = "satellite_list"


@dataclass(frozen=True)
class Tiles:
    """One satellite_list.txt. names: (N,) distinct; latlon: (N, 2) degrees."""

    file: str
    names: list[str]
    latlon: NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """One label file. queries: the first word of every row, damaged or not.

    Of the Q rows that can be read: numbers (Q,) of the lines, latlon (Q, 2) degrees of the query,
    references (Q, 4) into the tiles, offsets_px (Q, 4, 2).
    """

    file: str
    queries: list[str]
    numbers: NDArray[np.int64]
    latlon: NDArray[np.float64]
    references: NDArray[np.int64]
    offsets_px: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.numbers)

    def name(self, i: int | np.integer) -> str:
        """The query of the i-th readable row."""
        return self.queries[self.numbers[i] - 1]

    def take(self, mask: NDArray[np.bool_]) -> Rows:
        """The readable rows that the mask (Q,) keeps."""
        kept = {
            name: getattr(self, name)[mask]
            for name in ("numbers", "latlon", "references", "offsets_px")
        }
        return replace(self, **kept)

    def row(self, i: int | np.integer, detail: object = "") -> str:
        """How the i-th readable row is named to people."""
        return f"{self.file} row {self.numbers[i]}: {detail or self.name(i)}"


@dataclass(frozen=True)
class LabelSet:
    """The labels of one system of a city, as far as they are there."""

    labels: str
    tiles: Tiles
    rows: dict[str, Rows]

    def split(self, *stems: str) -> list[Rows]:
        """The files of these stems, as far as they are there."""
        return [self.rows[stem] for stem in stems if stem in self.rows]

    def positives(self, *stems: str) -> dict[str, int]:
        """Query -> its positive tile, of the rows that can be read."""
        return {
            rows.name(i): int(rows.references[i, 0])
            for rows in self.split(*stems)
            for i in range(len(rows))
        }


def find_cities(root: Path) -> list[str]:
    """Names of the folders that hold labels or photographs, VIGOR's four first."""
    parents = (root, *(root / name for name in LABEL_FOLDERS.values()))
    found = {folder.name for parent in parents for folder in subfolders(parent) if _is_city(folder)}
    return [city for city in CITIES if city in found] + sorted(found - set(CITIES))


def subfolders(path: Path) -> list[Path]:
    """Folders in a folder, sorted; none where one may not look."""
    try:
        return sorted(entry for entry in path.iterdir() if entry.is_dir())
    except OSError:
        return []


def _is_city(folder: Path) -> bool:
    if {"panorama", "satellite"} & {sub.name for sub in subfolders(folder)}:
        return True
    return any(any(folder.glob(f"{stem}*.txt*")) for stem in (TILE_LIST, *STEMS))


def read_labels(root: Path, city: str, labels_only: bool, found: Findings) -> list[LabelSet]:
    """The label sets of a city, corrected first, with everything wrong in their files reported."""
    _report_misplaced(root, city, found)
    files = {labels: _find_all(root, city, labels) for labels in LABEL_FOLDERS}
    there = [labels for labels, paths in files.items() if paths]
    if not there:
        found.add(f.NO_LABELS, city, [city])
    if there == ["original"]:
        found.add(f.ORIGINAL_ONLY, city, [LABEL_FOLDERS["original"]])
    absent = f.FILE_NOT_INCLUDED if labels_only else f.FILE_ABSENT
    sets = []
    for labels in there:
        without = (f"{stem} ({labels})" for stem in STEMS if stem not in files[labels])
        found.add(absent, city, without)
        if read := _read_set(root, city, labels, files[labels], found):
            sets.append(read)
    for other in sets[1:]:
        differing = set(sets[0].tiles.names) ^ set(other.tiles.names)
        found.add(f.LISTS_DIFFER, city, sorted(differing))
    return sets


def _report_misplaced(root: Path, city: str, found: Findings) -> None:
    for labels, folder in LABEL_FOLDERS.items():
        wrong = (
            path.relative_to(root).as_posix()
            for stem in STEMS
            for path in (root / folder / city).glob(f"{stem}*.txt*")
            if ("__corrected" in path.name) != (labels == "corrected")
        )
        found.add(f.MISPLACED, city, sorted(wrong))


def _find_all(root: Path, city: str, labels: str) -> dict[str, Path]:
    paths = {stem: _find(root, city, stem, labels) for stem in STEMS}
    return {stem: path for stem, path in paths.items() if path}


def _find(root: Path, city: str, stem: str, labels: str) -> Path | None:
    try:
        return label_file(root, city, stem, labels)
    except FileNotFoundError:
        return None


def _read_set(
    root: Path, city: str, labels: str, files: dict[str, Path], found: Findings
) -> LabelSet | None:
    tile_list = _find(root, city, TILE_LIST, labels)
    if tile_list is None:
        found.add(f.NO_TILE_LIST, city, [f"{TILE_LIST} ({labels})"])
        return None
    tiles = _read_tiles(root, tile_list, city, found)
    index = {name: i for i, name in enumerate(tiles.names)}
    rows = {stem: _read_rows(root, path, city, index, found) for stem, path in files.items()}
    return LabelSet(labels, tiles, rows)


def _read_tiles(root: Path, path: Path, city: str, found: Findings) -> Tiles:
    lines, file = _lines(root, path, city, found)
    found.add(f.TWICE, city, (f"{file}: {name}" for name in repeated(lines)))
    places = {name: _place(name) for name in dict.fromkeys(lines)}
    found.add(f.BAD_NAMES, city, (name for name, place in places.items() if place is None))
    good = {name: place for name, place in places.items() if place}
    return Tiles(file, list(good), np.array(list(good.values()), dtype=float).reshape(-1, 2))


def _read_rows(root: Path, path: Path, city: str, index: dict[str, int], found: Findings) -> Rows:
    lines, file = _lines(root, path, city, found)
    queries: list[str] = []
    read: list[tuple[int, tuple[float, float], list[int], list[float]]] = []
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        queries.append(fields[0])
        try:
            read.append((number, *_parse(fields, index)))
        except _BadRow as bad:
            name_only = bad.check == f.BAD_NAMES  # the same name in several files is one case
            text = bad.detail if name_only else f"{file} row {number}: {bad.detail}"
            found.add(bad.check, city, [text])
    found.add(f.TWICE, city, (f"{file}: {name}" for name in repeated(queries)))
    return Rows(
        file,
        queries,
        np.array([row[0] for row in read], dtype=np.int64),
        np.array([row[1] for row in read], dtype=np.float64).reshape(-1, 2),
        np.array([row[2] for row in read], dtype=np.int64).reshape(-1, 4),
        np.array([row[3] for row in read], dtype=np.float64).reshape(-1, 4, 2),
    )


class _BadRow(ValueError):
    def __init__(self, check: Check, detail: str) -> None:
        super().__init__(detail)
        self.check, self.detail = check, detail


def _parse(
    fields: list[str], index: dict[str, int]
) -> tuple[tuple[float, float], list[int], list[float]]:
    """Fields of a row -> position of the query, four tiles, eight offsets. Raises _BadRow."""
    if len(fields) != FIELDS:
        raise _BadRow(f.BAD_ROWS, f"{len(fields)} fields, expected {FIELDS}")
    try:
        offsets = [float(fields[k]) for k in (2, 3, 5, 6, 8, 9, 11, 12)]
    except ValueError as error:
        raise _BadRow(f.BAD_ROWS, str(error)) from None
    place = _place(fields[0], panorama=True)
    if place is None:
        raise _BadRow(f.BAD_NAMES, fields[0])
    for tile in fields[1::3]:
        if tile not in index:
            check = f.ABSENT_TILES if _place(tile) else f.BAD_NAMES
            raise _BadRow(check, tile)
    return place, [index[tile] for tile in fields[1::3]], offsets


def _lines(root: Path, path: Path, city: str, found: Findings) -> tuple[list[str], str]:
    """Lines that are not blank, and the file's name under the root."""
    file = path.relative_to(root).as_posix()
    try:
        lines = read_lines(path)
    except (OSError, ValueError) as error:
        found.add(f.UNUSABLE, city, [f"{file}: {error}".replace(f"{path} ", "")])
        return [], file
    if not lines:
        found.add(f.UNUSABLE, city, [f"{file}: holds no row"])
    return lines, file


def _place(name: str, panorama: bool = False) -> tuple[float, float] | None:
    """Degrees that a name gives; None when it gives none on Earth, or ends on another type."""
    try:
        lat, lon = panorama_latlon(name) if panorama else tile_latlon(name)
    except ValueError:
        return None
    form = name.endswith(",.jpg") if panorama else name.startswith("satellite_")
    return (lat, lon) if form and abs(lat) < 90 and abs(lon) <= 180 else None


def parses(name: str, view: str) -> bool:
    """Whether a file of ``panorama`` or ``satellite`` is named as a photograph of VIGOR."""
    return _place(name, panorama=view == "panorama") is not None


def repeated(names: Iterable[str]) -> list[str]:
    """Names that come more than once."""
    seen: set[str] = set()
    return [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
