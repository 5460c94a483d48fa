"""Resize a copy of VIGOR once, into packs that training reads fast: ``python -m data_prep.cache ROOT``.

The format and its reader are :mod:`vigorlib.image_cache`; every profile that decodes images while
it trains finds the cache by itself. Building again does only what is missing or has changed.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Optional

import cv2
import joblib
import numpy as np
import typer
from PIL import Image
from tqdm.auto import tqdm

from vigorlib.image_cache import (
    Fingerprint,
    Index,
    cache_folder,
    is_sound,
    originals,
    read_indexes,
    write_pack,
)
from vigorlib.images import ImageError, read_image
from vigorlib.locks import Held, held
from vigorlib.recipes import PROFILES, get_profile

VIGOR_COUNTS = {"panorama": 105_214, "satellite": 90_618}
PACK_IMAGES = 256
"""Images a pack: what an interruption loses, or a changed original costs (seconds)."""
SAMPLE = 16
"""Images a view that are encoded to foretell the size of a JPEG cache."""
MARGIN = 1.1
"""Free space wanted, as a multiple of the foretold size."""


class CacheError(ValueError):
    """The cache cannot be built here."""


@dataclass(frozen=True)
class Encoding:
    """How images are stored. quality: of JPEG (colour at half resolution); 0 for raw uint8."""

    quality: int = 95

    @property
    def kind(self) -> str:
        return f"jpeg{self.quality}" if self.quality else "raw"

    def encode(self, path: Path, height: int, width: int) -> bytes:
        """Decode, average areas, encode. Raises ImageError."""
        pixels = read_image(path, height, width)
        if not self.quality:
            return pixels.tobytes()
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=self.quality)
        return buffer.getvalue()

    def try_encode(self, path: Path, height: int, width: int) -> bytes | ImageError:
        """The same, an error being a result like any other."""
        try:
            return self.encode(path, height, width)
        except ImageError as error:
            return error


@dataclass(frozen=True)
class Shelf:
    """One folder of originals and the folder of packs made of it.

    sound: packs that stay; todo: originals that are in none of them.
    """

    source: Path
    packs: Path
    height: int
    width: int
    sound: dict[Path, Index]
    todo: dict[str, Fingerprint]

    @property
    def view(self) -> str:
        return self.source.name

    @property
    def names(self) -> list[str]:
        return [*self.todo, *(name for index in self.sound.values() for name in index.names)]


# -- planning --------------------------------------------------------------------------------


def plan(
    root: Path, cache: Path, sizes: dict[str, tuple[int, int]], encoding: Encoding
) -> list[Shelf]:
    """What is there and what is to do. sizes: view -> (height, width)."""
    shelves = []
    for view, (height, width) in sizes.items():
        for source in sorted(root.glob(f"[!.]*/{view}")):
            packs = cache / f"{view}-{height}x{width}-{encoding.kind}" / source.parent.name
            if present := originals(source):
                sound, todo = _compare(present, packs)
                shelves.append(Shelf(source, packs, height, width, sound, todo))
    if not shelves:
        raise CacheError(
            f"no image under {root}: expected a copy of VIGOR with <City>/panorama/*.jpg and "
            "<City>/satellite/*.png. Name its folder"
        )
    return shelves


def _compare(
    present: dict[str, Fingerprint], packs: Path
) -> tuple[dict[Path, Index], dict[str, Fingerprint]]:
    """A pack stays if all of its originals are as they were; the rest is to do."""
    sound = {
        pack: index
        for pack, index in read_indexes(packs).items()
        if index.fingerprints().items() <= present.items()
    }
    stored = {name for index in sound.values() for name in index.names}
    return sound, {name: present[name] for name in sorted(present.keys() - stored)}


def mean_bytes(shelves: list[Shelf], encoding: Encoding) -> dict[str, float]:
    """Stored bytes of an image by view: exact for raw, the mean of a sample for JPEG."""
    means = {}
    for view in {shelf.view: None for shelf in shelves}:
        here = [shelf for shelf in shelves if shelf.view == view]
        height, width = here[0].height, here[0].width
        paths = [shelf.source / name for shelf in here for name in shelf.names]
        sample = [paths[i] for i in np.linspace(0, len(paths) - 1, SAMPLE).astype(int)]
        results = [encoding.try_encode(path, height, width) for path in sample]
        lengths = [len(result) for result in results if isinstance(result, bytes)]
        means[view] = float(np.mean(lengths)) if lengths else height * width * 3.0
    return means


def require_space(cache: Path, wanted: float) -> None:
    """Raise CacheError when the disk of ``cache`` has too little room for ``wanted`` bytes more."""
    free = free_bytes(cache)
    if free < wanted * MARGIN:
        raise CacheError(
            f"the disk of {cache} has {_size(free)} free: expected {_size(wanted * MARGIN)}, the "
            "cache and a tenth more. Free some, name a folder on another disk with --out, or "
            "choose --kind jpeg or a lower --quality"
        )


def free_bytes(folder: Path) -> int:
    """Free space on the disk where a folder is or would be."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    return shutil.disk_usage(there).free


# -- building --------------------------------------------------------------------------------


def build(
    shelves: list[Shelf],
    encoding: Encoding,
    jobs: int = 0,
    progress: bool = True,
    pack_images: int = PACK_IMAGES,
) -> list[str]:
    """Write what is to do, then remove packs that are of no use any more.

    Returns a message for each image that cannot be decoded; all others are stored. An interruption
    loses the pack in work.
    """
    failures: list[str] = []
    total = sum(len(shelf.todo) for shelf in shelves)
    with (
        tqdm(total=total, unit="image", desc=encoding.kind, disable=not progress) as bar,
        ThreadPoolExecutor(jobs or joblib.cpu_count()) as pool,
    ):
        for shelf in shelves:
            kept = {pack.stem for pack in shelf.sound}
            names = list(shelf.todo)
            for first in range(0, len(names), pack_images):
                chunk, images = names[first : first + pack_images], {}
                for name, result in _encoded(shelf, chunk, encoding, pool):
                    if isinstance(result, bytes):
                        images[name] = (shelf.todo[name], result)
                    else:
                        failures.append(str(result))
                    bar.update()
                if images:
                    kept.add(write_pack(shelf.packs, images))
            _remove_others(shelf.packs, kept)
    return failures


def _encoded(
    shelf: Shelf, names: list[str], encoding: Encoding, pool: ThreadPoolExecutor
) -> Iterator[tuple[str, bytes | ImageError]]:
    """Images of one pack as they get ready, in order."""
    paths = [shelf.source / name for name in names]
    results = pool.map(lambda path: encoding.try_encode(path, shelf.height, shelf.width), paths)
    return zip(names, results, strict=True)


def _remove_others(packs: Path, kept: set[str]) -> None:
    """Stale packs, and what interrupted builds left half-written."""
    for file in packs.iterdir() if packs.exists() else ():
        if file.stem not in kept and file.suffix in (".json", ".pack", ".partial"):
            file.unlink()


def verify(cache: Path, progress: bool = True) -> list[str]:
    """Read every pack of a cache; remove those that are damaged. Returns a message for each."""
    indexes = sorted(cache.glob("*-*x*-*/*/*.json"))
    if not indexes:
        raise CacheError(f"no cache in {cache}: expected one that was built, by this same command")
    sound: set[Path] = set()
    for folder in {file.parent: None for file in indexes}:
        label = f"{folder.parent.name} {folder.name}"
        bar = tqdm(read_indexes(folder).items(), label, unit="pack", disable=not progress)
        sound |= {pack.with_suffix(".json") for pack, index in bar if is_sound(pack, index)}
    damaged = [file for file in indexes if file not in sound]
    for file in damaged:
        file.unlink()
        file.with_suffix(".pack").unlink(missing_ok=True)
    return [
        f"{file.with_suffix('.pack')} was damaged and is removed: build again" for file in damaged
    ]


# -- command line ----------------------------------------------------------------------------


def main(
    root: Annotated[Path, typer.Argument(help="your copy of VIGOR")],
    profile: Annotated[str, typer.Option(help=f"whose sizes: {', '.join(PROFILES)}")] = "full",
    tile_px: Annotated[int, typer.Option(help="another width and height of tiles")] = 0,
    panorama_width: Annotated[int, typer.Option(help="another width; height is half")] = 0,
    kind: Annotated[str, typer.Option(help="jpeg, or raw: some 7 times the size")] = "jpeg",
    quality: Annotated[int, typer.Option(min=1, max=100, help="of JPEG")] = 95,
    out: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it at run time
        typer.Option(envvar="VIGOR_BOOK_CACHE", help="the cache's folder; default: ROOT/.pixels"),
    ] = None,
    jobs: Annotated[int, typer.Option(help="threads; default: one a core")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say the size")] = False,
    check: Annotated[bool, typer.Option("--verify", help="only check what was built")] = False,
) -> None:
    """Resize VIGOR's images once, averaging areas, into a cache that training finds by itself.

    Safe to interrupt: the same command goes on where it stopped. Run it again when images have
    changed: only those are done again.
    """
    if kind not in ("jpeg", "raw"):
        raise typer.BadParameter(f"unknown kind {kind!r}: expected jpeg or raw")
    cache, encoding = out or cache_folder(root), Encoding(quality if kind == "jpeg" else 0)
    sizes = _sizes(profile, tile_px, panorama_width)
    cv2.setNumThreads(1)  # the threads are the pool's: one image each
    try:
        if check:
            problems = verify(cache)
        elif dry_run:
            _announce(plan(root, cache, sizes, encoding), cache, encoding)
            return
        else:
            with _only_builder(cache):
                shelves = plan(root, cache, sizes, encoding)
                require_space(cache, _announce(shelves, cache, encoding))
                problems = build(shelves, encoding, jobs)
    except CacheError as error:
        problems = [str(error)]
    except OSError as error:
        problems = [
            f"{cache} cannot be written ({error}): expected a folder of yours with room left. What "
            "is stored stays; make room or name another folder with --out, then run this again"
        ]
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise typer.Exit(1)
    typer.echo(f"the cache in {cache} is whole")
    if out and out != root / ".pixels":
        typer.echo(f"for training, set VIGOR_BOOK_CACHE={cache}")


def _sizes(profile: str, tile_px: int, panorama_width: int) -> dict[str, tuple[int, int]]:
    """(height, width) of either view."""
    try:
        chosen = get_profile(profile)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return {
        "panorama": (panorama_width // 2, panorama_width) if panorama_width else chosen.panorama_px,
        "satellite": (tile_px, tile_px) if tile_px else chosen.tile_px,
    }


@contextmanager
def _only_builder(cache: Path) -> Iterator[None]:
    """One builder at a time in a cache."""
    try:
        with held(cache / ".lock", wait=False):
            yield
    except Held as error:
        raise CacheError(f"another process is building in {cache}: {error}") from None


def _announce(shelves: list[Shelf], cache: Path, encoding: Encoding) -> float:
    """Say what is to do and its size; returns the bytes that are to be written."""
    means, wanted = mean_bytes(shelves, encoding), 0.0
    for view, mean in means.items():
        here = [shelf for shelf in shelves if shelf.view == view]
        stored = sum(len(index.names) for shelf in here for index in shelf.sound.values())
        todo = sum(len(shelf.todo) for shelf in here)
        wanted += todo * mean
        typer.echo(
            f"{view} {here[0].height}x{here[0].width} {encoding.kind}: {stored:,} images stored, "
            f"{todo:,} to do, {mean / 1e3:.1f} kB each"
        )
    whole = sum(VIGOR_COUNTS[view] * mean for view, mean in means.items())
    about = "about " if encoding.quality else ""
    typer.echo(
        f"to write: {about}{_size(wanted)}; free in {cache}: {_size(free_bytes(cache))} "
        f"(all of VIGOR at these sizes: {about}{_size(whole)})"
    )
    return wanted


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


if __name__ == "__main__":
    typer.run(main)
