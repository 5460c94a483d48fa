"""The image cache: same pixels, every change noticed, no interruption or damage that lasts."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from data_prep import cache
from data_prep.cache import Encoding
from vigorlib import image_cache, images, runs
from vigorlib.dataset import Vigor
from vigorlib.recipes import get_profile

SIZES = {"panorama": (32, 64), "satellite": (32, 32)}
FULL = dataclasses.replace(get_profile("smoke"), in_memory=False)
"""The smoke profile's sizes, read as profile full is."""


@pytest.fixture
def root(city_root, tmp_path):
    """A copy of the smoke city that a test may spoil."""
    copied = tmp_path / "city"
    shutil.copytree(city_root, copied, ignore=shutil.ignore_patterns(".pixels"))
    return copied


def make(root, kind="jpeg", out=None, pack_images=20):
    encoding = Encoding(95 if kind == "jpeg" else 0)
    folder = out or image_cache.cache_folder(root)
    shelves = cache.plan(root, folder, SIZES, encoding)
    return cache.build(shelves, encoding, jobs=1, progress=False, pack_images=pack_images)


def todo(root):
    shelves = cache.plan(root, image_cache.cache_folder(root), SIZES, Encoding(95))
    return sorted(name for shelf in shelves for name in shelf.todo)


def contents(folder):
    return {f.relative_to(folder): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def panoramas(root):
    return sorted(root.glob("*/panorama/*.jpg"))


def command(*arguments):
    app = typer.Typer()
    app.command()(cache.main)
    options = ("--profile", "smoke", "--jobs", "1")
    return CliRunner().invoke(app, [*map(str, arguments), *options])


# -- reading ---------------------------------------------------------------------------------


def test_the_raw_cache_holds_the_very_pixels(root):
    before = runs.photographs(root, FULL, "same-area", "train")
    assert make(root, "raw") == []
    after = runs.photographs(root, FULL, "same-area", "train")
    assert before.tiles.stored is None and after.tiles.stored.kind == "raw"
    every = np.arange(len(before.data))
    assert (after.panoramas[every] == before.panoramas[every]).all()
    assert (after.tiles[[5, 0, 5]] == before.tiles[[5, 0, 5]]).all()


def test_the_jpeg_cache_holds_nearly_the_same_pixels(root):
    before = runs.photographs(root, FULL, "same-area", "test")
    make(root)
    after = pickle.loads(pickle.dumps(runs.photographs(root, FULL, "same-area", "test")))
    assert after.panoramas.stored.kind == "jpeg95"
    for view in ("panoramas", "tiles"):
        one, other = (getattr(p, view)[np.arange(10)].float() for p in (before, after))
        assert one.shape == other.shape and 0 < (one - other).abs().mean() < 4


def test_raw_is_preferred_to_jpeg(root):
    make(root)
    make(root, "raw")
    assert runs.photographs(root, FULL, "same-area", "test").tiles.stored.kind == "raw"


def test_a_cache_elsewhere_is_found_by_the_environment(root, tmp_path, monkeypatch):
    make(root, out=tmp_path / "elsewhere")
    assert runs.photographs(root, FULL, "same-area", "test").tiles.stored is None
    monkeypatch.setenv("VIGOR_BOOK_CACHE", str(tmp_path / "elsewhere"))
    assert runs.photographs(root, FULL, "same-area", "test").tiles.stored is not None


def test_a_copy_without_originals_can_be_trained_from(root):
    make(root, "raw")
    before = runs.photographs(root, FULL, "same-area", "train").tiles[[3, 4]]
    for folder in root.glob("*/satellite"):
        shutil.rmtree(folder)
    assert (runs.photographs(root, FULL, "same-area", "train").tiles[[3, 4]] == before).all()


def test_small_profiles_go_on_with_their_array(root):
    make(root)
    photos = runs.photographs(root, get_profile("smoke"), "same-area", "test", progress=False)
    assert photos.tiles.stored is None and photos.tiles.file.exists()


def test_a_pack_that_vanishes_while_it_is_read_is_named(root):
    make(root)
    tiles = runs.photographs(root, FULL, "same-area", "test").tiles
    shutil.rmtree(root / ".pixels")
    with pytest.raises(images.ImageError, match=r"\.pack.*--verify"):
        tiles[[0]]


# -- changes ---------------------------------------------------------------------------------


def test_another_size_is_another_cache(root):
    make(root)
    larger = dataclasses.replace(FULL, tile_px=(48, 48))
    with pytest.warns(UserWarning, match=r"satellite at 48x48 .*satellite-32x32-jpeg95 lacks 144"):
        photos = runs.photographs(root, larger, "same-area", "test")
    assert photos.tiles.stored is None and photos.tiles[[0]].shape == (1, 3, 48, 48)
    sizes = {**SIZES, "satellite": (48, 48)}
    shelves = cache.plan(root, root / ".pixels", sizes, Encoding(95))
    assert {shelf.view: len(shelf.todo) > 0 for shelf in shelves} == {
        "panorama": False,
        "satellite": True,
    }


def test_a_changed_original_is_noticed_by_the_loader_and_done_again(root):
    make(root)
    data = Vigor(root, "same-area", "test")
    changed = data.queries.path(0)
    date = changed.stat().st_mtime_ns
    Image.new("RGB", (96, 48), (200, 10, 10)).save(changed)
    os.utime(changed, ns=(date, date))  # another size is enough
    with pytest.warns(UserWarning, match="panorama-32x64-jpeg95 lacks 1 of them"):
        photos = runs.photographs(root, FULL, "same-area", "test")
    assert photos.panoramas.stored is None and photos.tiles.stored is not None
    assert changed.name in todo(root) and len(todo(root)) <= 20  # the pack of it
    make(root)
    photos = runs.photographs(root, FULL, "same-area", "test")
    assert photos.panoramas.stored is not None
    assert abs(int(photos.panoramas[[0]][0, 0].float().mean()) - 200) < 5


def test_a_touched_original_counts_as_changed(root):
    make(root)
    os.utime(panoramas(root)[0], ns=(1, 1))
    assert panoramas(root)[0].name in todo(root)


def test_new_and_removed_originals_cost_no_more_than_their_packs(root):
    make(root)
    before = set((root / ".pixels").rglob("*.pack"))
    first, second, *_ = panoramas(root)
    shutil.copy(second, second.with_name("A" + second.name))
    first.unlink()
    assert 1 <= len(todo(root)) <= 20
    make(root)
    assert todo(root) == []
    after = set((root / ".pixels").rglob("*.pack"))
    assert len(before - after) == 1
    held = image_cache.read_indexes(root / ".pixels/panorama-32x64-jpeg95" / first.parts[-3])
    assert first.name not in {name for index in held.values() for name in index.names}


def test_emptied_folders_of_originals_do_not_empty_the_cache(root):
    make(root)
    before = contents(root / ".pixels")
    for file in root.glob("Chicago/*/*.*g"):
        file.unlink()
    make(root)
    assert contents(root / ".pixels") == before


# -- interruptions and damage ----------------------------------------------------------------

KILLED = """
import os
import signal
import sys
from pathlib import Path
from data_prep import cache
from vigorlib import image_cache
calls, place, number = 0, sys.argv[2], int(sys.argv[3])
def dying(real):
    def call(*arguments):
        global calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)
    return call
if place == "fsync":  # a pack is written, but not yet there
    os.fsync = dying(os.fsync)
else:
    image_cache.write_json = dying(image_cache.write_json)
root, encoding = Path(sys.argv[1]), cache.Encoding(95)
sizes = {"panorama": (32, 64), "satellite": (32, 32)}
shelves = cache.plan(root, root / ".pixels", sizes, encoding)
cache.build(shelves, encoding, jobs=1, progress=False, pack_images=20)
"""


@pytest.mark.parametrize(("place", "number", "whole"), [("fsync", 13, 3), ("index", 6, 5)])
def test_a_killed_build_goes_on_to_the_same_bytes(root, tmp_path, place, number, whole):
    arguments = [sys.executable, "-c", KILLED, str(root), place, str(number)]
    code = subprocess.run(arguments, cwd=Path(cache.__file__).parents[1], timeout=120).returncode
    assert code == -signal.SIGKILL
    stored = len(list((root / ".pixels").rglob("*.json")))
    assert stored == whole  # only the pack in work is lost; two files each, each and its folder
    with pytest.warns(UserWarning, match="lacks"):
        assert runs.photographs(root, FULL, "same-area", "test").tiles.stored is None
    make(root)
    make(root, out=tmp_path / "undisturbed")
    assert contents(root / ".pixels") == contents(tmp_path / "undisturbed")


def test_a_damaged_pack_is_found_by_verify_and_repaired_by_the_next_build(root):
    make(root)
    whole = contents(root / ".pixels")
    assert cache.verify(root / ".pixels", progress=False) == []
    pack = next((root / ".pixels").rglob("*.pack"))
    damaged = bytearray(pack.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    pack.write_bytes(damaged)
    assert todo(root) == []  # its length is right: only reading it tells
    result = command(root, "--verify")
    assert result.exit_code == 1 and f"{pack} was damaged" in result.stderr
    assert 0 < len(todo(root)) <= 20
    make(root)
    assert contents(root / ".pixels") == whole


def test_half_copied_packs_and_damaged_indexes_count_as_missing(root):
    make(root)
    whole = contents(root / ".pixels")
    first, second, third, *_ = sorted((root / ".pixels").rglob("*.json"))
    lost = sum(len(json.loads(file.read_text())["names"]) for file in (first, second, third))
    pack = first.with_suffix(".pack")
    pack.write_bytes(pack.read_bytes()[:-1])
    second.write_text(second.read_text().replace(":", "", 1))
    third.write_text(third.read_text().replace("1", "2", 1))
    assert len(todo(root)) == lost
    assert len(cache.verify(root / ".pixels", progress=False)) == 3
    make(root)
    assert contents(root / ".pixels") == whole


def test_images_that_cannot_be_decoded_are_listed_and_the_others_stored(root):
    broken = panoramas(root)[:2]
    whole = broken[0].read_bytes()
    for path in broken:
        path.write_bytes(whole[: len(whole) // 2])
    result = command(root)
    assert result.exit_code == 1 and "is whole" not in result.stdout
    assert all(f"{path} cannot be decoded" in result.stderr for path in broken)
    assert todo(root) == [path.name for path in broken]
    broken[0].write_bytes(whole)
    broken[1].write_bytes(whole)
    assert command(root).exit_code == 0 and todo(root) == []


# -- before it starts ------------------------------------------------------------------------

Usage = namedtuple("Usage", "total used free")


def test_a_full_disk_is_refused_before_the_start(root, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 100_000))
    result = command(root)
    assert result.exit_code == 1
    assert "0.1 MB free: expected" in result.stderr and "--out" in result.stderr
    assert not list(root.rglob("*.pack"))


def test_a_cache_that_is_there_needs_no_space(root, monkeypatch):
    make(root)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 0))
    assert command(root).exit_code == 0


def test_a_disk_that_fills_up_leaves_what_is_stored(root, monkeypatch):
    def full(folder, images, real=image_cache.write_pack):
        if "satellite" in str(folder):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(folder, images)

    monkeypatch.setattr(cache, "write_pack", full)
    result = command(root)
    assert result.exit_code == 1 and "No space left" in result.stderr
    assert len(list(root.rglob("*.pack"))) == 4


def test_a_read_only_folder_says_so(root, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    result = command(root)
    assert result.exit_code == 1 and "Read-only" in result.stderr and "--out" in result.stderr


def test_a_second_builder_is_refused(root):
    with cache._only_builder(root / ".pixels"):
        result = command(root)
    assert result.exit_code == 1 and "another process is building" in result.stderr


def test_a_dry_run_says_the_size_and_writes_nothing(root):
    result = command(root, "--dry-run", "--kind", "raw")
    assert result.exit_code == 0 and not (root / ".pixels").exists()
    panorama_count = len(panoramas(root))
    assert f"panorama 32x64 raw: 0 images stored, {panorama_count} to do" in result.stdout
    whole = (105_214 * 32 * 64 * 3 + 90_618 * 32 * 32 * 3) / 1e6
    assert f"all of VIGOR at these sizes: {whole:.1f} MB" in result.stdout


def test_the_foretold_size_is_near_the_size(root):
    shelves = cache.plan(root, root / ".pixels", SIZES, Encoding(95))
    means = cache.mean_bytes(shelves, Encoding(95))
    foretold = sum(means[shelf.view] * len(shelf.todo) for shelf in shelves)
    make(root)
    stored = sum(file.stat().st_size for file in root.rglob("*.pack"))
    assert abs(foretold / stored - 1) < 0.1


def test_wrong_options_and_folders_name_the_right_ones(root, tmp_path):
    assert "expected jpeg or raw" in command(root, "--kind", "png").stderr
    assert "no image under" in command(tmp_path / "nowhere").stderr
    assert "no cache in" in command(root, "--verify").stderr


def test_the_finished_cache_says_how_training_finds_it(root, tmp_path):
    result = command(root, "--out", tmp_path / "fast")
    assert result.exit_code == 0 and f"set VIGOR_BOOK_CACHE={tmp_path / 'fast'}" in result.stdout
