"""Sun, shadows and seasons. The two views are photographed under different skies, on purpose."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sky:
    """One capture: where the sun stands, how strong it and the sky are, what leaves look like.

    azimuth_deg: clockwise from north. leaf: factors on the crowns' red, green, blue; bare: how
    much of a crown is missing, 0 to 1; overcast: 0 clear to 1 closed.
    """

    azimuth_deg: float
    elevation_deg: float
    ambient: float
    sun: float
    leaf: tuple[float, float, float] = (1.0, 1.0, 1.0)
    bare: float = 0.0
    overcast: float = 0.0

    @property
    def towards(self) -> tuple[float, float, float]:
        """(east, south, rise): unit direction on the map towards the sun, tangent of elevation."""
        azimuth = math.radians(self.azimuth_deg)
        rise = math.tan(math.radians(self.elevation_deg))
        return math.sin(azimuth), -math.cos(azimuth), rise


AERIAL_SKY = Sky(140, 55, ambient=0.50, sun=0.68)
STREET_SKIES = (
    Sky(150, 48, ambient=0.52, sun=0.68),  # a summer noon
    Sky(245, 30, ambient=0.48, sun=0.72, leaf=(1.55, 1.02, 0.72), bare=0.06, overcast=0.2),
    Sky(95, 24, ambient=0.68, sun=0.20, leaf=(1.0, 0.96, 0.95), bare=0.12, overcast=0.9),
)
"""Summer noon, an autumn afternoon, an overcast day: the passes of the camera car."""


@njit(cache=True, nogil=True)
def cast_shadows(height, east, south, rise, resolution):
    """How lit each cell is, 0..255, soft at the edges; one sweep along the light, O(cells).

    (east, south): unit direction towards the sun; rise: tangent of its elevation.
    """
    n = height.shape[0]
    reach = np.empty_like(height)  # height of the shadow's upper edge above each cell
    lit = np.empty(height.shape, np.uint8)
    vertical = abs(south) >= abs(east)
    major, minor = (south, east) if vertical else (east, south)
    slope = minor / abs(major)
    drop = resolution * math.sqrt(1 + slope * slope) * rise
    for step in range(n):
        i = step if major < 0 else n - 1 - step
        before = i - 1 if major < 0 else i + 1
        for j in range(n):
            own = height[i, j] if vertical else height[j, i]
            shade = 0.0
            q = j + slope
            j0 = int(math.floor(q))
            if step > 0 and j0 >= 0 and j0 + 1 < n:
                f = q - j0
                if vertical:
                    shade = reach[before, j0] * (1 - f) + reach[before, j0 + 1] * f - drop
                else:
                    shade = reach[j0, before] * (1 - f) + reach[j0 + 1, before] * f - drop
            value = int((1 - min(1.0, max(0.0, (shade - own) / 0.6))) * 255)
            if vertical:
                reach[i, j], lit[i, j] = max(own, shade), value
            else:
                reach[j, i], lit[j, i] = max(own, shade), value
    return lit


@njit(cache=True, nogil=True)
def shade_from_above(colour, height, lit, east, south, rise, ambient, sun, resolution):
    """The orthophoto: colours under sun and sky, slopes by their tilt. (n, n, 3) uint8."""
    n = height.shape[0]
    out = np.empty((n, n, 3), np.uint8)
    for row in range(n):
        for column in range(n):
            gx = (height[row, column] - height[row, max(column - 1, 0)]) / resolution
            gy = (height[row, column] - height[max(row - 1, 0), column]) / resolution
            gx, gy = max(-0.8, min(0.8, gx)), max(-0.8, min(0.8, gy))
            facing = (-gx * east - gy * south + rise) / math.sqrt(1 + gx * gx + gy * gy)
            direct = max(0.0, facing / math.sqrt(1 + rise * rise)) * lit[row, column] / 255.0
            for k in range(3):
                sky = ambient * (0.95 + 0.07 * k)  # the sky is bluer than the sun
                out[row, column, k] = min(255, int(colour[row, column, k] * (sky + sun * direct)))
    return out


def expose(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A camera's share: exposure, white balance, contrast, noise. (H, W, 3) float -> uint8."""
    gain = rng.uniform(0.9, 1.2)
    balance = np.array([math.exp(tint) for tint in rng.normal(0, 0.028, 3)], np.float32)
    light = np.clip(image * (gain * balance / 255), 0, 1)
    exposed = _power(light, np.float32(rng.uniform(0.86, 1.08)))
    noisy = exposed * 255 + rng.normal(0, 2.0, image.shape).astype(np.float32)
    return np.clip(noisy, 0, 255).astype(np.uint8)


@njit(cache=True, nogil=True)
def _power(values, exponent):
    """(H, W, 3) float32 to a power. NumPy's own is another one on processors with AVX-512: pictures
    would differ by a grey level from one machine to the next."""
    out = np.empty_like(values)
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            for k in range(values.shape[2]):
                out[row, column, k] = values[row, column, k] ** exponent
    return out
