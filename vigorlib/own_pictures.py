"""Pictures of your own -> panoramas as the network knows them: 2:1, north in the centre column.

A panorama is rolled by its heading. A phone's picture is a plane in front of the camera; it is
placed on the sphere by its field of view and heading, and the rest of the panorama stays empty, in
the colour that the network sees as nothing. Angles: degrees clockwise from north.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vigorlib.exif import Crop, Shot, field_of_view
from vigorlib.images import resize
from vigorlib.uploads import FILL_RGB, Upload

Kind = Literal["auto", "panorama", "phone"]
Pixels = NDArray[np.uint8]

PANORAMA_PX = (512, 1024)
"""(height, width) in which a phone's picture is placed; longer panoramas are made smaller."""
LONGEST_PX = 2048
FAR_PX = 3e4
"""Outside any picture, inside the 16 bits of cv2.remap."""
PHONE_FOCAL_35MM = 26.0
"""A phone's main camera, for a picture that does not say."""


class PictureError(ValueError):
    """A picture that cannot be a panorama, or an angle that cannot be."""


@dataclass(frozen=True)
class OwnPicture:
    """A picture ready to be located.

    panorama: (H, W, 3) uint8, W = 2 H, north in the centre column if the heading is known, else the
    picture's own centre there. heading_deg: None if unknown. fov_deg: None for a panorama.
    latlon: what its GPS says. notes: what was read or assumed, for a person.
    """

    panorama: Pixels
    kind: str
    heading_deg: float | None
    fov_deg: float | None
    latlon: tuple[float, float] | None
    notes: tuple[str, ...]


def prepare(
    picture: Upload | Pixels,
    heading_deg: float | None = None,
    fov_deg: float | None = None,
    kind: Kind = "auto",
) -> OwnPicture:
    """Bring a picture into a panorama. What is not given is taken from EXIF and XMP, where there.

    picture: an upload, or (H, W, 3) uint8 RGB. kind ``auto``: a phone's picture if ``fov_deg`` is
    given or it is narrower than 2:1, unless its XMP says that it is a panorama.
    """
    pixels, shot = (
        (picture.pixels, picture.shot) if isinstance(picture, Upload) else (picture, Shot())
    )
    require_rgb(pixels)
    notes = []
    if heading_deg is None and shot.heading_deg is not None:
        heading_deg = shot.heading_deg
        notes.append(f"heading {heading_deg:.0f}° read from the picture")
    if kind == "auto":
        kind = _kind(pixels, shot, fov_deg)
    if kind == "phone":
        fov_deg, note = _field_of_view(pixels, shot, fov_deg)
        notes.append(note)
        panorama = placed(pixels, fov_deg, heading_deg or 0.0)
    else:
        panorama, fov_deg = (
            turned_north(whole_panorama(pixels, shot.crop), heading_deg or 0.0),
            None,
        )
    if heading_deg is None:
        notes.append("heading unknown")
    return OwnPicture(panorama, kind, heading_deg, fov_deg, shot.latlon, tuple(notes))


def turned_north(panorama: Pixels, heading_deg: float) -> Pixels:
    """Roll a panorama so that north is in its centre column.

    panorama: (H, W, 3). heading_deg: where its centre column looks, clockwise from north.
    """
    if not math.isfinite(heading_deg):
        raise PictureError(f"heading is {heading_deg}: expected degrees clockwise from north")
    columns = round(heading_deg / 360 * panorama.shape[1])
    return np.roll(panorama, columns, axis=1)


def all_headings(panorama: Pixels, steps: int) -> Iterator[tuple[float, Pixels]]:
    """The panorama under each of ``steps`` headings, evenly spread: (heading in degrees, rolled)."""
    if not 1 <= steps <= 720:
        raise PictureError(f"steps is {steps}: expected 1 to 720 headings")
    for i in range(steps):
        yield 360 * i / steps, turned_north(panorama, 360 * i / steps)


def whole_panorama(pixels: Pixels, crop: Crop | None = None) -> Pixels:
    """A panorama of any height -> 2:1, what is missing above and below in the mean colour.

    A picture all round whose sky and ground were cut off is wider than 2:1 and is put in the
    middle, where the horizon is; ``crop`` (from XMP) says better where it lies. Raises
    :class:`PictureError` for one narrower than 2:1 (2 % are forgiven).
    """
    height, width = pixels.shape[:2]
    if crop is not None:
        return _uncropped(pixels, crop)
    if width < 1.96 * height:
        raise PictureError(
            f"the picture is {width} x {height}: expected a panorama all round, twice as wide as "
            "high or wider; for an ordinary picture give its field of view instead"
        )
    pixels = _no_larger(pixels)
    height, width = pixels.shape[:2]
    whole = _empty(max(round(width / 2), 1), width)
    if height >= len(whole):
        return resize(pixels, *whole.shape[:2])
    top = (len(whole) - height) // 2
    whole[top : top + height] = pixels
    return whole


def placed(
    pixels: Pixels,
    fov_deg: float,
    heading_deg: float = 0.0,
    size: tuple[int, int] = PANORAMA_PX,
) -> Pixels:
    """A phone's picture, held level, in an otherwise empty panorama with north in the centre.

    pixels: (h, w, 3) of a pinhole camera; fov_deg: its horizontal field of view, below 180;
    heading_deg: of its centre column; size: (H, W) of the panorama. Returns (H, W, 3).
    The panorama's pixel at azimuth a, elevation e sees x = tan(a), y = tan(e) / cos(a) of the
    image plane at distance 1.
    """
    require_rgb(pixels)
    if not 1 <= fov_deg <= 170:
        raise PictureError(f"field of view is {fov_deg:g} degrees: expected 1 to 170")
    if not math.isfinite(heading_deg):
        raise PictureError(f"heading is {heading_deg}: expected degrees clockwise from north")
    height, width = size
    pixels = _no_sharper(pixels, fov_deg, width)
    azimuth = _azimuths(width) - np.deg2rad(heading_deg)
    elevation = np.pi * (0.5 - (np.arange(height) + 0.5) / height)
    ahead = np.cos(azimuth) > 1e-6
    cosine = np.where(ahead, np.cos(azimuth), 1.0)
    focal = pixels.shape[1] / 2 / math.tan(math.radians(fov_deg) / 2)
    column = (pixels.shape[1] - 1) / 2 + focal * np.sin(azimuth) / cosine  # (W,)
    column = np.where(ahead, column, -FAR_PX)
    row = (pixels.shape[0] - 1) / 2 - focal * np.tan(elevation)[:, None] / cosine  # (H, W)
    out = cv2.remap(
        pixels,
        np.broadcast_to(column, (height, width)).clip(-FAR_PX, FAR_PX).astype(np.float32),
        row.clip(-FAR_PX, FAR_PX).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=FILL_RGB,
    )
    return np.asarray(out, dtype=np.uint8)


# -- helpers ---------------------------------------------------------------------------------


def _kind(pixels: Pixels, shot: Shot, fov_deg: float | None) -> Kind:
    if shot.panorama:
        return "panorama"
    wide = pixels.shape[1] >= 1.96 * pixels.shape[0]
    return "panorama" if wide and fov_deg is None else "phone"


def _field_of_view(pixels: Pixels, shot: Shot, given: float | None) -> tuple[float, str]:
    if given is not None:
        return given, f"field of view {given:.0f}° as given"
    if shot.fov_deg is not None:
        return shot.fov_deg, f"field of view {shot.fov_deg:.0f}° read from the picture"
    assumed = field_of_view(PHONE_FOCAL_35MM, pixels.shape[1], pixels.shape[0])
    assert assumed is not None
    return assumed, f"field of view {assumed:.0f}° assumed (a phone's main camera)"


def _azimuths(width: int) -> NDArray[np.float64]:
    """(W,) radians of a panorama's columns, north in the centre."""
    return 2 * np.pi * ((np.arange(width) + 0.5) / width - 0.5)


def _no_sharper(pixels: Pixels, fov_deg: float, panorama_width: int) -> Pixels:
    """Shrink a picture that is finer than the panorama: remap looks at four pixels only."""
    focal = pixels.shape[1] / 2 / math.tan(math.radians(fov_deg) / 2)
    factor = panorama_width / (2 * math.pi) / focal
    if factor >= 1:
        return pixels
    return resize(pixels, *(max(round(side * factor), 1) for side in pixels.shape[:2]))


def _no_larger(pixels: Pixels) -> Pixels:
    factor = LONGEST_PX / pixels.shape[1]
    if factor >= 1:
        return pixels
    return resize(pixels, *(max(round(side * factor), 1) for side in pixels.shape[:2]))


def _uncropped(pixels: Pixels, crop: Crop) -> Pixels:
    """Put a cropped panorama back where its XMP says it lies."""
    factor = min(LONGEST_PX, crop.full_width) / crop.full_width
    width = round(crop.full_width * factor)
    whole = _empty(max(width // 2, 1), width)
    top, left = round(crop.top * factor), round(crop.left * factor)
    high, wide = max(round(crop.height * factor), 1), max(round(crop.width * factor), 1)
    target = whole[top : top + high, left : left + wide]
    target[:] = resize(pixels, high, wide)[: len(target), : target.shape[1]]
    return whole


def _empty(height: int, width: int) -> Pixels:
    return np.full((height, width, 3), FILL_RGB, dtype=np.uint8)


def require_rgb(pixels: Pixels) -> None:
    """Raises :class:`PictureError` unless pixels are (H, W, 3) uint8."""
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise PictureError(
            f"picture has shape {pixels.shape} and type {pixels.dtype}: expected (H, W, 3) uint8 RGB"
        )
