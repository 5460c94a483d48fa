"""Checkpoints: the newest two, each whole or not there, each known to be what was written.

The newest is ``checkpoint.pt``, the one before ``checkpoint.previous.pt``; a third exists only while
it is written. A file is read without executing anything in it, and its contents are compared with
their checksum: torch itself reads past altered bytes.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vigorlib.files import DamagedFile, remove_leftovers, write_atomically

log = logging.getLogger(__name__)

FORMAT = 1
NEWEST, BEFORE = "checkpoint.pt", "checkpoint.previous.pt"
COPIES = 3
"""On disk at most: the newest, the one before, and one that is being written."""


class CheckpointError(ValueError):
    """A checkpoint is of another training or of another version of this code."""


def save_checkpoint(folder: Path, values: dict[str, Any], signature: str) -> None:
    """Write ``values`` as the newest. Raises StorageError; the two on disk then stay."""
    remove_leftovers(folder)
    whole = {"format": FORMAT, "signature": signature, **values}
    whole["checksum"] = checksum(whole)

    def write(partial: Path) -> None:
        with partial.open("wb") as file:  # Python's own file: a full disk is an OSError
            torch.save(whole, file)

    write_atomically(folder / NEWEST, write, previous=folder / BEFORE)


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that is whole, and what is in it; says so if one is damaged."""
    for name in (NEWEST, BEFORE):
        path = folder / name
        if not path.exists():
            continue
        try:
            return path, read_checkpoint(path)
        except CheckpointError:
            raise
        except Exception as error:  # a damaged file can raise anything
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            log.warning("checkpoint %s is damaged (%s); trying the one before", path, reason)
    return None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What :func:`save_checkpoint` wrote. Raises DamagedFile, or CheckpointError for the future's."""
    values = torch.load(path, weights_only=True, map_location="cpu")
    if not isinstance(values, dict) or "network" not in values:
        raise DamagedFile(f"{path} holds no checkpoint")
    if values.get("format", FORMAT) != FORMAT:  # the first had no number
        raise CheckpointError(
            f"{path} has checkpoint format {values['format']!r}: expected {FORMAT}. It was written "
            "by another version: go on with that, or remove it to train from the start"
        )
    if "checksum" in values and values["checksum"] != checksum(values):
        raise DamagedFile(f"{path} was altered after its checksum was taken")
    return values


def require_signature(path: Path, values: dict[str, Any], expected: str) -> None:
    """Raise :class:`CheckpointError` for a checkpoint of other settings or other data."""
    if values.get("signature", expected) != expected:  # younger than some checkpoints
        raise CheckpointError(
            f"{path} was written at step {values['step']} of a training on other data or with "
            f"other settings (signature {values['signature']}: expected {expected}). Finish that "
            "one, or move its folder away, and start again"
        )


def checksum(values: Mapping[str, Any]) -> str:
    """Of everything in a checkpoint but its checksum: every key, number and bit of a tensor."""
    digest = hashlib.sha256()
    for path, value in _leaves({k: v for k, v in values.items() if k != "checksum"}):
        digest.update(path.encode())
        if isinstance(value, Tensor):
            kept = value.detach().cpu().contiguous()
            digest.update(f"{kept.dtype} {tuple(kept.shape)}".encode())
            digest.update(kept.reshape(-1).view(torch.uint8).numpy().data)
        else:
            digest.update(json.dumps(value).encode())
    return digest.hexdigest()[:32]


def room_wanted(network: nn.Module, pool: Mapping[str, Any]) -> float:
    """Bytes on disk at most while this network is trained: weights, Adam's two moments, the pool."""
    weights = sum(value.nbytes for value in network.state_dict().values())
    mined = sum(value.nbytes for value in pool.values() if isinstance(value, Tensor))
    return COPIES * (3 * weights + mined) + weights


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, leaf) of nested dictionaries, lists and tuples, in order."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _leaves(entry, f"{path}/{key}")
    elif isinstance(value, list | tuple):
        for number, entry in enumerate(value):
            yield from _leaves(entry, f"{path}/{number}")
    else:
        yield path, value
