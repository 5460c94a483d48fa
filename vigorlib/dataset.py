"""VIGOR on disk -> samples: which tiles cover a query, and where on them it stands.

The folder is VIGOR's own::

    <root>/<City>/panorama/<id>,<lat>,<lon>,.jpg
    <root>/<City>/satellite/satellite_<lat>_<lon>.png
    <root>/splits/<City>/satellite_list.txt, same_area_balanced_{train,test}.txt, pano_label_balanced.txt
    <root>/splits__corrected/<City>/...__corrected.txt

Label files may be gzip-compressed and, when only labels are at hand, stand in ``<root>/<City>/``.
No image is opened here (see :mod:`vigorlib.images`).
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vigorlib import geometry
from vigorlib.home import home
from vigorlib.locks import held

Protocol = Literal["same-area", "cross-area"]
Subset = Literal["train", "test"]
Labels = Literal["corrected", "original", "mercator"]

PROTOCOL_CITIES: dict[tuple[str, str], tuple[str, ...]] = {
    ("same-area", "train"): ("NewYork", "Seattle", "SanFrancisco", "Chicago"),
    ("same-area", "test"): ("NewYork", "Seattle", "SanFrancisco", "Chicago"),
    ("cross-area", "train"): ("NewYork", "Seattle"),
    ("cross-area", "test"): ("SanFrancisco", "Chicago"),
}
LABEL_FOLDERS = {
    "corrected": "splits__corrected",
    "original": "splits",
    "mercator": "splits__mercator",  # not published: ``python -m data_prep.labels`` writes it
}
FIELDS = 13  # a panorama, then four times: tile, north, east


class LabelError(ValueError):
    """A label file, a row of it or a name in it is not what VIGOR's format promises."""


@dataclass(frozen=True)
class Places:
    """Named photographs and where they were taken.

    names, cities: (N,) str; latlon: (N, 2) degrees; folder: ``panorama`` or ``satellite``.
    """

    root: Path
    folder: str
    names: NDArray[np.str_]
    cities: NDArray[np.str_]
    latlon: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def lat_deg(self) -> NDArray[np.float64]:
        return self.latlon[:, 0]

    @property
    def lon_deg(self) -> NDArray[np.float64]:
        return self.latlon[:, 1]

    def path(self, index: int) -> Path:
        """The image file of one place."""
        return self.root / str(self.cities[index]) / self.folder / str(self.names[index])

    def paths(self) -> list[Path]:
        return [self.path(i) for i in range(len(self))]


class Vigor:
    """Queries, gallery and their relation for one protocol and subset.

    queries:    panoramas of the subset (:class:`Places`, Q of them)
    tiles:      the gallery: *all* tiles of the subset's cities (N), distractors included
    references: (Q, 4) indices into ``tiles``: the positive, then three semi-positives
    offsets_px: (Q, 4, 2) tile centre minus query, [north, east], pixels of the 640 px tile

    Raises :class:`LabelError` naming file and row when a label is not as the format promises, and
    FileNotFoundError when the folder holds no labels. ``cities`` restricts (or replaces) the
    protocol's cities, for a partial copy.
    """

    def __init__(
        self,
        root: str | Path,
        protocol: Protocol = "same-area",
        subset: Subset = "train",
        labels: Labels = "corrected",
        cities: Sequence[str] | None = None,
    ) -> None:
        self.root, self.protocol, self.subset, self.labels = Path(root), protocol, subset, labels
        self.cities = tuple(cities) if cities else _protocol_cities(protocol, subset)
        stem = f"same_area_balanced_{subset}" if protocol == "same-area" else "pano_label_balanced"

        tile_names: list[str] = []
        tile_cities: list[str] = []
        parts: list[tuple[list[str], list[str], NDArray[np.int64], NDArray[np.float64]]] = []
        for city in self.cities:
            names = _tile_list(label_file(self.root, city, "satellite_list", labels))
            index = {name: i + len(tile_names) for i, name in enumerate(names)}
            tile_names += names
            tile_cities += [city] * len(names)
            path = label_file(self.root, city, stem, labels)
            queries, references, offsets = _read_rows(path, index)
            parts.append((queries, [city] * len(queries), references, offsets))

        self.tiles = Places(
            self.root,
            "satellite",
            np.array(tile_names),
            np.array(tile_cities),
            np.array([tile_latlon(name) for name in tile_names]).reshape(-1, 2),
        )
        query_names = [name for part in parts for name in part[0]]
        self.queries = Places(
            self.root,
            "panorama",
            np.array(query_names),
            np.array([city for part in parts for city in part[1]]),
            np.array([panorama_latlon(name) for name in query_names]).reshape(-1, 2),
        )
        self.references = np.concatenate([part[2] for part in parts])
        self.offsets_px = np.concatenate([part[3] for part in parts])

    def __len__(self) -> int:
        return len(self.queries)

    def __repr__(self) -> str:
        return (
            f"Vigor({self.protocol} {self.subset}, {self.labels} labels: "
            f"{len(self.queries):,} queries, {len(self.tiles):,} tiles)"
        )


# -- names -----------------------------------------------------------------------------------


def panorama_latlon(name: str) -> tuple[float, float]:
    """``<id>,<lat>,<lon>,.jpg`` -> degrees. The id may hold any base64url character."""
    parts = name.rsplit(",", 3)
    place = _place(name, *parts[1:3]) if len(parts) == 4 else None
    if place is None:
        raise LabelError(
            f"panorama name {name!r} does not parse: expected '<id>,<lat>,<lon>,.jpg', degrees"
        )
    return place


def tile_latlon(name: str) -> tuple[float, float]:
    """``satellite_<lat>_<lon>.png`` -> degrees of the tile's centre."""
    parts = name.rpartition(".")[0].rsplit("_", 2)
    place = _place(name, *parts[1:3]) if len(parts) == 3 else None
    if place is None:
        raise LabelError(
            f"tile name {name!r} does not parse: expected 'satellite_<lat>_<lon>.png', degrees"
        )
    return place


NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
"""As label files have them: Python's ``float`` also takes ``1_0``, ``nan`` and digits of other scripts."""
NO_NAME = re.compile(r"[/\\\0-\x1f\x7f]")
"""What would make a name a path, or end it early."""


def _place(name: str, lat: str, lon: str) -> tuple[float, float] | None:
    """Degrees of a name that is a file's and a place on Earth; else None."""
    if NO_NAME.search(name) or not (NUMBER.fullmatch(lat) and NUMBER.fullmatch(lon)):
        return None
    lat_deg, lon_deg = float(lat), float(lon)
    return (lat_deg, lon_deg) if abs(lat_deg) < 90 and abs(lon_deg) <= 180 else None


# -- the embedded city -----------------------------------------------------------------------


def data_folder(profile: str, data_root: str | Path = "") -> Path:
    """The VIGOR folder to use: ``data_root`` if given, else the embedded city of the profile.

    The embedded city is generated on first use (seconds for smoke, minutes for mini). Profiles
    whose name begins with ``full`` have none: they need your own copy of VIGOR.
    """
    if data_root:
        folder = Path(data_root).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(
                f"data root {folder} is not a folder: expected a copy of VIGOR "
                "(<City>/panorama, <City>/satellite, splits/); leave data_root empty for the "
                "embedded city"
            )
        return folder
    if profile.startswith("full"):
        raise ValueError(
            f"profile {profile!r} needs data_root: the folder of your copy of VIGOR, for instance "
            "`-p data_root /data/VIGOR` (the embedded city serves the profiles smoke and mini)"
        )
    from data_prep import city  # the one call by which the library makes its own data

    folder = embedded_city(profile)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with held(folder.parent / f".{folder.name}.lock"):  # several processes may ask at once
        return city.make(folder, size=folder.name)


def embedded_city(profile: str) -> Path:
    """Where a profile's embedded city is, or will be: ``mini-short`` uses that of ``mini``."""
    return home() / "data" / profile.split("-")[0]


# -- label files -----------------------------------------------------------------------------


def _protocol_cities(protocol: str, subset: str) -> tuple[str, ...]:
    if (protocol, subset) not in PROTOCOL_CITIES:
        raise ValueError(
            f"unknown protocol or subset ({protocol!r}, {subset!r}): expected 'same-area' or "
            "'cross-area', and 'train' or 'test'"
        )
    return PROTOCOL_CITIES[protocol, subset]


def label_file(root: Path, city: str, stem: str, labels: str) -> Path:
    """The first of the places where a label file may stand."""
    if labels not in LABEL_FOLDERS:
        raise ValueError(f"unknown labels {labels!r}: expected {', '.join(LABEL_FOLDERS)}")
    suffix = f"__{labels}" if labels != "original" and stem != "satellite_list" else ""
    folders = [root / LABEL_FOLDERS[labels] / city, root / city]
    if stem == "satellite_list":
        folders += [root / folder / city for folder in LABEL_FOLDERS.values()]
    for folder in folders:
        for name in (f"{stem}{suffix}.txt", f"{stem}{suffix}.txt.gz"):
            if (folder / name).is_file():
                return folder / name
    raise FileNotFoundError(
        f"no {stem}{suffix}.txt for {city} under {root}: expected it in "
        f"{LABEL_FOLDERS[labels]}/{city}/. Check the folder"
        + (
            ", or use labels='original' if you have no corrected labels"
            if labels == "corrected"
            else ""
        )
    )


def read_lines(path: Path) -> list[str]:
    """Lines of a label file, CRLF or LF, with or without a last newline, plain or .gz.

    Raises LabelError for a file that is no text, or cut off.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline=None) as file:
            return [line for raw in file if (line := raw.strip())]
    except (gzip.BadGzipFile, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise LabelError(
            f"{path} cannot be read ({error}): expected text, whole; copy the file again"
        ) from None


def _tile_list(path: Path) -> list[str]:
    """Names of a gallery's tiles. Raises LabelError when one comes twice: whose index would it be?"""
    names = read_lines(path)
    if len(set(names)) != len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise LabelError(f"{path} lists {twice!r} twice: expected each once; remove one of them")
    return names


def _read_rows(
    path: Path, tile_index: dict[str, int]
) -> tuple[list[str], NDArray[np.int64], NDArray[np.float64]]:
    """Label rows -> query names, references (Q, 4), offsets in pixels (Q, 4, 2)."""
    rows = [line.split() for line in read_lines(path)]
    if not rows:
        raise LabelError(f"{path} holds no row: expected one query a line")
    for number, row in enumerate(rows, start=1):
        if len(row) != FIELDS:
            raise LabelError(
                f"row {number} of {path} has {len(row)} fields: expected {FIELDS} "
                "(panorama, then four times: tile, north, east)"
            )
        for tile in row[1::3]:
            if tile not in tile_index:
                raise LabelError(
                    f"tile {tile!r} of label row {number} of {path} is not in "
                    "satellite_list.txt: the row or the list is damaged; compare both with a "
                    "fresh copy of the label files"
                )
    references = np.array([[tile_index[tile] for tile in row[1::3]] for row in rows])
    numbers = [row[k] for row in rows for k in (2, 3, 5, 6, 8, 9, 11, 12)]
    if all(map(NUMBER.fullmatch, numbers)):
        offsets = np.array(numbers, dtype=np.float64).reshape(-1, 4, 2)
    else:
        bad = next(i for i, text in enumerate(numbers) if not NUMBER.fullmatch(text))
        raise LabelError(
            f"row {bad // 8 + 1} of {path} has the offset {numbers[bad]!r}: expected a number"
        )
    _require_on_tile(path, offsets)
    return [row[0] for row in rows], references, offsets


def _require_on_tile(path: Path, offsets: NDArray[np.float64]) -> None:
    """A positive must hold its query; a semi-positive must at least touch the aligned tile.

    Published semi-positives may lie beyond 320 px (Seattle's grid step is 181 px), so only what no
    grid of overlapping tiles can produce is refused.
    """
    limit = np.full((4, 1), float(geometry.TILE_PX))
    limit[0] = geometry.HALF_TILE_PX
    inside = (np.abs(offsets) <= limit).all(axis=(1, 2))  # False for NaN too
    if not inside.all():
        row = int(np.argmin(inside))
        raise LabelError(
            f"row {row + 1} of {path} has offsets {offsets[row].tolist()}: expected the positive "
            f"within {geometry.HALF_TILE_PX} px and the others within {geometry.TILE_PX} px of "
            "the tile's centre"
        )
