"""The run store: found before trained, whole or not there, never another data set's."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from vigorlib import model, runs
from vigorlib.files import DamagedFile
from vigorlib.recipes import LATER_SETTINGS, Profile, get_profile, get_recipe, settings_hash


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("VIGOR_BOOK_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def trained(city_root, tmp_path_factory):
    """One smoke run of vigor, for tests that only read."""
    home = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIGOR_BOOK_HOME", str(home))
        run = runs.load_or_train("vigor", "smoke", data_root=city_root, progress=False)
    return home, run


def test_a_run_is_trained_once_and_found_afterwards(trained, city_root, monkeypatch):
    home, first = trained
    monkeypatch.setenv("VIGOR_BOOK_HOME", str(home))
    again = runs.load_or_train("vigor", "smoke", data_root=city_root, progress=False)
    assert (first.provenance, again.provenance) == (runs.FRESH, runs.LOCAL)
    assert again.metrics == first.metrics


def test_the_same_seed_gives_the_same_metrics(trained, city_root, store):
    _, first = trained
    fresh = runs.load_or_train("vigor", "smoke", data_root=city_root, progress=False)
    assert fresh.provenance == runs.FRESH
    assert fresh.metrics == first.metrics
    assert fresh.record["history"] == first.record["history"]


def test_the_stored_network_gives_the_recorded_metrics(trained, city_root):
    _, run = trained
    photos = runs.photographs(city_root, run.profile, "same-area", "test", progress=False)
    metrics, _, arrays = runs.evaluate(run.network(), photos, run.profile, progress=False)
    assert metrics == run.metrics
    assert (arrays["rank"] == run.arrays()["rank"]).all()


def test_answers_that_were_not_kept_are_found_again(trained, city_root, tmp_path):
    _, run = trained
    weights_only = tmp_path / "weights"
    weights_only.mkdir()
    shutil.copy(run.folder / "network.safetensors", weights_only)
    bare = dataclasses.replace(run, folder=weights_only)
    again, stored = bare.answers(city_root), run.answers(city_root)
    assert (again["rank"] == stored["rank"]).all() and again.keys() == stored.keys()
    old = {name: values for name, values in stored.items() if not name.startswith("given")}
    np.savez(weights_only / "evaluation.npz", **old)
    renewed = bare.answers(city_root)
    assert (renewed["given_error_m"] == stored["given_error_m"]).all()


def test_a_finished_run_keeps_no_checkpoint(trained):
    _, run = trained
    names = {file.name for file in run.folder.iterdir()}
    record = {"record.json", "record.previous.json"}
    assert names == {*record, "network.safetensors", "evaluation.npz", "lock"}


def test_the_record_says_where_it_comes_from(trained):
    _, run = trained
    made = run.record["made"]
    assert made["versions"]["torch"] == torch.__version__.split("+")[0]
    assert {"commit", "hardware", "date", "threads", "precision"} <= set(made)
    assert run.record["recipe"]["name"] == "vigor" and run.record["data"]


def test_other_data_are_not_confused_with_these(trained, city_root, monkeypatch, tmp_path):
    home, first = trained
    shutil.copytree(home, tmp_path / "home")
    other = tmp_path / "other"
    shutil.copytree(city_root, other, ignore=shutil.ignore_patterns(".pixels"))
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps({**manifest, "fingerprint": "0" * 64}))
    monkeypatch.setenv("VIGOR_BOOK_HOME", str(tmp_path / "home"))
    run = runs.load_or_train("vigor", "smoke", data_root=other, progress=False)
    assert run.provenance == runs.FRESH and run.record["data"] != first.record["data"]


def test_a_recorded_run_needs_neither_data_nor_training(trained, store):
    _, first = trained
    target = store / "results" / "smoke" / f"{first.record['name']}.json"
    target.parent.mkdir(parents=True)
    target.write_text(json.dumps(first.record))
    run = runs.load_or_train("vigor", "smoke", progress=False)
    assert run.provenance == runs.RECORDED and run.metrics == first.metrics
    assert not (store / "data").exists()
    with pytest.raises(FileNotFoundError, match="python -m vigorlib train --recipe vigor"):
        run.network()


def test_every_setting_that_matters_changes_the_name():
    recipe, profile = get_recipe("vigor"), get_profile("mini")
    names = {
        settings_hash(recipe, profile),
        settings_hash(dataclasses.replace(recipe, alpha=5.0), profile),
        settings_hash(recipe, dataclasses.replace(profile, batch=24)),
        settings_hash(recipe, dataclasses.replace(profile, epochs={"same-area": (1, 1)})),
    }
    assert len(names) == 4
    renamed = dataclasses.replace(recipe, title="another title")
    assert settings_hash(renamed, profile) == settings_hash(recipe, profile)


def test_a_setting_added_later_renames_no_earlier_run(monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class LaterProfile(Profile):
        novelty: str = "none"

    recipe, before = get_recipe("vigor"), get_profile("mini")
    monkeypatch.setitem(LATER_SETTINGS, "novelty", "none")
    values = {field.name: getattr(before, field.name) for field in dataclasses.fields(before)}
    after = LaterProfile(**values)
    assert settings_hash(recipe, after) == settings_hash(recipe, before)
    changed = dataclasses.replace(after, novelty="much")
    assert settings_hash(recipe, changed) != settings_hash(recipe, before)


def test_other_initial_weights_are_another_run():
    recipe, profile = get_recipe("vigor"), get_profile("full")
    caffe = dataclasses.replace(profile, weights="caffe")
    assert settings_hash(recipe, caffe) != settings_hash(recipe, profile)


def test_another_network_behind_the_same_name_is_another_run(monkeypatch):
    recipe, profile = get_recipe("vigor"), get_profile("smoke")
    before = runs.run_name(recipe, profile, "same-area", 0)
    monkeypatch.setitem(model.BACKBONES, "vgg16-tiny", lambda: model.VGG((8, 16), layers=(1, 1)))
    assert runs.run_name(recipe, profile, "same-area", 0) != before


def test_a_record_of_another_version_is_refused_with_the_reason(store):
    recipe, profile = get_recipe("vigor"), get_profile("smoke")
    name = runs.run_name(recipe, profile, "same-area", 0)
    folder = store / "runs" / "smoke" / name
    folder.mkdir(parents=True)
    (folder / "record.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="record format 99: expected 1"):
        runs.load_or_train("vigor", "smoke", progress=False)


@pytest.mark.parametrize("text", ["", "{", '{"format": 1}', "[]"])
def test_a_damaged_record_is_refused_with_the_reason_and_hides_no_other(
    trained, store, text, caplog
):
    _, run = trained
    shutil.copytree(run.folder, store / "runs" / "smoke" / run.folder.name)
    other = store / "runs" / "smoke" / "other"
    shutil.copytree(run.folder, other)
    for name in ("record.json", "record.previous.json"):
        (other / name).write_text(text)
    with pytest.raises(DamagedFile, match="record.json (is damaged|lacks|holds)"):
        runs.read_record(other / "record.json")
    assert [r["name"] for r in runs.local_runs("smoke")] == [run.record["name"]]
    assert "left out" in caplog.text


def test_a_damaged_record_falls_back_to_the_one_before_and_says_so(trained, store, caplog):
    _, run = trained
    folder = store / "runs" / "smoke" / run.folder.name
    shutil.copytree(run.folder, folder)
    text = (folder / "record.json").read_text()
    (folder / "record.json").write_text(text.replace('"top1": 0.', '"top1": 1.', 1))
    assert runs.local_runs("smoke")[0]["metrics"] == run.metrics
    assert "altered after its checksum" in caplog.text and "the one before" in caplog.text


def test_damaged_answers_are_found_again_and_damaged_weights_refused(
    trained, city_root, tmp_path, caplog
):
    _, run = trained
    shutil.copytree(run.folder, tmp_path / "run")
    hurt = dataclasses.replace(run, folder=tmp_path / "run")
    for name in ("evaluation.npz", "network.safetensors"):
        file = tmp_path / "run" / name
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        if name == "evaluation.npz":
            assert (hurt.answers(city_root)["rank"] == run.arrays()["rank"]).all()
            assert "evaluated again" in caplog.text
    with pytest.raises(DamagedFile, match="network.safetensors is not the file"):
        hurt.network()


def test_a_store_that_may_not_be_written_says_so_in_one_line(city_root, store, monkeypatch):
    from typer.testing import CliRunner

    from vigorlib.__main__ import app

    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    runs.photographs(city_root, get_profile("smoke"), "same-area", "test", progress=False)
    monkeypatch.setattr(Path, "mkdir", refuse)
    wanted = ["train", "--recipe", "safa", "--profile", "smoke", "--data-root", str(city_root)]
    said = CliRunner().invoke(app, wanted)
    assert said.exit_code == 2 and "cannot be written (Read-only file system)" in said.output
    assert said.output.count("\n") == 1 and list(store.iterdir()) == []


def test_a_recipe_of_ones_own_is_a_few_lines(city_root, store):
    mine = dataclasses.replace(get_recipe("safa"), name="mine", title="mine", heads=2)
    run = runs.load_or_train(mine, "smoke", data_root=city_root, progress=False)
    assert run.network().dimension == 2 * run.network().ground.backbone.channels


def test_unknown_recipe_and_profile_name_the_known_ones():
    with pytest.raises(ValueError, match="siamese, safa, safa-mining, vigor"):
        runs.load_or_train("nonsense")
    with pytest.raises(ValueError, match="full, mini, smoke"):
        runs.load_or_train("vigor", "huge")


def test_the_command_line_says_in_one_line_what_can_be_mended(monkeypatch):
    from typer.testing import CliRunner

    from vigorlib.__main__ import app

    unknown = CliRunner().invoke(app, ["train", "--recipe", "nonsense"])
    assert unknown.exit_code == 2 and "expected one of siamese" in unknown.output

    def unavailable(*_, **__):
        raise model.WeightsUnavailable("fetch them once")

    monkeypatch.setattr(runs, "load_or_train", unavailable)
    failed = CliRunner().invoke(app, ["train", "--recipe", "safa", "--profile", "full"])
    assert failed.exit_code == 2 and failed.output.strip() == "fetch them once"


def test_fresh_measurements_are_stored_with_their_own_provenance(trained, city_root, tmp_path):
    _, run = trained
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    record = {**run.record, "metrics": {"top1": 0.0}}
    older = dataclasses.replace(run, record=record, folder=folder, provenance=runs.LOCAL)
    results = runs.evaluate(run.network(), older.test_set(city_root), run.profile, progress=False)
    runs.store_evaluation(older, *results)
    stored = json.loads((folder / "record.json").read_text())
    assert stored["metrics"] == run.metrics and stored["made"] == run.record["made"]
    assert stored["evaluated"].keys() == stored["made"].keys()
    with pytest.raises(ValueError, match="expected one of runs/"):
        runs.store_evaluation(dataclasses.replace(older, provenance=runs.RECORDED), *results)


def test_kept_answers_say_what_the_whole_ones_say(trained, monkeypatch, tmp_path):
    _, run = trained
    monkeypatch.setenv("VIGOR_BOOK_HOME", str(tmp_path))
    runs.keep(run)
    whole = run.arrays()
    with np.load(next(tmp_path.glob("results/smoke/*/evaluation.npz"))) as stored:
        kept = dict(stored)
    assert kept.keys() == whole.keys()
    assert (kept["rank"] == whole["rank"]).all()
    assert (kept["top"] == whole["top"][:, :5]).all()
    for metres in (5, 10, 25, 100):
        assert ((kept["error_m"] < metres) == (whole["error_m"] < metres)).all()
    runs.keep(run, tiles=False)
    with np.load(next(tmp_path.glob("results/smoke/*/evaluation.npz"))) as stored:
        assert all(values.ndim == 1 for values in stored.values())


def test_a_recipe_of_unknown_heading_is_tested_on_rolled_panoramas(city_root):
    recipe, size = get_recipe("vigor-any-heading"), get_profile("smoke")
    plain = runs.photographs(city_root, size, "same-area", "test", False)
    rolled = runs.photographs(city_root, size, "same-area", "test", False, recipe)
    again = runs.photographs(city_root, size, "same-area", "test", False, recipe)
    turns = rolled.panoramas.turns
    assert torch.equal(rolled.panoramas[[3]][0], plain.panoramas[[3]][0].roll(int(turns[3]), -1))
    assert (again.panoramas.turns == turns).all()
    training = runs.photographs(city_root, size, "same-area", "train", False, recipe)
    assert training.panoramas.turns is None and rolled.tiles.turns is None


def test_looking_for_a_run_trains_nothing(trained, city_root, monkeypatch, store):
    home, run = trained
    assert runs.find("vigor", "smoke", data_root=city_root) is None
    assert not (store / "runs").exists()
    monkeypatch.setenv("VIGOR_BOOK_HOME", str(home))
    assert runs.find("vigor", "smoke", data_root=city_root).metrics == run.metrics


def test_a_run_has_the_same_name_whatever_torch_says_of_a_batch_norm(monkeypatch):
    """Newer torch describes its bias, too; the recorded runs were named by it."""
    name = runs.run_name(get_recipe("vigor"), get_profile("mini"), "same-area", 0)
    records = Path(__file__).resolve().parent.parent / "results" / "mini"
    assert (records / f"{name}.json").exists()
    said = torch.nn.BatchNorm2d.extra_repr
    monkeypatch.setattr(
        torch.nn.BatchNorm2d, "extra_repr", lambda self: said(self).replace("bias=True, ", "")
    )
    assert runs.run_name(get_recipe("vigor"), get_profile("mini"), "same-area", 0) == name
