"""Writing the embedded city: in parallel, resumable, the manifest last."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from PIL import Image
from pyproj import Geod
from tqdm.auto import tqdm

from data_prep.city.place import Place
from data_prep.city.sampling import Queries, sample_queries
from data_prep.city.styles import STYLES
from data_prep.city.vigor_format import panorama_name, tile_name, write_labels
from data_prep.city.world import World, build_world
from vigorlib import geometry
from vigorlib.files import remove_leftovers, write_atomically, write_json

JPEG_QUALITY = 92


@dataclass(frozen=True)
class Size:
    """How large a city is made. tiles: along one side of each city's grid. panorama_px: (height,
    width). resolution_m: of the map that both views are drawn from."""

    tiles: int
    tile_px: int
    panorama_px: tuple[int, int]
    resolution_m: float

    def __post_init__(self) -> None:
        height, width = self.panorama_px
        if not (
            3 <= self.tiles
            and 0 < self.resolution_m <= 2
            and 8 <= self.tile_px <= 640
            and 8 <= height
            and 8 <= width <= 4096
        ):
            raise ValueError(
                f"size {self} cannot be made: expected at least 3 tiles a side, tiles of 8 to 640 "
                "px, panoramas of 8 to 4096 px and a resolution of up to 2 m"
            )


SIZES = {
    "smoke": Size(tiles=6, tile_px=48, panorama_px=(48, 96), resolution_m=1.0),
    "mini": Size(tiles=40, tile_px=128, panorama_px=(128, 256), resolution_m=0.5),
}


class NotOurs(ValueError):
    """The target folder holds something that is not an embedded city."""


def make(
    root: str | Path,
    size: Size | str = "mini",
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Write the four cities into ``root`` in VIGOR's format; return at once when they are there.

    The same size, seed and generator give the same bytes. A call that was interrupted is taken up
    where it stopped; a city made by another version of the generator is replaced. Raises
    :class:`NotOurs` when ``root`` holds anything else.
    """
    root, size = Path(root), _size(size)
    wanted = {"size": dataclasses.asdict(size), "seed": seed, "generator": generator_version()}
    wanted = json.loads(json.dumps(wanted))
    manifest = root / "manifest.json"
    _claim(root, wanted)
    if manifest.exists():
        return root
    for folder in (root, *root.glob("*/*/")):
        remove_leftovers(folder)  # of a call that was killed
    cities = list(STYLES)
    workers = min(workers or os.cpu_count() or 1, len(cities))
    with _progress(root, size, enabled=progress):
        made = Parallel(n_jobs=workers)(
            delayed(_make_city)(root, city, size, seed) for city in cities
        )
    summaries = dict(zip(cities, made, strict=True))
    fingerprint = hashlib.sha256(json.dumps(summaries, sort_keys=True).encode()).hexdigest()
    write_json(manifest, {"made_with": wanted, "cities": summaries, "fingerprint": fingerprint})
    return root


DRAWN_BY = "styles noise plan raster light street world place sampling vigor_format".split()
"""The modules that decide what a city looks like."""


def generator_version() -> str:
    """Changes with the sources that a city's bytes depend on."""
    digest = hashlib.sha256(str(JPEG_QUALITY).encode())
    for name in DRAWN_BY:
        digest.update((Path(__file__).parent / f"{name}.py").read_bytes())
    return digest.hexdigest()[:12]


def showcase(
    city: str, seed: int = 0, tile_px: int = 640, panorama_px: tuple[int, int] = (512, 1024)
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float64]]:
    """One sharp pair for looking at: tile, panorama, offset [north, east] in pixels.

    A small world in the city's style at 0.15 m/px; not a place of the city on disk.
    """
    if city not in STYLES:
        raise ValueError(f"unknown city {city!r}: expected one of {', '.join(STYLES)}")
    place, rng = Place(STYLES[city], 5), np.random.default_rng([seed, 7])
    world = build_world(place.style, place.side_m, 0.15, seed)
    queries = sample_queries(world, place, rng)
    middle = np.abs(place.grid_position(queries.latlon) - 2).max(axis=1)
    query = int(np.argmin(middle + rng.uniform(0, 0.5, len(middle))))
    latlon, tile = queries.latlon[query], place.tile_latlon()[queries.references[query, 0]]
    x, y = place.to_world(tile)
    east, south = place.to_world(latlon)
    panorama = world.panorama(east, south, panorama_px[0], panorama_px[1], rng)
    offset = geometry.label_offsets(latlon, tile, city, "corrected")
    return world.tile(x, y, place.tile_side_m, tile_px), panorama, offset


# -- one city, in a process of its own -------------------------------------------------------


def _make_city(root: Path, city: str, size: Size, seed: int) -> dict[str, Any]:
    """Tiles, panoramas and labels of one city. Returns its summary for the manifest."""
    place = Place(STYLES[city], size.tiles)
    world = build_world(place.style, place.side_m, size.resolution_m, seed)
    number = list(STYLES).index(city)
    queries = sample_queries(world, place, np.random.default_rng([seed, number]))
    write_labels(root, city, place.tile_latlon(), queries)
    digest = hashlib.sha256()
    images = (
        *_tiles(root, place, world, size),
        *_panoramas(root, place, world, queries, size, seed),
    )
    for path, render in images:
        if not path.exists() or not path.stat().st_size:  # empty: what a power cut may leave
            write_atomically(path, lambda partial, r=render: partial.write_bytes(r()), push=False)  # type: ignore[misc]
        digest.update(path.read_bytes())
    for file in sorted(root.glob(f"splits*/{city}/*.txt")):
        digest.update(file.read_bytes())
    return {**statistics(queries), "side_m": round(place.side_m, 2), "bytes": digest.hexdigest()}


def _tiles(root: Path, place: Place, world: World, size: Size) -> Iterator[tuple[Path, Any]]:
    latlons = place.tile_latlon()
    for latlon, (x, y) in zip(latlons, place.to_world(latlons), strict=True):
        path = root / place.style.name / "satellite" / tile_name(latlon)
        yield path, lambda x=x, y=y: _png(world.tile(x, y, place.tile_side_m, size.tile_px))


def _panoramas(
    root: Path, place: Place, world: World, queries: Queries, size: Size, seed: int
) -> Iterator[tuple[Path, Any]]:
    number = list(STYLES).index(place.style.name)
    spots = place.to_world(queries.latlon)
    for i, (identity, latlon, (x, y)) in enumerate(
        zip(queries.ids, queries.latlon, spots, strict=True)
    ):
        path = root / place.style.name / "panorama" / panorama_name(identity, latlon)
        rng = np.random.default_rng([seed, number, i])
        yield (
            path,
            lambda x=x, y=y, rng=rng: _jpeg(world.panorama(x, y, *size.panorama_px, rng)),
        )


def statistics(queries: Queries) -> dict[str, Any]:
    """What VIGOR's paper reports of its sampling, measured on a city.

    Distances in metres (WGS84); leakage: share of test queries whose positive tile is also the
    positive of a training query.
    """
    train, test = queries.latlon[queries.train], queries.latlon[~queries.train]
    nearest = [
        Geod(ellps="WGS84")
        .inv(np.full(len(train), lon), np.full(len(train), lat), train[:, 1], train[:, 0])[2]
        .min()
        for lat, lon in test
    ]
    positives = queries.references[:, 0]
    leaking = np.isin(positives[~queries.train], positives[queries.train])
    tiles = len(queries.collected_cover)
    return {
        "tiles": tiles,
        "queries": len(queries.ids),
        "queries_per_tile": round(len(queries.ids) / tiles, 3),
        "distractor_share": round(float(1 - queries.collected_cover.mean()), 4),
        "test_to_train_median_m": round(float(np.median(nearest)), 2),
        "leakage": round(float(leaking.mean()), 4),
    }


# -- helpers ---------------------------------------------------------------------------------


def _size(size: Size | str) -> Size:
    if isinstance(size, Size):
        return size
    if size not in SIZES:
        raise ValueError(f"unknown size {size!r}: expected one of {', '.join(SIZES)}, or a Size")
    return SIZES[size]


def _claim(root: Path, wanted: dict[str, Any]) -> None:
    """Mark the folder as ours; start afresh if it is a city of other settings."""
    marker = root / "embedded_city.json"
    if root.exists() and any(root.iterdir()) and not marker.exists():
        raise NotOurs(
            f"{root} is not empty and holds no embedded city: name another folder, or empty it"
        )
    if _read_marker(marker) == wanted:
        return
    for entry in root.iterdir() if root.exists() else ():
        if entry != marker:  # the marker goes last: an interrupted cleaning is still ours
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    write_json(marker, wanted)


def _read_marker(marker: Path) -> Any:
    """What a city was made with; None where there is none, or a damaged one."""
    try:
        return json.loads(marker.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return None


@contextmanager
def _progress(root: Path, size: Size, enabled: bool) -> Iterator[None]:
    """A bar that counts the images on disk while other processes write them."""
    done = Event()

    def watch() -> None:
        with tqdm(desc="embedded city", unit="image", disable=not enabled) as bar:
            while not done.wait(0.5):
                labels = root.glob("splits/*/pano_label_balanced.txt")
                queries = sum(len(file.read_text().splitlines()) for file in labels)
                bar.total = len(STYLES) * size.tiles**2 + queries
                bar.n = sum(1 for _ in root.glob("*/*/*.[jp][pn]g"))
                bar.refresh()

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
