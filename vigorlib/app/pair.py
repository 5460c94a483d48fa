"""The query and one match in large: where the query is on the tile, and the heat of the pair."""

from __future__ import annotations

import html

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vigorlib.app import pictures, words
from vigorlib.explain import Maps, overlay
from vigorlib.geometry import HALF_TILE_PX, TILE_PX
from vigorlib.images import read_image
from vigorlib.located import Match

Pixels = NDArray[np.uint8]

COMPASS = ("S", "W", "N", "E", "S")
"""Below a panorama, from its left edge to its right."""


def panorama_html(panorama: Pixels, caption: str, heat: Maps | None = None) -> str:
    """A panorama above its compass; (H, W, 3) with north in the centre. caption: safe HTML."""
    ticks = "".join(f"<span>{mark}</span>" for mark in COMPASS)
    return (
        f'<div class="va-caption">{caption}</div><div class="va-pano">'
        f'{pictures.img(_shown(panorama, 512, heat), "the query")}<div class="va-compass">{ticks}</div></div>'
    )


def match_html(match: Match, heat: Maps | None = None) -> str:
    """A tile with the query's place on it, beside what is known of the pair."""
    name, place = html.escape(match.name, quote=True), html.escape(match.city)
    tile = pictures.img(_shown(read_image(match.path), 384, heat), "the satellite tile")
    return (
        f'<div class="va-pair"><div class="va-pair-head"><b>{words.ordinal(match.rank)} match'
        f'{", " if place else ""}{place}</b><span title="{name}">{name}</span></div>'
        f'<div class="va-pair-below"><div class="va-tile">{tile}{_positions(match)}</div>'
        f"<div>{words.table(words.facts(match))}{_key(match)}</div></div></div>"
    )


def _shown(image: Pixels, height: int, heat: Maps | None) -> Pixels:
    """No more pixels than a page shows; under heat no fewer than make that smooth."""
    if image.shape[0] > height or heat is not None:
        width = round(image.shape[1] * height / image.shape[0])
        image = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
    return image if heat is None else overlay(image, heat)


def _positions(match: Match) -> str:
    """Where the query is on the tile, predicted and true, as an SVG on top of it."""
    marks = ""
    if match.true_offset_px is not None:
        row, column = _place(match.true_offset_px)
        if 0 <= row <= TILE_PX and 0 <= column <= TILE_PX:  # else the frame would cut it anyway
            marks += f'<path class="vm-truth" d="M{column - 26} {row}h52M{column} {row - 26}v52"/>'
    if match.offset_px is not None:
        row, column = _place(match.offset_px)
        marks += f'<circle class="vm-predicted m0" cx="{column}" cy="{row}" r="20"/>'
    return f'<svg viewBox="0 0 {TILE_PX} {TILE_PX}">{marks}</svg>'


def _place(offset_px: tuple[float, float]) -> tuple[float, float]:
    return round(HALF_TILE_PX + offset_px[0], 1), round(HALF_TILE_PX - offset_px[1], 1)


def _key(match: Match) -> str:
    truth = ""
    if match.true_offset_px is not None:
        inside = max(map(abs, match.true_offset_px)) <= HALF_TILE_PX
        truth = "+ the truth" if inside else "the truth lies outside this tile"
    predicted = "○ predicted" if match.offset_px is not None else ""
    return f'<p class="va-key">{" · ".join(part for part in (predicted, truth) if part)}</p>'
