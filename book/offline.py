"""Sphinx extension: pages that need no network.

MathJax (SVG output, one file) comes from the environment. sphinx-thebe, which Jupyter Book always loads and
which would put a CDN's address on every page, is silenced: the book offers launch buttons instead.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

NAME = "tex-svg.js"


def copy_mathjax(app: Any, error: Exception | None) -> None:
    """Put MathJax's single file beside the pages."""
    specification = find_spec("sphinx-mathjax-offline")
    if error is not None or specification is None or specification.origin is None:
        return
    source = Path(specification.origin).parent / "static" / "mathjax" / NAME
    target = Path(app.outdir) / "_static" / "mathjax" / NAME
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def silence_thebe(app: Any) -> None:
    """Unhook what sphinx-thebe does to each page, and its style sheet, which it then would not copy."""
    for listeners in app.events.listeners.values():
        listeners[:] = [x for x in listeners if not x.handler.__module__.startswith("sphinx_thebe")]
    app.registry.css_files[:] = [css for css in app.registry.css_files if "thebe" not in css[0]]


def setup(app: Any) -> dict[str, bool]:
    silence_thebe(app)
    app.config.mathjax_path = f"mathjax/{NAME}"
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
