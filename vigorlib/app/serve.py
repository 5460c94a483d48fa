"""The app as a page, by Voila: visitors see the notebook's output and nothing else.

They can move the widgets, and that is all: no code of theirs runs, no file is listed or handed out.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

NOTEBOOK = Path(__file__).resolve().parents[2] / "book" / "app.ipynb"
JUPYTER = Path(__file__).parent / "jupyter"
"""Voila's template, and a kernel that keeps quiet about its local sockets."""
IDLE_SECONDS = 3600
"""After which a visitor's kernel is ended whose page is gone."""


class ServeError(ValueError):
    """A page that cannot be served."""


def command(address: str = "127.0.0.1", port: int = 8866, browser: bool = True) -> list[str]:
    """Voila's command line for the app's notebook."""
    if not NOTEBOOK.exists():
        raise ServeError(f"{NOTEBOOK} does not exist: run the app from a checkout of the book")
    return [
        sys.executable, "-m", "voila", str(NOTEBOOK),
        f"--Voila.ip={address}",
        f"--port={port}",
        "--template=vigor",
        "--strip_sources=True",
        "--show_tracebacks=False",
        "--VoilaConfiguration.file_denylist=.*",
        f"--MappingKernelManager.cull_idle_timeout={IDLE_SECONDS}",
        "--MappingKernelManager.cull_interval=60",
        *([] if browser else ["--no-browser"]),
    ]  # fmt: skip


def environment(
    profile: str = "mini", data_root: str = "", tiles: str = "", tile_m: float | None = None
) -> dict[str, str]:
    """What the notebook reads (:func:`vigorlib.app.open_app`), and where Voila finds
    its template and kernel."""
    chosen = {
        "PROFILE": profile, "DATA_ROOT": data_root, "TILES": tiles,
        "TILE_M": f"{tile_m:g}" if tile_m else "",
    }  # fmt: skip
    places = [str(JUPYTER), os.environ.get("JUPYTER_PATH", "")]
    return {
        **os.environ,
        **{f"VIGOR_APP_{name}": value for name, value in chosen.items()},
        "JUPYTER_PATH": os.pathsep.join(place for place in places if place),
    }


def serve(
    profile: str = "mini",
    data_root: str = "",
    tiles: str = "",
    tile_m: float | None = None,
    address: str = "127.0.0.1",
    port: int = 8866,
    browser: bool = True,
) -> int:
    """Serve until interrupted; Voila's exit status. On POSIX this process becomes Voila."""
    data_root, tiles = (
        str(Path(p).expanduser().resolve()) if p else "" for p in (data_root, tiles)
    )
    voila, settings = (
        command(address, port, browser),
        environment(profile, data_root, tiles, tile_m),
    )
    if os.name == "posix":
        os.execve(voila[0], voila, settings)  # one process: what ends it ends the page
    return subprocess.call(voila, env=settings)
