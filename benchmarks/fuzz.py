"""Coverage-guided fuzzing of what reads other people's bytes, for a bounded time.

    pip install atheris                                  (libFuzzer for Python; not a dependency)
    python benchmarks/fuzz.py --seconds 120              each target; exit status 1 for a finding
    python benchmarks/fuzz.py --seconds 120 --store      also into results/promises.json

A target fails when anything but the project's own error comes out, or when an accepted input breaks
what its reader promises. An input that fails stays in build/fuzz/ and belongs into the tests.
"""

from __future__ import annotations

import io
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
INSTRUMENTED = ("vigorlib", "data_prep", "PIL", "json", "gzip")
MEMORY_MB = 4096

console = Console(width=110)


# -- targets: bytes in, nothing but the project's own errors out ---------------------------------


def labels() -> Callable[[bytes], None]:
    """A tile list and label rows, plain or gzip-compressed, for the loader and for the doctor."""
    from data_prep.doctor.findings import Findings
    from data_prep.doctor.read import read_labels
    from vigorlib.dataset import LabelError, Vigor

    root = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    folder = root / "splits" / "Chicago"
    folder.mkdir(parents=True)

    def run(data: bytes) -> None:
        for old in folder.iterdir():
            old.unlink()
        tiles, _, rows = data.partition(b"\n---\n")
        ending = ".gz" if rows[:2] == b"\x1f\x8b" else ""
        (folder / "satellite_list.txt").write_bytes(tiles)
        (folder / f"same_area_balanced_train.txt{ending}").write_bytes(rows)
        read_labels(root, "Chicago", True, Findings())  # reports, never raises
        try:
            found = Vigor(root, labels="original", cities=["Chicago"])
        except LabelError:
            return
        assert len(found) and found.references.max() < len(found.tiles)
        for places in (found.queries, found.tiles):
            for index, (lat, lon) in enumerate(places.latlon.tolist()):
                assert math.isfinite(lat + lon) and abs(lat) < 90 and abs(lon) <= 180
                assert places.path(index).parent == root / "Chicago" / places.folder
        assert abs(found.offsets_px).max() <= 640

    return run


def pictures() -> Callable[[bytes], None]:
    """Uploads, and the reader of data sets, on the same bytes."""
    import warnings

    from PIL import Image

    from vigorlib.images import ImageError, read_image
    from vigorlib.uploads import Limits, UploadError, decode

    warnings.simplefilter("ignore")
    limits = Limits(pixels=300_000, longest_px=256)
    file = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)) / "a.png"

    def run(data: bytes) -> None:
        try:
            upload = decode(data, limits)
            assert upload.pixels.ndim == 3 and upload.pixels.shape[2] == 3
            assert 1 <= min(upload.pixels.shape) and max(upload.pixels.shape) <= 256
            place = upload.shot.latlon
            assert place is None or (abs(place[0]) < 90 and abs(place[1]) <= 180)
        except UploadError as error:
            assert not set("<>&\"'") & set(str(error)), "HTML in a message"
        try:
            with Image.open(io.BytesIO(data)) as image:
                if math.prod(image.size) > limits.pixels:
                    return  # seconds and gigabytes
        except Exception:
            pass
        file.write_bytes(data)
        try:
            assert read_image(file, 8, 16).shape == (8, 16, 3)
        except ImageError:
            pass

    return run


def records() -> Callable[[bytes], None]:
    """Records, checkpoints' metadata, indexes of the cache."""
    from vigorlib import image_cache, runs
    from vigorlib.locks import Lock

    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))

    def run(data: bytes) -> None:
        for name in ("record.json", "index.json", "lock.holder"):
            (folder / name).write_bytes(data)
        try:
            record = runs.read_record(folder / "record.json")
            assert record is not None and record["format"] == 1
        except ValueError:
            pass
        image_cache.read_indexes(folder)
        Lock(folder / "lock").holder()

    return run


def seeds_of_labels(folder: Path) -> None:
    import gzip

    tiles = [f"satellite_41.{n}_-87.{n}.png" for n in (61, 62, 63, 64, 65)]
    row = "-_aZ,41.61,-87.61,.jpg " + " ".join(f"{tile} -71.0 12.0" for tile in tiles[:4])
    (folder / "plain").write_bytes("\n".join([*tiles, "---", row, row]).encode())
    text = gzip.compress(row.encode(), mtime=0)
    (folder / "gzip").write_bytes("\r\n".join(tiles).encode() + b"\n---\n" + text)


def seeds_of_pictures(folder: Path) -> None:
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[274] = 6
    exif.get_ifd(0x8825).update(
        {1: "N", 2: (41.0, 30.0, 1.0), 3: "W", 4: (87.0, 1.0, 2.0), 17: 9.0}
    )
    xmp = b'<x:xmpmeta><a GPano:ProjectionType="equirectangular" GPano:PoseHeadingDegrees="90"/>'
    grey16 = Image.fromarray(rng.integers(0, 65536, (20, 24)).astype(np.uint16))
    for name, image, kind, options in (
        ("jpeg", noise, "JPEG", {"exif": exif, "xmp": xmp}),
        ("progressive", noise, "JPEG", {"progressive": True}),
        ("cmyk", noise.convert("CMYK"), "JPEG", {}),
        ("png", noise, "PNG", {"exif": exif}),
        ("palette", noise.quantize(8), "PNG", {"transparency": 0}),
        ("alpha", noise.convert("RGBA"), "PNG", {}),
        ("grey16", grey16, "PNG", {}),
        ("animated", noise, "WEBP", {"save_all": True, "append_images": [noise]}),
        ("tiff", noise, "TIFF", {"compression": "tiff_lzw", "exif": exif}),
        ("tiff16", grey16, "TIFF", {}),
    ):
        image.save(folder / name, kind, **options)


def seeds_of_records(folder: Path) -> None:
    for number, file in enumerate(sorted((ROOT / "results").glob("*/*.json"))[:3]):
        (folder / f"record{number}").write_text(re.sub(r'"history".*?"seconds"', '"seconds"',
                                                        file.read_text(), flags=re.S)[:20_000])  # fmt: skip
    (folder / "index").write_text(
        '{"format": 1, "names": [], "sizes": [], "dates_ns": [], "ends": [1], "sha256": ""}'
    )


TARGETS: dict[str, tuple[Callable[[], Callable[[bytes], None]], Callable[[Path], None]]] = {
    "labels": (labels, seeds_of_labels),
    "pictures": (pictures, seeds_of_pictures),
    "records": (records, seeds_of_records),
}


# -- running -------------------------------------------------------------------------------------


def fuzz(target: str, arguments: list[str]) -> None:
    """In a process of its own: libFuzzer takes it over and ends it."""
    import atheris

    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        run = TARGETS[target][0]()
    atheris.Setup([sys.argv[0], *arguments], run)
    atheris.Fuzz()


def run_target(target: str, seconds: int, seed: int) -> dict[str, Any]:
    """Fuzz for so long. Returns inputs, covered edges and what was found, in words."""
    folder = ROOT / "build" / "fuzz" / target
    seeds = folder / "seeds"
    seeds.mkdir(parents=True, exist_ok=True)
    TARGETS[target][1](seeds)
    (folder / "corpus").mkdir(exist_ok=True)
    done = subprocess.run(
        [
            sys.executable, str(Path(__file__).resolve()), "--target", target,
            f"-max_total_time={seconds}", f"-seed={seed}", "-timeout=20", "-print_final_stats=1",
            f"-rss_limit_mb={MEMORY_MB}", "-max_len=40000", f"-artifact_prefix={folder}/",
            str(folder / "corpus"), str(seeds),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    said = done.stderr + done.stdout
    inputs = re.findall(r"stat::number_of_executed_units: +(\d+)", said)
    inputs = inputs or re.findall(r"^#(\d+)\t", said, re.M)[-1:] or ["0"]
    edges = re.findall(r"cov: (\d+)", said) or ["0"]
    failed = done.returncode != 0
    return {
        "seconds": seconds, "inputs": int(inputs[0]), "edges": int(edges[-1]), "seed": seed,
        "finding": said[-3000:] if failed else "",
    }  # fmt: skip


def main(
    seconds: Annotated[int, typer.Option(help="for each target")] = 60,
    only: Annotated[str, typer.Option(help=f"one of {', '.join(TARGETS)}")] = "",
    seed: int = 1,
    store: Annotated[bool, typer.Option("--store", help="into results/promises.json")] = False,
) -> None:
    """Fuzz each target for a bounded time."""
    results = {name: run_target(name, seconds, seed) for name in ([only] if only else TARGETS)}
    table = Table("target", "seconds", "inputs", "edges covered", "finding")
    for name, result in results.items():
        table.add_row(name, str(result["seconds"]), f"{result['inputs']:,}", f"{result['edges']:,}",
                      "one" if result["finding"] else "-")  # fmt: skip
    console.print(table)
    for name, result in results.items():
        if result["finding"]:
            console.print(f"{name}:\n{result['finding']}", markup=False)
    if store:
        from promises import note

        kept = {n: {k: v for k, v in r.items() if k != "finding"} for n, r in results.items()}
        note("fuzz", kept)
    if any(result["finding"] for result in results.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--target"]:
        fuzz(sys.argv[2], sys.argv[3:])
    else:
        typer.run(main)
