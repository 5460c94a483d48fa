"""A gallery's descriptors on disk: computed once, opened at once, and never older than its tiles.

A stored gallery is three files named by a key: ``<key>.json`` (the manifest: network, names, sizes
and dates of the tiles, and which were bad), ``<key>.descriptors.npy`` (N, D) float32 and
``<key>.lengths.npy`` (N, 1); a large one has ``<key>.rough.npy`` and ``<key>.rough.rounding.npy``
beside them, the descriptors in eight bits, which a search reads (:mod:`vigorlib.shortlist`). Descriptors are checked when they
are written: opening reads none. The key changes with every tile and every weight. What was computed
before an interruption, and what an older gallery of the same network knows of unchanged tiles, is
taken over.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

from vigorlib.dataset import Places
from vigorlib.descriptors import Descriptors, describe
from vigorlib.files import DamagedFile, new_array, read_sealed, sealed, write_atomically, write_json
from vigorlib.images import ImageError, Pixels
from vigorlib.ivfpq import pieces, single
from vigorlib.locks import held
from vigorlib.model import CrossViewNet
from vigorlib.recipes import Profile
from vigorlib.retrieval import checked
from vigorlib.shortlist import Rough, ShortlistGallery
from vigorlib.training import mixed_precision

FORMAT = 1
PIECE = 256
"""Tiles between two steps of the bar: what an interruption loses at most."""

LARGE_BYTES = 128 * 2**20
"""Of descriptors from which they are worth keeping in eight bits, too."""

TileFile = tuple[str, int, int]
"""Name, bytes and date (ns) of a tile."""


class GalleryError(ValueError):
    """No gallery can be made of these tiles."""


@dataclass(frozen=True)
class StoredGallery:
    """Descriptors of the good tiles, in the order of the list.

    kept: (N,) places in the list of tiles that was asked for; bad: (name, reason) of the others.
    fresh: whether anything had to be computed. shortlist: the same descriptors, quicker to
    search; None for a gallery that is small.
    """

    descriptors: Descriptors
    kept: NDArray[np.int64]
    bad: tuple[tuple[str, str], ...]
    fresh: bool
    shortlist: ShortlistGallery | None = None


class Pictures(Pixels):
    """Images in memory as :class:`vigorlib.images.Pixels`: (N, H, W, 3) uint8."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Any) -> Tensor:
        return torch.from_numpy(self.images[np.asarray(indices)]).permute(0, 3, 1, 2)

    @property
    def workers(self) -> int:
        return 0

    def prepare(self, progress: bool = True) -> None:
        """Nothing to do."""


def open_gallery(
    folder: Path,
    tiles: Places,
    network: CrossViewNet,
    profile: Profile,
    progress: bool = True,
    skip_bad: bool = False,
    pixels: Callable[[], Pixels] | None = None,
) -> StoredGallery:
    """Open the descriptors of tiles, after computing those that are not known.

    folder: where they are kept. network: on the device that shall compute.
    skip_bad: leave out tiles that cannot be read; else the first of them is an error. pixels: opens
    the tiles at the network's size, if anything has to be computed (default: decodes them).
    Raises :class:`GalleryError` if no tile can be read.
    """
    files, weights = _tile_files(tiles), fingerprint(network)
    if not files:
        raise GalleryError("there are no tiles: expected at least one image")
    key = _key(files, weights, profile)
    fresh = not (folder / f"{key}.json").exists()
    if fresh:
        folder.mkdir(parents=True, exist_ok=True)
        with held(folder / "lock"):
            if not (folder / f"{key}.json").exists():  # somebody else's, while this one waited
                images = pixels() if pixels else Pixels(tiles.paths(), *profile.tile_px)
                _Work(folder, key, images, files, weights, network, profile, skip_bad).run(progress)
    return _opened(folder, key, fresh)


def fingerprint(network: nn.Module) -> str:
    """Sixteen characters that change with every weight."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def describe_pictures(
    branch: Callable[[Tensor], Tensor],
    images: NDArray[np.uint8],
    network: nn.Module,
    profile: Profile,
) -> Descriptors:
    """Descriptors of (N, H, W, 3) images in memory, in the profile's precision."""
    place = next(network.parameters()).device
    precision = mixed_precision(profile.precision)
    return describe(branch, Pictures(images), device=place, precision=precision)


# -- opening ---------------------------------------------------------------------------------


def _opened(folder: Path, key: str, fresh: bool) -> StoredGallery:
    try:
        manifest = read_sealed(folder / f"{key}.json")
        files, bad = manifest["files"], {int(i): reason for i, reason in manifest["bad"].items()}
        values = torch.from_numpy(np.load(folder / f"{key}.descriptors.npy", "c", False))
        lengths = torch.from_numpy(np.load(folder / f"{key}.lengths.npy", None, False))
        shortlist = None
        if "rough" not in manifest:  # an older one: perhaps its descriptors were never checked
            values = checked(values, "stored gallery")
        elif manifest["rough"]:
            shortlist = ShortlistGallery(values, Rough.load(folder / f"{key}.rough"), None)
    except (OSError, ValueError, EOFError, KeyError, AttributeError) as error:
        raise GalleryError(
            f"the descriptors kept in {folder} are damaged ({error}): remove the folder, and they "
            "are computed again"
        ) from None
    return StoredGallery(
        Descriptors(values, lengths),
        np.setdiff1d(np.arange(len(files)), list(bad)),
        tuple((files[i][0], reason) for i, reason in bad.items()),
        fresh,
        shortlist,
    )


def _tile_files(tiles: Places) -> list[TileFile]:
    """Looked at without a Path for each: opening a large gallery is little else."""
    root, files = str(tiles.root), []
    for city, name in zip(tiles.cities.tolist(), tiles.names.tolist(), strict=True):
        try:
            status = os.stat(os.path.join(root, city, tiles.folder, name))
            files.append((name, status.st_size, status.st_mtime_ns))
        except FileNotFoundError:
            files.append((name, -1, 0))  # reading it will say so
    return files


def _key(files: list[TileFile], weights: str, profile: Profile) -> str:
    what = [FORMAT, weights, _input(profile), files]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def _input(profile: Profile) -> list[Any]:
    """What besides the weights decides on descriptors."""
    return [*profile.tile_px, mixed_precision(profile.precision)]


# -- computing -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Work:
    """A gallery in the making: ``<key>.partial.*`` hold what is there already."""

    folder: Path
    key: str
    pixels: Pixels
    files: list[TileFile]
    weights: str
    network: CrossViewNet
    profile: Profile
    skip_bad: bool

    def run(self, progress: bool) -> None:
        """Compute what is missing, piece by piece, and put the gallery in place."""
        state = self._state()
        begun = bool(state.any())
        bad: dict[int, str] = {}  # bad tiles are tried again: they may be mended
        values = self._array("descriptors", self.network.dimension, begun)
        lengths = self._array("lengths", 1, begun)
        if not begun:
            self._take_over(state, values, lengths)
        missing = np.flatnonzero(~state)
        bar = tqdm(total=len(state), initial=len(state) - len(missing), desc="tiles", unit="tile",
                   disable=not progress)  # fmt: skip
        with bar:
            for piece in (missing[i : i + PIECE] for i in range(0, len(missing), PIECE)):
                self._piece(piece, state, bad, values, lengths)
                values.flush(), lengths.flush()
                self._save_state(state)
                bar.update(len(piece))
        self._finish(bad, values, lengths)

    def _piece(
        self,
        piece: NDArray[np.int64],
        state: NDArray[np.bool_],
        bad: dict[int, str],
        values: NDArray[np.float32],
        lengths: NDArray[np.float32],
    ) -> None:
        good, images = [], []
        for index, image in zip(piece, self._read(piece), strict=True):
            if isinstance(image, str):
                bad[int(index)] = image
            else:
                good.append(index)
                images.append(image)
        if good:
            branch = self.network.describe_satellite
            found = describe_pictures(branch, np.stack(images), self.network, self.profile)
            checked(found.values, "the tiles' descriptors")
            values[good], lengths[good] = found.values.cpu().numpy(), found.lengths.cpu().numpy()
            state[good] = True

    def _read(self, piece: NDArray[np.int64]) -> Iterator[NDArray[np.uint8] | str]:
        """Images at the network's size; for a bad one the reason."""

        def read(index: int) -> NDArray[np.uint8] | str:
            try:
                return self.pixels[[index]][0].permute(1, 2, 0).numpy()
            except (ImageError, OSError, ValueError) as error:
                if not self.skip_bad:
                    raise
                path = self.pixels.paths[index]
                return str(error).replace(str(path), path.name)  # the folder is nobody's business

        with ThreadPoolExecutor() as pool:
            yield from pool.map(read, piece)

    def _take_over(
        self, state: NDArray[np.bool_], values: NDArray[np.float32], lengths: NDArray[np.float32]
    ) -> None:
        """What older galleries in this folder know, if they are of the same network and size."""
        for manifest in self.folder.glob("*.json"):
            try:
                old = read_sealed(manifest)
            except DamagedFile:
                continue
            known = (old.get("format"), old.get("weights"), old.get("input"))
            if known != (FORMAT, self.weights, _input(self.profile)):
                continue
            try:
                stored = _opened(self.folder, manifest.stem, False)
            except GalleryError:  # damaged: nothing to take over
                continue
            rows = {tuple(old["files"][place]): row for row, place in enumerate(stored.kept)}
            here = [i for i, file in enumerate(self.files) if file in rows]
            there = [rows[self.files[i]] for i in here]
            if here:
                values[here] = stored.descriptors.values[there].numpy()
                lengths[here] = stored.descriptors.lengths[there].numpy()
                state[here] = True

    def _finish(
        self,
        bad: dict[int, str],
        values: NDArray[np.float32],
        lengths: NDArray[np.float32],
    ) -> None:
        """Leave out the bad rows, name the files by their key, the manifest last; older ones go."""
        good = np.setdiff1d(np.arange(len(self.files)), list(bad))
        if not len(good):
            raise GalleryError(
                f"none of the {len(bad)} tiles can be read, the first because: {bad[0]}"
            )
        for name, array in (("descriptors", values), ("lengths", lengths)):
            partial = self._partial(name)
            if bad:
                partial = self._compact(name, array, good)
            partial.replace(self.folder / f"{self.key}.{name}.npy")
        rough = self._check_and_round()
        write_json(
            self.folder / f"{self.key}.json",
            sealed(
                {
                    "format": FORMAT,
                    "weights": self.weights,
                    "input": _input(self.profile),
                    "files": self.files,
                    "bad": {str(index): reason for index, reason in bad.items()},
                    "rough": rough,
                }
            ),
        )
        for file in self.folder.glob("*.*"):
            if file.name.split(".")[0] not in (self.key, "lock") or ".partial" in file.name:
                with suppress(OSError):  # still open somewhere, on a system that minds
                    file.unlink()

    def _check_and_round(self) -> bool:
        """Look at every descriptor once; keep those of a large gallery in eight bits, too.

        Returns whether they are.
        """
        values = np.load(self.folder / f"{self.key}.descriptors.npy", mmap_mode="r")
        rows = (single(piece) for _, piece in pieces(values))
        if values.nbytes < LARGE_BYTES:
            for _ in rows:
                pass
            return False
        path = self._partial("rough")
        rounded = Rough.of(rows, np.lib.format.open_memmap(path, "w+", np.int8, values.shape))
        rounded.save_rounding(self.folder / f"{self.key}.rough")
        path.replace(self.folder / f"{self.key}.rough.npy")
        return True

    def _compact(self, name: str, array: NDArray[np.float32], good: NDArray[np.int64]) -> Path:
        path = self._partial(f"{name}-good")
        shape = (len(good), array.shape[1])
        out: Any = new_array(path, shape, np.float32)
        for start in range(0, len(good), 4096):  # no second copy in memory
            out[start : start + 4096] = array[good[start : start + 4096]]
        out.flush()
        return path

    def _partial(self, name: str) -> Path:
        return self.folder / f"{self.key}.{name}.partial.npy"

    def _array(self, name: str, columns: int, begun: bool) -> Any:
        """(tiles, columns) float32 on disk, as it was left if it was begun."""
        path, shape = self._partial(name), (len(self.files), columns)
        if begun:
            return np.lib.format.open_memmap(path, mode="r+")
        return new_array(path, shape, np.float32)

    def _state_file(self) -> Path:
        return self.folder / f"{self.key}.state.partial"

    def _state(self) -> NDArray[np.bool_]:
        """(tiles,) what an interrupted attempt left done."""
        needed = (self._state_file(), self._partial("descriptors"), self._partial("lengths"))
        nothing = np.zeros(len(self.files), dtype=bool)
        if not all(file.exists() for file in needed):
            return nothing
        try:
            state = np.load(self._state_file(), allow_pickle=False)
        except (ValueError, EOFError):  # damaged: begin again
            return nothing
        return state if state.shape == nothing.shape and state.dtype == bool else nothing

    def _save_state(self, state: NDArray[np.bool_]) -> None:
        def save(path: Path) -> None:
            with path.open("wb") as file:  # a file object: NumPy adds no ending of its own
                np.save(file, state)

        write_atomically(self._state_file(), save)
