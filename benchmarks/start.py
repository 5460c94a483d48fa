"""What everything pays before it begins: importing, and finding a run. Processes of their own.

Baseline: importing torch, which nothing here can do without.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from measure import Row, Work, compare, cpu_of_children, run_alone

ROOT = Path(__file__).resolve().parents[1]
STARTS = {
    "import torch": "import torch",
    "import vigorlib": "import vigorlib",
    "import vigorlib.geometry": "import vigorlib.geometry",
    "import vigorlib.runs": "import vigorlib.runs",
    "find a run": "from vigorlib import runs; runs.find('vigor', 'mini')",
    "import vigorlib.app": "import vigorlib.app",
}


def measured(quick: bool = False) -> list[Row]:
    starts = dict(list(STARTS.items())[:2]) if quick else STARTS
    candidates: dict[str, Work] = {name: _process(code) for name, code in starts.items()}
    return compare(
        "start", "a new process", candidates, "import torch", 1 if quick else 5,
        memory=False, warm=False, cpu_clock=cpu_of_children,
    )  # fmt: skip


def _process(code: str) -> Work:
    return lambda: subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


if __name__ == "__main__":
    run_alone(measured)
