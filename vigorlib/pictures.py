"""An opened picture, of any kind that cameras and services make -> upright RGB pixels.

Free of torch: the process that decodes uploads imports it. No setting of Pillow is changed.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from vigorlib.exif import orientation

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")
"""What is decoded at all: others of Pillow's formats start programs (EPS) or are no photographs."""
FILL_RGB = (124, 117, 104)
"""The mean colour that VIGOR's networks subtract: what they see as nothing."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientations: how to turn a stored picture upright."""


class PixelError(ValueError):
    """Pixels that have no meaning as a photograph."""


def upright_rgb(image: Image.Image) -> Image.Image:
    """The first frame as it is meant to be seen: RGB, turned as EXIF says.

    Raises :class:`PixelError` for floating-point pixels, and whatever Pillow raises for damage.
    """
    image.load()
    turn = TURNS.get(orientation(image))
    shown = _rgb(image)
    return shown if turn is None else shown.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB; what is transparent shows the mean colour."""
    if image.mode == "F":
        raise PixelError("the picture has floating-point pixels: expected 8 or 16 bits a channel")
    if image.mode.startswith("I"):  # 16 bits of grey; Pillow's own conversion would clip at 255
        values = np.asarray(image).clip(0, 65535)
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        rgb = Image.new("RGB", image.size, FILL_RGB)
        rgb.paste(rgba, mask=rgba.getchannel("A"))
        return rgb
    return image.convert("RGB")
