"""TensorFlow 1 checkpoints of the released models -> weights of our networks.

The names of the variables are those of the released graph. The scopes ``vgg_grd``, ``vgg_sat``,
``spatial_grd``, ``spatial_sat``, ``Gap_local``, ``fc_delta_1`` and ``fc_delta_2`` and what stands in
them are written out in its code. Its convolutions have no name, so TensorFlow numbers them
(``conv2d``, ``conv2d_1`` ... ``conv2d_12``), by the rule of ``tf.layers`` afresh in each scope; only
their order is relied on, so a graph that counted on would be read as well. No checkpoint was at
hand when this was written: names and shapes are checked, and what is missing is listed.

TensorFlow's maps are (height, width, channels) and flatten to the same positions as ours; kernels
and fully connected weights are transposed, SAFA's are as they are. Descriptors flatten heads first,
then channels, and the offset head takes [satellite, ground], in both.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vigorlib import model
from vigorlib.recipes import get_recipe

PROFILE = "full-original"
READER = Path(__file__).with_name("variables.py")
SCOPES = {"ground": "grd", "satellite": "sat"}
SAFA_NAMES = {"w1": "weights1", "b1": "biases1", "w2": "weights2", "b2": "biases2"}
CONVOLUTION = re.compile(r"(vgg_(?:grd|sat))/conv2d(?:_(\d+))?/(kernel|bias)")
RELEASED = ("siamese", "safa", "safa-mining", "vigor")


class CheckpointError(ValueError):
    """The checkpoint is not one of the released models, or not of this recipe."""


def convert_checkpoint(path: Path, recipe: str) -> dict[str, Tensor]:
    """State dictionary for ``model.build(recipe, "full-original", imagenet=False)``.

    path: the checkpoint's prefix (``.../model.ckpt``). Needs TensorFlow. To measure the network on
    your copy of VIGOR::

        profile = get_profile("full-original")
        photos = runs.photographs(root, profile, "same-area", "test")
        metrics, curves, arrays = runs.evaluate(network.cuda(), photos, profile)
    """
    if get_recipe(recipe).name not in RELEASED:
        raise CheckpointError(
            f"there is no released model of {recipe!r}: expected one of {', '.join(RELEASED)}"
        )
    with torch.device("meta"):
        network = model.build(recipe, PROFILE, imagenet=False)
    return convert(read_checkpoint(path), network)


def read_checkpoint(path: Path) -> dict[str, NDArray[Any]]:
    """Every variable of a checkpoint but the optimiser's moments. Needs TensorFlow."""
    prefix = path.with_suffix("") if path.suffix in (".index", ".meta") else path
    if not prefix.with_name(f"{prefix.name}.index").is_file():
        raise FileNotFoundError(
            f"no checkpoint {prefix}: expected {prefix.name}.index and its .data file beside it"
        )
    if importlib.util.find_spec("tensorflow") is None:
        raise RuntimeError(
            "TensorFlow is needed to read its checkpoints: `pip install tensorflow` (version 2 "
            "reads them, too), or install this project with its extra: `pip install "
            "'.[tensorflow]'`"
        )
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "variables.npz"
        command = [sys.executable, "-P", str(READER), str(prefix), str(target)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
            raise CheckpointError(
                f"TensorFlow could not read {prefix} ({said[0]}): expected a whole checkpoint, "
                f"{prefix.name}.index with its .data files"
            )
        with np.load(target, allow_pickle=False) as arrays:
            return dict(arrays)


def convert(
    variables: Mapping[str, NDArray[Any]], network: model.CrossViewNet
) -> dict[str, Tensor]:
    """Variables by name -> the state dictionary of a network of the same sizes (on any device).

    Raises CheckpointError listing the variables that are missing or have another shape.
    """
    numbered = _numbered_from_zero(variables)
    names = variable_names(network)
    if missing := sorted(set(names.values()) - set(numbered)):
        raise CheckpointError(
            f"the checkpoint lacks {', '.join(missing)}; it holds {', '.join(sorted(numbered))}. "
            "Expected a released model of this recipe: Siamese_VGG is siamese, SAFA safa, "
            "SAFA_Mining safa-mining, Overall vigor"
        )
    state: dict[str, Tensor] = {}
    for ours, wanted in network.state_dict().items():
        name = names[ours]
        array = _in_our_layout(numbered[name])
        if array.shape != tuple(wanted.shape):
            raise CheckpointError(
                f"{name} has shape {numbered[name].shape}, here {array.shape}: expected "
                f"{tuple(wanted.shape)} for {ours}. The models of the release take panoramas of "
                "320x640 and tiles of 320x320; a head of 100 classes has no place in ours, convert "
                "such a model as safa-mining"
            )
        state[ours] = torch.from_numpy(array)
    return state


def variable_names(network: model.CrossViewNet) -> dict[str, str]:
    """Our parameter -> the released graph's variable, for networks on our VGG."""
    names: dict[str, str] = {}
    for view, scope in SCOPES.items():
        branch = getattr(network, view)
        if not isinstance(branch.backbone, model.VGG):
            raise CheckpointError(
                f"the {view} backbone is {type(branch.backbone).__name__}: expected VGG"
            )
        layers = branch.backbone.layers.named_children()
        convolutions = [name for name, layer in layers if isinstance(layer, nn.Conv2d)]
        for number, name in enumerate(convolutions):
            variable = f"vgg_{scope}/{_unnamed(number)}"
            names[f"{view}.backbone.layers.{name}.weight"] = f"{variable}/kernel"
            names[f"{view}.backbone.layers.{name}.bias"] = f"{variable}/bias"
        aggregator = f"{view}.aggregator"
        if isinstance(branch.aggregator, model.SAFA):
            for ours, theirs in SAFA_NAMES.items():
                names[f"{aggregator}.{ours}"] = f"spatial_{scope}/{theirs}"
        else:  # one layer, shared by both views
            names[f"{aggregator}.project.weight"] = "Gap_local/fc1/weights"
            names[f"{aggregator}.project.bias"] = "Gap_local/fc1/biases"
    if network.offset is not None:
        for layer, scope in (("0", "fc_delta_1"), ("2", "fc_delta_2")):
            names[f"offset.layers.{layer}.weight"] = f"{scope}/weights"
            names[f"offset.layers.{layer}.bias"] = f"{scope}/biases"
    return names


def _unnamed(number: int) -> str:
    return f"conv2d_{number}" if number else "conv2d"


def _numbered_from_zero(variables: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The same with each scope's convolutions counted from zero, whatever they were counted from."""
    found = {name: match for name in variables if (match := CONVOLUTION.fullmatch(name))}
    numbers: dict[str, set[int]] = {}
    for match in found.values():
        numbers.setdefault(match[1], set()).add(int(match[2] or 0))
    place = {scope: {n: k for k, n in enumerate(sorted(ns))} for scope, ns in numbers.items()}
    out = {name: array for name, array in variables.items() if name not in found}
    for name, match in found.items():
        number = place[match[1]][int(match[2] or 0)]
        out[f"{match[1]}/{_unnamed(number)}/{match[3]}"] = variables[name]
    return out


def _in_our_layout(array: NDArray[Any]) -> NDArray[np.float32]:
    """(height, width, in, out) -> (out, in, height, width); (in, out) -> (out, in); others stay."""
    if array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
    elif array.ndim == 2:
        array = array.T
    return np.array(array, dtype=np.float32, order="C")  # a copy: both views may share a variable
