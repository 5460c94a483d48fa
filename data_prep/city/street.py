"""The view from the street: an equirectangular panorama marched through the map.

North stands in the centre column, east at three quarters of the width; rows run from the zenith to
the nadir. Ground and buildings come from the map itself, so that what is seen from above at a
bearing and a distance is seen from the street at that bearing and distance; crowns and cars are
solids put in by depth.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from data_prep.city.noise import hash01, noise

CAMERA_M = 2.4
REACH_M = 170.0
SKY, GROUND, BUILDING, TREE, CAR = range(5)
"""Kinds of what a pixel shows."""
FAR = 1e9


@njit(cache=True, nogil=True)
def _directions(bearings):
    """The eastward and southward parts of the unit vector along each bearing."""
    east, south = np.empty(len(bearings)), np.empty(len(bearings))
    for c in range(len(bearings)):
        east[c], south[c] = math.sin(bearings[c]), -math.cos(bearings[c])
    return east, south


@njit(cache=True, nogil=True)
def draw_sky(
    image, distance, bearings, tangents, sun_east, sun_south, rise, sun, overcast, seed
):  # fmt: skip
    """What nothing covers: blue above, pale at the horizon, clouds, glare around the sun."""
    h, w = image.shape[:2]
    sun_elevation = math.atan(rise)
    sun_bearing = math.atan2(sun_east, -sun_south)
    flat = math.cos(sun_elevation)
    east, south = _directions(bearings)
    grey = 1 - 0.2 * overcast
    for r in range(h // 2):
        elevation = math.atan(tangents[r])
        haze = math.exp(-elevation * 2.4)
        thin = 1 - 0.5 * math.exp(-elevation * 9)
        level, upward = math.cos(elevation) * flat, math.sin(elevation) * math.sin(sun_elevation)
        for c in range(w):
            if distance[r, c] < FAR:
                continue
            towards = level * math.cos(bearings[c] - sun_bearing) + upward
            glare = max(0.0, towards) ** 40 * 0.45 * sun
            x, y = east[c] / (tangents[r] + 0.12), south[c] / (tangents[r] + 0.12)
            cloud = 0.5 * noise(x * 1.1 + seed, y * 1.1, 11)
            cloud += 0.3 * noise(x * 2.7, y * 2.7 + seed, 12)
            cloud += 0.2 * noise(x * 6.3 + seed, y * 6.3, 13)
            cloud = max(0.0, min(1.0, (cloud - 0.58 + 0.35 * overcast) * 3.0)) * thin
            shade = 226 - 26 * cloud * overcast
            image[r, c, 0] = ((108 + 92 * haze) * (1 - cloud) + shade * cloud) * grey + glare * 250
            image[r, c, 1] = ((150 + 60 * haze) * (1 - cloud) + shade * cloud) * grey + glare * 238
            image[r, c, 2] = (
                (200 + 26 * haze) * (1 - cloud) + (shade + 4) * cloud
            ) * grey + glare * 205


@njit(cache=True, nogil=True)
def draw_ground(
    image, distance, kind, bearings, tangents, x0, y0,
    height, colour, ground, lit, resolution, ambient, sun, rise,
):  # fmt: skip
    """What no building covers below the horizon, in the map's colours; beyond the map: haze."""
    h, w = image.shape[:2]
    n = height.shape[0]
    direct = sun * math.sin(math.atan(rise))
    east, south = _directions(bearings)
    for r in range(h // 2, h):
        t = CAMERA_M / -tangents[r]
        for c in range(w):
            if distance[r, c] < FAR:
                continue
            distance[r, c], kind[r, c] = t, GROUND
            x, y = x0 + east[c] * t, y0 + south[c] * t
            column, row = int(x / resolution), int(y / resolution)
            if t > REACH_M or column < 0 or row < 0 or column >= n or row >= n:
                image[r, c, 0], image[r, c, 1], image[r, c, 2] = 150.0, 154.0, 158.0
                continue
            light = lit[row, column] / 255.0 * direct if height[row, column] <= 0.3 else 0.0
            fx, fy = x / resolution - 0.5, y / resolution - 0.5
            j, i = min(max(int(fx), 0), n - 2), min(max(int(fy), 0), n - 2)
            fx, fy = min(1.0, max(0.0, fx - j)), min(1.0, max(0.0, fy - i))
            for k in range(3):
                top = colour[i, j, k] * (1 - fx) + colour[i, j + 1, k] * fx
                bottom = colour[i + 1, j, k] * (1 - fx) + colour[i + 1, j + 1, k] * fx
                albedo = top * (1 - fy) + bottom * fy
                image[r, c, k] = albedo * (ambient * (1.0 + 0.04 * k) + light)
                if ground[row, column] == 4:  # water mirrors the sky
                    image[r, c, k] = 0.5 * image[r, c, k] + 0.5 * (126 + 20 * k) * (
                        ambient + 0.4 * sun
                    )


@njit(cache=True, nogil=True)
def _facade(rgb, b, k, along, level, length):
    """Colour of a wall at ``along`` metres from its left edge and ``level`` metres up."""
    rgb[0], rgb[1], rgb[2] = b.wall_r, b.wall_g, b.wall_b
    if level < 4.2 and b.front >= 1 and b.height > 7:
        if level > 3.3:
            rgb[0], rgb[1], rgb[2] = b.awning_r, b.awning_g, b.awning_b
        elif level > 0.5 and 0.1 < (along / 5.0) % 1.0 < 0.9:
            t = 0.85 + 0.3 * hash01(int(along / 5.0), 7, k)
            rgb[0], rgb[1], rgb[2] = 62.0 * t, 68.0 * t, 73.0 * t
        else:
            rgb *= 0.72
        return
    if level > b.height - 0.7:
        rgb *= 1.16  # cornice
        return
    bays = max(1.0, math.floor(length / b.window_period))
    position = along / (length / bays)
    bay, across = int(position), position % 1.0
    storeys = (level - (0.6 if b.front < 1 else 4.2)) / b.storey
    storey = int(math.floor(storeys))
    up = storeys - storey
    if b.front == 2:
        if up > 0.22:
            t = 0.88 + 0.24 * hash01(bay, storey, k)
            rgb[0] = 0.45 * rgb[0] + 0.55 * 104 * t
            rgb[1] = 0.45 * rgb[1] + 0.55 * 126 * t
            rgb[2] = 0.45 * rgb[2] + 0.55 * 144 * t
            if across < 0.07:
                rgb *= 0.72
    elif 0.26 < up < 0.76 and abs(across - 0.5) < b.window_share * 0.5:
        lamp = hash01(bay, storey, k)
        if up > 0.72 or abs(across - 0.5) > b.window_share * 0.5 - 0.04:
            rgb *= 1.12  # frame
        elif lamp > 0.9:
            rgb[0], rgb[1], rgb[2] = 204.0, 196.0, 168.0
        else:
            t = 0.7 + 0.7 * lamp
            rgb[0], rgb[1], rgb[2] = 56.0 * t, 64.0 * t, 74.0 * t
    elif 0.2 < up < 0.26 and abs(across - 0.5) < b.window_share * 0.5 + 0.05:
        rgb *= 1.1  # sill
    elif up < 0.05:
        rgb *= 0.86


@njit(cache=True, nogil=True)
def _wall_at(b, x, y, cos, sin):
    """The wall of a building next to a place: metres along it, its length, its normal."""
    u, v = x * cos + y * sin, -x * sin + y * cos
    du, dv = min(abs(u - b.u0), abs(u - b.u1)), min(abs(v - b.v0), abs(v - b.v1))
    if du < dv:
        sign = -1.0 if abs(u - b.u0) < abs(u - b.u1) else 1.0
        return v - b.v0, b.v1 - b.v0, sign * cos, sign * sin
    sign = -1.0 if abs(v - b.v0) < abs(v - b.v1) else 1.0
    return u - b.u0, b.u1 - b.u0, -sign * sin, sign * cos


@njit(cache=True, nogil=True)
def draw_buildings(
    image, distance, kind, bearings, tangents, x0, y0,
    height, colour, owner, lit, resolution, cos, sin, buildings,
    sun_east, sun_south, rise, ambient, sun,
):  # fmt: skip
    """March outwards along each bearing; what rises above all before it is seen."""
    h, w = image.shape[:2]
    n = height.shape[0]
    flat = math.cos(math.atan(rise))
    rgb = np.empty(3)
    for c in range(w):
        east, south = math.sin(bearings[c]), -math.cos(bearings[c])
        open_above = h  # rows above this one are still sky
        t, previous = 0.4, -1
        light, along, length = 0.0, 0.0, 1.0
        highest = -FAR  # tangent of the steepest thing seen so far
        while t < REACH_M and open_above > 0:
            x, y = x0 + east * t, y0 + south * t
            column, row = int(x / resolution), int(y / resolution)
            if column < 1 or row < 1 or column >= n - 1 or row >= n - 1:
                break
            k = owner[row, column]
            z = height[row, column]
            steep = (z - CAMERA_M) / t
            if k < 0 or z <= 0.3 or steep <= highest:  # nothing here, or nothing that is seen
                previous = k if z > 0.3 else -1
                t += max(resolution * 0.8, 0.004 * t)
                continue
            top = int(math.ceil((0.5 - math.atan(steep) / math.pi) * h - 0.5))
            foot = int((0.5 + math.atan(CAMERA_M / t) / math.pi) * h - 0.5)
            top, last = max(top, 0), min(open_above - 1, min(foot, h - 1))
            if top <= last:
                b = buildings[k]
                wall = k != previous
                if wall:
                    along, length, nx, ny = _wall_at(b, x, y, cos, sin)
                    facing = max(0.0, nx * sun_east + ny * sun_south) * flat
                    cx, cy = int((x - east * 1.2) / resolution), int((y - south * 1.2) / resolution)
                    foot_lit = 0.45 + 0.55 * lit[cy, cx] / 255.0
                    light = ambient + 0.10 * (1 + nx * 0.4) + sun * facing * foot_lit
                for r in range(top, last + 1):
                    if wall:
                        level = CAMERA_M + t * tangents[r]
                        _facade(rgb, b, k, along, level, length)
                        q = light * (0.96 + 0.08 * hash01(int(along * 3), int(level * 3), k))
                        q *= min(1.0, 0.86 + 0.05 * level)  # darker at the foot
                    else:
                        for m in range(3):
                            rgb[m] = colour[row, column, m]
                        q = ambient + 0.6 * sun
                    for m in range(3):
                        image[r, c, m] = rgb[m] * q
                    distance[r, c], kind[r, c] = t, BUILDING
                open_above, highest = top, steep
            previous = k
            t += max(resolution * 0.8, 0.004 * t)


@njit(cache=True, nogil=True)
def _blob(
    image, distance, kind, bearings, tangents, ex, ey, ez, radius, tall, seed,
    r, g, b, sun_east, sun_south, rise, ambient, sun, bare,
):  # fmt: skip
    """An ellipsoid of leaves centred at (ex, ey, ez) from the camera, ragged and mottled."""
    h, w = image.shape[:2]
    d = math.hypot(ex, ey)
    centre = math.atan2(ex, -ey)
    half = math.asin(min(0.99, radius / d)) if d > radius else math.pi * 0.5
    c0 = int(math.floor(((centre - half) / (2 * math.pi) + 0.5) * w))
    c1 = int(math.ceil(((centre + half) / (2 * math.pi) + 0.5) * w))
    near = max(0.3, d - radius)
    r0 = int((0.5 - math.atan2(ez + tall, near if ez + tall > 0 else d) / math.pi) * h) - 1
    r1 = int((0.5 - math.atan2(ez - tall, near if ez - tall < 0 else d + radius) / math.pi) * h) + 1
    flat, up = math.cos(math.atan(rise)), math.sin(math.atan(rise))
    rr, tt = 1.0 / (radius * radius), 1.0 / (tall * tall)
    cc = (ex * ex + ey * ey) * rr + ez * ez * tt - 1.0
    for column in range(c0, c1 + 1):
        c = column % w
        east, south = math.sin(bearings[c]), -math.cos(bearings[c])
        along = east * ex + south * ey
        if along <= 0:
            continue
        for row in range(max(r0, 0), min(r1 + 1, h)):
            z = tangents[row]
            a2, b2 = rr + z * z * tt, along * rr + z * ez * tt
            disc = b2 * b2 - a2 * cc
            if disc <= 0:
                continue
            t = (b2 - math.sqrt(disc)) / a2
            if t <= 0.3 or t >= distance[row, c]:
                continue
            hx, hy, hz = east * t - ex, south * t - ey, z * t - ez
            leaves = noise(hx * 2.1 + hy * 1.3 + seed, hz * 2.4, seed) * 0.5
            leaves += noise((hx - hy) * 5.0, hz * 5.5 + seed, seed + 1) * 0.5
            rim = disc / (b2 * b2 + 1e-9) * (d / radius) ** 2  # 0 at the outline
            if leaves + min(rim, 1.0) * 0.55 < 0.40 + bare:
                continue
            facing = (hx * sun_east + hy * sun_south) / radius * flat + hz / tall * up
            light = (ambient * 1.05 + sun * max(0.0, facing) * 0.9) * (0.5 + 0.8 * leaves)
            light *= 0.82 + 0.18 * hz / tall
            image[row, c, 0], image[row, c, 1], image[row, c, 2] = r * light, g * light, b * light
            distance[row, c], kind[row, c] = t, TREE


@njit(cache=True, nogil=True)
def draw_trees(
    image, distance, kind, bearings, tangents, x0, y0, trees,
    sun_east, sun_south, rise, ambient, sun, leaf_r, leaf_g, leaf_b, bare,
):  # fmt: skip
    """Trunks and crowns; a crown close by is a cluster of smaller ones."""
    h, w = image.shape[:2]
    for k in range(len(trees)):
        tree = trees[k]
        ex, ey = tree.x - x0, tree.y - y0
        d = math.hypot(ex, ey)
        if d > 90 or d < 2.2:
            continue
        tall = tree.radius * 1.2
        ez = tree.height - tall - CAMERA_M
        # the trunk: a narrow upright strip up to the crown's middle
        half = max(0.13 + 0.03 * tree.radius, 0.0015 * d) / d
        centre = math.atan2(ex, -ey)
        c0 = int(math.floor(((centre - half) / (2 * math.pi) + 0.5) * w + 0.5))
        c1 = int(math.ceil(((centre + half) / (2 * math.pi) + 0.5) * w - 0.5))
        r0 = int((0.5 - math.atan2(ez, d) / math.pi) * h)
        r1 = int((0.5 + math.atan2(CAMERA_M, d) / math.pi) * h)
        for column in range(c0, max(c1, c0 + 1)):
            c = column % w
            for row in range(max(r0, 0), min(r1 + 1, h)):
                if d < distance[row, c]:
                    side = 0.75 + 0.5 * (column - c0) / max(c1 - c0, 1)
                    t = (ambient + 0.3 * sun) * side * (0.85 + 0.3 * hash01(row, column, k))
                    image[row, c, 0], image[row, c, 1], image[row, c, 2] = 80 * t, 69 * t, 58 * t
                    distance[row, c], kind[row, c] = d, TREE
        seed = int(tree.x * 7.0 + tree.y * 13.0)
        r, g, b = tree.r * leaf_r, tree.g * leaf_g, tree.b * leaf_b
        count = 7 if d < 14 else (4 if d < 30 else 1)
        for m in range(count):
            fx, fy, fz, size = 0.0, 0.0, 0.0, 1.0
            if count > 1:
                turn = 2 * math.pi * (m / count + 0.3 * hash01(seed, m, 1))
                out = 0.52 * tree.radius if m < count - 1 else 0.0
                fx, fy = out * math.cos(turn), out * math.sin(turn)
                fz = tall * (0.7 * hash01(seed, m, 2) - 0.45) if m < count - 1 else 0.38 * tall
                size = 0.52 + 0.16 * hash01(seed, m, 3)
            _blob(
                image, distance, kind, bearings, tangents, ex + fx, ey + fy, ez + fz,
                tree.radius * size, tall * size, seed + m, r, g, b,
                sun_east, sun_south, rise, ambient, sun, bare,
            )  # fmt: skip


@njit(cache=True, nogil=True)
def _enters_box(oa, ob, da, db, z, la, lb, low, high):
    """Where a ray from the camera enters a box: distance and axis, or (-1, 0) when it misses.

    (oa, ob): the camera and (da, db): the ray, along and across the box; z: its tangent.
    """
    t0, t1, face = 0.0, FAR, 0
    for axis in range(3):
        if axis == 0:
            o, v, lo, hi = oa, da, -la, la
        elif axis == 1:
            o, v, lo, hi = ob, db, -lb, lb
        else:
            o, v, lo, hi = CAMERA_M, z, low, high
        if abs(v) < 1e-9:
            v = 1e-9
        ta, tb = (lo - o) / v, (hi - o) / v
        if min(ta, tb) > t0:
            t0, face = min(ta, tb), axis
        t1 = min(t1, max(ta, tb))
    return (t0, face) if t0 < t1 else (-1.0, 0)


@njit(cache=True, nogil=True)
def _car_colour(car, slab, face, a, b, la, shift, level, s):
    """Paint, glass, pillars, wheels, lamps at a point of a car, under light s."""
    red, green, blue = car.r, car.g, car.b
    if slab > 0 and (face != 2 or slab < 3):
        red, green, blue = 54.0, 60.0, 66.0
        if face == 1 and abs(abs(a - shift) - la * 0.98) < 0.14:
            red, green, blue = car.r * 0.8, car.g * 0.8, car.b * 0.8  # pillars
    if slab == 0 and face == 1:
        wheel = math.hypot(abs(a) - car.length * 0.3, level - 0.33)
        if wheel < 0.34:
            red, green, blue = (96.0, 96.0, 98.0) if wheel < 0.17 else (26.0, 26.0, 28.0)
        elif level < 0.36:
            s *= 0.7
    if slab == 0 and face == 0 and 0.55 < level < 0.75:
        if abs(b) > car.width * 0.32:
            red, green, blue = (226.0, 222.0, 206.0) if a > 0 else (150.0, 38.0, 34.0)
    return red * s, green * s, blue * s


@njit(cache=True, nogil=True)
def draw_cars(image, distance, kind, bearings, tangents, x0, y0, cars, ambient, sun):
    """Body and a cabin that narrows upwards; wheels, windows, lamps."""
    h, w = image.shape[:2]
    for k in range(len(cars)):
        car = cars[k]
        ex, ey = car.x - x0, car.y - y0
        d = math.hypot(ex, ey)
        if d > 65 or d < 3.4:
            continue
        reach = 0.5 * math.hypot(car.length, car.width)
        centre, half = math.atan2(ex, -ey), math.asin(min(0.99, reach / d))
        c0 = int(math.floor(((centre - half) / (2 * math.pi) + 0.5) * w))
        c1 = int(math.ceil(((centre + half) / (2 * math.pi) + 0.5) * w))
        r0 = int((0.5 - math.atan2(1.55 - CAMERA_M, d + reach) / math.pi) * h) - 1
        r1 = int((0.5 + math.atan2(CAMERA_M, max(0.4, d - reach)) / math.pi) * h) + 1
        oa, ob = -(ex * car.cos + ey * car.sin), -(-ex * car.sin + ey * car.cos)
        for column in range(c0, c1 + 1):
            c = column % w
            east, south = math.sin(bearings[c]), -math.cos(bearings[c])
            da, db = east * car.cos + south * car.sin, -east * car.sin + south * car.cos
            for row in range(max(r0, 0), min(r1 + 1, h)):
                z = tangents[row]
                for slab in range(4):  # body, then three slices of the cabin
                    if slab == 0:
                        la, lb, low, high = car.length * 0.5, car.width * 0.5, 0.22, 0.92
                    else:
                        shrink = 1.0 - 0.12 * slab
                        la, lb = car.length * 0.34 * shrink, car.width * 0.48 * (1 - 0.05 * slab)
                        low, high = 0.90 + 0.2 * (slab - 1), 0.92 + 0.2 * slab
                    shift = -0.05 * car.length if slab else 0.0
                    t, face = _enters_box(oa - shift, ob, da, db, z, la, lb, low, high)
                    if 0.3 < t < distance[row, c]:
                        s = ambient + sun * (0.75 if face == 2 else (0.34 if face == 1 else 0.26))
                        image[row, c] = _car_colour(
                            car, slab, face, oa + da * t, ob + db * t, la, shift,
                            CAMERA_M + z * t, s,
                        )  # fmt: skip
                        distance[row, c], kind[row, c] = t, CAR


@njit(cache=True, nogil=True)
def draw_haze(image, distance, overcast):
    """Far things fade into the air."""
    h, w = image.shape[:2]
    scale = 420.0 if overcast < 0.5 else 240.0
    for r in range(h):
        for c in range(w):
            if distance[r, c] < FAR:
                f = 1 - math.exp(-distance[r, c] / scale)
                for k in range(3):
                    image[r, c, k] += (192.0 + 8 * k - image[r, c, k]) * f
