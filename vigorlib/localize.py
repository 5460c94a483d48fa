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

import numpy as np
from numpy.typing import NDArray

from vigorlib import area, own_pictures
from vigorlib import device as devices
from vigorlib.dataset import Places, Vigor, data_folder
from vigorlib.descriptors import Descriptors, predict_offsets
from vigorlib.gallery_store import describe_pictures, open_gallery
from vigorlib.geometry import HALF_TILE_PX
from vigorlib.ground import Ground
from vigorlib.headings import HeadingSearch
from vigorlib.home import home
from vigorlib.images import Pixels, read_image, resize
from vigorlib.located import Result, Truth, make_matches
from vigorlib.maps import CityMap, city_map
from vigorlib.model import CrossViewNet
from vigorlib.nearby import Near, best_among, tiles_within
from vigorlib.own_pictures import OwnPicture
from vigorlib.retrieval import Indices, best
from vigorlib.runs import Run
from vigorlib.shortlist import ShortlistGallery
from vigorlib.uploads import read_picture, read_upload

Image = NDArray[np.uint8] | OwnPicture | bytes | str | Path
"""A panorama with north in its centre column, (H, W, 3) uint8 RGB; a picture of your own that was
prepared; or the bytes or the file of one that was not."""

Circle = Near | tuple[float, float, float]
"""Where to search: latitude and longitude in degrees, radius in metres."""


class LocateError(ValueError):
    """A question that this localizer cannot answer."""


@dataclass(repr=False)
class Localizer:
    """A trained network, a described gallery, and the test set's queries where there are any.

    gallery: descriptors of ``tiles``, L2-normalised float32. ground: how the tiles lie on it.
    data: None for an area of your own. shortlist: the same gallery, which answers one question in
    less time; None if it is small or not on the processor. skipped: (name, reason) of images that
    are not in the gallery.
    """

    run: Run
    network: CrossViewNet
    gallery: Descriptors
    tiles: Places
    data: Vigor | None = None
    data_root: str | Path = ""
    ground: Ground = Ground()
    skipped: tuple[tuple[str, str], ...] = ()
    shortlist: ShortlistGallery | None = None
    _maps: dict[tuple[str, int], CityMap] = field(default_factory=dict)
    _rolled: Pixels | None = field(default=None)

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
        gallery, ground = _on(network, stored.descriptors), Ground(profile.labels)  # type: ignore[arg-type]
        shortlist = stored.shortlist if gallery is stored.descriptors else None
        return cls(run, network, gallery, data.tiles, data, data_root, ground, shortlist=shortlist)

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
        tiles, gallery = area.among(found.tiles, stored.kept), _on(network, stored.descriptors)
        return cls(
            run,
            network,
            gallery,
            tiles,
            ground=Ground(tile_m=tile_m),
            skipped=(*found.skipped, *stored.bad),
            shortlist=stored.shortlist if gallery is stored.descriptors else None,
        )

    def __len__(self) -> int:
        return len(self.tiles)

    def __repr__(self) -> str:
        return f"Localizer({self.run.title}, profile {self.run.profile.name}: {len(self):,} tiles)"

    # -- questions ---------------------------------------------------------------------------

    def locate(
        self,
        image: Image,
        k: int = 50,
        near: Circle | None = None,
        truth: tuple[float, float] | None = None,
        query: str = "picture",
    ) -> Result:
        """The k most similar tiles and the positions they imply.

        near: (lat, lon, radius in metres) to search in. truth: where it was taken, if known, for
        the distances; else the GPS of a picture of your own. query: its name in the result.
        A picture of unknown heading is taken as if it looked north: see :meth:`try_headings`.
        """
        panorama, picture = self._panorama(image)
        return self._answer(panorama, k, near, *_truth(picture, truth), query)

    def locate_query(self, index: int, k: int = 50, near: Circle | None = None) -> Result:
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
        near: Circle | None = None,
        truth: tuple[float, float] | None = None,
        query: str = "picture",
    ) -> HeadingSearch:
        """For an unknown heading: turn the picture all round and see which heading fits best.

        steps: how many headings, evenly spread. A picture of known heading is turned from there.
        """
        panorama, picture = self._panorama(image)
        turned = own_pictures.all_headings(panorama, steps)
        headings, inputs = zip(
            *((angle, self._resized(each)) for angle, each in turned), strict=True
        )
        ground = self._describe(np.stack(inputs))
        tiles, similarity = self._search(ground, self._candidates(near), 1)
        best_view = own_pictures.turned_north(panorama, headings[int(similarity[:, 0].argmax())])
        result = self._answer(best_view, k, near, *_truth(picture, truth), query)
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
            self._maps[city, tile_px] = city_map(
                self.tiles, city, tile_px, folder, self.ground.tile_m
            )
        return self._maps[city, tile_px]

    # -- steps -------------------------------------------------------------------------------

    def _answer(
        self,
        panorama: NDArray[np.uint8],
        k: int,
        near: Circle | None,
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
        matches = make_matches(
            self.tiles,
            tiles[0],
            similarity[0],
            self.ground,
            self._offsets(ground, tiles[0]),
            truth,
            references,
        )
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

    def _candidates(self, near: Circle | None) -> Indices | None:
        return None if near is None else tiles_within(self.tiles.latlon, near)

    def _search(
        self, ground: Descriptors, candidates: Indices | None, k: int
    ) -> tuple[Indices, NDArray[np.float64]]:
        if candidates is None and self.shortlist is not None:
            return self.shortlist.search(ground.values, k)
        if candidates is None:
            return best(ground.values, self.gallery.values, k)
        return best_among(ground.values, self.gallery.values, candidates, k)

    def _offsets(self, ground: Descriptors, tiles: Indices) -> NDArray[np.float64] | None:
        """(k, 2) predicted pixels of one query on each tile."""
        if self.network.offset is None:
            return None
        size = (len(tiles), -1)
        repeated = Descriptors(ground.values.expand(size), ground.lengths.expand(size))
        predicted = predict_offsets(self.network, repeated, self.gallery, tiles)
        return predicted.astype(np.float64) * HALF_TILE_PX

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


def _truth(
    picture: OwnPicture | None, given: tuple[float, float] | None
) -> tuple[tuple[float, float] | None, Truth]:
    if given is not None:
        return given, "given"
    if picture is not None and picture.latlon is not None:
        return picture.latlon, "GPS"
    return None, ""


def _on(network: CrossViewNet, stored: Descriptors) -> Descriptors:
    """On the network's device, if that has the memory."""
    place = next(network.parameters()).device
    if place.type == "cpu":
        return stored
    needed = stored.values.nbytes + stored.lengths.nbytes
    devices.require(needed, place, f"the gallery of {len(stored)} tiles")
    return Descriptors(stored.values.to(place), stored.lengths.to(place))
