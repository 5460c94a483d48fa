"""The oldest supported version of every dependency, from pyproject.toml, as pins for pip.

python benchmarks/oldest.py > oldest.txt
python3.11 -m venv /tmp/oldest && /tmp/oldest/bin/pip install -r oldest.txt
PYTHONPATH=$PWD /tmp/oldest/bin/python -m pytest
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def oldest() -> list[str]:
    """``name==lower bound`` of the project's dependencies and of what its tests need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tests = [
        d
        for d in project["optional-dependencies"]["dev"]
        if re.match("pytest|hypothesis|faiss|captum", d)
    ]
    pins = []
    for line in [*project["dependencies"], *tests]:
        found = re.match(r"([\w.-]+)(?:\[.*?\])?>=([\w.]+)", line)
        if found is None:
            raise ValueError(f"dependency {line!r} has no lower bound: expected NAME>=VERSION")
        pins.append(
            f"{found[1]}=={found[2]}.*" if found[2].count(".") < 2 else f"{found[1]}=={found[2]}"
        )
    return pins


if __name__ == "__main__":
    print("\n".join(oldest()))
