"""The licences of what the project stands on, as their packages declare them, into data_licences.md.

python book/licences.py
"""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from vigorlib.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "book" / "data_licences.md"
BEGIN, END = "<!-- licences: python book/licences.py -->", "<!-- /licences -->"
KNOWN = {"captum": "BSD-3-Clause", "faiss-cpu": "MIT"}
"""Of packages whose metadata give none, from their own LICENSE files."""


def dependencies() -> list[str]:
    """Names in pyproject.toml, those of the extra dev too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    return sorted({re.split(r"[\s\[<>=!~;]", line)[0] for line in lines}, key=str.lower)


def licence_of(name: str) -> str:
    """The SPDX expression, else the classifiers, else the first line of the licence field."""
    try:
        declared = metadata(name)
    except PackageNotFoundError:
        return KNOWN.get(name, "unknown")
    if expression := declared.get("License-Expression"):
        return expression
    classifiers = [c for c in declared.get_all("Classifier") or [] if c.startswith("License ::")]
    names = [c.split("::")[-1].strip() for c in classifiers if c != "License :: OSI Approved"]
    field = (declared.get("License") or "").strip().splitlines()
    return "; ".join(names) or (field[0][:60] if field else KNOWN.get(name, "unknown"))


def table() -> str:
    rows = [f"| {name} | {licence_of(name)} |" for name in dependencies()]
    return "\n".join(["| package | licence, as its metadata declare it |", "| --- | --- |", *rows])


def between_marks(page: str) -> str:
    return page.split(BEGIN)[1].split(END)[0].strip()


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    text = f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"
    write_atomically(PAGE, lambda path: path.write_text(text, encoding="utf-8"))
    print(table())


if __name__ == "__main__":
    main()
