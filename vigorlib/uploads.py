"""Pictures from strangers: bytes -> pixels, or one clear sentence why not.

Nothing about an upload is trusted. What it is, its content says, not its name; how large it is, its
header says before anything is decoded. Decoding happens in a process of its own with a limit on
time and memory, so that neither a decompression bomb nor a fault in a decoder reaches the session.
No setting of Pillow is changed.
"""

from __future__ import annotations

import dataclasses
import html
import io
import json
import os
import re
import subprocess
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vigorlib.exif import Crop, Shot, read_shot
from vigorlib.pictures import FILL_RGB, FORMATS, PixelError, upright_rgb

__all__ = [
    "FILL_RGB",
    "FORMATS",
    "LIMITS",
    "Limits",
    "Upload",
    "UploadError",
    "decode",
    "read_picture",
    "read_upload",
    "safe_label",
]

NO_PICTURE = "expected a JPEG, PNG, WebP or TIFF picture (its content counts, not its name)"


class UploadError(ValueError):
    """An upload that is no picture, a damaged one, or one too large."""


@dataclass(frozen=True)
class Limits:
    """What is accepted. Larger pictures than ``longest_px`` are decoded, then made smaller.

    seconds: for decoding; bytes, pixels: of the upload; memory_bytes: of the decoding process.
    """

    bytes: int = 40_000_000
    pixels: int = 120_000_000
    least_px: int = 16
    longest_px: int = 4096
    seconds: float = 20.0
    memory_bytes: int = 3 * 2**30


@dataclass(frozen=True)
class Upload:
    """A picture that was found good.

    pixels: (H, W, 3) uint8 RGB, upright; kind: JPEG, PNG, WEBP or TIFF; original_px: (width,
    height) before it was made smaller; shot: what EXIF and XMP say.
    """

    pixels: NDArray[np.uint8]
    kind: str
    original_px: tuple[int, int]
    shot: Shot


LIMITS = Limits()


def read_upload(data: bytes, limits: Limits = LIMITS) -> Upload:
    """Decode an upload in a process of its own.

    Raises :class:`UploadError` for anything but a whole JPEG, PNG, WebP or TIFF within the limits.
    """
    data = bytes(data)
    _require_plausible(data, limits)
    settings = json.dumps(dataclasses.asdict(limits))
    code = "import sys; sys.path.insert(0, sys.argv[1]); from vigorlib import uploads; uploads._child()"
    command = [sys.executable, "-P", "-c", code, str(Path(__file__).parent.parent), settings]
    single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # less address space, no pools
    try:
        done = subprocess.run(
            command, input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=limits.seconds,
            env={**os.environ, **single}, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise UploadError(
            f"the picture was not decoded after {limits.seconds:g} s: expected one that decodes "
            "quickly; save it anew, smaller, and try again"
        ) from None
    return _answer(done)


def read_picture(path: str | Path, limits: Limits = LIMITS) -> Upload:
    """:func:`read_upload` of a file; no more of it is read than the limit allows."""
    try:
        with Path(path).open("rb") as file:
            return read_upload(file.read(limits.bytes + 1), limits)
    except (FileNotFoundError, IsADirectoryError):
        raise UploadError(f"{str(path)!r} is not a file: {NO_PICTURE}") from None


def decode(data: bytes, limits: Limits = LIMITS) -> Upload:
    """:func:`read_upload` in this process: no limit on time and memory. For trusted bytes."""
    _require_plausible(data, limits)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _require_size(image.size, limits)
            kind, original, shot = image.format or "", image.size, read_shot(image)
            if image.format in ("JPEG", "MPO"):  # decodes at 1/2, 1/4 where that is enough
                image.draft(None, (limits.longest_px, limits.longest_px))
            pixels = _upright_rgb(image, limits.longest_px)
    except (UploadError, MemoryError):
        raise
    except PixelError as error:
        raise UploadError(str(error)) from None
    except Image.DecompressionBombError:
        raise UploadError(_too_many_pixels("over 178", limits)) from None
    except Exception as error:  # a damaged file can raise anything: struct.error, KeyError, ...
        raise UploadError(
            f"the picture cannot be decoded ({_first_line(error)}): it is truncated or damaged; "
            f"{NO_PICTURE}"
        ) from None
    return Upload(pixels, "JPEG" if kind == "MPO" else kind, original, shot)


def safe_label(name: str, longest: int = 60) -> str:
    """A file's name as text for a page: no folders, no control or direction marks, HTML escaped."""
    last = str(name).replace("\\", "/").rsplit("/", 1)[-1]
    shown = "".join(c for c in last if unicodedata.category(c)[0] != "C").strip()
    if len(shown) > longest:
        shown = shown[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return html.escape(shown or "picture", quote=True)


# -- checks ----------------------------------------------------------------------------------


def _require_plausible(data: bytes, limits: Limits) -> None:
    """Size and first bytes, before anything looks closer."""
    if not data:
        raise UploadError(f"the file is empty (0 bytes): {NO_PICTURE}")
    if len(data) > limits.bytes:
        raise UploadError(
            f"the file is larger than {limits.bytes / 1e6:.0f} MB: expected at most that; save it "
            "smaller (the network sees a few hundred pixels)"
        )
    webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    starts = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*")
    if not (webp or data.startswith(starts)):
        raise UploadError(f"the file begins with the bytes {data[:8].hex(' ')}: {NO_PICTURE}")


def _require_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width * height > limits.pixels:
        raise UploadError(
            _too_many_pixels(f"{width} x {height}, {width * height / 1e6:.0f}", limits)
        )
    if min(width, height) < limits.least_px:
        raise UploadError(
            f"the picture is {width} x {height} pixels: expected at least {limits.least_px} on "
            "each side"
        )


def _too_many_pixels(what: str, limits: Limits) -> str:
    return (
        f"the picture has {what} million pixels: expected at most {limits.pixels / 1e6:.0f} "
        "million; it was not decoded. Save it smaller"
    )


# -- pixels ----------------------------------------------------------------------------------


def _upright_rgb(image: Image.Image, longest: int) -> NDArray[np.uint8]:
    """Decode the first frame; (H, W, 3) RGB as it is meant to be seen, at most ``longest`` wide."""
    shown = upright_rgb(image)
    width, height = shown.size
    if (factor := longest / max(width, height)) < 1:
        size = (max(round(width * factor), 1), max(round(height * factor), 1))
        shown = shown.resize(size, Image.Resampling.BOX)
    return np.asarray(shown, dtype=np.uint8)


# -- the decoding process --------------------------------------------------------------------


def _child() -> None:
    """Bytes from stdin; to stdout one line of JSON, then the pixels."""
    limits = Limits(**json.loads(sys.argv[2]))
    _limit_memory(limits.memory_bytes)
    pixels = b""
    try:
        upload = decode(sys.stdin.buffer.read(), limits)
        answer = {
            "shape": upload.pixels.shape, "kind": upload.kind, "original_px": upload.original_px,
            "shot": dataclasses.asdict(upload.shot),
        }  # fmt: skip
        pixels = upload.pixels.tobytes()
    except UploadError as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": "the picture needs too much memory to decode: save it smaller"}
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + pixels)


def _limit_memory(count: int) -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (count, count))
    except (ImportError, ValueError, OSError):  # Windows, or a system that has no such limit
        pass


def _answer(done: subprocess.CompletedProcess[bytes]) -> Upload:
    line, _, pixels = done.stdout.partition(b"\n")
    try:
        answer = json.loads(line)
    except ValueError:
        raise UploadError(
            f"the decoder stopped (status {done.returncode}): the picture is damaged or made to "
            f"do harm; {NO_PICTURE}"
        ) from None
    if "error" in answer:
        raise UploadError(answer["error"])
    shot = answer["shot"]
    shot["latlon"] = tuple(shot["latlon"]) if shot["latlon"] else None
    shot["crop"] = Crop(**shot["crop"]) if shot["crop"] else None
    array = np.frombuffer(pixels, dtype=np.uint8).reshape(answer["shape"])
    return Upload(array, answer["kind"], tuple(answer["original_px"]), Shot(**shot))


def _first_line(error: BaseException) -> str:
    """Without what a file could have put there to be taken for HTML."""
    lines = re.sub(r"[^\w .,:;()/+\n-]", "?", str(error)).splitlines()
    return lines[0][:120] if lines else type(error).__name__
