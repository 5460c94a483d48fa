"""The right column: the query, the map, the pair, the matches, the files to keep."""

from __future__ import annotations

import html
from collections.abc import Callable
from functools import partial
from typing import Any

import ipywidgets as widgets
import numpy as np
from numpy.typing import NDArray

from vigorlib.app import pictures, words
from vigorlib.app.guard import Guard
from vigorlib.app.pair import match_html, panorama_html
from vigorlib.app.views import Gallery, MapView
from vigorlib.explain import PairMaps
from vigorlib.headings import HeadingSearch
from vigorlib.located import Match, Result, metres
from vigorlib.maps import CityMap, overlay

COLUMNS, SIDE_PX = 10, 96
HEATS = [("picture", ""), ("Grad-CAM", "grad-cam"), ("rectified", "rectified")]
Pixels = NDArray[np.uint8]


class CityPanel(widgets.VBox):
    """The map, and a choice of cities where the matches lie in several.

    ``open_map(city)`` gives a city's map.
    """

    def __init__(self, safely: Guard, open_map: Callable[[str], CityMap]) -> None:
        self._open_map = open_map
        self.view = MapView()
        self.cities = widgets.ToggleButtons(tooltips=[])
        self.cities.add_class("va-cities")
        self._turned = safely(self._other_city)
        self.cities.observe(self._turned, names="value")
        self.map: CityMap | None = None
        self._jpegs: dict[int, bytes] = {}
        self._results: list[Result] = []
        self._circle: tuple[float, float, float] | None = None
        super().__init__([self.cities, self.view])

    def show(
        self,
        results: list[Result],
        city: str,
        circle: tuple[float, float, float] | None = None,
    ) -> None:
        """Answers on the map of ``city``, none to begin with; circle: where will be searched."""
        self._results, self._circle = results, circle
        names = [match.city for result in results for match in result.matches]
        found = list(dict.fromkeys([city, *sorted(set(names), key=names.count, reverse=True)]))
        count = {name: names.count(name) for name in found}
        self.cities.unobserve(self._turned, names="value")
        self.cities.options = [
            (f"{name} ({count[name]})" if results else name, name) for name in found
        ]
        self.cities.value = city
        self.cities.observe(self._turned, names="value")
        self.cities.layout.display = "" if len(found) > 1 else "none"
        self._draw()

    def turn_to(self, city: str) -> None:
        """The map of a city in which there is a match."""
        if city != self.cities.value:
            self.cities.value = city

    def _other_city(self, _: Any) -> None:
        if self.cities.value is not None:
            self._draw()

    def _draw(self) -> None:
        chart = self.map = self._open_map(self.cities.value)
        traits: dict[str, Any] = {"matches": [], "truth": [], "circle": list(self._circle or [])}
        for k, result in enumerate(self._results):
            on = overlay(result, chart)
            boxes = zip(on.ranks, on.boxes.tolist(), on.predicted.tolist(), strict=True)
            traits["matches"] += [
                _on_map(result.matches[rank - 1], k, box, place) for rank, box, place in boxes
            ]
            if result.truth is not None and self._is_here(on.truth, chart):
                traits["truth"] = np.asarray(on.truth).tolist()
            traits["circle"] = list(on.circle or [])
        best = [match["predicted"] for match in traits["matches"] if match["rank"] == 1]
        traits["focus"] = [*best, *([traits["truth"]] if traits["truth"] else [])]
        height, width = chart.image.shape[:2]
        self.view.show(
            image=self._jpeg(chart), width=width, height=height, tile_px=chart.tile_px,
            px_per_metre=chart.px_per_metre, legend=self._legend(traits), **traits,
        )  # fmt: skip

    def _jpeg(self, chart: CityMap) -> bytes:
        """Encoded once: localizers keep their maps."""
        if id(chart) not in self._jpegs:
            self._jpegs[id(chart)] = pictures.jpeg(chart.image, 80)
        return self._jpegs[id(chart)]

    def _is_here(self, place: Any, chart: CityMap) -> bool:
        """Whether the truth lies on this city's map and not hundreds of kilometres beside it."""
        height, width = chart.image.shape[:2]
        return bool(-width < place[1] < 2 * width and -height < place[0] < 2 * height)

    def _legend(self, traits: dict[str, Any]) -> str:
        parts = ["□ matches", "○ predicted"] if traits["matches"] else []
        return "   ".join([*parts, *(["+ truth"] if traits["truth"] else [])])


class Answer(widgets.VBox):
    """Everything about one query and the answers to it.

    ``open_map(city)`` gives a map; ``explain(k, match, rectified)`` the heat of answer k's pair.
    """

    def __init__(
        self,
        safely: Guard,
        open_map: Callable[[str], CityMap],
        explain: Callable[[int, Match, bool], PairMaps],
    ) -> None:
        self._explain = explain
        self.query = widgets.HTML()
        self.city = CityPanel(safely, open_map)
        self.heat = widgets.ToggleButtons(options=HEATS, value="")
        self.heat.add_class("va-heat")
        self.heat.observe(safely(lambda _: self._draw_pair()), names="value")
        self.pair = widgets.HTML()
        self.headings = widgets.HTML()
        self.galleries = [Gallery(), Gallery()]
        self.files = widgets.HTML()
        self.results: list[Result] = []
        self._panorama: Pixels | None = None
        self._caption = ""
        self._match: tuple[int, Match] | None = None
        for k, gallery in enumerate(self.galleries):
            widgets.jslink((gallery, "hovered"), (self.city.view, "hovered"))
            gallery.on_choose = safely(partial(self.choose, number=k))
        self.city.view.on_choose = safely(self.choose)
        right = widgets.VBox([self.query, self.headings, self.heat, self.pair])
        right.add_class("va-detail")
        self.city.add_class("va-map")
        middle = widgets.Box([self.city, right])
        middle.add_class("va-middle")
        both = widgets.Box(self.galleries)
        both.add_class("va-galleries")
        super().__init__([middle, both, self.files])
        self.clear()

    def ask(self, panorama: Pixels, caption: str) -> None:
        """Show the query; earlier answers go. caption: safe HTML."""
        self._panorama, self._caption = panorama, caption
        self.clear()

    def ask_nothing(self, text: str) -> None:
        """No query, no answers."""
        self._panorama = None
        self.clear()
        self.query.value = f'<div class="va-nothing">{text}</div>'

    def clear(self) -> None:
        """No answers."""
        self.results, self._match = [], None
        for gallery in self.galleries:
            gallery.show(cards=[], sheet=b"", heading="", verdict="", outcome="")
            gallery.layout.display = "none"
        self.files.value = self.headings.value = ""
        self.close_pair()

    def show(self, results: list[Result], city: str) -> None:
        """One answer or two, the best match of the first in large."""
        self.clear()
        self.results = results
        for k, (gallery, result) in enumerate(zip(self.galleries, results, strict=False)):
            sentence, outcome = words.verdict(result)
            gallery.show(
                heading=result.method, verdict=sentence, outcome=outcome, columns=COLUMNS,
                cards=[words.card(match) for match in result.matches],
                sheet=pictures.contact_sheet([m.path for m in result.matches], SIDE_PX, COLUMNS),
            )  # fmt: skip
            gallery.layout.display = ""
            gallery.remove_class(f"m{1 - k}")
            gallery.add_class(f"m{k}")
        self.city.show(results, city)
        self.files.value = _downloads(results)
        self.choose(results[0].best.tile, 0)
        self.city.turn_to(city)

    def show_headings(self, found: HeadingSearch) -> None:
        """How similar the best tile is under each heading."""
        self.headings.value = _headings_html(found)

    def choose(self, tile: int, number: int | None = None) -> None:
        """Show the match on this tile in large: of that answer, or of the first that has it."""
        for k, result in enumerate(self.results):
            match = next((match for match in result.matches if match.tile == tile), None)
            if match is not None and number in (None, k):
                self._match = (k, match)
                self.city.turn_to(match.city)
                self._mark(tile)
                return self._draw_pair()

    def next_heat(self) -> None:
        """Picture, Grad-CAM, rectified Grad-CAM, and round again."""
        values = [value for _, value in HEATS]
        if self._match is not None:
            self.heat.value = values[(values.index(self.heat.value) + 1) % len(values)]

    def close_pair(self) -> None:
        """No match in large, the query without heat."""
        self._match, self.pair.value, self.heat.layout.display = None, "", "none"
        if self._panorama is not None:
            self.query.value = panorama_html(self._panorama, self._caption)
        self._mark(-1)

    def _mark(self, tile: int) -> None:
        for view in (*self.galleries, self.city.view):
            view.chosen = tile

    def _draw_pair(self) -> None:
        if self._match is None or self._panorama is None:
            return
        number, match = self._match
        ground = satellite = None
        if self.heat.value:
            maps = self._explain(number, match, self.heat.value == "rectified")
            ground, satellite = maps.ground[0], maps.satellite[0]
        self.query.value = panorama_html(self._panorama, self._caption, ground)
        self.pair.value = match_html(match, satellite)
        self.heat.layout.display = ""


def _on_map(match: Match, method: int, box: list[float], place: list[float]) -> dict[str, Any]:
    distance = f", {metres(match.error_m)} from the truth" if match.error_m is not None else ""
    return {
        "tile": match.tile, "rank": match.rank, "method": method,
        "box": [round(v, 2) for v in box], "predicted": [round(v, 2) for v in place],
        "label": f"rank {match.rank}{distance}",
    }  # fmt: skip


def _downloads(results: list[Result]) -> str:
    """Links that carry the files."""
    links = []
    for result in results:
        for ending, kind, text in (
            ("csv", "text/csv", result.csv()),
            ("geojson", "application/geo+json", result.geojson()),
        ):
            name = (
                "matches-"
                + "".join(c if c.isalnum() else "-" for c in result.method)
                + "."
                + ending
            )
            address = pictures.data_url(text.encode(), kind)
            links.append(
                f'<a download="{html.escape(name, quote=True)}" href="{address}">'
                f"{html.escape(result.method)}: {ending.upper().replace('GEOJSON', 'GeoJSON')}</a>"
            )
    return f'<div class="va-files">Keep the matches: {" ".join(links)}</div>'


def _headings_html(found: HeadingSearch) -> str:
    """A small plot: similarity of the best tile over headings, the best marked."""
    low, high = float(found.similarity.min()), float(found.similarity.max())
    x = 2 * found.heading_deg
    y = 78 - 66 * (found.similarity - low) / ((high - low) or 1.0)
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    best = found.best
    ticks = "".join(f'<text x="{2 * angle}" y="96">{angle}°</text>' for angle in range(0, 361, 90))
    return (
        f'<div class="va-headings"><svg viewBox="-14 0 748 100" role="img" aria-label="similarity of '
        f'the best tile by heading"><polyline points="{line}"/>'
        f'<circle cx="{x[best]:.1f}" cy="{y[best]:.1f}" r="5"/>{ticks}</svg>'
        f"<p>Similarity of the best tile ({low:.3f} to {high:.3f}) by heading of the picture's centre. "
        f"{html.escape(found.sentence())}.</p></div>"
    )
