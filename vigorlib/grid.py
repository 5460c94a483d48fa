"""Several runs side by side: a process each, one progress bar each, the time that is left."""

from __future__ import annotations

import multiprocessing
import os
import shlex
import sys
import time
from collections.abc import Sequence
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

from vigorlib.apart import run_apart, side_by_side


@dataclass(frozen=True)
class Job:
    """One run to have."""

    recipe: str
    profile: str
    protocol: str
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.recipe} {self.protocol} seed {self.seed}"


class RunsFailed(RuntimeError):
    """Some of several runs failed, after the others were trained."""


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
    threads = threads_each(processes)
    done: dict[Job, str] = {}
    failed: dict[Job, Exception] = {}
    gpus: Queue[str] = Queue()
    for worker in range(processes):
        gpus.put(_gpu(worker))
    with context.Manager() as manager, _bars() as bars:
        overall = bars.add_task("all runs", total=len(jobs), text="")
        events = manager.Queue()
        follower = Thread(target=_follow, args=(events, bars), daemon=True)
        follower.start()

        def work(job: Job) -> str:
            gpu = gpus.get()
            try:
                return run_apart(_train_one, job, data_root, threads, events, gpu)
            finally:
                gpus.put(gpu)

        for job, said, error in side_by_side(jobs, work, processes):
            if error is not None:
                failed[job] = error
            else:
                done[job] = str(said)
            bars.advance(overall)
            bars.console.print(f"{job}: {error or said}", markup=False)
        events.put(None)
        follower.join()
    if failed:
        reasons = "; ".join(f"{job}: {error}" for job, error in failed.items())
        raise RunsFailed(f"{len(failed)} of {len(jobs)} runs failed: {reasons}")
    return done


def threads_each(processes: int) -> int:
    """An equal share of the cores."""
    return max((os.cpu_count() or 1) // processes, 1)


def _gpu(worker: int) -> str:
    """The GPU of a worker, in turn among those that may be used; empty without any."""
    import torch

    count = torch.cuda.device_count()
    listed = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    names = listed or [str(i) for i in range(count)]
    return names[worker % count] if count else ""


def make_list(jobs: Sequence[Job], data_root: str = "", processes: int = 1) -> str:
    """A job list for GNU make, which is good at running what is not there yet.

    ``make -f LIST -k -j 2`` runs two at a time here; ``RUN='srun --gpus 1'`` before each command
    hands them to Slurm, and any machine that shares the folder may help with the same list.
    """
    from vigorlib.home import home
    from vigorlib.recipes import get_profile, get_recipe
    from vigorlib.runs import run_name

    rules: dict[str, str] = {}
    for job in jobs:
        recipe, profile = get_recipe(job.recipe), get_profile(job.profile)
        name = run_name(recipe, profile, job.protocol, job.seed)
        target = home() / "runs" / job.profile / name / "record.json"
        command = [sys.executable, "-m", "vigorlib", "train", "--recipe", job.recipe]
        command += ["--profile", job.profile, "--protocol", job.protocol, "--seed", str(job.seed)]
        command += ["--data-root", data_root] if data_root else []
        rules[str(target)] = shlex.join(command)
    lines = [
        "# make -f THIS -k -j 2                        two at a time on this machine",
        "# make -f THIS -k -j 16 RUN='srun --gpus 1'   sixteen at a time through Slurm",
        "RUN ?=",
        f"export OMP_NUM_THREADS ?= {threads_each(processes)}",
        "all: " + " ".join(rules),
    ]
    lines += [f"{record}:\n\t$(RUN) {how}" for record, how in rules.items()]
    return "\n".join(lines) + "\n"


def hours_expected(jobs: Sequence[Job], data_root: str = "", steps: int = 8) -> dict[Job, float]:
    """Hours of one process for each job: its operations at the speed of real steps taken now.

    The steps are those of the first job's recipe; the quickest counts, for the first ones warm up.
    """
    from vigorlib import plan
    from vigorlib.dataset import data_folder
    from vigorlib.recipes import get_profile, get_recipe

    if not jobs:
        return {}
    first = jobs[0]
    recipe, profile = get_recipe(first.recipe), get_profile(first.profile)
    measured, _ = plan.measure_here(recipe, profile, first.protocol, 0, steps, "auto")
    speed = measured.flops / min(measured.seconds)
    hours = {}
    for job in jobs:
        root = data_folder(job.profile, data_root)
        whole = plan.make_plan(
            get_recipe(job.recipe),
            get_profile(job.profile),
            job.protocol,  # type: ignore[arg-type]
            root,
        )
        hours[job] = whole.flops / speed / 3600
    return hours


def _train_one(job: Job, data_root: str, threads: int, events: Queue[Any], gpu: str) -> str:
    """In a process of its own, for which no other GPU exists."""
    if gpu:  # before CUDA is touched
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
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
