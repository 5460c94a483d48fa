"""From the plan to a map: height, colour, what stands where, on a grid of ``resolution_m``.

The map is the one truth that both views are drawn from. Ground classes say what a camera car may
drive on and what trees may grow on.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from data_prep.city.noise import hash01, noise

BLOCK, ROAD, PAVEMENT, GREEN, WATER, CAR_PARK, SQUARE = range(7)
"""Classes of ground."""


@njit(cache=True, nogil=True)
def _street_colour(rgb, u, v, u0, v0, wide_u, wide_v, class_u, class_v, du, dv, grass, grain):
    """Markings on a street: centre lines, lanes, crossings, medians, bicycle lanes. Returns class.

    du, dv: metres beyond the street's edge (negative: on it); u0, v0: the nearest centre lines.
    """
    if du < 0 and dv < 0:
        return 1  # a crossing's middle is bare
    if du < 0:
        lateral, along, half, street, to_crossing = u - u0, v, wide_u * 0.5, class_u, dv
    else:
        lateral, along, half, street, to_crossing = v - v0, u, wide_v * 0.5, class_v, du
    a = abs(lateral)
    if 1.0 < to_crossing < 3.8 and half > 5.0:
        if lateral % 1.3 < 0.62:
            rgb[:] = (214.0, 213.0, 208.0)  # zebra
        return 1
    if 4.6 < to_crossing < 5.1 and lateral > 0:
        rgb[:] = (206.0, 206.0, 201.0)  # stop line
        return 1
    if to_crossing <= 5:
        return 1
    if street == 2 and a < 1.6:
        shade = 0.9 + 0.3 * grain
        rgb[:] = (grass[0] * shade, grass[1] * shade, grass[2] * shade)
        return 3
    if street != 0 and street != 2 and 0.12 < a < 0.36:
        rgb[:] = (200.0, 166.0, 70.0)  # double yellow
    elif street == 0 and a < 0.12 and along % 7.0 < 3:
        rgb[:] = (198.0, 170.0, 88.0)
    if street >= 1 and abs(a - 3.6) < 0.1 and along % 8.0 < 3:
        rgb[:] = (208.0, 208.0, 204.0)  # lanes
    if street == 3 and half - 4.1 < a < half - 2.4:
        rgb[:] = (80.0, 124.0, 92.0)  # bicycles
    if abs(a - (half - 2.25)) < 0.07:
        rgb[:] = (198.0, 198.0, 194.0)  # edge of the parking strip
    if a > half - 2.2:
        rgb *= 1.07
    return 1


@njit(cache=True, nogil=True)
def _block_colour(rgb, kind, u, v, uc, vc, v_edge, shade, yard, asphalt, grass, grain, fine, slow):
    """Inside a block: park, car park, plaza, yards. Returns the class of ground."""
    if kind == 1:
        t = 0.85 + 0.25 * grain + 0.2 * (slow - 0.5) + 0.1 * (fine - 0.5)
        rgb[:] = (grass[0] * t, grass[1] * t, grass[2] * t)
        tilt = 0.6 if shade < 0.5 else -0.6
        path = abs((u - uc) * 0.8 + (v - vc) * tilt)
        ring = math.hypot(u - uc, v - vc)
        if path < 1.4 or abs(ring - 16) < 1.2:
            rgb[:] = (184.0 * t, 168.0 * t, 138.0 * t)
        if shade > 0.3 and ring < 7.8:
            rgb[:] = (178.0, 174.0, 167.0)
            if ring < 7:
                rgb[:] = (62.0, 98.0, 114.0)
                return 4
        return 3
    if kind == 2:
        t = 0.95 + 0.06 * grain + 0.1 * (fine - 0.5) + 0.2 * (slow - 0.5)
        rgb[:] = (asphalt[0] * t * 0.96, asphalt[1] * t * 0.96, asphalt[2] * t)
        bay = (v - v_edge) % 17.0
        if (0 <= bay < 10.5 and u % 2.7 < 0.14) or 5.2 < bay < 5.35:
            rgb[:] = (204.0, 204.0, 199.0)
        return 5
    if kind == 3:
        t = 0.92 + 0.1 * grain
        rgb[:] = (190.0 * t, 173.0 * t, 150.0 * t)
        if (int(math.floor(u / 4)) + int(math.floor(v / 4))) & 1 == 0:
            rgb *= 0.88
        return 6
    t = 0.85 + 0.3 * grain
    if yard < 0.55:
        rgb[:] = (grass[0] * t, grass[1] * t, grass[2] * t)
    else:
        rgb[:] = (150.0 * t, 146.0 * t, 139.0 * t)
    return 0


@njit(cache=True, nogil=True)
def _shore_colour(rgb, inland, x, y, seed, grain, fine):
    """Water, beach and the strip of grass behind it. Returns the class of ground."""
    if inland < 0:
        t = 0.9 + 0.16 * (noise(x * 0.35, y * 0.8, seed + 9) - 0.5) + 0.05 * (fine - 0.5)
        rgb[:] = (50.0 * t, 76.0 * t, 92.0 * t)
        return 4
    t = 0.94 + 0.08 * grain
    if inland > 5:
        rgb[:] = (108.0 * t, 124.0 * t, 78.0 * t)
        return 3
    rgb[:] = (187.0 * t, 178.0 * t, 158.0 * t)
    return 6


@njit(cache=True, nogil=True)
def _avenue_colour(rgb, across, along, asphalt, grain, fine, slow):
    """The avenue that cuts the grid: a double line and lanes."""
    t = 0.92 * (0.95 + 0.06 * (grain - 0.5) + 0.08 * (fine - 0.5) + 0.12 * (slow - 0.5))
    rgb[:] = (asphalt[0] * t, asphalt[1] * t, asphalt[2] * t)
    if abs(abs(across) - 0.25) < 0.13:
        rgb[:] = (200.0, 166.0, 70.0)
    elif abs(abs(across) - 3.4) < 0.09 and along % 6.0 < 2.6:
        rgb[:] = (204.0, 204.0, 200.0)
    return 1


@njit(cache=True, nogil=True)
def _asphalt_colour(rgb, iu, jv, du, dv, asphalt, seed, grain, fine, slow):
    """A street's asphalt before its markings: each street has a tone of its own."""
    tone = hash01(iu, 0, seed) if du < 0 else hash01(0, jv, seed + 1)
    if du < 0 and dv < 0:
        tone = 0.5 * (hash01(iu, 0, seed) + hash01(0, jv, seed + 1))
    t = 0.82 + 0.36 * tone + 0.06 * (grain - 0.5) + 0.09 * (fine - 0.5)
    t += 0.16 * (slow - 0.5)
    rgb[:] = (asphalt[0] * t, asphalt[1] * t, asphalt[2] * t)


@njit(cache=True, nogil=True)
def _pavement_colour(rgb, u, v, edge, nearest, shade, pavement, grass, grain, fine, slow):
    """Slabs, kerb, and here and there a strip of grass. nearest: edge, or that of the avenue."""
    t = 0.9 + 0.14 * shade + 0.05 * (fine - 0.5) + 0.08 * (slow - 0.5)
    rgb[:] = (pavement[0] * t, pavement[1] * t, pavement[2] * t)
    if u % 1.6 < 0.1 or v % 1.6 < 0.1:
        rgb *= 0.91
    if nearest < 0.3:
        rgb[:] = (196.0, 194.0, 189.0)
    elif edge < 1.3 and shade > 0.55:
        rgb[:] = (grass[0], grass[1] * (0.9 + 0.3 * grain), grass[2])
    return 2


@njit(cache=True, nogil=True)
def _inland_m(x, y, shore, shore_at, seed):
    """Metres from the shore; negative in the water."""
    wobble = 14 * math.sin((x + y) * 0.011 + seed) + 6 * math.sin((x - y) * 0.037)
    if shore == 1:
        return x - (shore_at + wobble)
    if shore == 2:
        return (shore_at + wobble) - x
    if shore == 3:
        return y - (shore_at + wobble)
    return 1e9


@njit(cache=True, nogil=True)
def draw_ground(
    colour, ground, resolution, cos, sin,
    lines_u, width_u, class_u, lines_v, width_v, class_v, blocks, shade,
    avenue, shore, shore_at, asphalt, pavement, grass, pavement_m, seed,
):  # fmt: skip
    """Fill colour (n, n, 3) float32 and ground (n, n) uint8.

    avenue: (cos, sin, position, width); shore: 0 none, 1 west, 2 east, 3 north at ``shore_at``.
    """
    n = ground.shape[0]
    rgb = np.empty(3)
    for row in range(n):
        for column in range(n):
            x, y = (column + 0.5) * resolution, (row + 0.5) * resolution
            u, v = x * cos + y * sin, -x * sin + y * cos
            i = min(max(np.searchsorted(lines_u, u), 1), len(lines_u) - 1)
            j = min(max(np.searchsorted(lines_v, v), 1), len(lines_v) - 1)
            left, right = u - lines_u[i - 1] - width_u[i - 1] / 2, lines_u[i] - width_u[i] / 2 - u
            above, below = v - lines_v[j - 1] - width_v[j - 1] / 2, lines_v[j] - width_v[j] / 2 - v
            iu, jv = (i - 1 if left < right else i), (j - 1 if above < below else j)
            du, dv = min(left, right), min(above, below)
            grain, slow = noise(x * 0.9, y * 0.9, seed), noise(x * 0.13, y * 0.13, seed + 3)
            fine = hash01(column, row, seed + 7)
            across = x * avenue[0] + y * avenue[1] - avenue[2]
            off_avenue = abs(across) - avenue[3] * 0.5 if avenue[3] > 0 else 1e9
            inland, edge = _inland_m(x, y, shore, shore_at, seed), min(du, dv)
            if inland < 9:
                kind = _shore_colour(rgb, inland, x, y, seed, grain, fine)
            elif off_avenue < 0 and not (du < 0 and dv < 0):
                along = -x * avenue[1] + y * avenue[0]
                kind = _avenue_colour(rgb, across, along, asphalt, grain, fine, slow)
            elif edge < 0:
                _asphalt_colour(rgb, iu, jv, du, dv, asphalt, seed, grain, fine, slow)
                kind = _street_colour(
                    rgb, u, v, lines_u[iu], lines_v[jv], width_u[iu], width_v[jv],
                    class_u[iu], class_v[jv], du, dv, grass, grain,
                )  # fmt: skip
            elif min(off_avenue, edge) < pavement_m:
                kind = _pavement_colour(
                    rgb, u, v, edge, min(off_avenue, edge), shade[i, j], pavement, grass,
                    grain, fine, slow,
                )  # fmt: skip
            else:
                kind = _block_colour(
                    rgb, blocks[i, j], u, v,
                    0.5 * (lines_u[i - 1] + lines_u[i]), 0.5 * (lines_v[j - 1] + lines_v[j]),
                    lines_v[j - 1], shade[i, j], hash01(i, j, seed + 5),
                    asphalt, grass, grain, fine, slow,
                )  # fmt: skip
            ground[row, column] = kind
            colour[row, column] = rgb


@njit(cache=True, nogil=True)
def draw_buildings(colour, height, owner, ground, resolution, cos, sin, buildings):
    """Roofs onto the map: height, colour, and which building stands where (owner, -1 for none)."""
    n = ground.shape[0]
    for k in range(len(buildings)):
        b = buildings[k]
        x0, x1, y0, y1 = 1e9, -1e9, 1e9, -1e9
        for corner in range(4):
            u = b.u0 if corner & 1 else b.u1
            v = b.v0 if corner & 2 else b.v1
            x, y = u * cos - v * sin, u * sin + v * cos
            x0, x1, y0, y1 = min(x0, x), max(x1, x), min(y0, y), max(y1, y)
        for row in range(max(0, int(y0 / resolution)), min(n, int(y1 / resolution) + 2)):
            for column in range(max(0, int(x0 / resolution)), min(n, int(x1 / resolution) + 2)):
                x, y = (column + 0.5) * resolution, (row + 0.5) * resolution
                u, v = x * cos + y * sin, -x * sin + y * cos
                if u < b.u0 or u > b.u1 or v < b.v0 or v > b.v1:
                    continue
                kind = ground[row, column]
                if kind == ROAD or kind == PAVEMENT or kind == WATER:
                    continue
                if b.shape == 2 and owner[row, column] < 0:
                    continue
                edge = min(min(u - b.u0, b.u1 - u), min(v - b.v0, b.v1 - v))
                z = b.height
                t = 0.93 + 0.1 * noise(x * 0.5, y * 0.5, k) + 0.06 * (hash01(column, row, k) - 0.5)
                if b.shape == 1:
                    if b.ridge_along_u == 0:
                        half, slope, lit, tile = (b.u1 - b.u0) / 2, min(u - b.u0, b.u1 - u), 0, v
                        lit = u > b.u0 + half
                    else:
                        half, slope, lit, tile = (b.v1 - b.v0) / 2, min(v - b.v0, b.v1 - v), 0, u
                        lit = v > b.v0 + half
                    z = b.height + slope * 0.55
                    t *= 0.8 if lit else 1.12
                    if half - slope < 0.2:
                        t *= 0.75
                    if tile % 0.9 < 0.18:
                        t *= 0.93
                elif b.shape == 0:
                    if edge < 0.5:
                        t, z = t * 1.2, b.height + 0.6  # parapet
                    elif edge < 0.9:
                        t *= 0.74
                    elif hash01(k, 1, 5) < 0.3 and u % 3.0 < 0.15:
                        t *= 0.88
                if z > height[row, column]:
                    height[row, column] = z
                    if b.shape != 2:
                        owner[row, column] = k
                    colour[row, column, 0] = min(255.0, b.roof_r * t)
                    colour[row, column, 1] = min(255.0, b.roof_g * t)
                    colour[row, column, 2] = min(255.0, b.roof_b * t)


@njit(cache=True, nogil=True)
def draw_crowns(colour, height, resolution, trees, seed):
    """Crowns of trees as seen from above, with a ragged outline."""
    n = height.shape[0]
    for k in range(len(trees)):
        tree = trees[k]
        r = tree.radius
        for row in range(
            max(0, int((tree.y - r) / resolution)), min(n, int((tree.y + r) / resolution) + 2)
        ):
            for column in range(
                max(0, int((tree.x - r) / resolution)), min(n, int((tree.x + r) / resolution) + 2)
            ):
                x, y = (column + 0.5) * resolution, (row + 0.5) * resolution
                ragged = 1 + 0.7 * (noise(x * 1.1, y * 1.1, seed + k) - 0.5)
                d = math.hypot(x - tree.x, y - tree.y) / r * ragged
                if d >= 1:
                    continue
                z = tree.height - (1 - math.sqrt(1 - d * d)) * r * 1.1
                if z > height[row, column]:
                    height[row, column] = z
                    t = 0.57 + 0.5 * noise(x * 1.7, y * 1.7, seed + 1) + 0.3 * (1 - d)
                    t += 0.2 * (noise(x * 4.1, y * 4.1, seed + 2) - 0.5)
                    colour[row, column, 0] = tree.r * t
                    colour[row, column, 1] = tree.g * t
                    colour[row, column, 2] = tree.b * t


@njit(cache=True, nogil=True)
def draw_car_roofs(colour, height, resolution, cars):
    """Cars as seen from above: body, cabin, dark windscreens."""
    n = height.shape[0]
    for k in range(len(cars)):
        car = cars[k]
        reach = 0.5 * math.hypot(car.length, car.width)
        for row in range(
            max(0, int((car.y - reach) / resolution)),
            min(n, int((car.y + reach) / resolution) + 2),
        ):
            for column in range(
                max(0, int((car.x - reach) / resolution)),
                min(n, int((car.x + reach) / resolution) + 2),
            ):
                x, y = (column + 0.5) * resolution - car.x, (row + 0.5) * resolution - car.y
                a, b = x * car.cos + y * car.sin, -x * car.sin + y * car.cos
                if abs(a) > car.length / 2 or abs(b) > car.width / 2 or height[row, column] > 1.0:
                    continue
                cabin = abs(a + 0.05 * car.length) < 0.29 * car.length
                height[row, column] = 1.5 if cabin else 0.9
                t = 0.32 if cabin and abs(a + 0.05 * car.length) > 0.19 * car.length else 1.0
                colour[row, column, 0] = car.r * t
                colour[row, column, 1] = car.g * t
                colour[row, column, 2] = car.b * t


def cells(x: NDArray, y: NDArray, resolution: float, n: int) -> tuple[NDArray, NDArray, NDArray]:
    """Rows and columns of positions, and which of them lie well inside the map."""
    row, column = (y / resolution).astype(int), (x / resolution).astype(int)
    inside = (row >= 2) & (row < n - 2) & (column >= 2) & (column < n - 2)
    return np.where(inside, row, 0), np.where(inside, column, 0), inside
