"""What localizing a picture gave: the most similar tiles and the positions they imply."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vigorlib.dataset import Places
from vigorlib.files import write_atomically
from vigorlib.geometry import great_circle_m, tile_iou
from vigorlib.ground import Ground
from vigorlib.nearby import Near

Truth = Literal["", "label", "given", "GPS"]


@dataclass(frozen=True)
class Match:
    """One tile of the answer.

    rank: 1 for the most similar. tile: its index in the localizer's tiles. lat_deg, lon_deg: its
    centre. predicted_lat_deg, predicted_lon_deg: where the offset step puts the query; the centre
    for methods without one. offset_px: predicted, [north, east] in pixels of the 640 px tile, and
    the IOU it implies; None without an offset step.
    Where the truth is known: distance_m from the tile's centre and error_m from the predicted
    position, true_offset_px, true_iou; else None. reference: "positive" or "semi-positive" for the
    labelled tiles of a query of the test set, else "".
    """

    rank: int
    tile: int
    name: str
    path: Path
    city: str
    similarity: float
    lat_deg: float
    lon_deg: float
    predicted_lat_deg: float
    predicted_lon_deg: float
    offset_px: tuple[float, float] | None = None
    iou: float | None = None
    distance_m: float | None = None
    error_m: float | None = None
    true_offset_px: tuple[float, float] | None = None
    true_iou: float | None = None
    reference: str = ""

    def properties(self) -> dict[str, Any]:
        """Everything but the path (which is nobody else's business), rounded for people."""
        offset = self.offset_px or (None, None)
        return {
            "rank": self.rank,
            "tile": self.name,
            "city": self.city,
            "similarity": round(self.similarity, 6),
            "lat_deg": self.lat_deg,
            "lon_deg": self.lon_deg,
            "predicted_lat_deg": round(self.predicted_lat_deg, 8),
            "predicted_lon_deg": round(self.predicted_lon_deg, 8),
            "offset_north_px": _rounded(offset[0], 1),
            "offset_east_px": _rounded(offset[1], 1),
            "iou": _rounded(self.iou, 4),
            "distance_m": _rounded(self.distance_m, 2),
            "error_m": _rounded(self.error_m, 2),
            "reference": self.reference,
        }


@dataclass(frozen=True)
class Result:
    """The answer to one picture.

    query: its name. method: the recipe's title. matches: best first. truth: degrees, where known,
    and whence: the test set's label, given by the caller, or the picture's GPS. near: the circle
    that was searched; searched: how many of the gallery's tiles that were. seconds: by step.
    """

    query: str
    method: str
    matches: tuple[Match, ...]
    gallery_size: int
    searched: int
    truth: tuple[float, float] | None = None
    truth_from: Truth = ""
    near: Near | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def best(self) -> Match:
        return self.matches[0]

    @property
    def positive_rank(self) -> int | None:
        """Rank of the labelled tile, if it is among the matches."""
        return next((m.rank for m in self.matches if m.reference == "positive"), None)

    def csv(self) -> str:
        """One row a match, with a header."""
        out = io.StringIO()
        rows = [match.properties() for match in self.matches]
        writer = csv.DictWriter(out, ["query", "method", *rows[0]], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({"query": _plain(self.query), "method": self.method, **row})
        return out.getvalue()

    def geojson(self) -> str:
        """A FeatureCollection: a point a match where it puts the query, and the truth if known."""
        features = [
            _point(m.predicted_lat_deg, m.predicted_lon_deg, {"kind": "match", **m.properties()})
            for m in self.matches
        ]
        if self.truth is not None:
            features.append(_point(*self.truth, {"kind": "truth", "from": self.truth_from}))
        about = {"query": self.query, "method": self.method, "searched": self.searched}
        collection = {"type": "FeatureCollection", "properties": about, "features": features}
        return json.dumps(collection, indent=1, allow_nan=False) + "\n"

    def to_csv(self, path: str | Path) -> Path:
        """Write :meth:`csv` to a file, in one step."""
        return _write(Path(path), self.csv())

    def to_geojson(self, path: str | Path) -> Path:
        """Write :meth:`geojson` to a file, in one step."""
        return _write(Path(path), self.geojson())


def metres(value: float) -> str:
    """A distance as people say it: 4.2 m, 87 m, 1.3 km, 3,874 km."""
    if value < 9.95:
        return f"{value:.1f} m"
    if value < 999.5:
        return f"{value:.0f} m"
    return f"{value / 1000:.1f} km" if value < 99_950 else f"{value / 1000:,.0f} km"


def make_matches(
    tiles: Places,
    found: NDArray[np.int64],
    similarity: NDArray[np.float64],
    ground: Ground,
    offset_px: NDArray[np.float64] | None = None,
    truth: tuple[float, float] | None = None,
    references: NDArray[np.int64] | None = None,
) -> tuple[Match, ...]:
    """Put together what is known of the tiles that were found.

    found, similarity: (k,) indices into ``tiles``, best first. offset_px: (k, 2) predicted on each;
    None without an offset step. references: (4,) labelled tiles of the query, positive first.
    """
    latlon, cities = tiles.latlon[found], tiles.cities[found]
    predicted = latlon
    columns: dict[str, list[Any]] = {}
    if offset_px is not None:
        predicted = ground.positions(latlon, cities, offset_px)
        columns |= {"offset_px": _pairs(offset_px), "iou": tile_iou(offset_px).tolist()}
    if truth is not None:
        columns |= _compared(latlon, predicted, ground.offsets(truth, latlon, cities), truth)
    if references is not None:
        labels = dict.fromkeys(references.tolist(), "semi-positive")
        labels[int(references[0])] = "positive"
        columns["reference"] = [labels.get(tile, "") for tile in found.tolist()]
    columns |= {
        "similarity": similarity.tolist(),
        "lat_deg": latlon[:, 0].tolist(),
        "lon_deg": latlon[:, 1].tolist(),
        "predicted_lat_deg": predicted[:, 0].tolist(),
        "predicted_lon_deg": predicted[:, 1].tolist(),
    }
    return tuple(
        Match(
            rank=i + 1,
            tile=tile,
            name=str(tiles.names[tile]),
            path=tiles.path(tile),
            city=str(tiles.cities[tile]),
            **{name: values[i] for name, values in columns.items()},
        )
        for i, tile in enumerate(found.tolist())
    )


def _compared(
    latlon: NDArray[np.float64],
    predicted: NDArray[np.float64],
    offsets: NDArray[np.float64],
    truth: tuple[float, float],
) -> dict[str, list[Any]]:
    """What knowing the truth tells of each match."""
    return {
        "distance_m": great_circle_m(latlon[:, 0], latlon[:, 1], *truth).tolist(),
        "error_m": great_circle_m(predicted[:, 0], predicted[:, 1], *truth).tolist(),
        "true_offset_px": _pairs(offsets),
        "true_iou": tile_iou(offsets).tolist(),
    }


def _pairs(values: NDArray[np.float64]) -> list[tuple[float, float]]:
    return [(north, east) for north, east in values.tolist()]


def _plain(text: str) -> str:
    """A name that no spreadsheet takes for a formula."""
    return "'" + text if text[:1] in ("=", "+", "@", "\t", "\r") else text


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _point(lat: float, lon: float, properties: dict[str, Any]) -> dict[str, Any]:
    geometry = {"type": "Point", "coordinates": [round(lon, 8), round(lat, 8)]}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _write(path: Path, text: str) -> Path:
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))
    return path
