"""Reading what a step needs: as released, from the originals, from the cache in JPEG and raw.

One thread; images of VIGOR's own size from the embedded city, made once in ``build/large`` (a few
minutes). CPU time tells the work; files that were just written come from memory: for the disk, start
again after `echo 3 > /proc/sys/vm/drop_caches`.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import cv2
import numpy as np
from measure import Row, Work, compare, run_alone
from PIL import Image

from data_prep import city
from data_prep.cache import VIGOR_COUNTS, Encoding, build, plan
from data_prep.city.build import SIZES
from vigorlib.home import home
from vigorlib.image_cache import find
from vigorlib.images import Pixels
from vigorlib.recipes import get_profile

ENCODINGS = {"cache, JPEG 95": Encoding(95), "cache, raw": Encoding(0)}
LARGE = dataclasses.replace(
    SIZES["smoke"], tiles=4, tile_px=640, panorama_px=(1024, 2048), resolution_m=0.15
)


def measured(quick: bool = False) -> list[Row]:
    root = home() / ("data/smoke" if quick else "build/large")
    city.make(root, "smoke" if quick else LARGE, progress=False)
    profile = get_profile("smoke" if quick else "full")
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            rows = [
                *_view(root, Path(folder), "panorama", profile.panorama_px),
                *_view(root, Path(folder), "satellite", profile.tile_px),
            ]
    finally:
        cv2.setNumThreads(threads)
    return rows


def _view(root: Path, folder: Path, view: str, size: tuple[int, int]) -> list[Row]:
    paths = sorted(root.glob(f"*/{view}/*.*g"))[:40]
    candidates: dict[str, Work] = {
        "as released: decode, resize": lambda: [as_released(path, size) for path in paths],
        "originals": _batches(Pixels(paths, *size)),
    }
    extra = {"originals": {"grey levels off": round(_difference(paths, size), 2)}}
    for name, encoding in ENCODINGS.items():
        build(plan(root, folder / name, {view: size}, encoding), encoding)
        stored = find(paths, *size, cache=folder / name)
        assert stored is not None
        candidates[name] = _batches(Pixels(paths, *size, stored=stored))
        whole = VIGOR_COUNTS[view] * float(np.diff(stored.spans).mean())
        extra[name] = {"all of VIGOR, GB": round(whole / 1e9, 1)}
    case = f"{len(paths)} {view}s to {size[1]} x {size[0]}"
    rows = compare(
        "reading", case, candidates, next(iter(candidates)), memory=False, extra=extra, repeats=7
    )
    return [
        dataclasses.replace(row, extra=row.extra | {"a second": round(len(paths) / row.cpu_s)})
        for row in rows
    ]


def as_released(path: Path, size: tuple[int, int]) -> np.ndarray:
    """All of a photograph is decoded, then averaged over areas."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    return cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA)


def _batches(pixels: Pixels, batch: int = 14) -> Work:
    """Every image once, in an order of chance."""
    order = np.random.default_rng(0).permutation(len(pixels))

    def read() -> None:
        for first in range(0, len(order), batch):
            pixels[order[first : first + batch]]

    return read


def _difference(paths: list[Path], size: tuple[int, int]) -> float:
    """Mean over ten images of how far ours are from the released way's."""
    some = paths[:10]
    ours = Pixels(some, *size)[range(len(some))].permute(0, 2, 3, 1).numpy().astype(int)
    return float(
        np.mean([np.abs(a - as_released(p, size)) for a, p in zip(ours, some, strict=True)])
    )


if __name__ == "__main__":
    run_alone(measured)
