"""The authors' files, in their formats: weights, descriptors, checkpoints, and what is unsafe."""

from __future__ import annotations

import builtins
import dataclasses
import importlib.util
import json
import os
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from data_prep.official import checkpoint, descriptors
from data_prep.official.__main__ import app
from data_prep.official.pickles import UnsafeFileError, read_pickled_npy
from data_prep.official.weights import WeightsError, install_vgg16, read_vgg16
from vigorlib import figures, geometry, model
from vigorlib.dataset import Vigor
from vigorlib.evaluation import THRESHOLDS_M
from vigorlib.files import write_atomically
from vigorlib.recipes import get_profile

MEANS_BGR = np.array([103.939, 116.779, 123.6])


def conv_same(x, kernel, bias):
    """TensorFlow's 3x3 convolution with SAME padding: (B, H, W, in), HWIO -> (B, H, W, out)."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    shifted = [
        padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3)
    ]
    return sum(shifted) + bias


def max_pool(x):
    """2x2, stride 2: (B, H, W, C) -> (B, H/2, W/2, C)."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))


def vgg(x, layers, groups):
    """Convolutions with ReLU, pooled between groups; layers: list of (kernel, bias)."""
    remaining = iter(layers)
    for group, depth in enumerate(groups):
        x = max_pool(x) if group else x
        for _ in range(depth):
            x = np.maximum(conv_same(x, *next(remaining)), 0)
    return x


def as_the_loader_reads(images):
    """(B, 3, H, W) RGB -> (B, H, W, 3) BGR minus the means."""
    return images.numpy().transpose(0, 2, 3, 1)[..., ::-1] - MEANS_BGR


# -- vgg16.npy -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vgg16_layers():
    """Layer -> [kernel HWIO, bias], of VGG-16's sizes, random."""
    rng = np.random.default_rng(0)
    layers, inputs = {}, 3
    for group, (width, depth) in enumerate(
        zip((64, 128, 256, 512, 512), (2, 2, 3, 3, 3), strict=True), start=1
    ):
        for layer in range(1, depth + 1):
            kernel = rng.standard_normal((3, 3, inputs, width), dtype=np.float32)
            kernel *= np.float32((2 / (9 * inputs)) ** 0.5)
            bias = rng.standard_normal(width, dtype=np.float32)
            layers[f"conv{group}_{layer}"] = [kernel, bias]
            inputs = width
    return layers


@pytest.fixture(scope="module")
def vgg16_npy(vgg16_layers, tmp_path_factory):
    """A file like the original's, with its classifier."""
    path = tmp_path_factory.mktemp("weights") / "vgg16.npy"
    classifier = {"fc6": [np.zeros((8, 4), np.float32), np.zeros(4, np.float32)]}
    np.save(path, vgg16_layers | classifier, allow_pickle=True)
    return path


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("VIGOR_BOOK_HOME", str(tmp_path))
    return tmp_path


CAFFE_AT_SMOKE_SIZE = dataclasses.replace(
    get_profile("smoke"), pretrained=True, weights="caffe", backbones={}
)


def test_a_network_that_starts_from_vgg16_npy_sees_what_the_original_sees(
    home, vgg16_npy, vgg16_layers
):
    done = CliRunner().invoke(app, ["weights", str(vgg16_npy)])
    assert done.exit_code == 0, done.output
    network = model.build("safa", CAFFE_AT_SMOKE_SIZE).eval()
    assert all(weight.requires_grad for weight in network.parameters())
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    expected = vgg(as_the_loader_reads(images), list(vgg16_layers.values()), (2, 2, 3, 3, 3))
    for branch in (network.ground, network.satellite):
        with torch.no_grad():
            features = branch.features(images).permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_without_prepared_weights_the_next_step_is_named(home):
    with pytest.raises(FileNotFoundError, match=r"data_prep.official weights vgg16.npy"):
        model.build("safa", CAFFE_AT_SMOKE_SIZE)
    with pytest.raises(ValueError, match="no Caffe weights for 'resnet18'.*expected .*vgg16"):
        model.build("vigor-resnet", CAFFE_AT_SMOKE_SIZE)


def python2_npy(path, layers):
    """As Python 2 and its numpy wrote such a file: byte strings, numpy.core, protocol 0 and 1."""

    def array(shape, code, order, flags, content):
        sizes = b"".join(b"I%d\n" % size for size in shape)
        return (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
            b"(I1\n(%btcnumpy\ndtype\n(S'%b'\nI0\nI1\ntR(I3\nS'%b'\nNNNI-1\nI-1\nI%d\ntbI00\n%btb"
        ) % (sizes, code, order, flags, content)

    def numbers(values):
        raw = values.astype("<f4").tobytes()
        return array(values.shape, b"f4", b"<", 0, b"T" + struct.pack("<i", len(raw)) + raw)

    entries = b"".join(
        b"S'" + name.encode() + b"'\n(" + b"".join(map(numbers, parts)) + b"ls"
        for name, parts in layers.items()
    )
    body = array((), b"O8", b"|", 63, b"((d" + entries + b"l") + b"."
    header = b"{'descr': '|O8', 'fortran_order': False, 'shape': (), }"
    header += b" " * (-(len(header) + 11) % 16) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body)


def test_a_file_of_python_2_is_read(tmp_path):
    rng = np.random.default_rng(1)
    layers = {"conv1_1": [rng.random((3, 3, 2, 5)), rng.random(5)], "fc6": [rng.random((2, 3))]}
    python2_npy(tmp_path / "old.npy", layers)
    loaded = np.load(tmp_path / "old.npy", allow_pickle=True, encoding="latin1").item()
    read = read_pickled_npy(tmp_path / "old.npy")
    assert list(read) == list(loaded) == ["conv1_1", "fc6"]
    for name, parts in layers.items():
        for ours, numpys, written in zip(read[name], loaded[name], parts, strict=True):
            np.testing.assert_array_equal(ours, numpys)
            np.testing.assert_array_equal(ours, written.astype(np.float32))


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_arrays_of_any_order_and_protocol_are_read(tmp_path, protocol):
    value = {"f": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "b": np.arange(3, dtype=">i4")}
    path = tmp_path / "a.npy"
    write_pickled_npy(path, value, protocol)
    if protocol == 5:  # numpy's files never use it, and it needs a function more
        with pytest.raises(UnsafeFileError, match="_frombuffer"):
            read_pickled_npy(path)
        return
    read = read_pickled_npy(path)
    np.testing.assert_array_equal(read["f"], value["f"])
    np.testing.assert_array_equal(read["b"], value["b"])


def write_pickled_npy(path, value, protocol=2):
    whole = np.empty((), dtype=object)
    whole[()] = value
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|O", "fortran_order": False, "shape": ()}
        )
        file.write(pickle.dumps(whole, protocol))


class Asks:
    """Unpickles by calling what it was given."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ((os.system, "touch {marker}"), r"(posix|nt)\.system"),
        ((eval, "open({marker!r}, 'w')"), r"(__builtin__|builtins)\.eval"),
        ((builtins.open, "{marker}", "w"), r"_?io\.open"),
        ((np.fromfile, "{marker}"), r"numpy.*\.fromfile"),
    ],
)
def test_a_file_that_asks_for_more_than_arrays_is_refused_and_nothing_runs(tmp_path, call, name):
    marker = tmp_path / "it_ran"
    function, *arguments = call
    arguments = [a.format(marker=str(marker)) for a in arguments]
    layers = {"conv1_1": [np.zeros(3), Asks(function, *arguments)]}
    write_pickled_npy(tmp_path / "bad.npy", layers)
    with pytest.raises(UnsafeFileError, match=f"asks for {name}: expected nothing but arrays"):
        read_vgg16(tmp_path / "bad.npy")
    assert not marker.exists()


def test_numbers_are_never_taken_for_pointers(tmp_path):
    """The crafted state that NumPy itself would follow: objects whose bytes the file gives."""
    path = tmp_path / "bad.npy"
    python2_npy(path, {"conv1_1": [np.zeros(2)]})
    path.write_bytes(path.read_bytes().replace(b"S'f4'", b"S'O8'"))
    with pytest.raises(UnsafeFileError, match="array of type object: expected numbers"):
        read_pickled_npy(path)


def test_files_of_another_kind_are_refused_with_the_reason(tmp_path, vgg16_npy):
    path = tmp_path / "a.npy"
    path.write_bytes(b"not an array")
    with pytest.raises(UnsafeFileError, match="not an .npy file"):
        read_vgg16(path)
    np.save(path, np.zeros((3, 3)))
    with pytest.raises(UnsafeFileError, match=r"float64 array of shape \(3, 3\): expected one"):
        read_vgg16(path)
    path.write_bytes(vgg16_npy.read_bytes()[:100_000])
    with pytest.raises(UnsafeFileError, match="cannot be read .*copy the file again"):
        read_vgg16(path)
    write_pickled_npy(path, [1, 2])
    with pytest.raises(WeightsError, match="holds list: expected a dictionary with the layers"):
        read_vgg16(path)


def test_a_missing_or_misshapen_layer_is_named(tmp_path):
    path = tmp_path / "a.npy"
    small = [np.zeros((3, 3, 1, 1), np.float32), np.zeros(1, np.float32)]
    names = [f"conv{g}_{k}" for g, n in enumerate((2, 2, 3, 3, 3), 1) for k in range(1, n + 1)]
    np.save(path, {name: small for name in names if name != "conv3_2"}, allow_pickle=True)
    with pytest.raises(WeightsError, match=r"\(conv3_2 missing\)"):
        read_vgg16(path)
    np.save(path, {name: small for name in names}, allow_pickle=True)
    with pytest.raises(WeightsError, match=r"conv1_1 .*\(1, 1, 3, 3\).*expected \(64, 3, 3, 3\)"):
        read_vgg16(path)
    np.save(path, {name: small[1:] for name in names}, allow_pickle=True)
    with pytest.raises(WeightsError, match=r"layer conv1_1 .* is not \[kernel, bias\]"):
        read_vgg16(path)


def test_a_refused_file_leaves_the_prepared_weights_alone(home, tmp_path):
    target = home / model.CAFFE_FILE
    write_atomically(target, lambda path: path.write_bytes(b"earlier"))
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(UnsafeFileError):
        install_vgg16(tmp_path / "a.npy")
    assert target.read_bytes() == b"earlier"


# -- descriptors -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(city_root):
    return Vigor(city_root, "same-area", "test", labels="original")


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def write_release(folder, data, noise=0.0, offsets=False, dtype=np.float64):
    """Files as the released code writes them: float32 results in float64 arrays."""
    rng = np.random.default_rng(2)
    tiles = unit(rng.normal(size=(len(data.tiles), 24)))
    queries = tiles[data.references[:, 0]]
    queries = unit(queries + noise * unit(rng.normal(size=queries.shape)))
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / descriptors.TILES_FILE, tiles.astype(np.float32).astype(dtype))
    np.save(folder / descriptors.QUERIES_FILE, queries.astype(np.float32).astype(dtype))
    if offsets:
        best = (queries.astype(np.float32) @ tiles.astype(np.float32).T).argmax(axis=1)
        exact = np.empty((len(data), 2))
        for city in data.cities:
            rows = data.queries.cities == city
            where = data.queries.latlon[rows], data.tiles.latlon[best[rows]]
            exact[rows] = geometry.label_offsets(*where, city, "original")
        np.save(folder / "delta_same_regression.npy", exact + rng.normal(0, 20, exact.shape))
    return folder


def released_evaluation(folder, data):
    """The released code's measurements, restated query by query."""
    tiles = np.load(folder / descriptors.TILES_FILE)
    queries = np.load(folder / descriptors.QUERIES_FILE)
    delta = np.load(folder / "delta_same_regression.npy")
    hits = {name: 0 for name in ("top1", "top5", "top1pct", "hit_rate")}
    errors = []
    for q, query in enumerate(queries):
        similarity = tiles @ query
        better = similarity > similarity[data.references[q, 0]]
        hits["top1"] += better.sum() < 1
        hits["top5"] += better.sum() < 5
        hits["top1pct"] += better.sum() < int(0.01 * len(tiles)) + 1
        better[data.references[q, 1:]] = False
        hits["hit_rate"] += better.sum() < 1
        lat, lon = data.tiles.latlon[similarity.argmax()]
        half_tile = np.rad2deg(320 * 0.114 / 6_371_004 / np.array([1, np.cos(np.deg2rad(lat))]))
        put = np.deg2rad(np.array([lat, lon]) - delta[q] / 320 * half_tile)
        true = np.deg2rad(data.queries.latlon[q])
        cosine = np.sin(true[0]) * np.sin(put[0])
        cosine += np.cos(true[0]) * np.cos(put[0]) * np.cos(true[1] - put[1])
        errors.append(6_371_004 * np.arccos(cosine))
    shares = {name: count / len(queries) for name, count in hits.items()}
    return shares, np.array(errors)


def test_the_evaluation_equals_the_released_codes(tmp_path, data):
    folder = write_release(tmp_path / "Overall", data, noise=1.5, offsets=True)
    expected, errors = released_evaluation(folder, data)
    record = descriptors.evaluate(folder, data)
    metrics = record["metrics"]
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)
    assert 0.1 < expected["top1"] < 0.9, "a case that tells measurements apart"
    curve = [np.mean(errors < threshold) for threshold in THRESHOLDS_M]
    drawn = record["curves"]["metre_accuracy_official"]
    assert np.abs(np.subtract(drawn, curve)).max() <= 1.5 / len(data)  # one query at a threshold
    assert metrics["within_10m_official"] == pytest.approx(
        np.mean(errors < 10), abs=1.5 / len(data)
    )
    assert metrics["within_10m"] > metrics["within_10m_centre"]
    assert record["recipe"]["title"] == "VIGOR" and record["notes"] == []


def test_perfect_files_give_perfect_figures(tmp_path, data):
    folder = write_release(tmp_path, data)
    metrics = descriptors.evaluate(folder, data)["metrics"]
    assert metrics["top1"] == metrics["hit_rate"] == metrics["hit_rate_covering"] == 1
    assert metrics["median_error_m"] == metrics["median_error_centre_m"] > 1  # no delta file


def test_single_precision_and_any_length_give_the_same_figures(tmp_path, data):
    double = descriptors.evaluate(write_release(tmp_path / "a", data, 1.5), data)
    single = descriptors.evaluate(write_release(tmp_path / "b", data, 1.5, dtype="f4"), data)
    assert double["metrics"] == single["metrics"]
    file = tmp_path / "b" / descriptors.TILES_FILE
    np.save(file, np.load(file) * np.linspace(1, 9, len(data.tiles))[:, None])
    longer = descriptors.evaluate(tmp_path / "b", data)
    assert longer["metrics"]["top5"] == single["metrics"]["top5"]
    assert longer["notes"] == [
        f"{descriptors.TILES_FILE}: descriptors of length 1 to 9 were L2-normalised"
    ]


def test_rows_in_another_order_of_cities_are_suspected(tmp_path, data):
    folder = write_release(tmp_path, data, noise=1.0)
    assert descriptors.evaluate(folder, data)["notes"] == []
    file = folder / descriptors.TILES_FILE
    np.save(file, np.load(file)[np.argsort(data.tiles.cities, kind="stable")])  # alphabetical
    (note,) = descriptors.evaluate(folder, data)["notes"]
    assert "no better than chance" in note
    assert "NewYork, Seattle, SanFrancisco, Chicago, then line by line" in note


def test_one_shuffled_city_is_named_alone(tmp_path, data):
    folder = write_release(tmp_path, data, noise=1.0)
    file = folder / descriptors.QUERIES_FILE
    queries = np.load(file)
    rows = np.flatnonzero(data.queries.cities == "Seattle")
    queries[rows] = queries[np.roll(rows, 7)]
    np.save(file, queries)
    (note,) = descriptors.evaluate(folder, data)["notes"]
    assert note.startswith("the positives of Seattle rank")


def test_files_of_the_other_protocol_are_recognised(tmp_path, data, city_root):
    cross = Vigor(city_root, "cross-area", "test", labels="original")
    folder = write_release(tmp_path, cross)
    with pytest.raises(descriptors.DescriptorError, match="use --protocol cross-area"):
        descriptors.evaluate(folder, data)


def test_exchanged_files_are_recognised(tmp_path, data):
    folder = write_release(tmp_path, data)
    a, b, c = (folder / n for n in (descriptors.TILES_FILE, descriptors.QUERIES_FILE, "c"))
    a.rename(c), b.rename(a), c.rename(b)
    with pytest.raises(descriptors.DescriptorError, match="look exchanged"):
        descriptors.evaluate(folder, data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda rows: np.where(np.arange(len(rows))[:, None] == 5, 0, rows), "row 5 .* length 0"),
        (lambda rows: np.where(np.arange(len(rows))[:, None] == 7, np.nan, rows), "row 7 .* nan"),
        (lambda rows: rows[:, :8], "queries have 8 numbers, of tiles 24"),
        (lambda rows: rows[:-1], "another protocol, subset or copy of the labels"),
        (lambda rows: rows[0], r"shape \(24,\): expected \(rows, D\)"),
        (lambda rows: rows.astype(object), "expected an .npy file of numbers"),
    ],
)
def test_damaged_descriptors_are_named(tmp_path, data, damage, message):
    folder = write_release(tmp_path, data)
    file = folder / descriptors.QUERIES_FILE
    np.save(file, damage(np.load(file)), allow_pickle=True)
    with pytest.raises(descriptors.DescriptorError, match=message):
        descriptors.evaluate(folder, data)


def test_offsets_that_do_not_fit_are_refused_or_noted(tmp_path, data):
    folder = write_release(tmp_path, data, offsets=True)
    file = folder / "delta_same_regression.npy"
    exact = np.load(file)
    np.save(file, exact / 320)
    assert "may be in half tiles" in descriptors.evaluate(folder, data)["notes"][0]
    np.save(file, np.zeros((len(data), 100)))
    with pytest.raises(descriptors.DescriptorError, match="classification variant"):
        descriptors.evaluate(folder, data)
    np.save(folder / "delta_freeze.npy", exact)
    with pytest.raises(
        descriptors.DescriptorError, match="delta_freeze.npy, delta_same.*--offsets"
    ):
        descriptors.evaluate(folder, data)
    chosen = descriptors.evaluate(folder, data, folder / "delta_freeze.npy")
    assert chosen["metrics"]["within_10m"] > chosen["metrics"]["within_10m_centre"]


def test_the_command_shows_the_release_beside_the_paper(tmp_path, data, city_root):
    for name in ("Overall", "SAFA"):
        write_release(tmp_path / "release" / name, data, 2.0, offsets=name == "Overall")
    out, picture = tmp_path / "out.json", tmp_path / "curve.png"
    arguments = ["evaluate", "--data-root", str(city_root), "--descriptors"]
    options = ["--out", str(out), "--figure", str(picture)]
    done = CliRunner().invoke(app, [*arguments, str(tmp_path / "release"), *options])
    assert done.exit_code == 0, done.output
    assert "VIGOR" in done.output and "41.1" in done.output and "33.9 ?" in done.output
    assert picture.stat().st_size > 5000
    overall, safa = json.loads(out.read_text())
    assert (overall["recipe"]["name"], safa["recipe"]["name"]) == ("vigor", "safa")
    curves = {r["name"]: r["curves"]["metre_accuracy"] for r in (overall, safa)}
    figure = figures.metre_curves({"same-area": curves}, THRESHOLDS_M)
    assert [len(line.get_xdata()) > 50 for line in figure.axes[0].lines[:2]] == [True, True]
    nothing = CliRunner().invoke(app, [*arguments, str(tmp_path)])
    assert nothing.exit_code == 2 and "no sat_global_descriptor.npy" in nothing.output


# -- checkpoints -----------------------------------------------------------------------------

TINY = dataclasses.replace(
    get_profile("smoke"), pool=True, pretrained=True, weights="caffe", offset_rescale=False
)
TINY_GROUPS = (1, 1, 1, 1)


def released_variables(recipe, widths, depths, positions, descriptor, hidden, seed=0):
    """Names and shapes as the released graph makes them; positions: of ground and satellite."""
    rng = np.random.default_rng(seed)
    found = {"Variable": np.int32(7), "beta1_power": np.float32(0.9)}

    def fill(name, *shape):
        scale = 1 / np.sqrt(np.prod(shape[:-1])) if len(shape) != 3 else 0.3
        found[name] = (scale * rng.standard_normal(shape, dtype=np.float32)).astype(np.float32)

    for scope, count in zip(("grd", "sat"), positions, strict=True):
        inputs, number = 3, 0
        for width, depth in zip(widths, depths, strict=True):
            for _ in range(depth):
                layer = f"vgg_{scope}/conv2d" + (f"_{number}" if number else "")
                fill(f"{layer}/kernel", 3, 3, inputs, width)
                fill(f"{layer}/bias", width)
                inputs, number = width, number + 1
        if recipe != "siamese":
            for k, (rows, columns) in enumerate(
                [(count, count // 2), (count // 2, count)], start=1
            ):
                fill(f"spatial_{scope}/weights{k}", rows, columns, 8)
                fill(f"spatial_{scope}/biases{k}", 1, columns, 8)
    if recipe == "siamese":
        fill("Gap_local/fc1/weights", widths[-1], descriptor)
        fill("Gap_local/fc1/biases", descriptor)
    if recipe == "vigor":
        fill("fc_delta_1/weights", 2 * descriptor, hidden)
        fill("fc_delta_1/biases", hidden)
        fill("fc_delta_2/weights", hidden, 2)
        fill("fc_delta_2/biases", 2)
    return found


def tiny_variables(recipe):
    size = 64 if recipe == "siamese" else 16 * 8
    return released_variables(recipe, (8, 8, 16, 16), TINY_GROUPS, (8, 4), size, 32)


def released_branch(variables, scope, images):
    """One view of the released graph in float64: un-normalised descriptors."""
    layers = []
    for number in range(4):
        name = f"vgg_{scope}/conv2d" + (f"_{number}" if number else "")
        layers.append((variables[f"{name}/kernel"], variables[f"{name}/bias"]))
    local = vgg(as_the_loader_reads(images), layers, TINY_GROUPS)
    if "Gap_local/fc1/weights" in variables:
        average = local.mean(axis=(1, 2))  # of conv5_3 itself: no pooling before it
        return average @ variables["Gap_local/fc1/weights"] + variables["Gap_local/fc1/biases"]
    local = max_pool(local)
    local = local.reshape(len(local), -1, local.shape[-1])
    w1, b1, w2, b2 = (
        variables[f"spatial_{scope}/{part}"]
        for part in ("weights1", "biases1", "weights2", "biases2")
    )
    middle = np.einsum("bi,ijd->bjd", local.max(axis=-1), w1) + b1
    weights = np.einsum("bjd,jid->bid", middle, w2) + b2
    return np.einsum("bic,bid->bdc", local, weights).reshape(len(local), -1)


@pytest.mark.parametrize("recipe", ["siamese", "safa", "vigor"])
def test_converted_weights_describe_as_the_released_graph_does(recipe):
    variables = tiny_variables(recipe)
    network = model.build(recipe, TINY, imagenet=False).eval()
    network.load_state_dict(checkpoint.convert(variables, network))
    generator = torch.Generator().manual_seed(3)
    panoramas, tiles = (
        torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8, generator=generator)
        for size in (TINY.panorama_px, TINY.tile_px)
    )
    ground = released_branch(variables, "grd", panoramas)
    satellite = released_branch(variables, "sat", tiles)
    with torch.no_grad():
        ours = network(panoramas, tiles)
        raw = network.describe_ground(panoramas), network.describe_satellite(tiles)
    for got, expected in zip(ours, (ground, satellite), strict=True):
        np.testing.assert_allclose(got, unit(expected), rtol=0, atol=1e-5)
    if network.offset is not None:
        both = np.concatenate([satellite, ground], axis=1)
        hidden = both @ variables["fc_delta_1/weights"] + variables["fc_delta_1/biases"]
        delta = np.maximum(hidden, 0) @ variables["fc_delta_2/weights"]
        delta += variables["fc_delta_2/biases"]
        with torch.no_grad():
            got = network.offset(*raw)
        np.testing.assert_allclose(got, delta, rtol=1e-4, atol=1e-4 * np.abs(delta).max())


@pytest.mark.parametrize("recipe", ["siamese", "vigor"])
def test_full_size_models_have_the_released_shapes(recipe):
    widths, depths = (64, 128, 256, 512, 512), (2, 2, 3, 3, 3)
    with torch.device("meta"):
        network = model.build(recipe, checkpoint.PROFILE, imagenet=False)
    tiny = released_variables(recipe, (1,) * 5, depths, (2, 2), 1, 1)
    names = set(checkpoint.variable_names(network).values())
    assert names == set(tiny) - {"Variable", "beta1_power"}
    variables = released_variables(recipe, widths, depths, (200, 100), 4096, 512)
    state = checkpoint.convert(variables, network)
    assert state["satellite.backbone.layers.conv5_3.weight"].shape == (512, 512, 3, 3)
    kernel = variables["vgg_grd/conv2d_4/kernel"]  # the fifth convolution: conv3_1
    assert state["ground.backbone.layers.conv3_1.weight"][7, 5, 0, 2] == kernel[0, 2, 5, 7]
    if recipe != "siamese":
        assert state["ground.aggregator.w1"].shape == (200, 100, 8)
        assert state["satellite.aggregator.w2"].shape == (50, 100, 8)


def test_convolutions_are_told_apart_by_their_order_alone():
    """``conv2d_13`` after ``conv2d_12``: a graph that counted on; and ten comes after nine."""
    variables = released_variables("safa", (2,) * 5, (2, 2, 3, 3, 3), (8, 4), 16, 4)
    shifted = {}
    for name, array in variables.items():
        if name.startswith("vgg_sat/"):
            _, layer, part = name.split("/")
            number = int(layer.removeprefix("conv2d").removeprefix("_") or 0)
            name = f"vgg_sat/conv2d_{number + 13}/{part}"
        shifted[name] = array
    assert "vgg_sat/conv2d_25/kernel" in shifted
    again = checkpoint._numbered_from_zero(shifted)
    assert set(again) == set(variables)
    assert all((again[name] == variables[name]).all() for name in variables)


def test_what_a_checkpoint_lacks_is_listed():
    network = model.build("vigor", TINY, imagenet=False)
    with pytest.raises(checkpoint.CheckpointError, match="lacks fc_delta_1/biases.*SAFA safa"):
        checkpoint.convert(tiny_variables("safa"), network)
    variables = tiny_variables("vigor")
    variables["fc_delta_2/weights"] = np.zeros((32, 100), np.float32)
    with pytest.raises(checkpoint.CheckpointError, match=r"\(32, 100\).*expected \(2, 32\)"):
        checkpoint.convert(variables, network)
    with pytest.raises(checkpoint.CheckpointError, match="backbone is ResNet: expected VGG"):
        checkpoint.variable_names(model.build("vigor-resnet", "smoke"))
    with pytest.raises(checkpoint.CheckpointError, match="no released model of 'vigor-resnet'"):
        checkpoint.convert_checkpoint("model.ckpt", "vigor-resnet")


STAND_IN = """
import numpy


class train:
    @staticmethod
    def load_checkpoint(prefix):
        return Reader(numpy.load(prefix + ".npz"))


class Reader:
    def __init__(self, arrays):
        self.get_tensor = arrays.__getitem__
        self.get_variable_to_shape_map = lambda: {name: arrays[name].shape for name in arrays}
"""
"""What little of TensorFlow is used; its checkpoints are NumPy's files."""

WRITE = """
import sys
import numpy, tensorflow
tf = tensorflow.compat.v1
tf.disable_eager_execution()
arrays = numpy.load(sys.argv[2])
wanted = [tf.Variable(arrays[name], name=name, use_resource=False) for name in arrays]
loss = sum(tensorflow.reduce_sum(tensorflow.cast(v, tensorflow.float32) ** 2) for v in wanted)
step = tf.train.AdamOptimizer(0.0).minimize(loss)
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    session.run(step)
    tf.train.Saver().save(session, sys.argv[1])
"""
"""Arrays to a checkpoint with moments, by TensorFlow itself, as its version 1 does."""


@pytest.fixture(params=["stand-in", "TensorFlow"])
def write_checkpoint(request, tmp_path, monkeypatch):
    """(variables, prefix) -> a checkpoint that the TensorFlow at hand reads."""
    if request.param == "TensorFlow":
        if importlib.util.find_spec("tensorflow") is None:
            pytest.skip("TensorFlow is not installed: pip install '.[tensorflow]'")

        def write(variables, prefix):
            arrays = tmp_path / "arrays.npz"
            np.savez(arrays, **variables)
            subprocess.run([sys.executable, "-c", WRITE, str(prefix), str(arrays)], check=True)

        return write
    (tmp_path / "library").mkdir()
    (tmp_path / "library/tensorflow.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path / "library")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "library"))

    def write(variables, prefix):
        np.savez(f"{prefix}.npz", **variables, **{f"{n}/Adam_1": v for n, v in variables.items()})
        prefix.with_name(f"{prefix.name}.index").touch()

    return write


def test_the_command_writes_weights_that_the_network_takes(tmp_path, monkeypatch, write_checkpoint):
    variables = tiny_variables("siamese")
    monkeypatch.setattr(checkpoint, "PROFILE", TINY)
    source, target = tmp_path / "model.ckpt", tmp_path / "siamese.safetensors"
    write_checkpoint(variables, source)
    done = CliRunner().invoke(app, ["convert", str(source), str(target), "--recipe", "siamese"])
    assert done.exit_code == 0, done.output
    from safetensors.torch import load_file

    network = model.build("siamese", TINY, imagenet=False)
    network.load_state_dict(load_file(target))
    expected = variables["Gap_local/fc1/weights"].T
    np.testing.assert_array_equal(network.ground.aggregator.project.weight.detach(), expected)
    assert "tensorflow" not in sys.modules, "beside torch's compiler it crashes"
    found = checkpoint.read_checkpoint(source)
    assert set(variables) <= set(found) and not any("Adam" in name for name in found)


def test_a_checkpoint_that_tensorflow_cannot_read_is_told(tmp_path, write_checkpoint):
    write_checkpoint(tiny_variables("siamese"), tmp_path / "model.ckpt")
    for file in (*tmp_path.glob("model.ckpt.data*"), *tmp_path.glob("model.ckpt.npz")):
        file.unlink()
    with pytest.raises(checkpoint.CheckpointError, match=r"could not read .*model\.ckpt \("):
        checkpoint.read_checkpoint(tmp_path / "model.ckpt")


def test_without_tensorflow_the_extra_is_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="expected model.ckpt.index"):
        checkpoint.read_checkpoint(tmp_path / "model.ckpt")
    (tmp_path / "model.ckpt.index").touch()
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(RuntimeError, match=r"pip install '.\[tensorflow\]'"):
        checkpoint.read_checkpoint(tmp_path / "model.ckpt.index")
