"""Photographs -> uint8 pixels at the network's size, decoded once.

``Pixels`` hands out batches straight from the files or from a cache of them (any size of data set,
with loader processes; see :mod:`vigorlib.image_cache`), or from one memory-mapped array written on
first use (small profiles: no epoch decodes anything). Resizing averages areas, as the released
loader does.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm.auto import tqdm

from vigorlib.dataset import Places
from vigorlib.files import StorageError, new_array, remove_leftovers, write_atomically
from vigorlib.geometry import TILE_PX, mercator_px
from vigorlib.pictures import FORMATS, upright_rgb

if TYPE_CHECKING:
    from vigorlib.image_cache import CachedImages


LOADER_PROCESSES = 8
"""How many processes decode photographs beside a network, where there are as many cores."""


DRAFT = 1.5
"""How much larger than wanted a picture is decoded, at least: an average over areas hides the rest."""


class ImageError(ValueError):
    """A photograph is missing, truncated or no image at all."""


def read_image(path: str | Path, height: int = 0, width: int = 0) -> NDArray[np.uint8]:
    """Decode an image to RGB (H, W, 3) uint8, area-averaged to height x width if those are given.

    Its content says what it is, not its name. 16 bits keep their brightness, transparency shows the
    mean colour, EXIF turns it upright. A JPEG of three times the size or more is decoded at half (a
    quarter, ...) of it, by whole frequencies left out: VIGOR's panoramas in a third of the time, 0.4
    grey levels off in the mean. Raises :class:`ImageError` for anything but a whole picture.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.format == "JPEG" and height and width:
                image.draft(None, (round(DRAFT * width), round(DRAFT * height)))
            pixels = np.asarray(upright_rgb(image))
    except FileNotFoundError:
        raise ImageError(
            f"image {path} does not exist though the label files name it: the copy is incomplete"
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can raise anything: struct.error, KeyError, ...
        raise ImageError(
            f"image {path} cannot be decoded ({error}): expected a whole JPEG, PNG, WebP or TIFF; "
            "fetch this file again"
        ) from None
    return resize(pixels, height, width) if height and width else pixels


def resize(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """(H, W, 3) -> (height, width, 3), averaging areas (cv2.INTER_AREA, as the original)."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def turned(panoramas: torch.Tensor, columns: NDArray[np.int64]) -> torch.Tensor:
    """Panoramas as seen by cameras that were turned: (B, 3, H, W), each rolled by (B,) columns."""
    return torch.stack(
        [image.roll(int(by), -1) for image, by in zip(panoramas, columns, strict=True)]
    )


class Pixels:
    """Images of one kind at one size: ``pixels[indices]`` -> uint8 tensor (B, 3, H, W), RGB.

    cache: folder for the memory-mapped array, or None to read images at each access: from
    ``stored``, the same images resized before ((H, W, 3) each), else from the files.
    turns: columns by which each image is rolled, for panoramas of unknown heading; None for none.
    Safe to hand to loader processes: nothing is opened before it is needed.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        height: int,
        width: int,
        cache: Path | None = None,
        stored: CachedImages | None = None,
        turns: NDArray[np.int64] | None = None,
    ) -> None:
        self.paths, self.height, self.width = list(paths), height, width
        self.stored, self.turns = stored, turns
        self.file = cache / f"{self._key()}.npy" if cache else None
        self._mapped: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, indices: Sequence[int] | NDArray[np.int64]) -> torch.Tensor:
        if self.file is None:
            batch = np.stack([self._read(i) for i in indices])
        else:
            if self._mapped is None:
                self.prepare()
                self._mapped = np.load(self.file, mmap_mode="r")
            batch = self._mapped[np.asarray(indices)]
        # (B, H, W, 3) seen as (B, 3, H, W): channels-last memory, no copy
        images = torch.from_numpy(batch).permute(0, 3, 1, 2)
        return images if self.turns is None else turned(images, self.turns[np.asarray(indices)])

    @property
    def source(self) -> str:
        """Where the pixels come from: ``originals``, or the kind of cache (``jpeg95``, ``raw``)."""
        return self.stored.kind if self.stored is not None else "originals"

    @property
    def workers(self) -> int:
        """Processes that a loader of these should have: none where nothing is decoded."""
        return 0 if self.file is not None else min(LOADER_PROCESSES, os.cpu_count() or 1)

    def _read(self, index: int) -> NDArray[np.uint8]:
        if self.stored is not None:
            return self.stored[index]
        return read_image(self.paths[index], self.height, self.width)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_mapped": None}

    def prepare(self, progress: bool = True) -> None:
        """Write the memory-mapped array if it is not there (atomically; safe among processes)."""
        if self.file is None or self.file.exists():
            return

        def write(partial: Path) -> None:
            array = new_array(partial, (len(self), self.height, self.width, 3), np.uint8)
            with ThreadPoolExecutor() as pool:
                read = pool.map(lambda path: read_image(path, self.height, self.width), self.paths)
                bar = tqdm(read, total=len(self), desc="decoding", disable=not progress)
                for i, pixels in enumerate(bar):
                    array[i] = pixels
            array.flush()  # type: ignore[attr-defined]

        remove_leftovers(self.file.parent)
        try:
            write_atomically(self.file, write)
        except StorageError as error:
            hint = "VIGOR_BOOK_CACHE names another folder for decoded images"
            raise StorageError(error.errno, f"{error}; {hint}") from None

    def _key(self) -> str:
        """Names, sizes and dates of the sources and the wanted size: a changed source is noticed."""
        digest = hashlib.sha256(f"{self.height}x{self.width}".encode())
        for path in self.paths:
            try:
                status = path.stat()
                digest.update(f"{path.name}:{status.st_size}:{status.st_mtime_ns};".encode())
            except FileNotFoundError:
                digest.update(f"{path.name}:missing;".encode())  # prepare() will name it
        return f"{self.height}x{self.width}-{digest.hexdigest()[:16]}"


def city_mosaic(
    places: Places, city: str, tile_px: int = 24, span_px: float = TILE_PX
) -> tuple[NDArray[np.uint8], Callable[[NDArray[np.float64]], NDArray[np.float64]]]:
    """A city's tiles put together as a map, each ``tile_px`` wide, and where positions are on it.

    span_px: how wide a tile is in pixels of Web-Mercator at zoom 20. Returns the map (H, W, 3) and a function from (..., 2) degrees to (..., 2) pixels [row, column].
    """
    chosen = np.flatnonzero(places.cities == city)
    if not len(chosen):
        raise ValueError(f"no tile of {city!r}: expected one of {sorted(set(places.cities))}")
    scale = tile_px / span_px
    corners = mercator_px(places.latlon[chosen]) - span_px / 2
    origin = corners.min(axis=0)
    width, height = (np.ceil((corners.max(axis=0) - origin) * scale) + tile_px).astype(int)
    canvas = np.full((height, width, 3), 255, dtype=np.uint8)
    for index, corner in zip(chosen, corners, strict=True):
        column, row = np.rint((corner - origin) * scale).astype(int)
        canvas[row : row + tile_px, column : column + tile_px] = read_image(
            places.path(int(index)), tile_px, tile_px
        )

    def to_pixel(latlon: NDArray[np.float64]) -> NDArray[np.float64]:
        return ((mercator_px(latlon) - origin) * scale)[..., ::-1]

    return canvas, to_pixel
