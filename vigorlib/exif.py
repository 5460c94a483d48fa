"""What a photograph says of itself: where it was taken, which way it looks, how wide it sees.

Nothing here decodes pixels, and nothing that a file says is believed beyond its possible range: a
value that cannot be is as good as none.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image

DIAGONAL_35MM = math.hypot(36.0, 24.0)
"""Of the picture that "35 mm equivalent" refers to (CIPA DCG-001), in mm."""
XMP_KEYS = ("xmp", "XML:com.adobe.xmp")
TIFF_XMP = 700
ORIENTATIONS_ON_THEIR_SIDE = (5, 6, 7, 8)


@dataclass(frozen=True)
class Crop:
    """Where a picture lies in its whole panorama, in pixels of that (GPano's Cropped Area)."""

    full_width: int
    full_height: int
    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Shot:
    """What a photograph's EXIF and XMP tell; None where they are silent.

    latlon: degrees. heading_deg: of the picture's centre column, clockwise from north.
    fov_deg: horizontal field of view, of the picture as it is seen upright.
    panorama: whether it says to be equirectangular; crop: and which part of one.
    """

    latlon: tuple[float, float] | None = None
    heading_deg: float | None = None
    fov_deg: float | None = None
    panorama: bool = False
    crop: Crop | None = None


def read_shot(image: Image.Image) -> Shot:
    """Read an opened photograph's EXIF (GPS, direction, focal length) and XMP (GPano)."""
    try:
        exif = image.getexif()
        gps = dict(exif.get_ifd(ExifTags.IFD.GPSInfo))
        detail = dict(exif.get_ifd(ExifTags.IFD.Exif))
    except Exception:  # damaged tags, in any of Pillow's ways: the picture may still be fine
        gps, detail = {}, {}
    size = image.size[::-1] if orientation(image) in ORIENTATIONS_ON_THEIR_SIDE else image.size
    xmp = _xmp(image)
    pose, heading = _tag(xmp, "PoseHeadingDegrees"), _number(gps.get(ExifTags.GPS.GPSImgDirection))
    heading = heading if pose is None else pose
    return Shot(
        latlon=_latlon(gps),
        heading_deg=heading % 360 if heading is not None and abs(heading) <= 360 else None,
        fov_deg=field_of_view(_number(detail.get(ExifTags.Base.FocalLengthIn35mmFilm)), *size),
        panorama="equirectangular" in xmp.lower(),
        crop=_crop(xmp, image.size),
    )


def orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 (upright) where it is not told."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged tags
        return 1


def field_of_view(focal_35mm: float | None, width: int, height: int) -> float | None:
    """Horizontal field of view in degrees from the 35 mm equivalent focal length in mm.

    The equivalent keeps the diagonal's angle, so this holds for any aspect ratio and for upright
    pictures. None without a focal length between 4 and 1000 mm.
    """
    if focal_35mm is None or not 4 <= focal_35mm <= 1000:
        return None
    focal_px = focal_35mm / DIAGONAL_35MM * math.hypot(width, height)
    return math.degrees(2 * math.atan(width / 2 / focal_px))


# -- helpers ---------------------------------------------------------------------------------


def _number(value: Any) -> float | None:
    """A finite number, or None; EXIF rationals may divide by zero."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _latlon(gps: dict[int, Any]) -> tuple[float, float] | None:
    lat = _degrees(gps.get(ExifTags.GPS.GPSLatitude), gps.get(ExifTags.GPS.GPSLatitudeRef), "S")
    lon = _degrees(gps.get(ExifTags.GPS.GPSLongitude), gps.get(ExifTags.GPS.GPSLongitudeRef), "W")
    if lat is None or lon is None or abs(lat) >= 90 or abs(lon) > 180 or lat == lon == 0:
        return None  # (0, 0) is what cameras write that have no fix
    return lat, lon


def _degrees(parts: Any, reference: Any, negative: str) -> float | None:
    try:
        numbers = [_number(part) for part in parts][:3]
    except TypeError:
        return None
    if not numbers or any(number is None for number in numbers):
        return None
    value = sum(number / 60**i for i, number in enumerate(numbers) if number is not None)
    text = reference.decode("ascii", "replace") if isinstance(reference, bytes) else str(reference)
    return -value if text.strip("\0 ").upper() == negative else value


def _xmp(image: Image.Image) -> str:
    """The XMP packet as text, its first 64 kB: searched, never parsed as XML."""
    raw: Any = next((image.info[key] for key in XMP_KEYS if image.info.get(key)), None)
    if raw is None and (tags := getattr(image, "tag_v2", None)) is not None:
        raw = tags.get(TIFF_XMP)
    if isinstance(raw, bytes):
        return raw[:65536].decode("utf-8", "replace")
    return raw[:65536] if isinstance(raw, str) else ""


def _tag(xmp: str, name: str) -> float | None:
    """``GPano:Name="1.5"`` or ``<GPano:Name>1.5</GPano:Name>``."""
    found = re.search(rf"GPano:{name}\s*(?:=\s*[\"']|>)\s*([-+0-9.eE]{{1,24}})", xmp)
    return _number(found[1]) if found else None


def _crop(xmp: str, size: tuple[int, int]) -> Crop | None:
    """The cropped area, if it lies in its panorama; given in pixels of the whole one."""
    names = (
        "FullPanoWidthPixels", "FullPanoHeightPixels", "CroppedAreaLeftPixels",
        "CroppedAreaTopPixels", "CroppedAreaImageWidthPixels", "CroppedAreaImageHeightPixels",
    )  # fmt: skip
    values = [_tag(xmp, name) for name in names]
    if any(value is None for value in values):
        return None
    crop = Crop(*(int(value) for value in values if value is not None))
    inside = (
        0 <= crop.left <= crop.full_width - crop.width
        and 0 <= crop.top <= crop.full_height - crop.height
        and crop.width > 0
        and crop.height > 0
        and crop.full_width <= 100_000
        and abs(crop.full_width / crop.full_height - 2) < 0.05
    )
    return crop if inside else None
