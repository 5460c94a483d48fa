"""Several runs side by side: a process each, one progress bar each, the time that is left."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from queue import Queue
from threading import Thread
from typing import Any

from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@dataclass(frozen=True)
class Job:
    """One run to have."""

    recipe: str
    profile: str
    protocol: str
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.recipe} {self.protocol} seed {self.seed}"


def train_all(jobs: Sequence[Job], data_root: str = "", processes: int = 1) -> dict[Job, str]:
    """Have every job's run in ``runs/``. Returns the provenance of each; the failed ones raise last.

    processes: how many at a time; each gets an equal share of the cores. What is there is reused.
    """
    from vigorlib.dataset import data_folder
    from vigorlib.recipes import get_profile
    from vigorlib.runs import photographs

    for profile, protocol in {(job.profile, job.protocol) for job in jobs}:
        root = data_folder(profile, data_root)
        for subset in ("train", "test"):  # decoded once, here, not by every process
            photographs(root, get_profile(profile), protocol, subset)  # type: ignore[arg-type]
    context = multiprocessing.get_context("spawn")
    threads = max((os.cpu_count() or 1) // processes, 1)
    done: dict[Job, str] = {}
    failed: dict[Job, BaseException] = {}
    with context.Manager() as manager, _bars() as bars:
        overall = bars.add_task("all runs", total=len(jobs), text="")
        events = manager.Queue()
        follower = Thread(target=_follow, args=(events, bars), daemon=True)
        follower.start()
        with ProcessPoolExecutor(processes, mp_context=context) as pool:
            futures = {
                pool.submit(_train_one, job, data_root, threads, events): job for job in jobs
            }
            for future in as_completed(futures):
                job = futures[future]
                if error := future.exception():
                    failed[job] = error
                else:
                    done[job] = future.result()
                bars.advance(overall)
                bars.console.print(f"{job}: {failed.get(job, done.get(job))}")
        events.put(None)
        follower.join()
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(jobs)} runs failed: {failed}")
    return done


def _train_one(job: Job, data_root: str, threads: int, events: Queue[Any]) -> str:
    """In a process of its own."""
    import torch

    from vigorlib.runs import load_or_train

    torch.set_num_threads(threads)
    started = time.perf_counter()
    events.put((str(job), 0, None, "starting"))
    run = load_or_train(
        job.recipe,
        job.profile,
        job.seed,
        job.protocol,  # type: ignore[arg-type]
        data_root,
        use_recorded=False,
        progress=False,
        report=lambda step, total, text: events.put((str(job), step, total, text)),
    )
    events.put((str(job), None, None, ""))
    minutes = (time.perf_counter() - started) / 60
    return f"{run.provenance}, top-1 {run.metrics['top1']:.1%}, {minutes:.1f} min"


def _bars() -> Progress:
    """Progress bars on a terminal; elsewhere only the lines of finished runs are printed."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )


def _follow(events: Queue[Any], bars: Progress) -> None:
    """Move the bars as the processes report."""
    tasks: dict[str, Any] = {}
    while (event := events.get()) is not None:
        job, step, total, text = event
        if step is None:
            bars.remove_task(tasks.pop(job))
            continue
        if job not in tasks:
            tasks[job] = bars.add_task(job, total=None, text=text)
        bars.update(tasks[job], completed=step, total=total, text=text)
