"""What ipywidgets is too slow for or does not have: a list, a gallery, a map, an upload, the keys.

Each is an anywidget: its JavaScript lies in ``static/`` and needs no network. What comes back from a
browser is checked here, for whoever opens the page can send anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from vigorlib.uploads import LIMITS

STATIC = Path(__file__).parent / "static"
STYLE = STATIC / "app.css"
ROWS_AT_ONCE = 60
PIECE_BYTES = 2**20

Rows = Callable[[int, int], Sequence[tuple[dict[str, str], bytes]]]


class QueryList(anywidget.AnyWidget):
    """The list of all queries. Rows are asked for as they come into sight.

    position: the chosen row, -1 for none. ``rows(start, count)`` is set by whoever fills the list:
    what to say of each and its JPEG thumbnail.
    """

    _esm = STATIC / "queries.js"
    total = traitlets.Int(0).tag(sync=True)
    position = traitlets.Int(-1).tag(sync=True)
    version = traitlets.Int(0).tag(sync=True)
    rows: Rows = staticmethod(lambda start, count: [])

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self.on_msg(self._asked)

    def fill(self, total: int, position: int) -> None:
        """Another list, with this row chosen."""
        with self.hold_sync():
            self.total, self.position, self.version = total, position, self.version + 1

    @traitlets.validate("position")
    def _within(self, proposal: Any) -> int:
        return int(max(-1, min(proposal["value"], self.total - 1)))

    def _asked(self, _: Any, message: Any, __: Any) -> None:
        if _kind(message) != "rows" or message.get("version") != self.version:
            return
        start = _whole(message.get("start"), self.total)
        count = _whole(message.get("count"), ROWS_AT_ONCE + 1)
        if start is None or not count:
            return
        rows = self.rows(start, min(count, self.total - start))
        about, pictures = [row[0] for row in rows], [row[1] for row in rows]
        self.send(
            {"type": "rows", "version": self.version, "start": start, "rows": about}, pictures
        )


class _WithTiles(anywidget.AnyWidget):
    """Tiles that can be hovered (in the browser only) and chosen."""

    hovered = traitlets.Int(-1).tag(sync=True)
    chosen = traitlets.Int(-1).tag(sync=True)
    version = traitlets.Int(0).tag(sync=True)
    on_choose: Callable[[int], None] = staticmethod(lambda tile: None)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self.on_msg(self._told)

    def show(self, **traits: Any) -> None:
        """Set what is given, in one message."""
        with self.hold_sync():
            for name, value in traits.items():
                setattr(self, name, value)
            self.version += 1

    def _told(self, _: Any, message: Any, __: Any) -> None:
        if _kind(message) == "choose" and isinstance(message.get("tile"), int):
            self.on_choose(message["tile"])


class Gallery(_WithTiles):
    """The matches of one method, in order, on one contact sheet."""

    _esm = STATIC / "gallery.js"
    heading = traitlets.Unicode("").tag(sync=True)
    verdict = traitlets.Unicode("").tag(sync=True)
    outcome = traitlets.Unicode("").tag(sync=True)
    cards: traitlets.List[Any] = traitlets.List([]).tag(sync=True)
    sheet = traitlets.Bytes(b"").tag(sync=True)
    columns = traitlets.Int(10).tag(sync=True)


class MapView(_WithTiles):
    """A city from above with an answer on it; a click gives the fix while ``placing``."""

    _esm = STATIC / "map.js"
    image = traitlets.Bytes(b"").tag(sync=True)
    image_version = traitlets.Int(0).tag(sync=True)
    width = traitlets.Int(1).tag(sync=True)
    height = traitlets.Int(1).tag(sync=True)
    tile_px = traitlets.Int(24).tag(sync=True)
    px_per_metre = traitlets.Float(0.0).tag(sync=True)
    matches: traitlets.List[Any] = traitlets.List([]).tag(sync=True)
    truth: traitlets.List[Any] = traitlets.List([]).tag(sync=True)
    circle: traitlets.List[Any] = traitlets.List([]).tag(sync=True)
    focus: traitlets.List[Any] = traitlets.List([]).tag(sync=True)
    legend = traitlets.Unicode("").tag(sync=True)
    placing = traitlets.Bool(False).tag(sync=True)
    on_fix: Callable[[float, float], None] = staticmethod(lambda row, column: None)

    def show(self, **traits: Any) -> None:
        """Set what is given, in one message; the browser builds a picture anew if it is another."""
        with self.hold_sync():
            if traits.get("image", self.image) != self.image:
                self.image_version += 1
            super().show(**traits)

    def _told(self, widget: Any, message: Any, buffers: Any) -> None:
        super()._told(widget, message, buffers)
        if _kind(message) != "fix":
            return
        place = [message.get("row"), message.get("column")]
        if all(isinstance(value, int | float) and math.isfinite(value) for value in place):
            self.on_fix(float(place[0]), float(place[1]))


class Upload(anywidget.AnyWidget):
    """A picture from the visitor's machine, in pieces, with a bar; too large a one is not sent.

    ``on_bytes(name, data)`` takes the whole; ``on_refused(name, size)`` hears of one too large.
    """

    _esm = STATIC / "upload.js"
    most_bytes = traitlets.Int(LIMITS.bytes).tag(sync=True)
    version = traitlets.Int(0).tag(sync=True)
    on_bytes: Callable[[str, bytes], None] = staticmethod(lambda name, data: None)
    on_refused: Callable[[str, int], None] = staticmethod(lambda name, size: None)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._id, self._name, self._size, self._data = "", "", 0, bytearray()
        self.on_msg(self._told)

    def reset(self) -> None:
        """Forget what has come so far."""
        self._id, self._data = "", bytearray()
        self.version += 1

    def _told(self, _: Any, message: Any, buffers: Any) -> None:
        kind = _kind(message)
        if kind == "too_large":
            self.on_refused(str(message.get("name")), _whole(message.get("size"), 2**53) or 0)
        elif kind == "begin":
            self._begin(message)
        elif kind == "piece" and buffers and message.get("id") == self._id:
            self._take(message, bytes(buffers[0]))

    def _begin(self, message: dict[str, Any]) -> None:
        size = _whole(message.get("size"), 2**53)
        if size is None or size > LIMITS.bytes:
            return self.on_refused(str(message.get("name")), size or 0)
        self._id, self._name = str(message.get("id")), str(message.get("name"))
        self._size, self._data = size, bytearray()
        if size == 0:
            return self._finish()
        self.send({"type": "more", "id": self._id})

    def _take(self, message: dict[str, Any], piece: bytes) -> None:
        fits = len(piece) <= PIECE_BYTES and len(self._data) + len(piece) <= self._size
        if message.get("at") != len(self._data) or not piece or not fits:
            return self.reset()  # not what was announced
        self._data += piece
        if len(self._data) == self._size:
            return self._finish()
        self.send({"type": "more", "id": self._id})

    def _finish(self) -> None:
        name, data = self._name, bytes(self._data)
        self.send({"type": "done", "id": self._id})
        self._id, self._data = "", bytearray()
        self.on_bytes(name, data)


class Keys(anywidget.AnyWidget):
    """The keyboard, while the app has the focus and nobody types. ``on_key(key)`` hears it."""

    _esm = STATIC / "keys.js"
    _css = STYLE
    on_key: Callable[[str], None] = staticmethod(lambda key: None)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self.on_msg(self._told)

    def _told(self, _: Any, message: Any, __: Any) -> None:
        if _kind(message) == "key" and isinstance(message.get("key"), str):
            self.on_key(message["key"])


def _kind(message: Any) -> str:
    return str(message.get("type", "")) if isinstance(message, dict) else ""


def _whole(value: Any, below: int) -> int | None:
    """A count from a browser, if it is one: 0 to less than ``below``."""
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < below
    return value if fits else None
