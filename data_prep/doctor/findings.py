"""What the doctor can find, what to do about it, and the published numbers it compares with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "note"]
EXAMPLES = 4
"""Examples that a finding keeps."""


@dataclass(frozen=True)
class Published:
    """Numbers of one published city."""

    tiles: int
    train: int
    test: int


PUBLISHED = {
    "NewYork": Published(23_279, 13_885, 13_884),
    "Seattle": Published(20_776, 11_876, 11_875),
    "SanFrancisco": Published(24_255, 14_108, 14_107),
    "Chicago": Published(22_308, 12_740, 12_739),
}
"""Tiles and panoramas of VIGOR's cities as its paper and label files give them. Each city's
panoramas are halved, the odd one to train: so in Chicago's files, and only so the four cities add
up to the published 52,609 and 52,605 queries of same-area."""

RECTANGLES = ("Seattle", "SanFrancisco", "Chicago")
"""Published cities whose tiles fill a rectangle; NewYork's do not."""


@dataclass(frozen=True)
class Check:
    """One thing that can be found: how bad it is, in words, and what to do."""

    level: Level
    what: str
    advice: str


@dataclass(frozen=True)
class Finding:
    """A check that found something in a city ('' for the whole copy), ``count`` times."""

    level: Level
    city: str
    what: str
    count: int
    examples: tuple[str, ...]
    advice: str


class Findings:
    """Gathers what was found; the same example of the same check counts once."""

    def __init__(self) -> None:
        self._found: dict[tuple[Check, str], dict[str, None]] = {}

    def add(self, check: Check, city: str, examples: Iterable[str]) -> None:
        """examples: one text for each case; nothing is found when there is none."""
        if cases := dict.fromkeys(examples):
            self._found.setdefault((check, city), {}).update(cases)

    def all(self) -> tuple[Finding, ...]:
        """Errors first, then warnings, then notes."""
        order = ("error", "warning", "note")
        found = sorted(self._found.items(), key=lambda item: order.index(item[0][0].level))
        return tuple(
            Finding(
                check.level, city, check.what, len(cases), tuple(cases)[:EXAMPLES], check.advice
            )
            for (check, city), cases in found
        )


FRESH_LABELS = "replace the file by a fresh copy of the label files"
FETCH = "fetch these files again from VIGOR's archive of the city"

# -- label files -----------------------------------------------------------------------------
NO_LABELS = Check(
    "error",
    "no label files",
    "put VIGOR's splits/ or SliceMatch's splits__corrected/ beside the folders of the cities",
)
NO_TILE_LIST = Check(
    "error", "no satellite_list.txt", "copy it from VIGOR's splits/: it is the gallery"
)
UNUSABLE = Check("error", "label files that cannot be read", FRESH_LABELS)
FILE_ABSENT = Check(
    "warning",
    "label files absent",
    "copy them from the label archive: train and test serve same-area, pano_label_balanced cross-area",
)
FILE_NOT_INCLUDED = Check(
    "note",
    "label files not included",
    "needed to train only: train and test serve same-area, pano_label_balanced cross-area",
)
MISPLACED = Check(
    "warning",
    "label files in the wrong folder",
    "files ending in __corrected.txt belong in splits__corrected/, the others in splits/",
)
ORIGINAL_ONLY = Check(
    "note",
    "original labels only",
    "use labels='original', or add SliceMatch's splits__corrected/ (up to 13 % more exact)",
)
LISTS_DIFFER = Check(
    "warning",
    "tiles in only one of the two satellite_list.txt",
    "both label folders have the same gallery: replace both lists by fresh copies",
)
BAD_NAMES = Check(
    "error",
    "names that do not parse",
    "expected '<id>,<lat>,<lon>,.jpg' and 'satellite_<lat>_<lon>.png'; " + FRESH_LABELS,
)
BAD_ROWS = Check(
    "error",
    "malformed label rows",
    "expected a panorama, then four times: tile, north, east; " + FRESH_LABELS,
)
ABSENT_TILES = Check(
    "error",
    "label rows naming absent tiles",
    "row or satellite_list.txt is damaged: compare both with a fresh copy of the label files",
)
COUNTS = Check(
    "error",
    "numbers that differ from the published ones",
    "label files are incomplete or of another data set: compare them with a fresh copy",
)
TWICE = Check("error", "names listed twice in one file", "remove the repeated line")
SHARED_QUERIES = Check(
    "error",
    "queries in both train and test",
    "the test is not a test: replace both files by fresh copies of the label files",
)
SPLITS_DIFFER = Check(
    "warning",
    "queries in only one of train + test and pano_label_balanced",
    "the two should be the same queries: compare the three files with fresh copies",
)
# -- what the rows say -----------------------------------------------------------------------
UNCOVERED = Check(
    "error",
    "queries not covered by four tiles",
    "by the GPS in the names, the row's tiles are not the 2 x 2 block around it: " + FRESH_LABELS,
)
NOT_NEAREST = Check(
    "error",
    "positives that are not the nearest tile",
    "a row's first tile must hold the query in its centre: " + FRESH_LABELS,
)
OFF = Check(
    "error",
    "offsets that disagree with the GPS of the names",
    "these rows are damaged or of another label system than the rest of their file: "
    + FRESH_LABELS,
)
NO_SYSTEM = Check(
    "error",
    "label files whose offsets follow no known label system",
    "expected tile centre minus query, [north, east], in pixels of the 640 px tile: check order, "
    "sign and scale",
)
OTHER_SYSTEM = Check(
    "warning",
    "label files of another system than their folder says",
    "original labels belong in splits/, corrected ones in splits__corrected/ under names ending "
    "in __corrected.txt: metre errors come out wrong otherwise",
)
CROWDED = Check(
    "warning",
    "tiles with more than two positives",
    "VIGOR is balanced to at most two: use the balanced label files",
)
OFF_GRID = Check(
    "warning",
    "tiles off the grid",
    "tiles stand half a tile apart to a thousandth of a step: compare these names with a fresh "
    "satellite_list.txt",
)
HOLES = Check(
    "warning",
    "holes in the grid of tiles",
    "the tiles of this city fill a rectangle: compare satellite_list.txt with a fresh copy",
)
# -- photographs -----------------------------------------------------------------------------
LABELS_ONLY = Check(
    "note",
    "labels only, no photographs",
    "enough for geometry and label checks; to train, add <City>/panorama and <City>/satellite",
)
NO_PHOTOGRAPHS = Check(
    "warning",
    "cities with labels but no photographs",
    "unpack the city's archives, or leave it out: Vigor(..., cities=[...])",
)
MISSING = Check("error", "photographs missing", FETCH)
UNDECODABLE = Check("error", "photographs that cannot be decoded", FETCH)
WRONG_SIZE = Check("error", "photographs of the wrong size", FETCH)
RESIZED = Check(
    "warning",
    "folders whose photographs are all of another size than published",
    "a resized copy trains, but is not VIGOR as published: say so beside your figures",
)
WRONG_FORMAT = Check(
    "warning",
    "photographs of another format than their name says",
    "they load, but are not as published: " + FETCH,
)
STRAY = Check(
    "warning",
    "stray files among the photographs",
    "nothing reads them: move them away, and look whether one is a renamed photograph",
)
UNUSED = Check("note", "photographs that no label file names", "nothing reads them: leave them")
IDENTICAL = Check(
    "note",
    "photographs that are the same file as another",
    "look at one: open water may repeat, a placeholder of a failed download must not",
)
# -- about the copy --------------------------------------------------------------------------
EMBEDDED = Check(
    "note", "the embedded city", "made by data_prep.city: not compared with published numbers"
)
UNFINISHED = Check(
    "warning", "the embedded city is unfinished", "run `python -m data_prep.city` on it again"
)
CITY_ABSENT = Check(
    "note",
    "cities absent",
    "a partial copy: name the cities you have, Vigor(..., cities=[...]); the paper's figures need "
    "all four",
)
OWN_AREA = Check(
    "note",
    "not a city of VIGOR",
    "an area of your own: its grid and numbers are compared with nothing",
)
LEAKAGE = Check(
    "note",
    "test queries whose positive tile is also that of a training query",
    "as published (46-49 % in VIGOR): same-area is not disjoint; report cross-area too",
)
OUTSIDE = Check(
    "note",
    "semi-positives whose query lies outside the tile (beyond 320 px)",
    "as published: the grid was spaced for 0.114 m/px (Seattle 27.5, Chicago 6.1, NewYork 1.5 %)",
)
DISTRACTORS = Check(
    "note",
    "tiles that no label row refers to",
    "as published (7 to 17 %): distractors stay in the gallery",
)
