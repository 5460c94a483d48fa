"""Photographs resized once, many in one file: what `python -m data_prep.cache` writes.

::

    <cache>/panorama-320x640-jpeg95/<City>/<id>.pack    some 256 images, one after the other
                                           <id>.json    its index: whose images, where they end

The cache is ``$VIGOR_BOOK_CACHE``, else ``<root>/.pixels``. A pack is whole or not there, never
altered, and named by what it holds, so a cache may be built, repaired or copied while it is read.
A size or kind of its own has a folder of its own. Copies must keep the originals' dates (``cp -a``,
``rsync -a``): an original of another size or date counts as changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vigorlib.files import write_atomically, write_json
from vigorlib.images import ImageError

FORMAT = 1
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")
Fingerprint = tuple[int, int]
"""Bytes and date (ns) of an original."""


def cache_folder(root: Path) -> Path:
    """Where the cache of a copy of VIGOR is, or would be."""
    return Path(os.environ.get("VIGOR_BOOK_CACHE") or root / ".pixels")


def originals(folder: Path) -> dict[str, Fingerprint]:
    """The images of a folder by name, in one pass over it; empty when it does not exist."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {
            entry.name: (status.st_size, status.st_mtime_ns)
            for entry in entries
            if entry.name.lower().endswith(IMAGE_ENDINGS) and not entry.name.startswith(".")
            if entry.is_file() and (status := entry.stat())
        }


# -- packs -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Index:
    """What a pack holds: image i is bytes ends[i - 1] to ends[i], made from the original
    ``names[i]`` when that had ``sizes[i]`` bytes and the date ``dates_ns[i]``."""

    names: list[str]
    sizes: list[int]
    dates_ns: list[int]
    ends: list[int]
    sha256: str

    @property
    def identity(self) -> str:
        """Sixteen characters that change with every bit of the pack and of this index."""
        text = json.dumps([FORMAT, *vars(self).values()])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def fingerprints(self) -> dict[str, Fingerprint]:
        return dict(zip(self.names, zip(self.sizes, self.dates_ns, strict=True), strict=True))


def write_pack(folder: Path, images: dict[str, tuple[Fingerprint, bytes]]) -> str:
    """Store encoded images; returns the pack's identity. Raises StorageError on a full disk.

    Each file is on the disk before the next is begun: the index comes after the bytes.
    """
    data = [encoded for _, encoded in images.values()]
    index = Index(
        names=list(images),
        sizes=[size for (size, _), _ in images.values()],
        dates_ns=[date for (_, date), _ in images.values()],
        ends=np.cumsum([len(encoded) for encoded in data]).tolist(),
        sha256=_sha256(data),
    )

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            file.writelines(data)

    write_atomically(folder / f"{index.identity}.pack", write)
    write_json(folder / f"{index.identity}.json", {"format": FORMAT, **vars(index)})
    return index.identity


def read_indexes(folder: Path) -> dict[Path, Index]:
    """The packs of a folder that look whole: their index reads, their length is right."""
    found = {}
    for file in sorted(folder.glob("*.json")):
        pack = file.with_suffix(".pack")
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            if values.pop("format") == FORMAT:
                index = Index(**values)
                if index.identity == file.stem and pack.stat().st_size == index.ends[-1]:
                    found[pack] = index
        except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError):
            continue  # damaged or half copied: as if it were not there
    return found


def is_sound(pack: Path, index: Index) -> bool:
    """Read all of a pack and compare it with its checksum."""
    with pack.open("rb") as file:
        return _sha256(iter(lambda: file.read(1 << 20), b"")) == index.sha256


def _sha256(blocks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


# -- reading ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class CachedImages:
    """Some images in a cache: ``images[i]`` -> (height, width, 3) uint8.

    packs: (N,) which of ``files``; spans: (N, 2) first byte and last + 1. Holds no open file, so
    it may be handed to any process and a cache may have any number of packs.
    """

    kind: str
    height: int
    width: int
    files: list[Path]
    packs: NDArray[np.int64]
    spans: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.packs)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        file, (start, end) = self.files[self.packs[index]], self.spans[index]
        try:
            with file.open("rb", buffering=0) as pack:
                pack.seek(start)
                encoded = pack.read(end - start)
            pixels = np.frombuffer(encoded, np.uint8)
            if self.kind != "raw":
                pixels = _decode(pixels)
            return pixels.reshape(self.height, self.width, 3)
        except (OSError, ValueError, cv2.error) as error:
            raise ImageError(
                f"image {index} cannot be read from {file} ({error}): the cache was rebuilt "
                "meanwhile or is damaged. Run `python -m data_prep.cache ROOT --verify`, the same "
                "without --verify, and start again (training goes on from its checkpoint)"
            ) from None


def _decode(encoded: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """JPEG -> RGB: the same bits as Pillow's, in about half the time."""
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    if decoded is None:
        raise ValueError(f"{len(encoded)} bytes that are no JPEG")
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def find(
    paths: Sequence[Path], height: int, width: int, cache: Path | None = None
) -> CachedImages | None:
    """The images of ``paths`` (``<root>/<City>/<view>/<name>``, one view) in the cache of the root.

    None, with a warning when there is a cache, if a single one is missing, unfinished, of another
    size or made from an original that has changed: pixels of one set come from one place. Where
    the folder of originals does not exist, a cache and the label files are a copy to work with.
    """
    if not paths:
        return None
    view, root = paths[0].parent.name, paths[0].parents[2]
    cache = cache or cache_folder(root)
    lacking: dict[str, int] = {}
    for folder in sorted(cache.glob(f"{view}-*x*-*"), reverse=True):  # raw before jpeg95
        _, size, kind = folder.name.rsplit("-", 2)
        lacking[folder.name] = len(paths)
        if size == f"{height}x{width}":
            images, lacking[folder.name] = _look_up(folder, kind, paths, height, width)
            if not lacking[folder.name]:
                return images
    if lacking:
        missing = ", ".join(f"{name} lacks {count:,}" for name, count in lacking.items())
        warnings.warn(
            f"{len(paths):,} images of {view} at {height}x{width} are decoded from the originals, "
            f"which is slow: in {cache}, {missing} of them (or these have changed since). "
            f"`python -m data_prep.cache {root}` with this size brings the cache up to date",
            stacklevel=2,
        )
    return None


def _look_up(
    folder: Path, kind: str, paths: Sequence[Path], height: int, width: int
) -> tuple[CachedImages, int]:
    """The images and how many of them the folder lacks."""
    wanted = [os.path.split(path) for path in paths]  # strings: Path would take seconds
    files: list[Path] = []
    places: dict[str, dict[str, tuple[int, int, int]]] = {}
    for source in map(Path, {source for source, _ in wanted}):
        present = originals(source) if source.is_dir() else None
        here = places.setdefault(str(source), {})
        for pack, index in read_indexes(folder / source.parent.name).items():
            starts = [0, *index.ends]
            for i, (name, fingerprint) in enumerate(index.fingerprints().items()):
                if present is None or present.get(name) == fingerprint:
                    here[name] = (len(files), starts[i], starts[i + 1])
            files.append(pack)
    found = [place for source, name in wanted if (place := places[source].get(name))]
    table = np.array(found, dtype=np.int64).reshape(-1, 3)
    images = CachedImages(kind, height, width, files, table[:, 0], table[:, 1:])
    return images, len(paths) - len(found)
