"""Photographs: which are missing, and whether every byte of the others decodes.

Decoding all of VIGOR takes minutes, so what was looked at is remembered (size and date of the
file): an interrupted check goes on where it stopped, and a second one takes seconds.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from joblib import Parallel, delayed
from PIL import Image, UnidentifiedImageError
from tqdm.auto import tqdm

from data_prep.doctor import findings as f
from data_prep.doctor.findings import Findings
from data_prep.doctor.read import parses
from vigorlib.files import write_atomically

FORMATS = {"panorama": "JPEG", "satellite": "PNG"}
SAVE_EVERY_S = 20.0
FEW = 500
"""So many photographs are decoded sooner than processes start."""


class Look(NamedTuple):
    """What decoding a file gave. problem: '' if it decoded; digest: of its bytes, '' if unread."""

    problem: str
    width: int = 0
    height: int = 0
    format: str = ""
    digest: str = ""


@dataclass(frozen=True)
class Folder:
    """One view of one city on disk. present: file name -> (bytes, date in ns)."""

    root: Path
    city: str
    view: str
    present: dict[str, tuple[int, int]]

    @classmethod
    def scan(cls, root: Path, city: str, view: str) -> Folder:
        path = root / city / view
        present = {}
        if path.is_dir():
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_file():
                        status = entry.stat()
                        present[entry.name] = (status.st_size, status.st_mtime_ns)
        return cls(root, city, view, present)

    def file(self, name: str) -> str:
        """A file's name under the root."""
        return f"{self.city}/{self.view}/{name}"


def check_presence(folder: Folder, wanted: set[str], found: Findings) -> list[str]:
    """Report what is missing or astray; returns the names worth opening.

    wanted: names in the label files; where there are none, every photograph is worth it.
    """
    city, names = folder.city, set(folder.present)
    named_right = {name for name in names if parses(name, folder.view)}
    found.add(f.STRAY, city, map(folder.file, sorted(names - named_right)))
    if not wanted:
        return sorted(named_right)
    found.add(f.MISSING, city, map(folder.file, sorted(wanted - names)))
    found.add(f.UNUSED, city, map(folder.file, sorted(named_right - wanted)))
    return sorted(wanted & names)


# -- decoding --------------------------------------------------------------------------------


def look(path: Path) -> Look:
    """Read and decode a file whole."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return Look(f"cannot be read: {error.strerror}")
    digest = hashlib.blake2b(data, digest_size=12).hexdigest()
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return Look("", image.width, image.height, str(image.format), digest)
    except UnidentifiedImageError:
        problem = "no image" if data else "0 bytes"
    except Exception as error:  # damaged bytes make the decoders raise all sorts of errors
        problem = f"{type(error).__name__}: {error}"
    return Look(problem, digest=digest)


class Memory:
    """What was looked at, in one JSON file: path under the root -> bytes, date, what was seen."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._seen: dict[str, list[Any]] = {}
        self._saved = time.monotonic()
        try:
            read = json.loads(file.read_text(encoding="utf-8"))
            self._seen = {
                str(name): [*map(int, row[:2]), *Look(*row[2:])] for name, row in read.items()
            }
        except (OSError, ValueError, TypeError, AttributeError):
            pass  # none yet, or damaged: everything is looked at again

    def get(self, file: str, status: tuple[int, int]) -> Look | None:
        """What was seen of a file, if its size and date are still the same."""
        row = self._seen.get(file)
        return Look(*row[2:]) if row and tuple(row[:2]) == status else None

    def put(self, file: str, status: tuple[int, int], seen: Look) -> None:
        """Remember; but not that a file could not be read, which may pass."""
        if seen.digest:
            self._seen[file] = [*status, *seen]
        if time.monotonic() - self._saved > SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        text = json.dumps(self._seen, separators=(",", ":"))
        write_atomically(self.file, lambda partial: partial.write_text(text, encoding="utf-8"))
        self._saved = time.monotonic()


def decode(
    folders: Sequence[tuple[Folder, list[str]]], memory: Memory, workers: int, progress: bool
) -> dict[str, Look]:
    """Look at files in parallel, those in memory excepted. File under the root -> what was seen."""
    seen: dict[str, Look] = {}
    todo: list[tuple[Path, str, tuple[int, int]]] = []
    for folder, names in folders:
        for name in names:
            file, status = folder.file(name), folder.present[name]
            if known := memory.get(file, status):
                seen[file] = known
            else:
                todo.append((folder.root / file, file, status))
    looks = _look_at([path for path, *_ in todo], workers)
    # disable=None: a bar on a terminal, none in a log
    bar = tqdm(looks, "decoding", len(todo), unit="image", disable=None if progress else True)
    try:
        for (_, file, status), one in zip(todo, bar, strict=True):
            seen[file] = one
            memory.put(file, status, one)
    finally:
        if todo:
            memory.save()
    return seen


def _look_at(paths: list[Path], workers: int) -> Iterator[Look]:
    if workers == 1 or len(paths) < FEW:
        return map(look, paths)
    return Parallel(n_jobs=workers, return_as="generator")(delayed(look)(path) for path in paths)  # type: ignore[no-any-return]


def check_looks(
    city: str, view: str, seen: dict[str, Look], size: tuple[int, int] | None, found: Findings
) -> None:
    """Report what is wrong with the photographs of a folder. size: (width, height) expected."""
    found.add(
        f.UNDECODABLE, city, (f"{file}: {one.problem}" for file, one in seen.items() if one.problem)
    )
    good = {file: one for file, one in seen.items() if not one.problem}
    found.add(
        f.WRONG_FORMAT,
        city,
        (f"{file}: {one.format}" for file, one in good.items() if one.format != FORMATS[view]),
    )
    _check_sizes(city, view, good, size, found)
    same: dict[str, list[str]] = defaultdict(list)
    for file, one in good.items():
        same[one.digest].append(file)
    found.add(
        f.IDENTICAL,
        city,
        (f"{file} = {files[0]}" for files in same.values() for file in files[1:]),
    )


def _check_sizes(
    city: str, view: str, good: dict[str, Look], size: tuple[int, int] | None, found: Findings
) -> None:
    sizes = Counter((one.width, one.height) for one in good.values())
    if size is None or not sizes:
        return
    expected = f"expected {size[0]} x {size[1]}"
    if len(sizes) == 1 and len(good) > 1 and size not in sizes:
        ((width, height),) = sizes
        found.add(f.RESIZED, city, [f"{city}/{view}: {width} x {height}, {expected}"])
        return
    wrong = (
        f"{file}: {one.width} x {one.height}, {expected}"
        for file, one in good.items()
        if (one.width, one.height) != size
    )
    found.add(f.WRONG_SIZE, city, wrong)
