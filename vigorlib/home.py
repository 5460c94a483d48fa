"""Where the project keeps what it makes: ``data/``, ``runs/``, ``results/`` beside the package."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The project's folder: ``$VIGOR_BOOK_HOME``, else the checkout, else the current folder."""
    if configured := os.environ.get("VIGOR_BOOK_HOME"):
        return Path(configured)
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "pyproject.toml").exists() else Path.cwd()
