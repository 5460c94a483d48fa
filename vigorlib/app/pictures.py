"""Pixels -> what a browser shows: JPEG bytes, contact sheets, data addresses."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vigorlib.images import ImageError, read_image

Pixels = NDArray[np.uint8]
MISSING_RGB = (196, 196, 196)


def jpeg(pixels: Pixels, quality: int = 85) -> bytes:
    """(H, W, 3) uint8 -> a JPEG without any metadata."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=quality)
    return out.getvalue()


def data_url(picture: bytes, kind: str = "image/jpeg") -> str:
    """Bytes as an address that needs no server."""
    return f"data:{kind};base64,{base64.b64encode(picture).decode()}"


def img(pixels: Pixels, alt: str, css: str = "") -> str:
    """An HTML image that carries its pixels; ``alt`` is escaped."""
    source = data_url(jpeg(pixels, 90))
    return f'<img class="{css}" src="{source}" alt="{html.escape(alt, quote=True)}">'


def thumbnails(paths: Sequence[Path], height: int, width: int) -> list[Pixels]:
    """Small pictures, area-averaged; a grey one in place of a picture that cannot be read."""

    def small(path: Path) -> Pixels:
        try:
            return read_image(path, height, width)
        except ImageError:
            return np.full((height, width, 3), MISSING_RGB, dtype=np.uint8)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(small, paths))


def contact_sheet(paths: Sequence[Path], side: int, columns: int) -> bytes:
    """Tiles in rows of ``columns``, each ``side`` pixels wide, on one JPEG."""
    rows = -(-len(paths) // columns)
    sheet = np.full((rows * side, columns * side, 3), 255, dtype=np.uint8)
    for place, tile in enumerate(thumbnails(paths, side, side)):
        top, left = place // columns * side, place % columns * side
        sheet[top : top + side, left : left + side] = tile
    return jpeg(sheet)
