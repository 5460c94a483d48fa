"""A process of its own for each job: its death is its own, and it never outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from vigorlib import apart, files
from vigorlib.apart import ProcessDied, run_apart, side_by_side

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")


class Awkward(Exception):
    """An error that does not survive pickling."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def work(what):
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "leaves":
        os._exit(3)
    if what == "fails":
        raise ValueError("expected better")
    if what == "awkward":
        raise Awkward("one", "two")
    return what, os.getpid()


def test_what_happens_to_one_does_not_happen_to_the_others():
    """A pool of processes would fail as a whole at the first that is killed."""
    tasks = ["killed", "fine", "leaves", "fails", "awkward", "fine too"]
    found = {task: (made, error) for task, made, error in
             side_by_side(tasks, partial(run_apart, work), 3)}  # fmt: skip
    for task in ("fine", "fine too"):
        assert found[task][0][0] == task and found[task][0][1] != os.getpid()
    assert isinstance(found["killed"][1], ProcessDied)
    assert "SIGKILL: perhaps out of memory" in str(found["killed"][1])
    assert "status 3" in str(found["leaves"][1])
    assert isinstance(found["fails"][1], ValueError)
    assert str(found["awkward"][1]) == "Awkward: one and two"


PARENT = """
import sys, time
from pathlib import Path
from vigorlib.apart import run_apart
if __name__ == "__main__":
    run_apart(time.sleep, 60)
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="children are found in /proc")
def test_a_job_ends_when_its_parent_is_killed(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    root = Path(apart.__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root)}
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py")], env=environment)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    deadline = time.monotonic() + 20
    while len(found := children.read_text().split()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)  # the job, and multiprocessing's own resource tracker
    time.sleep(0.5)
    parent.kill()
    parent.wait()
    while any(files.is_alive(int(pid)) for pid in found) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found and not any(files.is_alive(int(pid)) for pid in found)
