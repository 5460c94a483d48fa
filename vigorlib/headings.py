"""A picture of unknown heading: how similar the best tile is under each heading that it could have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vigorlib.located import Result

APART_DEG = 45.0
"""Headings nearer than this to the best are the same answer, not a rival."""


@dataclass(frozen=True)
class HeadingSearch:
    """What trying all headings gave.

    heading_deg: (S,) tried, of the picture's centre column. similarity: (S,) of the best tile under
    each. tile: (S,) which that was. result: the answer under the best heading.
    """

    heading_deg: NDArray[np.float64]
    similarity: NDArray[np.float64]
    tile: NDArray[np.int64]
    result: Result

    @property
    def best(self) -> int:
        """Which step fits best."""
        return int(self.similarity.argmax())

    @property
    def best_deg(self) -> float:
        return float(self.heading_deg[self.best])

    @property
    def margin(self) -> float:
        """How much more similar than the best heading at least 45 degrees away; inf without one."""
        apart = np.abs((self.heading_deg - self.best_deg + 180) % 360 - 180)
        rivals = self.similarity[apart >= APART_DEG]
        return float(self.similarity[self.best] - rivals.max()) if len(rivals) else float("inf")

    @property
    def deviations(self) -> float:
        """How many standard deviations the best lies above the mean of all headings."""
        spread = float(self.similarity.std())
        return (
            float(self.similarity[self.best] - self.similarity.mean()) / spread if spread else 0.0
        )

    def sentence(self) -> str:
        """For a person."""
        return (
            f"{self.best_deg:.0f}° fits best: similarity {self.similarity[self.best]:.3f}, "
            f"{self.margin:.3f} above the best heading 45° or more away, "
            f"{self.deviations:.1f} standard deviations above the mean of "
            f"{len(self.heading_deg)} headings"
        )
