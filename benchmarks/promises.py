"""What was tried of the promises in chapter 16, kept in ``results/promises.json``.

``kill.py --store`` and ``fuzz.py --store`` write their part; the list of bugs that trying found is
kept by hand, each with the test that holds it now.
"""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vigorlib.files import write_json

FILE = Path(__file__).resolve().parent.parent / "results" / "promises.json"


def note(part: str, value: Any) -> None:
    """Put a part of the record in place of the one before."""
    record = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    made = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "torch": version("torch"),
        "system": platform.system(),
    }
    write_json(FILE, {**record, part: {"made": made, "results": value}})
