"""Names and label files exactly as VIGOR has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.city.sampling import Queries
from vigorlib.files import write_atomically
from vigorlib.geometry import label_offsets


def tile_name(latlon: NDArray[np.float64]) -> str:
    return f"satellite_{float(latlon[0])!r}_{float(latlon[1])!r}.png"


def panorama_name(identity: str, latlon: NDArray[np.float64]) -> str:
    return f"{identity},{latlon[0]:.6f},{latlon[1]:.6f},.jpg"


def write_labels(root: Path, city: str, tiles: NDArray[np.float64], queries: Queries) -> None:
    """``splits/`` (0.114 m/px) and ``splits__corrected/`` of one city.

    Offsets are whole pixels written as ``-71.0`` in both, as in the published corrected files.
    """
    names = [tile_name(latlon) for latlon in tiles]
    panoramas = [
        panorama_name(i, latlon) for i, latlon in zip(queries.ids, queries.latlon, strict=True)
    ]
    for folder, suffix, system in (
        ("splits", "", "original"),
        ("splits__corrected", "__corrected", "corrected"),
    ):
        target = root / folder / city
        _write(target / "satellite_list.txt", names)
        offsets = np.rint(
            label_offsets(
                queries.latlon[:, None],
                tiles[queries.references],
                city,
                system,  # type: ignore[arg-type]
            )
        )
        rows = [
            " ".join(
                [panorama]
                + [
                    f"{names[t]} {north} {east}"
                    for t, (north, east) in zip(four, away, strict=True)
                ]
            )
            for panorama, four, away in zip(panoramas, queries.references, offsets, strict=True)
        ]
        for stem, chosen in (
            ("same_area_balanced_train", queries.train),
            ("same_area_balanced_test", ~queries.train),
            ("pano_label_balanced", np.ones(len(rows), dtype=bool)),
        ):
            lines = [row for row, take in zip(rows, chosen, strict=True) if take]
            _write(target / f"{stem}{suffix}.txt", lines)


def _write(path: Path, lines: list[str]) -> None:
    """Without a newline after the last line, as the originals."""
    write_atomically(path, lambda partial: partial.write_text("\n".join(lines), encoding="utf-8"))
