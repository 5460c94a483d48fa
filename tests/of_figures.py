"""What is asked of every figure, whatever it shows."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from vigorlib import figures


def drawn_by(module: ModuleType) -> set[str]:
    """The functions that a module of figures defines; each must be offered by the package."""
    names = {
        name
        for name, thing in vars(module).items()
        if getattr(thing, "__module__", "") == module.__name__ and name[0].islower()
    }
    assert names <= set(figures.__all__), names - set(figures.__all__)
    return names


def check_drawn(figure: Figure, folder: Path) -> None:
    """It carries its small print, "note" in these tests, and is no blank sheet."""
    assert "note" in figure.get_supxlabel()
    figure.savefig(folder / "figure.png", dpi=40)
    assert plt.imread(folder / "figure.png")[..., :3].std() > 0.02
