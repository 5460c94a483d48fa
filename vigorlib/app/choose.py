"""The left column: which picture, which methods, near which fix. Panels that report what was chosen."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
from numpy.typing import NDArray

from vigorlib.app import pictures
from vigorlib.app.guard import Guard
from vigorlib.app.session import MyPicture
from vigorlib.app.views import QueryList, Upload
from vigorlib.dataset import Vigor
from vigorlib.located import metres
from vigorlib.methods import Method
from vigorlib.query_filter import find_queries, neighbour, random_query

WIDE = widgets.Layout(width="auto")
ERRORS_M = {
    "any error": None,
    "error below 10 m": (0.0, 10.0),
    "10 to 50 m": (10.0, 50.0),
    "50 to 500 m": (50.0, 500.0),
    "500 m and more": (500.0, float("inf")),
}
OUTCOMES = {"right or wrong": "", "right": "right", "covered": "covered", "wrong": "wrong"}
THUMBNAIL_PX = (44, 88)
Answers = dict[str, NDArray[Any]]


class TestSet(widgets.VBox):
    """The queries of the test set: filters, the list, previous, random, next.

    ``on_query(index)`` hears of each new choice.
    """

    def __init__(self, safely: Guard, on_query: Callable[[int], None]) -> None:
        self.on_query = on_query
        self.city = widgets.Dropdown(layout=WIDE, tooltip="only queries of this city")
        self.outcome = widgets.Dropdown(
            options=list(OUTCOMES), layout=WIDE, tooltip="what the method answered to them"
        )
        self.error = widgets.Dropdown(
            options=list(ERRORS_M), layout=WIDE, tooltip="how far off the method's answer was"
        )
        self.text = widgets.Text(
            placeholder="part of the name", continuous_update=True, layout=WIDE
        )
        self.list = QueryList()
        self.list.rows = self._rows
        self.count = widgets.HTML()
        self.data: Vigor | None = None
        self.answers: Answers | None = None
        self.found: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self.current: int | None = None
        self._random = np.random.default_rng()
        for control in (self.city, self.outcome, self.error, self.text):
            control.observe(safely(self._filtered), names="value")
        self.list.observe(safely(self._chosen), names="position")
        super().__init__([
            _grid(self.city, self.outcome, self.error, self.text), self.list, self.count,
            _row(
                _button("◀ Prev", "previous query (←)", safely(partial(self.step, -1))),
                _button("Random", "any of these (r)", safely(self.random)),
                _button("Next ▶", "next query (→)", safely(partial(self.step, 1))),
            ),
        ])  # fmt: skip

    def use(self, data: Vigor, answers: Answers | None) -> None:
        """Offer the queries of this test set; the current one stays if it is among them."""
        changed = self.data is None or self.data.cities != data.cities
        self.data, self.answers = data, answers
        for control in (self.outcome, self.error):
            control.disabled = answers is None
        if changed:
            self.current = None
            self.city.options = [("all cities", ""), *((city, city) for city in data.cities)]
            self.city.index = 0
        self._filtered()

    def step(self, by: int) -> None:
        """The next query, or the one before."""
        if (
            query := neighbour(self.found, -1 if self.current is None else self.current, by)
        ) is not None:
            self._go(query)

    def random(self) -> None:
        """Any of those that pass the filters."""
        if (query := random_query(self.found, self._random)) is not None:
            self._go(query)

    def reset(self) -> None:
        """No filter, the first query."""
        if self.data is None:
            return
        self.city.value, self.outcome.value, self.error.value, self.text.value = (
            "", next(iter(OUTCOMES)), next(iter(ERRORS_M)), "",
        )  # fmt: skip
        self.current = None
        self._filtered()

    def _go(self, query: int) -> None:
        self.list.position = int(np.searchsorted(self.found, query))

    def _chosen(self, change: Any) -> None:
        position = change["new"]
        if 0 <= position < len(self.found) and self.found[position] != self.current:
            self.current = int(self.found[position])
            self.on_query(self.current)

    def _filtered(self, _: Any = None) -> None:
        if self.data is None:
            return
        self.found = find_queries(
            self.data,
            self.city.value or "",
            self.text.value[:100],
            OUTCOMES[self.outcome.value] if self.answers else "",  # type: ignore[arg-type]
            ERRORS_M[self.error.value] if self.answers else None,
            self.answers,
        )
        self.count.value = f"<small>{len(self.found):,} of {len(self.data):,} queries</small>"
        if self.current is None and len(self.found):
            self.current = int(self.found[0])
            self.on_query(self.current)
        place = np.flatnonzero(self.found == self.current)
        self.list.fill(len(self.found), int(place[0]) if len(place) else -1)

    def _rows(self, start: int, count: int) -> Sequence[tuple[dict[str, str], bytes]]:
        if self.data is None:
            return []
        chosen = self.found[start : start + count].tolist()
        paths: list[Path] = [self.data.queries.path(index) for index in chosen]
        small = pictures.thumbnails(paths, *THUMBNAIL_PX)
        return [
            (self._about(index), pictures.jpeg(image, 80))
            for index, image in zip(chosen, small, strict=True)
        ]

    def _about(self, index: int) -> dict[str, str]:
        assert self.data is not None
        about = {
            "title": f"Query {index:,}",
            "name": str(self.data.queries.names[index]),
            "detail": str(self.data.queries.cities[index]),
            "mark": "", "outcome": "", "hint": "",
        }  # fmt: skip
        if self.answers is None:
            return about
        rank, error = int(self.answers["rank"][index]), float(self.answers["error_m"][index])
        covered = self.answers["top"][index, 0] in self.data.references[index]
        outcome = "right" if rank == 0 else "covered" if covered else "wrong"
        return about | {
            "mark": {"right": "✓", "covered": "≈", "wrong": "✗"}[outcome],
            "outcome": outcome,
            "hint": f"right tile at rank {rank + 1:,}; the answer was {metres(error)} off",
        }


class Mine(widgets.VBox):
    """A picture of one's own: upload, heading, field of view.

    ``on_picture(picture)`` hears of each change; ``on_bytes`` and ``on_refused`` of uploads;
    ``on_all_headings`` of the wish to try them all.
    """

    def __init__(
        self,
        safely: Guard,
        on_picture: Callable[[MyPicture], None],
        on_bytes: Callable[[str, bytes], None],
        on_refused: Callable[[str, int], None],
        on_all_headings: Callable[[], None],
    ) -> None:
        self.on_picture = on_picture
        self.picture: MyPicture | None = None
        self.upload = Upload()
        self.upload.on_bytes, self.upload.on_refused = safely(on_bytes), safely(on_refused)
        self.about = widgets.HTML()
        self.kind = widgets.ToggleButtons(
            options=[("panorama", "panorama"), ("phone picture", "phone")],
            tooltips=["all round, twice as wide as high", "an ordinary picture, held level"],
        )
        self.heading = widgets.IntSlider(
            0, 0, 359, description="heading °", tooltip="where the picture's centre looks, clockwise from north"
        )  # fmt: skip
        self.fov = widgets.IntSlider(
            65, 20, 140, description="view °", tooltip="how wide a phone's picture sees"
        )
        self.try_all = _button(
            "Heading unknown: try all",
            "turn it all round; the most similar wins",
            safely(on_all_headings),
        )
        self.settings = widgets.VBox([self.kind, self.heading, self.fov, self.try_all])
        self.settings.layout.display = "none"
        self._listening = True
        for control in (self.kind, self.heading, self.fov):
            control.observe(safely(self._changed), names="value")
        super().__init__([self.upload, self.about, self.settings])

    def show(self, picture: MyPicture) -> None:
        """A picture has arrived: set the controls to what it says of itself."""
        prepared = picture.prepared()
        self._listening = False
        self.kind.value = prepared.kind
        self.heading.value = round(picture.heading_deg or 0) % 360
        self.fov.value = round(prepared.fov_deg or 65)
        self._listening = True
        width, height = picture.upload.original_px
        gps = picture.upload.shot.latlon
        notes = [f"{picture.upload.kind}, {width} x {height}", *prepared.notes]
        notes.append(f"GPS {gps[0]:.5f}, {gps[1]:.5f}" if gps else "no GPS")
        self.about.value = f"<b>{picture.name}</b><br><small>{'; '.join(notes)}</small>"
        self.settings.layout.display = ""
        self._changed()

    def turn(self, heading_deg: float) -> None:
        """Set the heading that was found."""
        self.heading.value = round(heading_deg) % 360

    def reset(self) -> None:
        """No picture."""
        self.picture, self.about.value, self.settings.layout.display = None, "", "none"
        self.upload.reset()

    def start(self, picture: MyPicture) -> None:
        self.picture = picture
        self.show(picture)

    def _changed(self, _: Any = None) -> None:
        self.fov.layout.display = "" if self.kind.value == "phone" else "none"
        if self.picture is None or not self._listening:
            return
        self.picture = dataclasses.replace(
            self.picture,
            heading_deg=float(self.heading.value),
            fov_deg=float(self.fov.value) if self.kind.value == "phone" else None,
            kind=self.kind.value,
        )
        self.on_picture(self.picture)


class Methods(widgets.VBox):
    """Which methods to ask, and where to look.

    ``on_change()`` hears of another method, ``on_near()`` of another circle.
    """

    def __init__(
        self,
        safely: Guard,
        of_protocol: Callable[[str], list[Method]],
        protocols: list[str],
        on_change: Callable[[], None],
        on_near: Callable[[], None],
    ) -> None:
        self._of_protocol, self._on_change = of_protocol, on_change
        self.protocol = _labelled(
            widgets.Dropdown(options=protocols),
            "setting",
            "same-area: trained in the same cities; cross-area: in others",
        )
        self.method = _labelled(widgets.Dropdown(), "method", "the network that answers")
        self.rival = _labelled(widgets.Dropdown(), "compare with", "a second method, side by side")
        self.near = widgets.Checkbox(
            description="search only near a GPS fix", indent=False, layout=WIDE
        )
        self.radius = widgets.SelectionSlider(
            options=[(metres(r), r) for r in (50, 100, 200, 300, 500, 1000, 2000, 5000)],
            value=200,
            description="radius",
        )
        self.fix = widgets.HTML()
        self.hint = widgets.HTML()
        self._fill()
        self.protocol.observe(safely(self._other_protocol), names="value")
        for control in (self.method, self.rival):
            control.observe(safely(lambda _: self._changed()), names="value")
        self._quiet = False
        for control in (self.near, self.radius):
            control.observe(safely(lambda _: on_near()), names="value")
        super().__init__([
            self.protocol, self.method, self.rival, self.hint, self.near, self.radius, self.fix,
        ])  # fmt: skip

    @property
    def chosen(self) -> list[Method]:
        """One method, or two."""
        both = [self.method.value, self.rival.value]
        return [method for method in dict.fromkeys(both) if method]

    def reset(self) -> None:
        """The first method alone, the whole gallery."""
        self.near.value, self.rival.value = False, ""
        self.protocol.value = self.protocol.options[0]
        self.method.value = self._of_protocol(self.protocol.value)[0]

    def _fill(self) -> None:
        methods = [(m.title, m) for m in self._of_protocol(self.protocol.value)]
        self._quiet = True
        self.method.options = methods
        self.rival.options = [("no other", ""), *methods]
        self.method.index = self.rival.index = 0  # new options leave nothing chosen
        self._quiet = False
        self._tell()

    def _tell(self) -> None:
        """How good each is."""
        known = ", ".join(f"{html.escape(m.title)} {m.top1:.1%}" for m in self.chosen)
        self.hint.value = f"<small>right at the first place in its test set: {known}</small>"

    def _other_protocol(self, _: Any) -> None:
        self._fill()
        self._changed()

    def _changed(self) -> None:
        if not self._quiet:
            self._tell()
            self._on_change()


def _labelled(control: Any, description: str, tooltip: str) -> Any:
    control.description, control.tooltip = description, tooltip
    return control


def _button(text: str, tooltip: str, act: Callable[[], None]) -> widgets.Button:
    button = widgets.Button(description=text, tooltip=tooltip, layout=WIDE)
    button.on_click(lambda _: act())
    return button


def _row(*children: widgets.Widget) -> widgets.HBox:
    return _classed(widgets.HBox(list(children)), "va-row")


def _grid(*children: widgets.Widget) -> widgets.Box:
    return _classed(widgets.Box(list(children)), "va-filters")


def _classed(widget: Any, name: str) -> Any:
    widget.add_class(name)
    return widget
