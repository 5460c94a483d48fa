"""One at a time, and whoever waits knows for whom; the lock of a dead process is nobody's."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Timer

import pytest

from vigorlib import locks
from vigorlib.locks import Held, Lock, held

ROOT = Path(locks.__file__).parent.parent
HOLD = """
import sys, time
from pathlib import Path
from vigorlib.locks import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds ``tmp_path / "lock"``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


def test_who_waits_is_told_for_whom(tmp_path, other, caplog, monkeypatch):
    monkeypatch.setattr(locks, "FIRST_WORD_S", 0.1)
    Timer(0.4, other.kill).start()
    with caplog.at_level(logging.WARNING), held(tmp_path / "lock"):
        pass
    waiting = next(r.message for r in caplog.records if "waiting for" in r.message)
    assert f"held by process {other.pid} on " in waiting and " since 20" in waiting


def test_who_may_not_wait_is_told_at_once(tmp_path, other):
    with pytest.raises(Held, match=f"process {other.pid} on .* since .*wait for it, or end it"):
        with held(tmp_path / "lock", wait=False):
            pass


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_the_lock_of_a_killed_process_is_free_and_that_is_said(tmp_path, other, caplog):
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert (tmp_path / "lock").exists() and (tmp_path / "lock.holder").exists()
    began = time.monotonic()
    with held(tmp_path / "lock", wait=False):
        assert time.monotonic() - began < 1
        assert Lock(tmp_path / "lock").holder().pid == os.getpid()
    assert f"process {other.pid}" in caplog.text and "is dead: going on" in caplog.text
    assert not (tmp_path / "lock.holder").exists()


@pytest.mark.parametrize("note", ["", "{}", '{"pid": 1}', "[1]", "null"])
def test_a_damaged_note_does_not_keep_anyone_out(tmp_path, note):
    (tmp_path / "lock.holder").write_text(note)
    with held(tmp_path / "lock", wait=False):
        pass
