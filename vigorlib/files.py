"""Writing so that nothing is lost: a file is there whole or not at all, and damage is noticed.

A file is written under a name of its own beside its place (``.NAME.HOST-PID-THREAD.partial``),
pushed to the disk, then moved into place in one step. What a killed process leaves half-written is
removed by the next one that works in the folder (:func:`remove_leftovers`).
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

CHECKSUM = "checksum"
"""The key of a sealed value's own digest."""
NOBODYS_FAULT = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
"""Errors of the disk or of rights, not of the program."""
ROOM = 1 << 20
"""A disk with less than this left, in bytes, is full whatever a writer's message says."""
PARTIAL = re.compile(r"\.(?:(?P<host>[^.]*)-(?P<pid>\d+)-\d+|(?P<old>\d+))\.partial$")


class StorageError(OSError):
    """A file cannot be written: the disk is full, or the folder may not be written to."""

    def __str__(self) -> str:
        return str(self.strerror or super().__str__())


class DamagedFile(ValueError):
    """A file is not what was written: truncated, altered, or of another version."""


# -- writing ---------------------------------------------------------------------------------


def write_atomically(
    path: Path, write: Callable[[Path], object], previous: Path | None = None, push: bool = True
) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then move it into place.

    previous: where what is at ``path`` goes, once the new file is whole. push: wait until the disk
    has it, milliseconds that add up over thousands of files: a power cut may leave one empty
    without. Raises :class:`StorageError` when disk or rights are in the way; nothing half-written
    stays.
    """
    partial = partial_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        if push:
            _push(partial)
        if previous is not None and path.exists():
            path.replace(previous)
        partial.replace(path)
        if push:
            _push(path.parent)
    except Exception as error:
        raise storage_error(path, error) or error from None
    finally:
        _remove(partial)


def write_json(path: Path, value: Any, previous: Path | None = None) -> None:
    """Pretty JSON, one atomic step."""
    text = json.dumps(value, indent=1, sort_keys=False) + "\n"
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"), previous)


def partial_name(path: Path) -> Path:
    """Where this thread of this process may write before it moves a file to ``path``."""
    return path.with_name(
        f".{path.name}.{_host()}-{os.getpid()}-{threading.get_native_id()}.partial"
    )


def new_array(path: Path, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An array on disk (``.npy``, memory-mapped) whose room is taken at once.

    A sparse one would end the process with SIGBUS when the disk fills up. Raises StorageError.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        return array
    except OSError as error:
        _remove(path)
        raise storage_error(path, error) or error from None


def require_room(folder: Path, wanted: float, what: str) -> None:
    """Raise :class:`StorageError` when the disk of ``folder`` has less than ``wanted`` bytes."""
    free = shutil.disk_usage(_there(folder)).free
    if free < wanted:
        raise StorageError(
            errno.ENOSPC,
            f"the disk of {folder} has {free / 1e6:,.1f} MB free: expected {wanted / 1e6:,.1f} MB "
            f"for {what}. Make room and start again",
        )


def storage_error(path: Path, error: Exception) -> StorageError | None:
    """The error in words that help, if disk or rights are to blame; None for any other."""
    if isinstance(error, StorageError):
        return error
    number = error.errno if isinstance(error, OSError) else None
    free = shutil.disk_usage(_there(path.parent)).free
    if number is None and (free < ROOM or "No space left" in str(error)):
        number = errno.ENOSPC  # writers of their own kind: torch, safetensors
    if number not in NOBODYS_FAULT:
        return None
    if found := PARTIAL.search(path.name):  # people know the file by its own name
        path = path.with_name(path.name[: found.start()].removeprefix("."))
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        mend = f"expected room for it ({free / 1e6:,.1f} MB are free). Make room and start again"
    else:
        mend = (
            "expected a folder of yours that may be written to. Name another or change its rights"
        )
    return StorageError(
        number, f"{path} cannot be written ({os.strerror(number)}): {mend}; what was there stays"
    )


def _push(path: Path) -> None:
    """To the disk, so that a power cut leaves the old file or the new one."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:  # folders cannot be opened on Windows
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # the folder went away or may not be written to: nothing was left there
        pass


def _there(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())


# -- what killed processes leave -------------------------------------------------------------


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove half-written files in ``folder`` whose process is dead. Returns them.

    Those of living processes, and of other machines that share the folder, stay.
    """
    removed = []
    for file in folder.glob("*.partial") if folder.is_dir() else ():
        found = PARTIAL.search(file.name)
        if found is None or (found["host"] is not None and found["host"] != _host()):
            continue
        if not is_alive(int(found["pid"] or found["old"])):
            _remove(file)
            removed.append(file)
    return removed


def is_alive(pid: int) -> bool:
    """Whether a process of this machine runs; True where that cannot be told."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _host() -> str:
    return re.sub(r"[^\w-]", "_", socket.gethostname())


# -- checksums -------------------------------------------------------------------------------


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(value: dict[str, Any]) -> dict[str, Any]:
    """A JSON object with a checksum of itself, as its last entry."""
    rest = {key: entry for key, entry in value.items() if key != CHECKSUM}
    return {**rest, CHECKSUM: _digest(rest)}


def read_sealed(path: Path) -> dict[str, Any]:
    """A JSON object from a file, compared with its checksum if it has one.

    Raises :class:`DamagedFile` when it is not what was written.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is damaged ({error}): expected whole JSON") from None
    if not isinstance(value, dict):
        raise DamagedFile(f"{path} holds a {type(value).__name__}: expected a JSON object")
    if CHECKSUM in value:
        rest = {key: entry for key, entry in value.items() if key != CHECKSUM}
        if value[CHECKSUM] != _digest(rest):
            raise DamagedFile(f"{path} is damaged: it was altered after its checksum was taken")
    return value


def _digest(value: Any) -> str:
    """Of what the value is as JSON, whatever its layout and the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
