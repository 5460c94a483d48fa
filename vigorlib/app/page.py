"""The localization system to click: ``App()`` in a notebook, or ``make app`` as a page."""

from __future__ import annotations

import html
import os
import time
from collections.abc import Callable
from importlib import resources
from typing import Any

import ipywidgets as widgets
from markdown_it import MarkdownIt

from vigorlib.app.answer import Answer
from vigorlib.app.choose import Methods, Mine, TestSet
from vigorlib.app.guard import guard
from vigorlib.app.session import AppError, MyPicture, Query, Session, my_picture
from vigorlib.app.views import Keys
from vigorlib.located import Match
from vigorlib.maps import CityMap
from vigorlib.nearby import Near, noisy_fix
from vigorlib.uploads import LIMITS, safe_label


class App(widgets.VBox):
    """Pick a street or bring a picture, choose a method, locate it.

    profile: whose runs are offered; data_root: a copy of VIGOR, empty for the embedded city; tiles: a
    folder of tiles of your own, ``satellite_<lat>_<lon>.png``, in place of the test set's; tile_m:
    their width on the ground, where they are not 640 px of Web-Mercator at zoom 20. Raises
    ValueError where there is nothing to ask: no trained network, no such folder.
    """

    def __init__(
        self,
        profile: str = "mini",
        data_root: str = "",
        tiles: str = "",
        tile_m: float | None = None,
    ) -> None:
        self.session = Session(profile, data_root, tiles, tile_m)
        self.query: Query | None = None
        self.fix: tuple[float, float] | None = None
        self.clicked: tuple[float, float] | None = None
        self.status, self.progress = widgets.HTML(), widgets.Output()
        safely = self._safely = guard(self._say)
        self.keyboard = Keys()
        self.keyboard.on_key = safely(self._key)
        self.help = widgets.HTML(f'<div class="va-help-text">{help_html()}</div>')
        self.help.layout.display = "none"
        self.test_set = TestSet(safely, self._ask)
        self.mine = Mine(safely, self._ask, self._uploaded, self._refused, self._try_all)
        self.methods = Methods(
            safely, self.session.of_protocol, self.session.protocols,
            self._other_method, self._circle_changed,
        )  # fmt: skip
        self.answer = Answer(safely, self._map, self._heat)
        self.answer.city.view.on_fix = safely(self._fix_clicked)
        self.source = widgets.ToggleButtons(
            options=[("from the test set", "test"), ("my own picture", "mine")],
            tooltips=["streets whose place is known", "a panorama or a phone's picture"],
        )
        self.source.observe(safely(lambda _: self._other_source()), names="value")
        self.locate = self._button(
            "Locate", "find it from above (Enter)", self._locate, "va-locate"
        )
        super().__init__([self.keyboard, self._header(), self.help, self._body()])
        self.add_class("vigor-app")
        if tiles:
            self.source.value, self.source.layout.display = "mine", "none"
        safely(self._begin)()

    # -- layout ------------------------------------------------------------------------------

    def _header(self) -> widgets.Widget:
        where = "an area of your own" if self.session.tiles else (
            "VIGOR" if self.session.data_root else "the embedded city"
        )  # fmt: skip
        title = widgets.HTML(
            f"<h1>Where was this taken?</h1><p>A street, found from above, in {where} · profile "
            f"{html.escape(self.session.profile)}</p>"
        )
        buttons = [
            self._button(
                "Help", "what this is and what it cannot do (?)", self._toggle_help, "va-help"
            ),
            self._button("Reset", "back to the beginning", self.reset, "va-reset"),
        ]
        header = widgets.HBox([title, widgets.HBox(buttons)])
        header.add_class("va-header")
        return header

    def _body(self) -> widgets.Widget:
        left = widgets.VBox([
            _step(1, "Choose a street", self.source, self.test_set, self.mine),
            _step(2, "Choose a method", self.methods),
            _step(3, "Find it", self.locate, self.status, self.progress),
        ])  # fmt: skip
        left.add_class("va-left")
        self.answer.add_class("va-right")
        body = widgets.Box([left, self.answer])
        body.add_class("va-body")
        return body

    def _button(self, text: str, tooltip: str, act: Callable[[], None], css: str) -> widgets.Button:
        button = widgets.Button(description=text, tooltip=tooltip)
        button.add_class(css)
        guarded = self._safely(act)
        button.on_click(lambda _: guarded())
        return button

    # -- what can happen ---------------------------------------------------------------------

    def reset(self) -> None:
        """Back to the beginning."""
        self.answer.clear()
        self.mine.reset()
        self.methods.reset()
        self.test_set.reset()
        self.fix = self.clicked = None
        if not self.session.tiles:
            self.source.value = "test"
        self.help.layout.display = "none"
        self._begin()

    def _begin(self) -> None:
        self._other_source()
        self._open_methods()
        if not self.session.tiles:
            self._use_test_set()
        self._say("Choose a street, then Locate." if not self.session.tiles else self._about_area())

    def _about_area(self) -> str:
        localizer = self.session.localizer(self.methods.chosen[0])
        text = f"Bring a picture: {len(localizer):,} tiles are ready."
        if localizer.skipped:
            name, reason = localizer.skipped[0]
            text += f" {len(localizer.skipped)} files were left out, for instance {name}: {reason}."
        return html.escape(text)

    def _use_test_set(self) -> None:
        method = self.methods.chosen[0]
        data = self.session.queries(method)
        assert data is not None
        self.test_set.use(data, self.session.answers(method))

    def _open_methods(self) -> None:
        """Their galleries, with a bar the first time."""
        self.progress.clear_output()
        with self.progress:
            for method in self.methods.chosen:
                self.session.localizer(method)
        self.progress.clear_output()

    def _other_method(self) -> None:
        self._say("Opening …")
        self._open_methods()
        if not self.session.tiles:
            before = self.test_set.current
            self._use_test_set()
            if before != self.test_set.current and self.source.value == "test":
                return
        if self.answer.results and self.query is not None:
            return self._locate()
        self._say("Choose a street, then Locate.")

    def _other_source(self) -> None:
        mine = self.source.value == "mine"
        self.test_set.layout.display = "none" if mine else ""
        self.mine.layout.display = "" if mine else "none"
        chosen = self.mine.picture if mine else self.test_set.current
        if chosen is None:
            self.query = None
            self.answer.ask_nothing(
                "Bring a picture: its panorama appears here." if mine else "Choose a street."
            )
        elif chosen is not self.query:
            self._ask(chosen)

    def _ask(self, query: Query) -> None:
        """Another query, or the same picture turned: then its answer turns with it."""
        if isinstance(query, MyPicture) != (self.source.value == "mine"):
            return  # the other panel is in sight
        method = self.methods.chosen[0]
        turned = _same_picture(query, self.query)
        answered = turned and bool(self.answer.results)
        self.query = query
        self.answer.ask(self.session.panorama(query, method), self._caption(query))
        self._place_circle(self.clicked if turned else None)
        self._follow(answered)

    def _caption(self, query: Query) -> str:
        if isinstance(query, MyPicture):
            return f"Your picture <b>{query.name}</b>, north in the centre"
        data = self.session.queries(self.methods.chosen[0])
        assert data is not None
        name, city = str(data.queries.names[query]), str(data.queries.cities[query])
        return f"<b>Query {query:,}</b> · {html.escape(city)} · <small>{html.escape(name)}</small>"

    def _locate(self) -> None:
        if self.query is None:
            return self._say(
                "There is nothing to locate yet: choose a street, or bring a picture.", "bad"
            )
        near, start = self._near(), time.perf_counter()
        results = [self.session.locate(self.query, method, near) for method in self.methods.chosen]
        self.answer.show(results, self.session.city(self.query, self.methods.chosen[0]))
        seconds = time.perf_counter() - start
        self._say(f"{results[0].searched:,} tiles searched in {seconds:.2f} s.", "good")

    def _try_all(self) -> None:
        if self.mine.picture is None:
            return
        method = self.methods.chosen[0]
        self._say("Turning it all round …")
        self.answer.clear()
        found = self.session.try_headings(self.mine.picture, method, self._near())
        self.mine.turn(found.best_deg)  # asks again, with the heading found
        self._locate()
        self.answer.show_headings(found)
        self._say(f"{found.best_deg:.0f}° fits best.", "good")

    def _uploaded(self, name: str, data: bytes) -> None:
        self._say("Looking at the picture …")
        self.mine.start(my_picture(name, data))

    def _refused(self, name: str, size: int) -> None:
        self._say(
            f"{safe_label(name)} has {size / 1e6:,.0f} MB: at most {LIMITS.bytes / 1e6:.0f} MB are "
            "taken. Save it smaller.", "bad",
        )  # fmt: skip

    def _toggle_help(self) -> None:
        self.help.layout.display = "" if self.help.layout.display == "none" else "none"

    def _key(self, key: str) -> None:
        acts: dict[str, Callable[[], None]] = {
            "ArrowLeft": lambda: self.test_set.step(-1), "p": lambda: self.test_set.step(-1),
            "ArrowRight": lambda: self.test_set.step(1), "n": lambda: self.test_set.step(1),
            "r": self.test_set.random, "l": self._locate, "Enter": self._locate,
            "g": self.answer.next_heat, "?": self._toggle_help, "Escape": self._close,
        }  # fmt: skip
        if key in ("ArrowLeft", "ArrowRight", "n", "p", "r") and self.source.value != "test":
            return
        if key in acts:
            acts[key]()

    def _close(self) -> None:
        if self.help.layout.display != "none":
            self.help.layout.display = "none"
        else:
            self.answer.close_pair()

    # -- the circle --------------------------------------------------------------------------

    def _circle_changed(self) -> None:
        """Another radius, the box ticked: an answer follows."""
        answered = bool(self.answer.results)
        self._place_circle(self.clicked)
        if self.query is not None:
            self._follow(answered)

    def _follow(self, answered: bool) -> None:
        """What was answered before the change is answered anew; otherwise Locate is waited for."""
        if answered and (self.fix is not None or not self.methods.near.value):
            return self._locate()
        self._say("Ready: press Locate.")

    def _place_circle(self, clicked: tuple[float, float] | None) -> None:
        """Around the place that was clicked on, else around the fix that is known or simulated."""
        wanted = self.methods.near.value
        self.methods.radius.layout.display = "" if wanted else "none"
        self.answer.city.view.placing = wanted
        self.clicked = clicked if wanted else None
        self.fix = self.clicked
        if self.query is not None and wanted and self.fix is None:
            self.fix = self._known_fix()
        whence = (
            "where you clicked" if self.clicked
            else "from the picture" if isinstance(self.query, MyPicture)
            else "simulated: the truth, moved up to half the radius"
        )  # fmt: skip
        self.methods.fix.value = _about_fix(self.fix, whence) if wanted else ""
        self._draw_map()

    def _known_fix(self) -> tuple[float, float] | None:
        assert self.query is not None
        truth = self.session.truth(self.query, self.methods.chosen[0])
        if truth is None or isinstance(self.query, MyPicture):
            return truth
        return noisy_fix(truth, self.methods.radius.value / 2, seed=self.query)

    def _fix_clicked(self, row: float, column: float) -> None:
        chart = self.answer.city.map
        if chart is None or not self.methods.near.value:
            return
        lat, lon = chart.to_latlon((row, column)).tolist()
        self._place_circle((lat, lon))
        if self.query is not None:
            self._locate()

    def _near(self) -> Near | None:
        if not self.methods.near.value:
            return None
        if self.fix is None:
            raise AppError("Where is the GPS fix? Click on the map.")
        return Near(*self.fix, float(self.methods.radius.value))

    def _draw_map(self) -> None:
        """The city of the query, with the circle and without answers."""
        if self.query is None:
            return
        city = self.session.city(self.query, self.methods.chosen[0])
        near = self._near() if self.fix is not None else None
        if self.answer.results:
            self.answer.clear()
        self.answer.city.show([], city, self._map(city).circle(near) if near else None)

    # -- what the panels ask for -------------------------------------------------------------

    def _map(self, city: str) -> CityMap:
        return self.session.map(city, self.methods.chosen[0])

    def _heat(self, number: int, match: Match, rectified: bool) -> Any:
        assert self.query is not None
        return self.session.heat(self.query, self.methods.chosen[number], match, rectified)

    # -- telling -----------------------------------------------------------------------------

    def _say(self, text: str, mood: str = "") -> None:
        self.status.value = f'<div class="va-status {mood}">{text}</div>'


def open_app() -> App:
    """The app as the environment wants it: ``VIGOR_APP_PROFILE``, ``_DATA_ROOT``, ``_TILES``, ``_TILE_M``.

    That is how ``python -m vigorlib app`` tells the page's notebook what to show.
    """
    profile, data_root, tiles, tile_m = (
        os.environ.get(f"VIGOR_APP_{name}", "")
        for name in ("PROFILE", "DATA_ROOT", "TILES", "TILE_M")
    )
    return App(profile or "mini", data_root, tiles, float(tile_m) if tile_m else None)


def help_text() -> str:
    """The user's manual, Markdown."""
    return resources.files("vigorlib.app").joinpath("help.md").read_text(encoding="utf-8")


def help_html() -> str:
    """The user's manual as HTML."""
    return MarkdownIt().enable("table").render(help_text())


def _step(number: int, title: str, *children: widgets.Widget) -> widgets.VBox:
    head = widgets.HTML(f'<div class="va-step-head"><span>{number}</span>{title}</div>')
    box = widgets.VBox([head, *children])
    box.add_class("va-step")
    return box


def _same_picture(query: Query, other: Query | None) -> bool:
    return (
        isinstance(query, MyPicture)
        and isinstance(other, MyPicture)
        and query.upload is other.upload
    )


def _about_fix(fix: tuple[float, float] | None, whence: str) -> str:
    if fix is None:
        return "<small>no GPS in the picture: click on the map</small>"
    return (
        f"<small>fix at {fix[0]:.5f}, {fix[1]:.5f} ({whence}); click on the map to move it</small>"
    )
