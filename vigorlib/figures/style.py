"""One look for every figure of the book."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

P = ParamSpec("P")

# Okabe and Ito's palette: distinct for colour-blind readers and in grey print
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, INK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#22262b",
)  # fmt: skip
CYCLE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
POSITIVE, SEMI_POSITIVE, QUERY = GREEN, BLUE, RED

SETTINGS: dict[str, Any] = {
    "figure.dpi": 110,
    "savefig.dpi": 110,
    "figure.facecolor": "white",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.edgecolor": "#7a828c",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=CYCLE),
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.constrained_layout.use": True,
    "image.interpolation": "nearest",
}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the book's style without changing any global setting; the figure is not shown twice."""

    @wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with plt.rc_context(SETTINGS):  # type: ignore[arg-type]
            figure = draw(*args, **kwargs)
            figure.canvas.draw()  # settings act at drawing time: lay out while they hold
            plt.close(figure)
        return figure

    return inner


def photo(axes: Axes, image: Any, title: str = "", frame: str = "") -> None:
    """Show an image without ticks, with an optional coloured frame."""
    axes.imshow(image, interpolation="lanczos" if image.shape[0] < 200 else "nearest")
    axes.set(xticks=[], yticks=[], title=title)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=bool(frame), edgecolor=frame or INK, linewidth=3.5)


def note(figure: Figure, text: str) -> None:
    """Small print: sample size, profile, where the data come from."""
    if text:
        figure.supxlabel(text, fontsize=8, color="#6b7480", x=0.99, ha="right")
