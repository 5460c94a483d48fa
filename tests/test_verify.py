"""Recorded results are trained again and hold, or it is said which does not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vigorlib import runs, verify
from vigorlib.__main__ import app
from vigorlib.files import sealed, write_json

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("VIGOR_BOOK_HOME", str(tmp_path))
    shutil.copytree(ROOT / "results" / "expected", tmp_path / "results" / "expected")
    return tmp_path


def command(city_root, *more):
    wanted = ["verify", "--profile", "smoke", "--data-root", str(city_root), *more]
    return CliRunner().invoke(app, wanted)


def test_the_recorded_smoke_result_holds_here(store, city_root):
    """The committed expectation, from another day and perhaps another machine."""
    done = command(city_root)
    assert done.exit_code == 0, done.output
    assert "FAILS" not in done.output and "top1" in done.output
    assert not list(store.glob("runs/*")) and not list(store.glob("build/verify/smoke/*"))


def test_a_result_that_does_not_hold_is_told(store, city_root):
    (file,) = (store / "results" / "expected").glob("*.json")
    record = json.loads(file.read_text())
    record["metrics"]["intervals"]["top5"] = [0.9, 1.0]
    write_json(file, sealed(record))
    done = command(city_root)
    assert done.exit_code == 1
    assert done.output.count("FAILS") == 1 and "1 of 1" in done.output


def test_a_result_is_trained_again_in_the_precision_of_its_record(store, city_root):
    (file,) = (store / "results" / "expected").glob("*.json")
    record = json.loads(file.read_text())
    for name, made in (("vigor", record["made"]["precision"]), ("half", "bf16")):
        record["made"]["precision"] = made
        write_json(file, sealed(record))
        fresh, _ = verify.verify("vigor", "smoke", data_root=city_root, progress=False)
        assert fresh.record["made"]["precision"] == made, name


def test_nothing_recorded_and_other_data_are_told_with_the_next_step(store, city_root):
    missing = command(city_root, "--recipe", "vigor-gem")
    assert missing.exit_code == 2 and "--record" in missing.output
    (file,) = (store / "results" / "expected").glob("*.json")
    record = {**json.loads(file.read_text()), "data": "another city"}
    write_json(file, sealed(record))
    other = command(city_root)
    assert other.exit_code == 2 and "recorded on data another city" in other.output


def test_intervals_decide_and_measurements_without_one_do_not():
    recorded = {"top1": 0.2, "median_m": 10.0, "intervals": {"top1": [0.1, 0.3]}, "note": "x"}
    held = verify.compare(recorded, {"top1": 0.3, "median_m": 99.0})
    assert [(c.metric, c.holds, c.same) for c in held] == [
        ("top1", True, False),
        ("median_m", True, False),
    ]
    (broken, _) = verify.compare(recorded, {"top1": 0.31, "median_m": 10.0})
    assert not broken.holds


def test_the_record_says_what_decides_the_last_bit(city_root, store):
    made = runs.provenance_of_now(runs.get_profile("smoke"))
    assert {"versions", "python", "commit", "hardware", "threads", "processes", "precision"} <= set(
        made
    )
    assert {"deterministic_algorithms", "cudnn_benchmark", "float32_matmul"} <= set(
        made["determinism"]
    )
    assert json.loads(json.dumps(made)) == made


def test_another_seed_on_record_widens_the_interval():
    recorded = {"top1": 0.2, "intervals": {"top1": [0.17, 0.24]}}
    others = [{"top1": 0.21}, {"top1": 0.16}]
    (check,) = verify.compare(recorded, {"top1": 0.16}, others)
    assert check.interval == pytest.approx((0.15, 0.2 + 0.04 * 2**0.5))  # 3, 4, 5
    assert check.holds
    (alone,) = verify.compare(recorded, {"top1": 0.16})
    assert alone.interval == pytest.approx((0.17, 0.24)) and not alone.holds


def test_other_seeds_of_the_same_run_are_found_and_nothing_else():
    by_name = {record["name"]: record for record in runs.recorded_runs("mini")}
    pairs = [name for name in by_name if "-seed1-" in name]
    assert pairs
    for name in pairs:
        first = by_name[name.replace("-seed1-", "-seed0-")]
        assert verify.other_seeds(first) == [by_name[name]["metrics"]]
        assert verify.other_seeds(by_name[name]) == [first["metrics"]]
