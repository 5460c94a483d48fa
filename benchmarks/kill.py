"""Kill jobs at random moments, start them again, and compare the end with an undisturbed one.

    python benchmarks/kill.py --kills 40                 a few minutes; prints and compares
    python benchmarks/kill.py --kills 40 --store         also into results/promises.json

Five jobs: training, caching, making the city, a batch of chapters, writing records. Each is ended by
``kill -9`` at moments drawn from a seed, up to three times in a row, then left to finish. What it
leaves must be the same to the last bit: weights, metrics, answers, images, packs, executed chapters.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import nbformat
import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from data_prep import cache, city
from vigorlib import model, runs
from vigorlib.files import read_sealed, remove_leftovers, sha256_of
from vigorlib.recipes import get_profile, get_recipe

ROOT = Path(__file__).resolve().parent.parent
IN_A_ROW = 3
"""Kills before a job may finish, at most."""
PATIENCE_S = 300.0
PROFILE = dataclasses.replace(
    get_profile("smoke"), epochs={"same-area": (4, 3), "cross-area": (4, 3)}, checkpoint_steps=4
)
RECORDS = 25
CACHE_SIZES = {"panorama": (320, 640), "satellite": (320, 320)}

console = Console(width=110)


# -- the jobs: each goes on where it was, in a process of its own ------------------------------


def train(home: Path, data: Path) -> None:
    os.environ["VIGOR_BOOK_HOME"] = str(home)
    torch.set_num_threads(1)
    runs.load_or_train("vigor", PROFILE, data_root=data, progress=False)


def make_city(home: Path, data: Path) -> subprocess.Popen[bytes]:
    return _command(
        "-m", "data_prep.city", str(home / "city"), "--size", "smoke", "--seed", "3",
        "--workers", "2",
    )  # fmt: skip


def make_cache(home: Path, data: Path) -> None:
    encoding = cache.Encoding(95)
    shelves = cache.plan(data, home / "cache", CACHE_SIZES, encoding)
    cache.build(shelves, encoding, jobs=1, progress=False, pack_images=8)


def write_records(home: Path, data: Path) -> None:
    """Twenty-five runs stored one after the other, each evaluated once more afterwards."""
    network = model.build("safa", get_profile("smoke"))
    for number in range(RECORDS):
        with torch.no_grad():
            for weight in network.parameters():
                weight.fill_(number + 0.5)
        folder = home / f"run-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)  # as whoever trains into it does
        record = runs.read_record(folder / runs.RECORD)
        answers = {"rank": np.arange(500) * number}
        if record is None:
            record = _example_record(number)
            runs._store(folder, network, answers, record)
        if "evaluated" not in record:
            recipe, profile = get_recipe("safa"), get_profile("smoke")
            run = runs.Run(recipe, profile, "same-area", number, record, runs.LOCAL, folder)
            runs.store_evaluation(
                run, {"top1": number / 100}, {}, {**answers, "more": answers["rank"]}
            )


def _example_record(number: int) -> dict[str, Any]:
    return {
        "format": runs.FORMAT, "name": f"run-{number}", "recipe": {}, "profile": {}, "seed": number,
        "protocol": "same-area", "metrics": {"top1": 0.0}, "history": {"losses": [[number] * 500]},
    }  # fmt: skip


def run_chapters(home: Path, data: Path) -> subprocess.Popen[bytes]:
    """A batch of three small chapters through papermill, by the book's own tool."""
    make_small_book(home)
    return _command(str(home / "book" / "chapters.py"), "run", "--profile", "smoke")


def _command(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def make_small_book(home: Path, sources: dict[str, str] | None = None) -> None:
    """``book/`` with the book's tool and a few chapters of two cells; left alone if it is there."""
    sources = sources or {
        f"c{i}": f"import time; time.sleep(0.5); print({i} ** 9)" for i in (1, 2, 3)
    }
    book = home / "book"
    if (book / "_toc.yml").exists():
        return
    book.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / "book" / "chapters.py", book / "chapters.py")
    for name, source in sources.items():
        cells = [
            nbformat.v4.new_code_cell('profile = "mini"\ndata_root = ""\nseed = 0', id="a"),
            nbformat.v4.new_code_cell(source, id="b"),
        ]
        cells[0].metadata["tags"] = ["parameters"]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
        nbformat.write(notebook, book / f"{name}.ipynb")
    listed = "".join(f"- file: {name}\n" for name in sources)
    (book / "_toc.yml").write_text(f"root: intro\nchapters:\n{listed}")


# -- what a job leaves -------------------------------------------------------------------------


def left_by_training(home: Path) -> dict[str, str]:
    """Digests of the weights, the answers and all that a record says but times and versions."""
    (folder,) = home.glob("runs/*/*/")
    record = read_sealed(folder / runs.RECORD)
    told = {k: record[k] for k in ("metrics", "curves", "history", "data", "queries", "tiles")}
    with np.load(folder / runs.ANSWERS, allow_pickle=False) as answers:
        arrays = {name: _digest(answers[name].tobytes()) for name in answers.files}
    return {
        "weights": sha256_of(folder / runs.WEIGHTS),
        "record": _digest(json.dumps(told, sort_keys=True).encode()),
        **arrays,
    }


def left_by_records(home: Path) -> dict[str, str]:
    """Of all records but dates; each run's files must be those that its record names."""
    found = {}
    for folder in home.glob("run-*"):
        record = read_sealed(folder / runs.RECORD)
        assert record["files"] == {name: sha256_of(folder / name) for name in record["files"]}
        kept = {k: v for k, v in record.items() if k not in ("evaluated", "checksum")}
        found[folder.name] = _digest(json.dumps(kept, sort_keys=True).encode())
    return found


def left_in(*patterns: str) -> Callable[[Path], dict[str, str]]:
    """Digests of the files that match."""

    def left(home: Path) -> dict[str, str]:
        files = sorted(f for pattern in patterns for f in home.glob(pattern) if f.is_file())
        return {str(file.relative_to(home)): sha256_of(file) for file in files}

    return left


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Job:
    """start: in a process of its own (or giving one). left: what must be the same in the end."""

    start: Callable[[Path, Path], Any]
    left: Callable[[Path], dict[str, str]]


OWN = (make_city, run_chapters)
"""Jobs that are commands, with processes of their own."""
JOBS = {
    "training": Job(train, left_by_training),
    "caching": Job(make_cache, left_in("cache/**/*")),
    "making the city": Job(make_city, left_in("city/**/*")),
    "a batch of chapters": Job(run_chapters, left_in("build/smoke/book/*.ipynb")),
    "writing records": Job(write_records, left_by_records),
}


# -- killing -----------------------------------------------------------------------------------


@dataclass
class Outcome:
    """kills: seconds after the job began its work. identical: for each time it then finished."""

    seconds: float = 0.0
    kills: list[float] = field(default_factory=list)
    finished: int = 0
    identical: int = 0
    most_checkpoints: int = 0
    leftovers: int = 0
    """Half-written files that were still there in the end."""


class Running:
    """A job's process: one forked from a server that has imported everything, or its own."""

    def __init__(self, job: Job, home: Path, data: Path) -> None:
        self.popen: subprocess.Popen[bytes] | None = None
        if job.start in OWN:
            self.popen = job.start(home, data)
            return
        context = multiprocessing.get_context("forkserver")
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])
        context.set_forkserver_preload(["kill"])
        receiving, sending = context.Pipe(duplex=False)
        self.process = context.Process(target=_begin, args=(sending, job.start, home, data))
        self.process.start()
        sending.close()
        receiving.poll(PATIENCE_S)

    def wait(self, seconds: float) -> int | None:
        """Its exit status, None while it runs."""
        if self.popen is not None:
            try:
                return self.popen.wait(seconds)
            except subprocess.TimeoutExpired:
                return None
        self.process.join(seconds)
        return self.process.exitcode

    def kill(self) -> None:
        """As the system does it: at once, the process alone, not what it started."""
        os.kill(self.popen.pid if self.popen else self.process.pid or 0, signal.SIGKILL)
        self.wait(PATIENCE_S)


def _nothing(home: Path, data: Path) -> None:
    pass


def _begin(sending: Any, start: Callable[[Path, Path], Any], home: Path, data: Path) -> None:
    sending.send(True)
    start(home, data)


def undisturbed(
    name: str, data: Path, folder: Path, rehearse: bool = True
) -> tuple[dict[str, str], float]:
    """What a job leaves when it is left alone, and its seconds.

    rehearse: run it twice and time the second, which knows the disk as the disturbed ones do.
    """
    job, seconds = JOBS[name], 0.0
    _finish(Running(Job(_nothing, job.left), folder, data))  # the server has imported everything
    for _ in range(1 + rehearse):
        shutil.rmtree(folder, ignore_errors=True)
        began = time.perf_counter()
        _finish(Running(job, folder, data))
        seconds = round(time.perf_counter() - began, 2)
    left = job.left(folder)
    if not left:
        raise RuntimeError(f"{name} left nothing: there is nothing to compare")
    return left, seconds


def torment(
    name: str,
    kills: int,
    data: Path,
    folder: Path,
    rng: np.random.Generator,
    expected: dict[str, str],
    seconds: float,
) -> Outcome:
    """Kill a job so many times; every time it is left to finish, compare.

    expected, seconds: of the :func:`undisturbed` one.
    """
    job, outcome = JOBS[name], Outcome(seconds)
    while len(outcome.kills) < kills:
        home = folder / f"disturbed-{outcome.finished}"
        for _ in range(min(IN_A_ROW, kills - len(outcome.kills))):
            running, moment = Running(job, home, data), rng.uniform(0, 0.9 * outcome.seconds)
            if running.wait(moment) is not None:
                break  # it was faster: this does not count
            running.kill()
            outcome.kills.append(round(moment, 3))
            held = [*home.rglob("checkpoint*.pt"), *home.rglob(".checkpoint*.partial")]
            outcome.most_checkpoints = max(outcome.most_checkpoints, len(held))
        _finish(Running(job, home, data))
        outcome.finished += 1
        outcome.identical += job.left(home) == expected
        outcome.leftovers += len(list(home.rglob("*.partial")))
        shutil.rmtree(home)
    return outcome


def _finish(running: Running) -> None:
    code = running.wait(PATIENCE_S)
    if code != 0:
        raise RuntimeError(f"a job ended with status {code}: expected 0")


# -- command line --------------------------------------------------------------------------------


def main(
    kills: Annotated[int, typer.Option(help="in all")] = 40,
    seed: Annotated[int, typer.Option(help="of the moments")] = 0,
    only: Annotated[str, typer.Option(help=f"one of: {', '.join(JOBS)}")] = "",
    store: Annotated[bool, typer.Option("--store", help="into results/promises.json")] = False,
) -> None:
    """Kill each job at random moments and compare what it leaves in the end."""
    names = [only] if only else list(JOBS)
    rng, outcomes = np.random.default_rng(seed), {}
    with tempfile.TemporaryDirectory() as folder:
        data = city.make(Path(folder) / "data", size="smoke", progress=False)
        for number, name in enumerate(names):
            share = kills // len(names) + (number < kills % len(names))
            place = Path(folder) / f"job{number}"
            alone = undisturbed(name, data, place / "undisturbed")
            outcomes[name] = torment(name, share, data, place, rng, *alone)
            console.print(f"{name}: {outcomes[name]}")
    table = Table("job", "undisturbed", "kills", "finished", "identical", title=f"seed {seed}")
    for name, o in outcomes.items():
        table.add_row(
            name, f"{o.seconds:.1f} s", str(len(o.kills)), str(o.finished), str(o.identical)
        )
    console.print(table)
    if store:
        from promises import note

        note(
            "kills", {"seed": seed, "jobs": {n: dataclasses.asdict(o) for n, o in outcomes.items()}}
        )
    if any(o.identical != o.finished or o.leftovers for o in outcomes.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
