"""Figures of what was tried of the project's promises."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from vigorlib.figures.style import BLUE, INK, note, styled


@styled
def kill_moments(jobs: dict[str, dict[str, Any]], text: str = "") -> Figure:
    """When jobs were killed, as shares of the time that each takes undisturbed.

    jobs: by name, with ``seconds`` undisturbed, ``kills`` (seconds from the start), ``finished``
    and ``identical``.
    """
    figure, axes = plt.subplots(figsize=(7.2, 0.62 * len(jobs) + 1.3))
    for row, job in enumerate(jobs.values()):
        shares = 100 * np.array(job["kills"]) / job["seconds"]
        axes.plot(
            shares, np.full(len(shares), row), "|", color=BLUE, markersize=17, markeredgewidth=2
        )
        said = f"{len(shares)} kills, {job['identical']} of {job['finished']} ends identical"
        axes.text(0, row - 0.36, said, fontsize=8.5, color=INK, va="center")
    axes.set_yticks(
        range(len(jobs)), [f"{name}\n({job['seconds']:.0f} s)" for name, job in jobs.items()]
    )
    axes.set(xlim=(-2, 92), ylim=(len(jobs) - 0.5, -0.7), ylabel="job (time it takes undisturbed)")
    axes.set_xlabel("moment of `kill -9` (% of the time the job takes undisturbed)")
    axes.grid(visible=False, axis="y")
    note(figure, text)
    return figure
