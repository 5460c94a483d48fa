"""What the app says: distances, verdicts, a match and a pair in words. All of it safe as HTML."""

from __future__ import annotations

import html

from vigorlib.geometry import great_circle_m
from vigorlib.located import Match, Result, metres


def ordinal(rank: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, 21st."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(rank % 10 if rank // 10 % 10 != 1 else 0, "th")
    return f"{rank}{ending}"


def verdict(result: Result) -> tuple[str, str]:
    """A sentence on an answer, and in a word: right, covered, wrong or unknown."""
    best, rank = result.best, result.positive_rank
    if best.distance_m is None or best.error_m is None:
        return "where it was taken is not known: nothing to compare with", "unknown"
    if result.truth_from != "label":
        return f"the best match lies {metres(best.error_m)} from the GPS of the picture", "unknown"
    if best.reference == "positive":
        return f"✓ the right tile comes first, {metres(best.error_m)} from the truth", "right"
    if best.reference:
        return f"≈ a tile that also shows it comes first, {metres(best.error_m)} from it", "covered"
    where = (
        f"the right one at rank {rank}"
        if rank
        else f"the right one not among {len(result.matches)}"
    )
    return f"✗ the first tile is {metres(best.distance_m)} away, {where}", "wrong"


def card(match: Match) -> dict[str, str | int]:
    """What the gallery shows of a match."""
    known = match.distance_m is not None
    return {
        "tile": match.tile,
        "rank": match.rank,
        "distance": metres(match.distance_m) if match.distance_m is not None else "",
        "similarity": f"{match.similarity:.3f}",
        "reference": match.reference,
        "hint": f"similarity {match.similarity:.3f}"
        + (f"; its centre is {metres(match.distance_m or 0)} from the truth" if known else "")
        + (f"; {match.city}" if match.city else ""),
    }


def facts(match: Match) -> list[tuple[str, str]]:
    """What is known of a pair, name and value."""
    found = [
        ("similarity", f"{match.similarity:.3f}"),
        ("tile's centre", f"{match.lat_deg:.5f}, {match.lon_deg:.5f}"),
    ]
    if match.offset_px is not None:
        found += [
            ("predicted", f"{match.predicted_lat_deg:.6f}, {match.predicted_lon_deg:.6f}"),
            ("that is", _from_centre(match)),
            ("overlap (IOU)", f"{match.iou:.2f}"),
        ]
    else:
        found.append(("predicted", "the tile's centre (this method has no offset step)"))
    if match.distance_m is not None and match.error_m is not None:
        found += [
            ("centre to truth", metres(match.distance_m)),
            ("predicted to truth", metres(match.error_m)),
        ]
        if match.true_iou:
            found.append(("true IOU", f"{match.true_iou:.2f}"))
    return found


def table(rows: list[tuple[str, str]]) -> str:
    """Names and values as an HTML table, escaped."""
    cells = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in rows
    )
    return f'<table class="va-facts">{cells}</table>'


def _from_centre(match: Match) -> str:
    """The offset in metres and words."""
    lat, lon = match.lat_deg, match.lon_deg
    north = float(great_circle_m(lat, lon, match.predicted_lat_deg, lon))
    east = float(great_circle_m(lat, lon, lat, match.predicted_lon_deg))
    vertical = "north" if match.predicted_lat_deg > lat else "south"
    sideways = "east" if match.predicted_lon_deg > lon else "west"
    return f"{north:.1f} m {vertical} and {east:.1f} m {sideways} of the centre"
