"""One clear message for each way in which a device or its memory can be missing."""

from __future__ import annotations

import pytest
import torch

from vigorlib import device as devices

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def gpu(monkeypatch):
    """A machine whose torch is built for GPUs and sees one, as far as torch's answers go."""
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80", "compute_90"])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 6))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    return monkeypatch


def test_auto_takes_the_gpu_if_there_is_one(gpu):
    assert devices.pick() == GPU
    gpu.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.pick() == CPU


def test_a_torch_for_the_cpu_is_named_as_the_reason(gpu):
    gpu.setattr(torch.version, "cuda", None)
    gpu.setattr(torch.version, "hip", None)
    with pytest.raises(devices.DeviceError, match="build for the CPU only.*get-started"):
        devices.pick("cuda")


def test_a_hidden_gpu_is_named_as_the_reason(gpu):
    gpu.setattr(torch.cuda, "is_available", lambda: False)
    gpu.setenv("CUDA_VISIBLE_DEVICES", "")
    message = r"built for GPUs \(CUDA 12.6\) but sees none, and CUDA_VISIBLE_DEVICES is ''"
    with pytest.raises(devices.DeviceError, match=message):
        devices.pick("cuda")


@pytest.mark.parametrize(
    ("capability", "runs"),
    [((7, 0), False), ((7, 5), True), ((8, 6), True), ((9, 0), True), ((10, 0), True)],
)
def test_a_gpu_that_torch_was_not_built_for_is_refused(gpu, capability, runs):
    """Machine code runs on later chips of its family; compute_90 is compiled for newer ones."""
    gpu.setattr(torch.cuda, "get_device_capability", lambda: capability)
    if runs:
        assert devices.pick("cuda") == GPU
    else:
        with pytest.raises(devices.DeviceError, match=r"Some GPU\) is sm_70"):
            devices.pick("cuda")


def test_an_unknown_device_names_the_known_ones():
    with pytest.raises(devices.DeviceError, match="'tpu': expected auto, cpu or cuda"):
        devices.pick("tpu")


def test_too_little_memory_says_what_is_needed_what_is_there_and_what_helps(monkeypatch):
    monkeypatch.setattr(devices, "available_bytes", lambda device: 3_000_000_000)
    devices.require(3_000_000_000, CPU, "a step")
    with pytest.raises(
        devices.NotEnoughMemory,
        match=r"a step needs about 8\.0 GB on cpu and 3\.0 GB are free.*batch.*checkpoint.*precision",
    ):
        devices.require(8_000_000_000, CPU, "a step")


def test_unknown_memory_stops_nobody(monkeypatch):
    monkeypatch.setattr(devices, "available_bytes", lambda device: None)
    devices.require(10**15, CPU, "a step")


def test_a_gpu_is_asked_for_its_free_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (5, 7))
    assert devices.available_bytes(GPU) == 5


def test_a_containers_limit_counts(monkeypatch, tmp_path):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert devices._free_of_container(tmp_path) == 600
    (tmp_path / "memory.max").write_text("max\n")
    assert devices._free_of_container(tmp_path) is None
    monkeypatch.setattr(devices, "_free_of_machine", lambda: 500)
    monkeypatch.setattr(devices, "_free_of_container", lambda: 600)
    assert devices.available_bytes(CPU) == 500


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_running_out_of_memory_is_explained(error):
    with pytest.raises(devices.NotEnoughMemory, match="a step ran out .*allocate.*smaller batch"):
        with devices.out_of_memory_explained("a step"):
            raise error


def test_other_errors_pass_as_they_are():
    with pytest.raises(RuntimeError, match="^shapes differ$"):
        with devices.out_of_memory_explained("a step"):
            raise RuntimeError("shapes differ")


def test_the_peak_grows_with_what_was_held():
    before = devices.peak_bytes(CPU)
    if before is None:
        pytest.skip("this system does not tell a process its peak memory")
    held = torch.ones(before // 4 + 50_000_000)  # floats: more than the peak so far
    assert devices.peak_bytes(CPU) >= held.nbytes > before


def test_bytes_in_words():
    words = [devices.gigabytes(n) for n in (12, 3_400, 136_100_000, 92_500_000_000)]
    assert words == ["12 B", "3.4 kB", "136.1 MB", "92.5 GB"]
