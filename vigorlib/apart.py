"""Work in a process of its own: whatever kills it, the others go on, and it never outlives its parent.

A pool of processes breaks as a whole when one of its workers is killed, and its workers stay behind
when their parent is: neither will do for jobs of hours.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import Any, TypeVar

Task = TypeVar("Task")
Made = TypeVar("Made")


class ProcessDied(RuntimeError):
    """A process ended before it gave a result: killed, out of memory, or crashed."""


def side_by_side(
    tasks: Iterable[Task], work: Callable[[Task], Made], jobs: int
) -> Iterator[tuple[Task, Made | None, Exception | None]]:
    """(task, result, error) as each gets ready; ``work`` runs in threads, ``jobs`` at a time."""
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(work, task): task for task in tasks}
        try:
            for future in as_completed(futures):
                error = future.exception()
                if error is not None and not isinstance(error, Exception):
                    raise error
                yield futures[future], None if error else future.result(), error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def run_apart(function: Callable[..., Made], *arguments: Any) -> Made:
    """``function(*arguments)`` in a fresh process; its result, or its error.

    Both must be picklable, and the function importable. Raises :class:`ProcessDied` when the
    process ends without either.
    """
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sending, function, arguments))
    process.start()
    sending.close()
    try:
        wait([receiving, process.sentinel])
        outcome = receiving.recv() if receiving.poll() else None
    except EOFError:
        outcome = None
    finally:
        receiving.close()
    process.join()
    if outcome is None:
        raise ProcessDied(_how_it_ended(process.exitcode))
    made, error = outcome
    if error is not None:
        raise error
    return made


def end_with_parent() -> None:
    """Let this process end, at once, when the one that started it is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _child(sending: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    end_with_parent()
    outcome: tuple[Any, Exception | None]
    try:
        outcome = function(*arguments), None
    except Exception as error:
        outcome = None, _portable(error)
    sending.send(outcome)
    sending.close()


def _portable(error: Exception) -> Exception:
    """The error itself if it survives pickling, else its text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = ": perhaps out of memory" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}; start again, it goes on where it stopped"
    return f"its process ended with status {code} and no result; start again"
