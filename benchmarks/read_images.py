"""How fast images are read: originals, JPEG cache, raw cache. One process, batches in random order.

Images of VIGOR's own size without VIGOR (a few minutes)::

    python -m data_prep.city build/large --tiles 6 --tile-px 640 --panorama-width 2048 --resolution-m 0.15
    python benchmarks/read_images.py build/large

Wall time tells what a disk does; CPU time tells the work, also on a busy machine. Files that were
just written come from memory: start again after `echo 3 > /proc/sys/vm/drop_caches` for the disk.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from data_prep.cache import VIGOR_COUNTS, Encoding, build, plan
from vigorlib.image_cache import find
from vigorlib.images import Pixels
from vigorlib.recipes import get_profile

ENCODINGS = {"originals": None, "jpeg95": Encoding(95), "raw": Encoding(0)}


def measure(pixels: Pixels, count: int, batch: int = 14) -> dict[str, float]:
    """Images a second (wall) and milliseconds of CPU an image."""
    order = np.random.default_rng(0).integers(0, len(pixels), count)
    pixels[order[:batch]]  # imports, first opening
    wall, cpu = time.perf_counter(), time.process_time()
    for first in range(0, count, batch):
        pixels[order[first : first + batch]]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"images_per_s": round(count / wall, 1), "cpu_ms": round(1e3 * cpu / count, 3)}


def main(
    root: Annotated[Path, typer.Argument(help="a VIGOR folder")],
    images: Annotated[int, typer.Option(help="images read of each view")] = 280,
    profile: str = "full",
) -> None:
    """Build both caches in a temporary folder, read, print a table and JSON."""
    cv2.setNumThreads(1)
    chosen = get_profile(profile)
    sizes = {"panorama": chosen.panorama_px, "satellite": chosen.tile_px}
    results = []
    for name, encoding in ENCODINGS.items():
        with tempfile.TemporaryDirectory() as folder:
            for view, size in sizes.items():
                paths = sorted(root.glob(f"*/{view}/*.*g"))
                stored, mean = None, float(np.mean([path.stat().st_size for path in paths]))
                if encoding is not None:
                    build(plan(root, Path(folder), {view: size}, encoding), encoding)
                    stored = find(paths, *size, cache=Path(folder))
                    assert stored is not None
                    mean = float(np.diff(stored.spans).mean())
                speed = measure(Pixels(paths, *size, stored=stored), images)
                whole_gb = round(VIGOR_COUNTS[view] * mean / 1e9, 1)
                results.append({"view": view, "source": name, **speed, "vigor_gb": whole_gb})
    _show(results)
    print(json.dumps(results))


def _show(results: list[dict[str, object]]) -> None:
    slow = {row["view"]: row["cpu_ms"] for row in results if row["source"] == "originals"}
    table = Table("view", "source", "images/s", "CPU ms an image", "times as fast", "all of VIGOR")
    for row in results:
        times = slow[row["view"]] / row["cpu_ms"]  # type: ignore[operator]
        values = (row["images_per_s"], row["cpu_ms"], f"{times:.1f}", f"{row['vigor_gb']} GB")
        table.add_row(str(row["view"]), str(row["source"]), *map(str, values))
    Console(width=100).print(table)


if __name__ == "__main__":
    typer.run(main)
