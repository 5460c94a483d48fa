"""The run store: a recipe trained in a profile with a seed, what it left, and where that came from.

``load_or_train`` looks in ``runs/`` (trained on this machine), then in ``results/`` (records that
came with the project), then trains; :attr:`Run.provenance` says which it was. With several
processes the main one looks, locks and writes, all train and evaluate together, and all get the run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vigorlib import device, evaluation, image_cache, model, noisy_gps, processes, retrieval
from vigorlib.dataset import Protocol, Vigor, data_folder, embedded_city
from vigorlib.descriptors import Descriptors, describe, predict_offsets
from vigorlib.files import (
    DamagedFile,
    read_sealed,
    remove_leftovers,
    sealed,
    sha256_of,
    write_atomically,
    write_json,
)
from vigorlib.geometry import HALF_TILE_PX
from vigorlib.home import home
from vigorlib.images import Pixels
from vigorlib.recipes import (
    Profile,
    Recipe,
    as_dict,
    get_profile,
    get_recipe,
    settings_hash,
)
from vigorlib.training import Progress, Trainer, mixed_precision

log = logging.getLogger(__name__)

FORMAT = 1
RECORD, RECORD_BEFORE = "record.json", "record.previous.json"
WEIGHTS, ANSWERS = "network.safetensors", "evaluation.npz"
NEEDED = {"name", "recipe", "profile", "protocol", "seed", "metrics"}
"""What every record has had from the first."""
YOUNGEST_ANSWERS = {"given_error_m", "near_rank"}
"""Arrays that evaluation has not always given."""
FRESH, LOCAL, RECORDED = "trained just now", "trained on this machine", "recorded"


@dataclass(frozen=True)
class Run:
    """A trained recipe: its record, and its folder where there is one.

    record: the JSON a run leaves (settings, metrics, curves, history, versions, times).
    folder: holds ``network.safetensors`` and ``evaluation.npz``; None for a bare record.
    """

    recipe: Recipe
    profile: Profile
    protocol: str
    seed: int
    record: dict[str, Any]
    provenance: str
    folder: Path | None

    @property
    def metrics(self) -> dict[str, Any]:
        """Shares in [0, 1] and metres, by name (see :mod:`vigorlib.evaluation`)."""
        return self.record["metrics"]

    @property
    def title(self) -> str:
        return self.recipe.title

    def network(self) -> model.CrossViewNet:
        """The trained network, in evaluation mode."""
        weights = self._file(WEIGHTS)
        from safetensors.torch import load_file

        network = model.build(self.recipe, self.profile, imagenet=False)
        network.load_state_dict({k: v.float() for k, v in load_file(weights).items()})
        return network.eval().to(memory_format=torch.channels_last)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Per-query results on the test set: ``rank``, ``top`` (Q, k), ``offset_px``, errors."""
        with np.load(self._file(ANSWERS), allow_pickle=False) as stored:
            return dict(stored)

    def answers(self, data_root: str | Path = "") -> dict[str, NDArray[Any]]:
        """:meth:`arrays` where they are stored, else evaluated again with the stored network.

        So are damaged ones, and those that were stored before evaluation learned to say more.
        """
        try:
            stored = self.arrays()
        except FileNotFoundError:
            stored = {}
        except DamagedFile as error:
            log.warning("%s; evaluated again", error)
            stored = {}
        if YOUNGEST_ANSWERS <= stored.keys():
            return stored
        network = self.network().to(device.pick())
        return evaluate(network, self.test_set(data_root), self.profile, progress=False)[2]

    def test_set(self, data_root: str | Path = "") -> Photographs:
        """What the run is tested on."""
        root = data_folder(self.profile.name, data_root)
        return photographs(root, self.profile, self.protocol, "test", False, self.recipe)  # type: ignore[arg-type]

    def _file(self, name: str) -> Path:
        if self.folder is None or not (self.folder / name).exists():
            raise FileNotFoundError(
                f"run {self.record['name']} is a record without {name}: train it here with "
                f"`python -m vigorlib train --recipe {self.recipe.name} --profile "
                f"{self.profile.name} --protocol {self.protocol} --seed {self.seed}`"
            )
        path = self.folder / name
        expected = self.record.get("files", {}).get(name)  # younger than some records
        if expected is not None and sha256_of(path) != expected:
            raise DamagedFile(
                f"{path} is not the file that its record was written with: it was damaged, or an "
                "evaluation was interrupted. `python -m vigorlib evaluate --store` with recipe, "
                "profile and seed mends answers; a network is trained again when its folder is gone"
            )
        return path


def load_or_train(
    recipe: Recipe | str,
    profile: Profile | str = "mini",
    seed: int = 0,
    protocol: Protocol = "same-area",
    data_root: str | Path = "",
    use_recorded: bool = True,
    progress: bool = True,
    report: Callable[[int, int, str], None] | None = None,
) -> Run:
    """The run of a recipe: from ``runs/``, from ``results/``, or trained now.

    data_root: a copy of VIGOR; empty for the embedded city. use_recorded: whether a record that
    came with the project will do. A local run counts only if it saw the same data and settings.
    report: called with (step, steps, text) while training, in the main process.
    """
    recipe, profile = get_recipe(recipe), get_profile(profile)
    processes.join()
    name = run_name(recipe, profile, protocol, seed)
    folder = home() / "runs" / profile.name / name

    def local() -> Found | None:
        return _local(folder, profile, data_root)

    found = processes.from_main(lambda: _find(name, profile, data_root, use_recorded))
    if found is None:
        root = processes.main_first(lambda: data_folder(profile.name, data_root))
        with processes.locked(folder / "lock"):
            processes.from_main(lambda: remove_leftovers(folder))
            found = processes.from_main(local)  # somebody else's, while this one waited
            if found is None:
                assigned = _Assignment(recipe, profile, protocol, seed, root, folder, progress)
                found = _train(assigned, report), FRESH, folder
    return Run(recipe, profile, protocol, seed, *found)


def train_afresh(
    folder: Path,
    recipe: Recipe,
    profile: Profile,
    seed: int = 0,
    protocol: Protocol = "same-area",
    data_root: str | Path = "",
    progress: bool = True,
) -> Run:
    """A run trained into a folder of its own, whatever ``runs/`` and ``results/`` hold."""
    processes.join()
    root = processes.main_first(lambda: data_folder(profile.name, data_root))
    with processes.locked(folder / "lock"):
        assigned = _Assignment(recipe, profile, protocol, seed, root, folder, progress)
        record = _train(assigned, None)
    return Run(recipe, profile, protocol, seed, record, FRESH, folder)


def find(
    recipe: Recipe | str,
    profile: Profile | str = "mini",
    seed: int = 0,
    protocol: Protocol = "same-area",
    data_root: str | Path = "",
    use_recorded: bool = True,
) -> Run | None:
    """The run of a recipe if there is one, local or recorded; nothing is trained."""
    recipe, profile = get_recipe(recipe), get_profile(profile)
    name = run_name(recipe, profile, protocol, seed)
    found = _find(name, profile, data_root, use_recorded)
    return Run(recipe, profile, protocol, seed, *found) if found else None


def run_name(recipe: Recipe, profile: Profile, protocol: str, seed: int) -> str:
    """``vigor-same-area-seed0-1a2b3c4d``; the end changes with every setting and every layer."""
    with model.without_weights():
        layers = model.build(recipe, profile, imagenet=False)
    said = re.sub("affine=True, (?=track)", "affine=True, bias=True, ", repr(layers))  # older torch
    return f"{recipe.name}-{protocol}-seed{seed}-{settings_hash(recipe, profile, said)}"


def recorded_runs(profile: str) -> list[dict[str, Any]]:
    """All records of a profile that came with the project."""
    return _all_of((home() / "results" / profile).glob("*.json"))


def local_runs(profile: str) -> list[dict[str, Any]]:
    """All records of a profile that were made on this machine."""
    return _all_of((home() / "runs" / profile).glob(f"*/{RECORD}"))


def _all_of(files: Iterable[Path]) -> list[dict[str, Any]]:
    """The records that can be read; says which cannot, for one must not hide the others."""
    records = []
    for file in sorted(files):
        try:
            records.append(read_record(file))
        except ValueError as error:
            log.warning("left out: %s", error)
    return [record for record in records if record is not None]


def keep(run: Run, weights: bool = False, tiles: bool = True) -> Path:
    """Store a run's record and answers in ``results/``, to come with the project.

    weights: the network too, in half precision; tiles: which tiles each query found, too, the best
    five. Returns the record's file.
    """
    file = home() / "results" / run.profile.name / f"{run.record['name']}.json"
    answers = {name: _slim(name, values) for name, values in run.arrays().items()}
    if not tiles:
        answers = {name: v for name, v in answers.items() if v.ndim == 1}
    _store_answers(file.with_suffix(""), answers)
    if weights:
        from safetensors.torch import save_file

        state = {k: v.half().contiguous() for k, v in run.network().state_dict().items()}
        write_atomically(file.with_suffix("") / WEIGHTS, lambda path: save_file(state, path))
    write_json(file, _sealed(run.record, file.with_suffix("")))
    return file


def _slim(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Answers as small as they may be: metres cut (not rounded: thresholds hold) to centimetres."""
    if name.endswith("_m"):
        return (np.floor(values.astype(np.float64) * 100) / 100).astype(np.float32)
    if name.endswith("_px"):
        return np.rint(values).astype(np.int16)
    return values[:, :5] if name.startswith("top") else values.astype(np.int32)


# -- finding ---------------------------------------------------------------------------------

Found = tuple[dict[str, Any], str, Path | None]
"""Record, provenance and folder of a run."""


def _find(
    name: str, profile: Profile, data_root: str | Path, use_recorded: bool = True
) -> Found | None:
    """A local run, else a recorded one, which only stands for the embedded city."""
    local = _local(home() / "runs" / profile.name / name, profile, data_root)
    return local or (_recorded(name, profile) if use_recorded and not data_root else None)


def _local(folder: Path, profile: Profile, data_root: str | Path) -> Found | None:
    record = read_record(folder / RECORD)
    if record is None:
        return None
    root = Path(data_root) if data_root else embedded_city(profile.name)
    if root.exists() and record["data"] != fingerprint(root):
        return None
    return record, LOCAL, folder


def _recorded(name: str, profile: Profile) -> Found | None:
    file = home() / "results" / profile.name / f"{name}.json"
    record = read_record(file)
    if record is None:
        return None
    folder = file.with_suffix("")
    return record, RECORDED, folder if folder.is_dir() else None


def read_record(path: Path) -> dict[str, Any] | None:
    """A record; the one before it, saying so, where it is damaged. None where there is none.

    Raises DamagedFile when neither can be read, ValueError for one of another version.
    """
    if not path.exists():
        return None
    try:
        return _whole_record(path)
    except DamagedFile as error:
        before = path.with_name(RECORD_BEFORE)
        if path.name == RECORD and before.exists():
            with suppress(DamagedFile):
                record = _whole_record(before)
                log.warning("%s; going on with the one before, %s", error, before.name)
                return record
        raise DamagedFile(
            f"{error}. Fetch it again (`git checkout` for one that came with the project), or "
            "remove it to train again"
        ) from None


def _whole_record(path: Path) -> dict[str, Any]:
    record = read_sealed(path)
    if record.get("format") != FORMAT:
        raise ValueError(
            f"{path} has record format {record.get('format')!r}: expected {FORMAT}. It was written "
            "by another version; remove it to train again"
        )
    if missing := NEEDED - record.keys():
        raise DamagedFile(f"{path} lacks {', '.join(sorted(missing))}: expected a whole record")
    return record


def fingerprint(root: Path) -> str:
    """Sixteen characters that identify a data set: its manifest's, else that of its label files."""
    manifest = root / "manifest.json"
    if manifest.exists():
        try:
            return str(json.loads(manifest.read_text(encoding="utf-8"))["fingerprint"])[:16]
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedFile(
                f"{manifest} is damaged ({error!r}): expected what the city's maker wrote. Remove "
                "it, and the city is completed again"
            ) from None
    digest = hashlib.sha256()
    for file in sorted(root.glob("splits*/*/*.txt")):
        digest.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()[:16]


# -- training and evaluating -----------------------------------------------------------------


@dataclass(frozen=True)
class Photographs:
    """A subset of VIGOR with its pixels at a profile's size."""

    data: Vigor
    panoramas: Pixels
    tiles: Pixels


def photographs(
    root: Path,
    profile: Profile,
    protocol: Protocol,
    subset: str,
    progress: bool = True,
    recipe: Recipe | None = None,
) -> Photographs:
    """Open a subset; small profiles decode it once into ``<root>/.pixels``, others read what
    ``python -m data_prep.cache`` has stored there, else the originals.

    For a recipe of unknown orientation each test panorama is rolled by an angle of its own (always
    the same); training draws new angles.
    """
    data = Vigor(root, protocol, subset, labels=profile.labels)  # type: ignore[arg-type]
    turns = None
    if recipe and recipe.orientation == "unknown" and subset == "test":
        turns = np.random.default_rng(0).integers(0, profile.panorama_px[1], len(data))

    def pixels(
        paths: list[Path], size: tuple[int, int], turns: NDArray[np.int64] | None = None
    ) -> Pixels:
        if not profile.in_memory:
            return Pixels(paths, *size, stored=image_cache.find(paths, *size), turns=turns)
        images = Pixels(paths, *size, cache=image_cache.cache_folder(root), turns=turns)
        images.prepare(progress)
        return images

    return Photographs(
        data,
        pixels(data.queries.paths(), profile.panorama_px, turns),
        pixels(data.tiles.paths(), profile.tile_px),
    )


@dataclass(frozen=True)
class _Assignment:
    """What is trained, on which data, into which folder."""

    recipe: Recipe
    profile: Profile
    protocol: Protocol
    seed: int
    root: Path
    folder: Path
    progress: bool


def _train(assigned: _Assignment, report: Callable[[int, int, str], None] | None) -> dict[str, Any]:
    """Train, evaluate and store a run. Returns its record once it is stored."""
    train, test = processes.main_first(lambda: _both_subsets(assigned))
    network, history = _learn(assigned, train, test, report)
    trained = time.perf_counter()
    metrics, curves, arrays = evaluate(network, test, assigned.profile, assigned.progress)
    results = {
        "metrics": metrics,
        "curves": curves,
        "history": {"losses": history.losses, "watched": history.watched},
        "seconds": {
            "training": round(history.seconds, 1),
            "evaluation": round(time.perf_counter() - trained, 1),
        },
    }

    def write() -> dict[str, Any]:
        record = _record(assigned, train, test, results)
        _store(assigned.folder, network, arrays, record)
        return record

    return processes.from_main(write)


def _both_subsets(assigned: _Assignment) -> list[Photographs]:
    progress = assigned.progress and processes.is_main()
    return [
        photographs(
            assigned.root, assigned.profile, assigned.protocol, subset, progress, assigned.recipe
        )
        for subset in ("train", "test")
    ]


def _learn(
    assigned: _Assignment,
    train: Photographs,
    test: Photographs,
    report: Callable[[int, int, str], None] | None,
) -> tuple[model.CrossViewNet, Progress]:
    """A trained network and what it went through. The test queries are only watched."""
    torch.manual_seed(assigned.seed)
    network = processes.main_first(lambda: model.build(assigned.recipe, assigned.profile))
    trainer = Trainer(
        network,
        train.data,
        train.panoramas,
        train.tiles,
        assigned.recipe,
        assigned.profile,
        assigned.seed,
        assigned.folder,
        watch=lambda net: watched_recall(net, test, assigned.profile),
        report=report,
        progress=assigned.progress,
    )
    return network, trainer.train()


def _record(
    assigned: _Assignment, train: Photographs, test: Photographs, results: dict[str, Any]
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": assigned.folder.name,
        "recipe": as_dict(assigned.recipe),
        "profile": as_dict(assigned.profile),
        "protocol": assigned.protocol,
        "seed": assigned.seed,
        "data": fingerprint(assigned.root),
        "pixels": [images.source for images in (train.panoramas, train.tiles)],
        "queries": len(test.data),
        "tiles": len(test.data.tiles),
        "training_queries": len(train.data),
        **results,
        "made": provenance_of_now(assigned.profile),
    }


def _store(
    folder: Path, network: model.CrossViewNet, arrays: dict[str, Any], record: dict[str, Any]
) -> None:
    """Weights and arrays first, the record last: a run with a record is whole.

    The record is written twice, so that damage to it does not cost a training.
    """
    from safetensors.torch import save_file

    state = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    shared = {v.data_ptr(): v for v in state.values()}
    state = {k: v if shared[v.data_ptr()] is v else v.clone() for k, v in state.items()}
    write_atomically(folder / WEIGHTS, lambda path: save_file(state, path))
    _store_answers(folder, arrays)
    record.update(_sealed(record, folder))
    write_json(folder / RECORD_BEFORE, record)
    write_json(folder / RECORD, record)
    for checkpoint in folder.glob("checkpoint*.pt"):
        checkpoint.unlink()


def _store_answers(folder: Path, arrays: dict[str, Any]) -> None:
    def save(path: Path) -> None:
        with path.open("wb") as file:  # a file object, so that NumPy adds no ending of its own
            np.savez_compressed(file, **arrays)

    write_atomically(folder / ANSWERS, save)


def _sealed(record: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A record with the checksums of its files and its own."""
    there = (name for name in (WEIGHTS, ANSWERS) if (folder / name).exists())
    return sealed({**record, "files": {name: sha256_of(folder / name) for name in there}})


def evaluate(
    network: model.CrossViewNet, test: Photographs, profile: Profile, progress: bool = True
) -> tuple[dict[str, Any], dict[str, Any], dict[str, NDArray[Any]]]:
    """All of the paper's measurements on a test set: metrics, curves for figures, arrays a query.

    Several processes share the work; all must make the call and all get the whole.
    """
    ground, satellite = describe_both(network, test, profile, progress=progress)
    data = test.data
    ranking = _shared_ranks(ground.values, satellite.values, data.references)
    tiles_near = noisy_gps.candidates(data, np.random.default_rng(0))
    near = noisy_gps.ranks_among(ground.values, satellite.values, data.references, tiles_near)

    def offsets_px(tiles: NDArray[np.int64]) -> NDArray[np.float64]:
        if network.offset is None:
            return np.zeros((len(data), 2))
        return predict_offsets(network, ground, satellite, tiles) * HALF_TILE_PX

    metrics, curves, arrays = evaluation.measurements(data, ranking, offsets_px(ranking.top[:, 0]))
    for more, more_arrays in (
        evaluation.on_given_tiles(data, offsets_px(data.references[:, 0])),
        evaluation.near_a_fix(data, near, offsets_px(near.top[:, 0])),
    ):
        metrics |= more
        arrays |= more_arrays
    return metrics, curves, arrays


def store_evaluation(
    run: Run, metrics: dict[str, Any], curves: dict[str, Any], arrays: dict[str, NDArray[Any]]
) -> None:
    """Give a local run fresh measurements (:func:`evaluate`), after that has learned to say more.

    The record keeps when and by which code the network was trained, and says the same of these.
    """
    if run.folder is None or run.provenance == RECORDED:
        raise ValueError(f"run {run.record['name']} is {run.provenance}: expected one of runs/")
    made = provenance_of_now(run.profile)
    record = {**run.record, "metrics": metrics, "curves": curves, "evaluated": made}
    _store_answers(run.folder, arrays)
    write_json(run.folder / RECORD, _sealed(record, run.folder), run.folder / RECORD_BEFORE)


def _shared_ranks(
    ground: torch.Tensor, satellite: torch.Tensor, references: NDArray[np.int64]
) -> retrieval.Ranking:
    """Each process ranks its stretch of the queries; ranks are exact wherever these are cut."""
    mine = processes.share(len(references))
    part = retrieval.ranks(ground[mine], satellite, references[mine], k=50)
    parts = [vars(each) for each in processes.everyones(part)]
    return retrieval.Ranking(
        **{name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    )


def describe_both(
    network: model.CrossViewNet,
    test: Photographs,
    profile: Profile,
    queries: NDArray[np.int64] | None = None,
    tiles: NDArray[np.int64] | None = None,
    progress: bool = True,
) -> tuple[Descriptors, Descriptors]:
    """Descriptors of the queries and of the gallery (or of chosen ones)."""
    options: dict[str, Any] = {
        "device": next(network.parameters()).device,
        "precision": mixed_precision(profile.precision),
    }
    was_training = network.training
    network.eval()
    ground = describe(
        network.describe_ground, test.panoramas, queries, progress="panoramas" * progress, **options
    )
    satellite = describe(
        network.describe_satellite, test.tiles, tiles, progress="tiles" * progress, **options
    )
    network.train(was_training)
    return ground, satellite


def watched_recall(
    network: model.CrossViewNet, test: Photographs, profile: Profile
) -> dict[str, float]:
    """Top-1 and top-5 of a fixed sample of test queries among those queries' own tiles.

    A small gallery: good for watching a curve, higher than the final figure on all tiles.
    """
    count = min(profile.watch_queries, len(test.data))
    queries = np.random.default_rng(0).choice(len(test.data), count, replace=False)
    tiles, references = np.unique(test.data.references[queries], return_inverse=True)
    ground, satellite = describe_both(network, test, profile, queries, tiles, progress=False)
    ranking = retrieval.ranks(ground.values, satellite.values, references.reshape(-1, 4), k=1)
    return {
        "top1": float((ranking.positive < 1).mean()),
        "top5": float((ranking.positive < 5).mean()),
        "queries": count,
        "tiles": len(tiles),
    }


# -- provenance ------------------------------------------------------------------------------


def provenance_of_now(profile: Profile) -> dict[str, Any]:
    """What a result depends on beside its settings: versions, commit, hardware, date."""
    packages = ("torch", "torchvision", "timm", "numpy", "accelerate", "pillow", "numba")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "hardware": torch.cuda.get_device_name() if torch.cuda.is_available() else _cpu_name(),
        "threads": torch.get_num_threads(),
        "processes": processes.count(),
        "precision": mixed_precision(profile.precision),
        "system": f"{platform.system()} {platform.machine()}",
        "determinism": _determinism(),
    }


def _determinism() -> dict[str, Any]:
    """The switches that decide whether two runs of one machine agree to the last bit."""
    return {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "float32_matmul": torch.get_float32_matmul_precision(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", ""),
    }


def _commit() -> str:
    """The commit of the code, with ``+`` when the code was changed since."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + "+" * bool(
            git("status", "--porcelain", "--", str(folder))
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
