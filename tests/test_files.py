"""Files are there whole or not at all; damage, full disks and dead processes are noticed."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from vigorlib import files
from vigorlib.files import DamagedFile, StorageError, read_sealed, sealed, write_atomically


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail(partial):
        partial.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(target, fail)
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_the_one_before_is_kept_where_that_is_wanted(tmp_path):
    target, before = tmp_path / "a.txt", tmp_path / "a.previous.txt"
    for text in ("1", "2", "3"):
        write_atomically(target, lambda p, text=text: p.write_text(text), before)
    assert (target.read_text(), before.read_text()) == ("3", "2")


# -- full disks and rights -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "advice"), [(errno.ENOSPC, "Make room"), (errno.EROFS, "may be written to")]
)
def test_a_disk_that_will_not_take_it_is_named_and_nothing_half_written_stays(
    tmp_path, number, advice
):
    target = tmp_path / "record.json"
    target.write_text("old")

    def refuse(partial):
        partial.write_text("half")
        raise OSError(number, os.strerror(number))

    with pytest.raises(StorageError, match=f"record.json cannot be written.*{advice}") as refused:
        write_atomically(target, refuse)
    assert refused.value.errno == number and not str(refused.value).startswith("[Errno")
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_writers_with_errors_of_their_own_are_understood(tmp_path):
    def like_safetensors(partial):
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    with pytest.raises(StorageError, match="Make room"):
        write_atomically(tmp_path / "network.safetensors", like_safetensors)


def test_an_error_of_the_program_stays_what_it_is(tmp_path):
    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "a", lambda partial: 1 / 0)


LIMITED = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from vigorlib import files
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
folder = Path(sys.argv[1])
for write in (
    lambda: files.write_atomically(folder / "a.bin", lambda p: p.write_bytes(bytes(200_000))),
    lambda: files.new_array(folder / "a.npy", (500, 500), np.uint8),
):
    try:
        write()
    except files.StorageError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX's")
def test_the_systems_own_refusal_is_told_and_leaves_nothing(tmp_path):
    """A limit on file sizes stands for a full disk: it needs no disk of its own."""
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=files_root())
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and all("cannot be written (File too large)" in line for line in lines)
    assert list(tmp_path.iterdir()) == []


def files_root():
    return os.path.dirname(os.path.dirname(files.__file__))


@pytest.mark.skipif(sys.platform == "win32", reason="disks are sparse in other ways")
def test_the_room_of_an_array_is_taken_at_once(tmp_path):
    """A sparse array would end the process with SIGBUS when the disk fills up."""
    files.new_array(tmp_path / "a.npy", (100, 1000), np.uint8)
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= 100_000


def test_room_is_asked_for_before_the_work(tmp_path, monkeypatch):
    files.require_room(tmp_path / "not" / "yet", 1000, "a checkpoint")
    with pytest.raises(
        StorageError, match=r"MB free: expected 1,000,000,000,000,000.0 MB for a che"
    ):
        files.require_room(tmp_path, 1e21, "a checkpoint")


# -- leftovers -------------------------------------------------------------------------------


def test_what_dead_processes_left_half_written_goes_and_the_livings_stays(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True)  # fmt: skip
    mine = files.partial_name(tmp_path / "a.pt")
    names = {
        "theirs": mine.name.replace(f"-{os.getpid()}-", f"-{int(dead.stdout)}-"),
        "old": f".a.pt.{int(dead.stdout)}.partial",
        "elsewhere": f".a.pt.another_machine-{int(dead.stdout)}-1.partial",
        "no process": "key.descriptors.partial.npy",
    }
    mine.write_text("being written")
    for name in names.values():
        (tmp_path / name).write_text("half")
    removed = {file.name for file in files.remove_leftovers(tmp_path)}
    assert removed == {names["theirs"], names["old"]}
    assert mine.exists() and (tmp_path / names["elsewhere"]).exists()
    assert files.remove_leftovers(tmp_path / "nowhere") == []


def test_threads_do_not_write_over_each_other(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    def write(number):
        text = str(number) * 10_000
        write_atomically(tmp_path / "a.txt", lambda partial: partial.write_text(text))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    assert len(set((tmp_path / "a.txt").read_text())) <= 2
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_a_killed_write_leaves_the_old_file_and_a_leftover_that_is_cleaned(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom vigorlib.files import write_atomically\n"
        "def die(partial):\n    partial.write_text('half')\n    os.kill(os.getpid(), 9)\n"
        "write_atomically(Path(sys.argv[1]), die)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.txt")]
    assert subprocess.run(command, cwd=files_root()).returncode == -signal.SIGKILL
    assert (tmp_path / "a.txt").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    assert len(files.remove_leftovers(tmp_path)) == 1
    assert len(list(tmp_path.iterdir())) == 1


# -- checksums -------------------------------------------------------------------------------


def test_every_alteration_of_a_sealed_object_is_noticed(tmp_path):
    file = tmp_path / "a.json"
    value = {"top1": 0.25, "levels": [1, (2, 3)], "name": "é", "nothing": None, "nan": float("nan")}
    file.write_text(json.dumps(sealed(value), indent=2))
    assert read_sealed(file)["levels"] == [1, [2, 3]]
    whole = file.read_text()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 60):
        other = chr(32 + (ord(whole[place]) + 1) % 90)
        altered = whole[:place] + other + whole[place + 1 :]
        file.write_text(altered)
        try:
            found = read_sealed(file)
        except DamagedFile:
            continue
        same = {k: v for k, v in found.items() if k != files.CHECKSUM}
        unsealed = files.CHECKSUM not in found  # its very name was hit: as an older record
        assert unsealed or json.dumps(same) == json.dumps(json.loads(json.dumps(value)))


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", "[" * 100_000])
def test_what_is_no_json_object_is_damaged(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DamagedFile, match="a.json"):
        read_sealed(tmp_path / "a.json")
