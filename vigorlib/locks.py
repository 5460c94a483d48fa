"""One at a time, among processes: a file lock that says who holds it.

The lock is the operating system's and dies with its process, however that ends; the note beside it
(``<lock>.holder``) only tells people who has it. A note without a lock is what a killed process
left.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from vigorlib.files import StorageError, storage_error, write_json

log = logging.getLogger(__name__)

FIRST_WORD_S = 1.0
"""Seconds until a waiting process says for whom."""
TURN_S = 60.0
"""Seconds between two words."""


class Held(RuntimeError):
    """Another process has the lock, and this one was not to wait."""


@dataclass(frozen=True)
class Holder:
    """Who has a lock, by its own note."""

    pid: int
    host: str
    since: str
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since} ({self.command})"


class Lock:
    """A file lock with a note. ``try_for`` seconds at a time, so that the caller may do other things."""

    def __init__(self, path: Path) -> None:
        self.path, self.note = path, path.with_name(f"{path.name}.holder")
        self._lock = FileLock(path)

    def try_for(self, seconds: float) -> bool:
        """Whether it was got within so many seconds. Raises StorageError where none can be made."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=seconds)
        except Timeout:
            return False
        except OSError as error:
            raise storage_error(self.path, error) or error from None
        if (left := self.holder()) is not None:
            log.warning("%s was left by %s, which is dead: going on", self.path, left)
        try:
            write_json(self.note, asdict(_me()))
        except StorageError:  # the lock counts, the note only helps
            log.warning("who holds %s cannot be noted: its disk is full", self.path)
        return True

    def release(self) -> None:
        self.note.unlink(missing_ok=True)
        self._lock.release()

    def holder(self) -> Holder | None:
        """Who has it, or had it and died; None where no note can be read."""
        try:
            return Holder(**json.loads(self.note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


@contextmanager
def held(path: Path, wait: bool = True) -> Iterator[None]:
    """Have the lock for a while; says for whom it waits. Raises :class:`Held` if not to wait."""
    lock = Lock(path)
    patience = FIRST_WORD_S if wait else 0.0
    while not lock.try_for(patience):
        who = lock.holder() or "another process"
        if not wait:
            raise Held(f"{path} is held by {who}: wait for it, or end it and start again")
        log.warning("waiting for %s, which is held by %s", path, who)
        patience = TURN_S
    try:
        yield
    finally:
        lock.release()


def _me() -> Holder:
    now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200]
    return Holder(os.getpid(), socket.gethostname(), now, command or "python")
