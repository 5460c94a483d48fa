"""Released descriptor files -> the paper's tables and curves, without a network or an image.

A method's folder holds ``sat_global_descriptor.npy`` (N, D) and ``grd_global_descriptor.npy``
(Q, D): one row a tile of the test gallery and one a test query, city after city in the protocol's
order and line after line of the label files, as :class:`vigorlib.dataset.Vigor` lists them. Where
the method predicts offsets there is ``delta_<...>.npy`` (Q, 2) too: [north, east] in pixels of the
640 px tile, predicted for each query on the tile that *its own descriptors* rank first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vigorlib import evaluation, retrieval
from vigorlib.dataset import PROTOCOL_CITIES, Places, Vigor
from vigorlib.recipes import get_recipe
from vigorlib.runs import fingerprint

TILES_FILE, QUERIES_FILE = "sat_global_descriptor.npy", "grd_global_descriptor.npy"
RECIPE_OF = {
    "Siamese_VGG": "siamese",
    "SAFA": "safa",
    "SAFA_Mining": "safa-mining",
    "Overall": "vigor",
}
"""The folders of the release, and which of our recipes each is."""
UNIT = 1e-4  # float32 descriptors of 4096 numbers are of length 1 to within this
CHUNK = 4096  # rows read at a time: the released files hold 8 bytes a number, 3 GB a gallery


class DescriptorError(ValueError):
    """A descriptor or offset file does not fit the labels, or is damaged."""


@dataclass(frozen=True)
class Released:
    """One method's files. ground (Q, D), satellite (N, D): float32, L2-normalised;
    offsets_px (Q, 2), zeros without a delta file; notes: what a reader of the result must know."""

    ground: NDArray[np.float32]
    satellite: NDArray[np.float32]
    offsets_px: NDArray[np.float64]
    notes: list[str]


def method_folders(folder: Path) -> list[Path]:
    """The folder itself if it holds descriptors, else those of its subfolders that do."""
    candidates = [folder, *sorted(folder.iterdir())] if folder.is_dir() else []
    found = [path for path in candidates if (path / TILES_FILE).is_file()]
    if not found:
        raise FileNotFoundError(
            f"no {TILES_FILE} in {folder} or a folder in it: expected one folder a method, with "
            f"{TILES_FILE} and {QUERIES_FILE}"
        )
    return found[:1] if found[0] == folder else found


def load(folder: Path, data: Vigor, offsets: Path | None = None) -> Released:
    """Read a method's files and check them against the labels. offsets: which delta file, where
    there are several. Raises DescriptorError with the likely cause."""
    notes: list[str] = []
    satellite = _descriptors(folder / TILES_FILE, data, lambda other: other.tiles, notes)
    ground = _descriptors(folder / QUERIES_FILE, data, lambda other: other.queries, notes)
    if ground.shape[1] != satellite.shape[1]:
        raise DescriptorError(
            f"{folder}: descriptors of queries have {ground.shape[1]} numbers, of tiles "
            f"{satellite.shape[1]}: expected the same; the two files are of different methods"
        )
    offsets_px = _offsets(offsets or _offset_file(folder), len(data), notes)
    return Released(ground, satellite, offsets_px, notes)


def evaluate(folder: Path, data: Vigor, offsets: Path | None = None) -> dict[str, Any]:
    """A record like a run's: ``metrics``, ``curves``, ``notes``.

    Distances are geodesic as everywhere in this project; what ends in ``_official`` is measured as
    the released code measures, arccos on a sphere. Ranks on a GPU where there is one.
    """
    released = load(folder, data, offsets)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    ground, satellite = (
        torch.from_numpy(rows).to(device) for rows in (released.ground, released.satellite)
    )
    ranking = retrieval.ranks(ground, satellite, data.references)
    metrics, curves, _ = evaluation.measurements(data, ranking, released.offsets_px)
    shares, official, _ = evaluation.measurements(data, ranking, released.offsets_px, "official")
    for name in ("within_10m", "within_10m_centre"):
        metrics[f"{name}_official"] = shares[name]
    for name in ("metre_accuracy", "metre_accuracy_centre"):
        curves[f"{name}_official"] = official[name]
    recipe = RECIPE_OF.get(folder.name, "")
    return {
        "name": folder.name,
        "recipe": {"name": recipe, "title": get_recipe(recipe).title if recipe else folder.name},
        "provenance": "released descriptors",
        "protocol": data.protocol,
        "labels": data.labels,
        "data": fingerprint(data.root),
        "queries": len(data),
        "tiles": len(data.tiles),
        "metrics": metrics,
        "curves": curves,
        "notes": released.notes + suspicions(ranking, data),
    }


def suspicions(ranking: retrieval.Ranking, data: Vigor) -> list[str]:
    """Cities whose positives stand no better in the ranks than chance: rows in another order.

    Chance is generous: a method that knew the city and nothing else, and four deviations.
    """
    best = int(0.01 * len(data.tiles)) + 1
    lost = []
    for city in data.cities:
        rank = ranking.positive[data.queries.cities == city]
        chance = min(best / np.count_nonzero(data.tiles.cities == city), 1.0)
        deviation = np.sqrt(len(rank) * chance * (1 - chance))
        if (rank < best).sum() <= len(rank) * chance + 4 * deviation:
            lost.append(city)
    if not lost:
        return []
    return [
        f"the positives of {', '.join(lost)} rank no better than chance: the rows are probably in "
        f"another order than the label files' (cities {', '.join(data.cities)}, then line by line)"
    ]


# -- reading ---------------------------------------------------------------------------------


def _open(path: Path) -> NDArray[Any]:
    """The file's array, memory-mapped; pickled objects are refused."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise
    except (ValueError, EOFError) as error:
        raise DescriptorError(
            f"{path} cannot be read ({error}): expected an .npy file of numbers; copy it again"
        ) from error


def _descriptors(
    path: Path, data: Vigor, places: Callable[[Vigor], Places], notes: list[str]
) -> NDArray[np.float32]:
    """(rows, D) in float32: the released files hold float32 results in float64."""
    stored = _open(path)
    if stored.ndim != 2 or stored.dtype.kind != "f":
        raise DescriptorError(
            f"{path} holds {stored.dtype} of shape {stored.shape}: expected (rows, D) descriptors"
        )
    if len(stored) != len(places(data)):
        raise DescriptorError(
            f"{path} has {len(stored):,} rows: expected {len(places(data)):,}, the labels' "
            f"{'tiles' if places(data) is data.tiles else 'queries'} of {data.protocol} "
            f"test{_likely_cause(len(stored), data, places)}"
        )
    values = np.empty(stored.shape, dtype=np.float32)
    lengths = np.empty(len(stored))
    for start in range(0, len(stored), CHUNK):
        rows = slice(start, start + CHUNK)
        values[rows] = stored[rows]
        lengths[rows] = np.linalg.norm(np.asarray(stored[rows], dtype=np.float64), axis=1)
    bad = ~(np.isfinite(lengths) & (lengths > 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise DescriptorError(
            f"row {row} of {path} has length {lengths[row]}: expected a finite descriptor; the "
            "evaluation that wrote the file had not finished, or the file is damaged"
        )
    if np.abs(lengths - 1).max() > UNIT:
        notes.append(
            f"{path.name}: descriptors of length {lengths.min():.4g} to {lengths.max():.4g} were "
            "L2-normalised"
        )
        values /= lengths[:, None].astype(np.float32)
    return values


def _likely_cause(rows: int, data: Vigor, places: Callable[[Vigor], Places]) -> str:
    if rows in (len(data), len(data.tiles)):
        return "; the two descriptor files look exchanged"
    for protocol in {protocol for protocol, _ in PROTOCOL_CITIES} - {data.protocol}:
        try:
            other = Vigor(data.root, protocol, "test", data.labels)  # type: ignore[arg-type]
        except (ValueError, FileNotFoundError):
            continue
        if rows == len(places(other)):
            return f"; that is the number of {protocol}: use --protocol {protocol}"
    return "; the files are of another protocol, subset or copy of the labels"


def _offset_file(folder: Path) -> Path | None:
    files = sorted(folder.glob("delta_*.npy"))
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise DescriptorError(f"{folder} holds {names}: choose one of them with --offsets")
    return files[0] if files else None


def _offsets(path: Path | None, queries: int, notes: list[str]) -> NDArray[np.float64]:
    """(Q, 2) in pixels, zeros where there is no file."""
    if path is None:
        return np.zeros((queries, 2))
    offsets = _open(path)
    if offsets.shape != (queries, 2) or not np.isfinite(offsets).all():
        raise DescriptorError(
            f"{path} has shape {offsets.shape}: expected ({queries}, 2), the finite offset of each "
            "query on its best tile; scores of the classification variant, (Q, 100), say nothing "
            "without its grid"
        )
    if np.abs(offsets).max() < 2:
        notes.append(f"{path.name}: no offset is above 2 px; the file may be in half tiles")
    return np.asarray(offsets, dtype=np.float64)
