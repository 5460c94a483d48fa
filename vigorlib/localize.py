"""The localization system without a screen: a picture from the street -> where it was taken.

    localizer = Localizer.from_run(runs.load_or_train("vigor"))
    result = localizer.locate_query(0)            # a query of the test set, with its truth
    result = localizer.locate("street.jpg")       # a picture of your own
    result.best.predicted_lat_deg, result.best.predicted_lon_deg
    result.to_geojson("found.geojson")

    mine = Localizer.from_folder("tiles/", run=run)  # an area of your own

The gallery is described once and kept (:mod:`vigorlib.gallery_store`); a query is described, compared
with every tile exactly (:mod:`vigorlib.retrieval`), and placed on each match by the offset head.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vigorlib import area, own_pictures
from vigorlib import device as devices
from vigorlib.dataset import Places, Vigor, data_folder
from vigorlib.descriptors import Descriptors, predict_offsets
from vigorlib.gallery_store import describe_pictures, open_gallery
from vigorlib.geometry import (
    HALF_TILE_PX,
    LabelSystem,
    great_circle_m,
    label_offsets,
    predicted_latlon,
    tile_iou,
)
from vigorlib.headings import HeadingSearch
from vigorlib.home import home
from vigorlib.images import Pixels, read_image, resize
from vigorlib.located import Match, Result, Truth
from vigorlib.maps import CityMap, city_map
from vigorlib.model import CrossViewNet
from vigorlib.nearby import Near, best_among, tiles_within
from vigorlib.own_pictures import OwnPicture
from vigorlib.retrieval import Indices, best
from vigorlib.runs import Run
from vigorlib.uploads import read_picture, read_upload

Image = NDArray[np.uint8] | OwnPicture | bytes | str | Path
"""A panorama with north in its centre column, (H, W, 3) uint8 RGB; a picture of your own that was
prepared; or the bytes or the file of one that was not."""


class LocateError(ValueError):
    """A question that this localizer cannot answer."""


@dataclass
class Localizer:
    """A trained network, a described gallery, and the test set's queries where there are any.

    gallery: descriptors of ``tiles``, L2-normalised float32. system: of the labels that the offset
    head learned; None for an area of your own, whose tiles are ``tile_m`` metres wide (None: cut at
    zoom 20). skipped: (name, reason) of images that are not in the gallery.
    """

    run: Run
    network: CrossViewNet
    gallery: Descriptors
    tiles: Places
    data: Vigor | None = None
    data_root: str | Path = ""
    system: LabelSystem | None = None
    tile_m: float | None = None
    skipped: tuple[tuple[str, str], ...] = ()
    _maps: dict[tuple[str, int], CityMap] = field(default_factory=dict, repr=False)
    _rolled: Pixels | None = field(default=None, repr=False)

    @classmethod
    def from_run(
        cls, run: Run, data_root: str | Path = "", device: str = "auto", progress: bool = True
    ) -> Localizer:
        """The test set of a run: its gallery and its queries.

        data_root: a copy of VIGOR; empty for the embedded city.
        """
        profile, root = run.profile, data_folder(run.profile.name, data_root)
        data = Vigor(root, run.protocol, "test", labels=profile.labels)  # type: ignore[arg-type]
        network = run.network().to(devices.pick(device))
        stored = open_gallery(
            cache_folder(run.record["name"], root),
            data.tiles,
            network,
            profile,
            progress,
            pixels=lambda: run.test_set(data_root).tiles,
        )
        gallery = _on(network, stored.descriptors)
        return cls(run, network, gallery, data.tiles, data, data_root, profile.labels)  # type: ignore[arg-type]

    @classmethod
    def from_folder(
        cls,
        tiles_folder: str | Path,
        run: Run,
        progress: bool = True,
        tile_m: float | None = None,
        device: str = "auto",
        cache: str | Path | None = None,
    ) -> Localizer:
        """An area of your own: a folder of tiles named ``satellite_<lat>_<lon>.png`` (or jpg).

        The first time every tile is described, which can be interrupted and goes on where it was;
        afterwards only new and changed tiles are. tile_m: how wide the tiles are on the ground, in
        metres; None if they are 640 px of Web-Mercator at zoom 20, as VIGOR's. cache: where
        descriptors are kept, in place of the project's own folder.
        """
        found = area.scan(tiles_folder)
        if tile_m is not None and not 0 < tile_m < 100_000:
            raise LocateError(f"tile_m is {tile_m}: expected the tiles' width in metres")
        network = run.network().to(devices.pick(device))
        folder = found.tiles.path(0).parent
        stored = open_gallery(
            cache_folder(run.record["name"], folder, cache),
            found.tiles,
            network,
            run.profile,
            progress,
            skip_bad=True,
        )
        tiles = area.among(found.tiles, stored.kept)
        return cls(
            run,
            network,
            _on(network, stored.descriptors),
            tiles,
            tile_m=tile_m,
            skipped=(*found.skipped, *stored.bad),
        )

    def __len__(self) -> int:
        return len(self.tiles)

    # -- questions ---------------------------------------------------------------------------

    def locate(
        self,
        image: Image,
        k: int = 50,
        near: Near | tuple[float, float, float] | None = None,
        truth: tuple[float, float] | None = None,
        query: str = "picture",
    ) -> Result:
        """The k most similar tiles and the positions they imply.

        near: (lat, lon, radius in metres) to search in. truth: where it was taken, if known, for
        the distances; else the GPS of a picture of your own. query: its name in the result.
        """
        panorama, picture = self._panorama(image)
        truth_from: Truth = "given" if truth is not None else ""
        if truth is None and picture is not None and picture.latlon is not None:
            truth, truth_from = picture.latlon, "GPS"
        return self._answer(panorama, k, near, truth, truth_from, query)

    def locate_query(
        self, index: int, k: int = 50, near: Near | tuple[float, float, float] | None = None
    ) -> Result:
        """:meth:`locate` for a query of the test set, whose truth is known."""
        data, index = self._require_query(index)
        lat, lon = data.queries.latlon[index].tolist()
        name = str(data.queries.names[index])
        references = data.references[index]
        return self._answer(
            self._query_input(index), k, near, (lat, lon), "label", name, references
        )

    def try_headings(
        self,
        image: Image,
        steps: int = 36,
        k: int = 50,
        near: Near | tuple[float, float, float] | None = None,
        truth: tuple[float, float] | None = None,
        query: str = "picture",
    ) -> HeadingSearch:
        """For an unknown heading: turn the picture all round and see which heading fits best."""
        panorama, picture = self._panorama(image)
        headings, rolled = zip(*own_pictures.all_headings(panorama, steps), strict=True)
        ground = self._describe(np.stack([self._resized(each) for each in rolled]))
        tiles, similarity = self._search(ground, self._candidates(near), 1)
        if truth is None and picture is not None:
            truth = picture.latlon
        result = self.locate(rolled[int(similarity[:, 0].argmax())], k, near, truth, query)
        return HeadingSearch(np.array(headings), similarity[:, 0], tiles[:, 0], result)

    # -- what a screen shows -----------------------------------------------------------------

    def query_panorama(self, index: int) -> NDArray[np.uint8]:
        """The photograph of a query of the test set, (H, W, 3)."""
        data, index = self._require_query(index)
        return read_image(data.queries.path(index))

    def map(self, city: str = "", tile_px: int = 24) -> CityMap:
        """A city's tiles as a map (an area of your own is the city ""); made once, then kept."""
        if (city, tile_px) not in self._maps:
            folder = cache_folder("maps", self.tiles.path(0).parent)
            self._maps[city, tile_px] = city_map(self.tiles, city, tile_px, folder)
        return self._maps[city, tile_px]

    # -- steps -------------------------------------------------------------------------------

    def _answer(
        self,
        panorama: NDArray[np.uint8],
        k: int,
        near: Near | tuple[float, float, float] | None,
        truth: tuple[float, float] | None,
        truth_from: Truth,
        query: str,
        references: Indices | None = None,
    ) -> Result:
        if k < 1:
            raise LocateError(f"k is {k}: expected at least 1")
        candidates, start = self._candidates(near), time.perf_counter()
        ground = self._describe(self._resized(panorama)[None])
        described = time.perf_counter()
        tiles, similarity = self._search(ground, candidates, k)
        searched = time.perf_counter()
        matches = self._matches(ground, tiles[0], similarity[0], truth, references)
        return Result(
            query,
            self.run.title,
            matches,
            len(self),
            len(self) if candidates is None else len(candidates),
            truth,
            truth_from,
            Near(*near) if near is not None else None,
            {
                "describe": described - start,
                "search": searched - described,
                "place": time.perf_counter() - searched,
            },
        )

    def _panorama(self, image: Image) -> tuple[NDArray[np.uint8], OwnPicture | None]:
        if isinstance(image, bytes):
            image = own_pictures.prepare(read_upload(image))
        elif isinstance(image, str | Path):
            image = own_pictures.prepare(read_picture(image))
        if isinstance(image, OwnPicture):
            return image.panorama, image
        own_pictures.require_rgb(image)
        return image, None

    def _resized(self, panorama: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return resize(panorama, *self.run.profile.panorama_px)

    def _query_input(self, index: int) -> NDArray[np.uint8]:
        """What the network was tested on: rolled for recipes of unknown orientation."""
        if self.run.recipe.orientation == "known":
            return self.query_panorama(index)
        if self._rolled is None:
            self._rolled = self.run.test_set(self.data_root).panoramas
        return self._rolled[[index]][0].permute(1, 2, 0).numpy()

    def _describe(self, panoramas: NDArray[np.uint8]) -> Descriptors:
        branch = self.network.describe_ground
        return describe_pictures(branch, panoramas, self.network, self.run.profile)

    def _candidates(self, near: Near | tuple[float, float, float] | None) -> Indices | None:
        return None if near is None else tiles_within(self.tiles.latlon, near)

    def _search(
        self, ground: Descriptors, candidates: Indices | None, k: int
    ) -> tuple[Indices, NDArray[np.float64]]:
        if candidates is None:
            return best(ground.values, self.gallery.values, k)
        return best_among(ground.values, self.gallery.values, candidates, k)

    def _matches(
        self,
        ground: Descriptors,
        tiles: Indices,
        similarity: NDArray[np.float64],
        truth: tuple[float, float] | None,
        references: Indices | None,
    ) -> tuple[Match, ...]:
        columns: dict[str, Any] = self._placed(ground, tiles)
        if truth is not None:
            columns |= self._compared(tiles, columns["predicted"], truth)
        labels = (
            dict.fromkeys(references[1:].tolist(), "semi-positive")
            if references is not None
            else {}
        )
        if references is not None:
            labels[int(references[0])] = "positive"
        predicted = columns.pop("predicted")
        return tuple(
            Match(
                rank=i + 1,
                tile=int(tile),
                name=str(self.tiles.names[tile]),
                path=self.tiles.path(int(tile)),
                city=str(self.tiles.cities[tile]),
                similarity=float(similarity[i]),
                lat_deg=float(self.tiles.latlon[tile, 0]),
                lon_deg=float(self.tiles.latlon[tile, 1]),
                predicted_lat_deg=float(predicted[i, 0]),
                predicted_lon_deg=float(predicted[i, 1]),
                reference=labels.get(int(tile), ""),
                **{name: values[i] for name, values in columns.items()},
            )
            for i, tile in enumerate(tiles)
        )

    def _placed(self, ground: Descriptors, tiles: Indices) -> dict[str, Any]:
        """``predicted`` (k, 2) degrees; with an offset head ``offset_px`` and ``iou`` a match."""
        if self.network.offset is None:
            return {"predicted": self.tiles.latlon[tiles]}
        repeated = Descriptors(
            ground.values.expand(len(tiles), -1), ground.lengths.expand(len(tiles), -1)
        )
        offsets = predict_offsets(self.network, repeated, self.gallery, tiles) * HALF_TILE_PX
        offsets = offsets.astype(np.float64)
        return {
            "predicted": self._by_city(tiles, offsets),
            "offset_px": [(north, east) for north, east in offsets.tolist()],
            "iou": tile_iou(offsets).tolist(),
        }

    def _by_city(self, tiles: Indices, offsets: NDArray[np.float64]) -> NDArray[np.float64]:
        """Offsets on tiles, (k, 2) -> positions, each with its city's constants."""
        latlon, cities = self.tiles.latlon[tiles], self.tiles.cities[tiles]
        if self.system is None:
            return area.position_on_tile(latlon, offsets, self.tile_m)
        out = np.empty_like(latlon)
        for city in np.unique(cities):
            rows = cities == city
            out[rows] = predicted_latlon(latlon[rows], offsets[rows], str(city), self.system)
        return out

    def _compared(
        self, tiles: Indices, predicted: NDArray[np.float64], truth: tuple[float, float]
    ) -> dict[str, Any]:
        """Distances to the truth and true offsets, a match."""
        latlon, cities = self.tiles.latlon[tiles], self.tiles.cities[tiles]
        offsets = np.empty_like(latlon)
        for city in np.unique(cities):
            rows = cities == city
            offsets[rows] = self._true_offsets(truth, latlon[rows], str(city))
        return {
            "distance_m": great_circle_m(latlon[:, 0], latlon[:, 1], *truth).tolist(),
            "error_m": great_circle_m(predicted[:, 0], predicted[:, 1], *truth).tolist(),
            "true_offset_px": [(north, east) for north, east in offsets.tolist()],
            "true_iou": tile_iou(offsets).tolist(),
        }

    def _true_offsets(
        self, truth: tuple[float, float], latlon: NDArray[np.float64], city: str
    ) -> NDArray[np.float64]:
        if self.system is None:
            return area.offset_on_tile(truth, latlon, self.tile_m)
        return label_offsets(truth, latlon, city, self.system)

    def _require_query(self, index: int) -> tuple[Vigor, int]:
        if self.data is None:
            raise LocateError("an area of your own has no queries: use locate() with a picture")
        if not 0 <= index < len(self.data):
            raise LocateError(
                f"query {index} does not exist: expected 0 to {len(self.data) - 1}, an index into "
                "the queries of the test set"
            )
        return self.data, int(index)


def cache_folder(name: str, tiles: Path, cache: str | Path | None = None) -> Path:
    """Where what was computed of a folder of tiles is kept: ``build/galleries/`` of the project."""
    place = hashlib.sha256(str(tiles.resolve()).encode()).hexdigest()[:8]
    return (Path(cache) if cache else home() / "build" / "galleries") / f"{name}-{place}"


def _on(network: CrossViewNet, stored: Descriptors) -> Descriptors:
    """On the network's device, if that has the memory."""
    place = next(network.parameters()).device
    if place.type == "cpu":
        return stored
    needed = stored.values.nbytes + stored.lengths.nbytes
    devices.require(needed, place, f"the gallery of {len(stored)} tiles")
    return Descriptors(stored.values.to(place), stored.lengths.to(place))
