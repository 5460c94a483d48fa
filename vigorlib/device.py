"""Where to compute and how much memory is there: one clear message for each way it can go wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

ADVICE = (
    "take a smaller batch (the profile's batch and hybrid_batch), checkpoint_activations=True or "
    "precision='bfloat16'"
)


class DeviceError(ValueError):
    """The device that was asked for cannot be used."""


class NotEnoughMemory(DeviceError):
    """Less memory is there than is needed."""


def pick(wanted: str = "auto") -> torch.device:
    """``cpu``, ``cuda``, or with ``auto`` a usable GPU if there is one.

    Raises :class:`DeviceError` that says what is missing when ``cuda`` cannot be had.
    """
    if wanted not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"unknown device {wanted!r}: expected auto, cpu or cuda")
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if reason := _why_no_gpu():
        raise DeviceError(f"device 'cuda' cannot be used: {reason}")
    return torch.device("cuda")


def _why_no_gpu() -> str:
    """What stands between this torch and a GPU; empty when nothing does."""
    if torch.version.cuda is None and torch.version.hip is None:
        return (
            f"this torch, {torch.__version__}, is a build for the CPU only. Install one for your "
            "GPU: https://pytorch.org/get-started/locally gives the command"
        )
    if not torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = f", and CUDA_VISIBLE_DEVICES is {visible!r}" if visible is not None else ""
        return (
            f"this torch, {torch.__version__}, is built for GPUs (CUDA {torch.version.cuda}) but "
            f"sees none{hidden}. `nvidia-smi` must list the GPU; an older driver needs a torch "
            "built for an older CUDA"
        )
    built_for = torch.cuda.get_arch_list()
    major, minor = torch.cuda.get_device_capability()
    if torch.version.hip is None and not _runs_on(built_for, major, minor):
        return (
            f"this torch, {torch.__version__}, is built for {', '.join(built_for)} and the GPU "
            f"({torch.cuda.get_device_name()}) is sm_{major}{minor}. Install a torch built for "
            "another CUDA: https://pytorch.org/get-started/previous-versions lists them"
        )
    return ""


def _runs_on(built_for: list[str], major: int, minor: int) -> bool:
    """Machine code runs within its major version, ``compute_`` code on everything newer."""
    for entry in built_for:
        kind, _, digits = entry.rstrip("af").partition("_")
        built = divmod(int(digits), 10)
        if built <= (major, minor) and (kind == "compute" or built[0] == major):
            return True
    return not built_for


# -- bfloat16 --------------------------------------------------------------------------------


def has_bfloat16() -> bool:
    """Whether the GPU, or else the processor, multiplies bfloat16 in hardware."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return processor_has_bfloat16()


def processor_has_bfloat16() -> bool:
    """Matrix or vector units for bfloat16; elsewhere it is emulated and slow."""
    units = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # no public question exists
    return any(getattr(torch.cpu, unit, bool)() for unit in units)


# -- memory ----------------------------------------------------------------------------------


def available_bytes(device: torch.device) -> int | None:
    """Free memory of a GPU, or what this process may still take of the machine's; None: unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info()[0]
    free = _free_of_machine()
    limits = [value for value in (free, _free_of_container()) if value is not None]
    return min(limits, default=None)


def require(needed: int, device: torch.device, what: str) -> None:
    """Raise :class:`NotEnoughMemory` if ``device`` has less than ``needed`` bytes free."""
    there = available_bytes(device)
    if there is not None and needed > there:
        raise NotEnoughMemory(
            f"{what} needs about {gigabytes(needed)} on {device.type} and {gigabytes(there)} are "
            f"free: {ADVICE}"
        )


@contextmanager
def out_of_memory_explained(what: str) -> Iterator[None]:
    """Turn torch's out-of-memory errors into :class:`NotEnoughMemory` with what helps."""
    try:
        yield
    except RuntimeError as error:  # what torch raises on a GPU is a RuntimeError too
        on_gpu = isinstance(error, torch.cuda.OutOfMemoryError)
        if not on_gpu and "can't allocate memory" not in str(error):
            raise
        first = str(error).splitlines()[0]
        raise NotEnoughMemory(f"{what} ran out of memory ({first}): {ADVICE}") from error


def peak_bytes(device: torch.device) -> int | None:
    """Most memory that tensors took on a GPU, or that this process ever took; None: unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def gigabytes(count: float) -> str:
    """Bytes in words: GB are 10^9, as disks and GPUs are sold."""
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:.0f} B"


def _free_of_machine() -> int | None:
    """Linux knows what can be taken; elsewhere all there is stands for it."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(li.split()[1]) * 1024 for li in lines if li.startswith("MemAvailable"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _free_of_container(folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What a container's limit leaves; None without a limit."""
    try:
        limit, used = (
            (folder / name).read_text(encoding="ascii").strip()
            for name in ("memory.max", "memory.current")
        )
    except OSError:
        return None
    return int(limit) - int(used) if limit.isdigit() else None
