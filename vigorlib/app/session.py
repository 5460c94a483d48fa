"""What a person looks at: which query, by which methods, near which fix. Without a screen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vigorlib.dataset import Vigor
from vigorlib.explain import PairMaps, pair_maps
from vigorlib.geometry import great_circle_m
from vigorlib.headings import HeadingSearch
from vigorlib.images import read_image, resize
from vigorlib.localize import Localizer
from vigorlib.located import Match, Result
from vigorlib.maps import CityMap, largest_tile_px
from vigorlib.methods import Method, available_methods
from vigorlib.nearby import Near
from vigorlib.own_pictures import Kind, OwnPicture, prepare
from vigorlib.uploads import Upload, read_upload, safe_label

MATCHES = 50
MAP_PIXELS, MAP_TILE_PX = 2e6, 64
"""At most: JPEGs well below the megabyte a second that Jupyter lets through."""


class AppError(ValueError):
    """Something that this session cannot do; its text is for the person."""


@dataclass(frozen=True)
class MyPicture:
    """An upload and what its owner says of it: None is read from the picture or unknown.

    name: safe to be shown as HTML.
    """

    name: str
    upload: Upload
    heading_deg: float | None = None
    fov_deg: float | None = None
    kind: Kind = "auto"

    def prepared(self) -> OwnPicture:
        """In a panorama with north in its centre."""
        return prepare(self.upload, self.heading_deg, self.fov_deg, self.kind)


Query = int | MyPicture
"""An index into the test set's queries, or a picture of one's own."""


@dataclass
class Session:
    """Methods that can be asked, opened when they are first needed.

    profile: whose runs; data_root: a copy of VIGOR, empty for the embedded city; tiles: a folder of
    one's own tiles to search in place of the test set's, or empty; tile_m: their width in metres,
    None for 640 px of Web-Mercator at zoom 20.
    """

    profile: str = "mini"
    data_root: str = ""
    tiles: str = ""
    tile_m: float | None = None
    methods: list[Method] = field(init=False)
    _opened: dict[str, Localizer] = field(default_factory=dict, init=False)
    _answers: dict[str, dict[str, NDArray[Any]]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.methods = available_methods(self.profile)
        if not self.methods:
            raise AppError(
                f"no method of profile {self.profile!r} has a trained network: train one with "
                f"`python -m vigorlib train --recipe vigor --profile {self.profile}`"
            )

    @property
    def protocols(self) -> list[str]:
        """Of the methods, in their order."""
        return list(dict.fromkeys(method.protocol for method in self.methods))

    def of_protocol(self, protocol: str) -> list[Method]:
        return [method for method in self.methods if method.protocol == protocol]

    def localizer(self, method: Method) -> Localizer:
        """Opened once; the first time of all describes the gallery, with a bar."""
        if method.label not in self._opened:
            run = method.run(self.data_root)
            self._opened[method.label] = (
                Localizer.from_folder(self.tiles, run, tile_m=self.tile_m)
                if self.tiles
                else Localizer.from_run(run, self.data_root)
            )
        return self._opened[method.label]

    def queries(self, method: Method) -> Vigor | None:
        """The test set; None in an area of one's own."""
        return self.localizer(method).data

    def answers(self, method: Method) -> dict[str, NDArray[Any]] | None:
        """What the run answered to every query, if it kept that."""
        if method.label not in self._answers:
            try:
                self._answers[method.label] = self.localizer(method).run.arrays()
            except OSError:
                self._answers[method.label] = {}
        return self._answers[method.label] or None

    def panorama(self, query: Query, method: Method) -> NDArray[np.uint8]:
        """What is asked about, north in the centre: (H, W, 3)."""
        if isinstance(query, MyPicture):
            return query.prepared().panorama
        return self.localizer(method).query_panorama(query)

    def locate(self, query: Query, method: Method, near: Near | None = None) -> Result:
        """The 50 most similar tiles."""
        localizer = self.localizer(method)
        if isinstance(query, MyPicture):
            return localizer.locate(query.prepared(), MATCHES, near, query=query.name)
        return localizer.locate_query(query, MATCHES, near)

    def try_headings(
        self, picture: MyPicture, method: Method, near: Near | None = None
    ) -> HeadingSearch:
        """Turn a picture all round, from its own centre column."""
        unturned = replace(picture, heading_deg=0.0).prepared()
        return self.localizer(method).try_headings(unturned, 36, MATCHES, near, query=picture.name)

    def heat(self, query: Query, method: Method, match: Match, rectified: bool) -> PairMaps:
        """What makes panorama and tile similar: heat (1, h, w) in [0, 1] on each."""
        localizer = self.localizer(method)
        profile = localizer.run.profile
        panorama = resize(self.panorama(query, method), *profile.panorama_px)
        tile = read_image(match.path, *profile.tile_px)
        ground, satellite = (
            torch.from_numpy(view).permute(2, 0, 1)[None] for view in (panorama, tile)
        )
        return pair_maps(localizer.network, ground, satellite, rectified)

    def map(self, city: str, method: Method) -> CityMap:
        """A city from its tiles, as sharp as a browser takes it in one message."""
        localizer = self.localizer(method)
        here = localizer.tiles.latlon[localizer.tiles.cities == city]
        return localizer.map(city, largest_tile_px(here, MAP_PIXELS, MAP_TILE_PX, self.tile_m))

    def truth(self, query: Query, method: Method) -> tuple[float, float] | None:
        """Where it was taken: the label of a query, the GPS of a picture."""
        if isinstance(query, MyPicture):
            return query.upload.shot.latlon
        data = self.queries(method)
        assert data is not None
        lat, lon = data.queries.latlon[query].tolist()
        return lat, lon

    def city(self, query: Query, method: Method) -> str:
        """Of a query; for a picture of one's own the city of the tile nearest to its GPS."""
        localizer = self.localizer(method)
        if not isinstance(query, MyPicture):
            assert localizer.data is not None
            return str(localizer.data.queries.cities[query])
        truth = self.truth(query, method)
        nearest = 0 if truth is None else _nearest(localizer.tiles.latlon, truth)
        return str(localizer.tiles.cities[nearest])


def my_picture(name: str, data: bytes) -> MyPicture:
    """An upload, decoded. Raises :class:`vigorlib.uploads.UploadError` for anything unfit."""
    upload = read_upload(data)
    return MyPicture(safe_label(name), upload, upload.shot.heading_deg, upload.shot.fov_deg)


def _nearest(latlon: NDArray[np.float64], place: tuple[float, float]) -> int:
    return int(great_circle_m(latlon[:, 0], latlon[:, 1], *place, method="haversine").argmin())
