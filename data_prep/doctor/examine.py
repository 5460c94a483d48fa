"""The whole examination: a folder -> a report."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.doctor import findings as f
from data_prep.doctor.findings import Finding, Findings
from data_prep.doctor.images import Folder, Memory, check_looks, check_presence, decode
from data_prep.doctor.labels import check_labels
from data_prep.doctor.read import LabelSet, find_cities, parses, read_labels, subfolders
from vigorlib.geometry import CITIES, TILE_PX

VIEWS = ("panorama", "satellite")
PUBLISHED_SIZES = {"panorama": (2048, 1024), "satellite": (TILE_PX, TILE_PX)}
"""(width, height) in pixels."""


class NotVigor(ValueError):
    """The folder is no copy of VIGOR, not even a part of one."""


@dataclass(frozen=True)
class Report:
    """What was found. cities: name -> its numbers; kind: ``VIGOR`` or ``embedded city``."""

    root: Path
    kind: str
    cities: dict[str, dict[str, Any]]
    findings: tuple[Finding, ...]

    @property
    def status(self) -> int:
        """Exit status for scripts: 1 when there is an error, else 0."""
        return int(any(finding.level == "error" for finding in self.findings))

    def as_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "root": str(self.root),
            "kind": self.kind,
            "status": self.status,
            "cities": self.cities,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
        }


def examine(
    root: str | Path,
    images: bool = True,
    state: str | Path | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> Report:
    """Examine a copy of VIGOR: complete, partial, or labels only.

    images: decode every photograph (without, only their presence is checked); state: folder that
    remembers which were decoded; workers: processes that decode, one a core by default. Raises
    :class:`NotVigor` when ``root`` holds neither labels nor photographs.
    """
    root, found = Path(root), Findings()
    cities = find_cities(root)
    if not cities:
        raise NotVigor(_not_vigor(root))
    embedded = _embedded(root, found)
    folders = {city: [Folder.scan(root, city, view) for view in VIEWS] for city in cities}
    labels_only = not any(folder.present for views in folders.values() for folder in views)
    _note_copy(cities, embedded is not None, labels_only, found)

    numbers: dict[str, dict[str, Any]] = {}
    to_open: list[tuple[Folder, list[str]]] = []
    for city in cities:
        sets = read_labels(root, city, labels_only, found)
        numbers[city] = check_labels(city, sets, embedded is not None, found)
        if not labels_only:
            to_open += _present(city, folders[city], sets, numbers[city], found)
    if images and to_open:
        seen = decode(to_open, Memory(_state_file(root, state)), workers or -1, progress)
        for folder, names in to_open:
            looks = {file: seen[file] for file in map(folder.file, names)}
            size = _expected_size(folder, embedded)
            check_looks(folder.city, folder.view, looks, size, found)
    kind = "VIGOR" if embedded is None else "embedded city"
    return Report(root, kind, numbers, found.all())


# -- what kind of copy -----------------------------------------------------------------------


def _embedded(root: Path, found: Findings) -> dict[str, tuple[int, int]] | None:
    """Sizes (width, height) of the embedded city's photographs; None for any other folder."""
    marker = root / "embedded_city.json"
    if not marker.is_file():
        return None
    found.add(f.EMBEDDED, "", [marker.name])
    if not (root / "manifest.json").is_file():
        found.add(f.UNFINISHED, "", ["no manifest.json"])
    try:
        size = json.loads(marker.read_text(encoding="utf-8"))["size"]
        height, width = size["panorama_px"]
        return {"panorama": (width, height), "satellite": (size["tile_px"], size["tile_px"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        found.add(f.UNFINISHED, "", [f"{marker.name} cannot be read: {error}"])
        return {}


def _note_copy(cities: Sequence[str], embedded: bool, labels_only: bool, found: Findings) -> None:
    found.add(f.OWN_AREA, "", (city for city in cities if city not in CITIES))
    if labels_only:
        found.add(f.LABELS_ONLY, "", cities)
    if not embedded and set(cities) & set(CITIES):
        found.add(f.CITY_ABSENT, "", (city for city in CITIES if city not in cities))


def _not_vigor(root: Path) -> str:
    expected = "expected <City>/panorama, <City>/satellite, splits/ or splits__corrected/"
    if not root.is_dir():
        return f"{root} is not a folder: {expected}"
    inside = [sub for sub in subfolders(root) if find_cities(sub)]
    above = root.resolve().parent
    hint = inside[0] if inside else above if root.name in find_cities(above) else None
    return f"{root} is not a copy of VIGOR: {expected}" + (
        f"; did you mean {hint}?" if hint else ""
    )


def _present(
    city: str,
    folders: list[Folder],
    sets: list[LabelSet],
    numbers: dict[str, Any],
    found: Findings,
) -> list[tuple[Folder, list[str]]]:
    """Check which photographs of a city are there; returns the names worth opening."""
    if sets and not any(folder.present for folder in folders):
        found.add(f.NO_PHOTOGRAPHS, "", [city])
        return []
    queries = {name for one in sets for rows in one.rows.values() for name in rows.queries}
    wanted = {
        "panorama": {name for name in queries if parses(name, "panorama")},
        "satellite": {name for one in sets for name in one.tiles.names},
    }
    for folder in folders:
        missing = len(wanted[folder.view] - set(folder.present))
        numbers[folder.view] = {"files": len(folder.present), "missing": missing}
    return [(folder, check_presence(folder, wanted[folder.view], found)) for folder in folders]


def _expected_size(
    folder: Folder, embedded: dict[str, tuple[int, int]] | None
) -> tuple[int, int] | None:
    if embedded is not None:
        return embedded.get(folder.view)
    return PUBLISHED_SIZES[folder.view] if folder.city in CITIES else None


def _state_file(root: Path, state: str | Path | None) -> Path:
    """Where to remember: the given folder, else the copy itself, else the user's cache folder."""
    if state is None and os.access(root, os.W_OK):
        return root / ".doctor.json"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vigor-book"
    name = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:12]
    return Path(state or cache) / f"doctor-{name}.json"
