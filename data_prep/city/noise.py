"""Hashes and value noise that kernels can call: the same bytes on every run."""

from __future__ import annotations

import math

from numba import njit


@njit(cache=True, inline="always")
def hash01(a: int, b: int, c: int) -> float:
    """A number in [0, 1) from three integers."""
    x = (a * 374761393 + b * 668265263 + c * 2147483647 + 1013904223) & 0xFFFFFFFF
    x = ((x ^ (x >> 13)) * 1274126177) & 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * 2246822519) & 0xFFFFFFFF
    return ((x ^ (x >> 15)) & 0xFFFFFF) / 16777216.0


@njit(cache=True, inline="always")
def noise(x: float, y: float, seed: int) -> float:
    """Smooth value noise in [0, 1) with features of size one."""
    i, j = math.floor(x), math.floor(y)
    fx, fy = x - i, y - j
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    i, j = int(i), int(j)
    top = hash01(i, j, seed) * (1 - fx) + hash01(i + 1, j, seed) * fx
    bottom = hash01(i, j + 1, seed) * (1 - fx) + hash01(i + 1, j + 1, seed) * fx
    return top * (1 - fy) + bottom * fy
