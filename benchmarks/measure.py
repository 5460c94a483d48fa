"""Comparing ways to do one thing: in turn, several times, with CPU time and memory beside the clock.

    rows = compare("ranks", "5,000 x 9,000", {"product": product, "ours": ours}, baseline="product")

The candidates take turns, so that whatever else the machine does meets all of them; a ratio of two
medians of one run says more than seconds of two (pytest-benchmark and pyperf run one candidate after
the other, which is why neither is used here). CPU time is the process's, over all its threads.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from rich.console import Console
from rich.table import Table

from vigorlib.files import write_json

Work = Callable[[], object]
REST_S = 0.25
"""Before each turn: threads of the one before still wait for work, and their waiting counts."""


@dataclass(frozen=True)
class Row:
    """One candidate of one comparison.

    benchmark, case, name: what was compared, at what size, by which way. wall_s, cpu_s: medians of
    ``repeats`` turns. wall_ratio, cpu_ratio: of these to the baseline's. peak_bytes: memory above
    what was occupied before; None if not measured. extra: further figures, such as a recall.
    """

    benchmark: str
    case: str
    name: str
    wall_s: float
    cpu_s: float
    wall_ratio: float
    cpu_ratio: float
    repeats: int
    peak_bytes: int | None
    extra: dict[str, Any]


def compare(
    benchmark: str,
    case: str,
    candidates: Mapping[str, Work],
    baseline: str | tuple[str, ...],
    repeats: int = 5,
    memory: bool = True,
    warm: bool = True,
    extra: Mapping[str, Mapping[str, Any]] | None = None,
    cpu_clock: Callable[[], float] = time.process_time,
) -> list[Row]:
    """Let the candidates take turns. baseline: a candidate's name, or several of which the quickest
    counts. memory: look at the peak, in a call that is not timed. warm: without it, one call that
    does not count. extra: figures to note with a candidate. cpu_clock: another one for work that
    other processes do."""
    peaks = {name: peak_bytes(work) if memory else None for name, work in candidates.items()}
    wall: dict[str, list[float]] = {name: [] for name in candidates}
    cpu: dict[str, list[float]] = {name: [] for name in candidates}
    if warm and not memory:
        for work in candidates.values():  # imports, compilation, first touch of files
            work()
    for _ in range(repeats):
        for name, work in candidates.items():
            time.sleep(REST_S)
            started, spent = time.perf_counter(), cpu_clock()
            work()
            wall[name].append(time.perf_counter() - started)
            cpu[name].append(cpu_clock() - spent)
    walls = {name: statistics.median(times) for name, times in wall.items()}
    cpus = {name: statistics.median(times) for name, times in cpu.items()}
    basis = (baseline,) if isinstance(baseline, str) else baseline
    least_wall, least_cpu = (min(of[name] for name in basis) for of in (walls, cpus))
    return [
        Row(
            benchmark, case, name, walls[name], cpus[name], walls[name] / least_wall,
            cpus[name] / least_cpu, repeats, peaks[name], dict((extra or {}).get(name, {})),
        )
        for name in candidates
    ]  # fmt: skip


def peak_bytes(work: Work) -> int:
    """Memory that a call occupies above what was occupied before, looked at every few ms."""
    process, done = psutil.Process(), threading.Event()
    gc.collect()
    before = highest = process.memory_info().rss

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.004):
            highest = max(highest, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        highest = max(highest, process.memory_info().rss)
        done.set()
        watcher.join()
    return highest - before


def cpu_of_children() -> float:
    """Seconds of CPU of the processes that this one started and that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def machine() -> dict[str, Any]:
    """Where and when: enough to judge the seconds by, nothing that names a computer."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__.split("+")[0],
    }


def _commit() -> str:
    told = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return told.stdout.strip()


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
        return names[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def as_json(rows: list[Row]) -> list[dict[str, Any]]:
    """Rounded, so that a record says no more than it knows."""
    return [
        {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in asdict(row).items()}
        for row in rows
    ]


def record(path: Path, name: str, rows: list[Row], quick: bool, where: dict[str, Any]) -> None:
    """Put a benchmark's rows into a record, beside those of the others."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known[name] = {"machine": where, "quick": quick, "rows": as_json(rows)}
    write_json(path, known)


def show(rows: list[Row]) -> None:
    """A table on the terminal."""
    columns = ("benchmark", "case", "way", "wall", "CPU", "x wall", "x CPU", "peak", "")
    table = Table(*columns)
    for row in rows:
        peak = "-" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:,.0f} MB"
        times = (f"{1e3 * row.wall_s:,.1f} ms", f"{1e3 * row.cpu_s:,.1f} ms")
        ratios = (f"{row.wall_ratio:.2f}", f"{row.cpu_ratio:.2f}")
        notes = ", ".join(f"{key} {value}" for key, value in row.extra.items())
        table.add_row(row.benchmark, row.case, row.name, *times, *ratios, peak, notes)
    Console(width=140).print(table)


def run_alone(measured: Callable[[bool], list[Row]]) -> None:
    """The command line of one benchmark: ``--quick`` or not, a table."""
    show(measured("--quick" in sys.argv[1:]))
