"""``vgg16.npy`` -> the weights of our VGG-16.

The file is a dictionary: layer -> [kernel (height, width, in, out), bias (out,)], in the Caffe
convention: images are BGR, 0..255, minus a mean per channel (profiles with ``weights="caffe"``
prepare them so). Its fully connected layers fc6 to fc8 are not used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_prep.official.pickles import read_pickled_npy
from vigorlib.files import write_atomically
from vigorlib.home import home
from vigorlib.model import CAFFE_FILE, VGG


class WeightsError(ValueError):
    """The file does not hold the layers of VGG-16."""


def read_vgg16(path: Path) -> dict[str, Tensor]:
    """Weights for ``VGG().layers``: ``conv1_1.weight`` (out, in, 3, 3), ``conv1_1.bias`` ...

    Raises WeightsError naming the layer, and UnsafeFileError for a file of another kind.
    """
    stored = read_pickled_npy(path)
    with torch.device("meta"):
        wanted = {name: tuple(v.shape) for name, v in VGG().layers.state_dict().items()}
    layers = sorted({name.split(".")[0] for name in wanted})
    found = sorted(map(str, stored)) if isinstance(stored, dict) else type(stored).__name__
    if not isinstance(stored, dict) or (missing := [name for name in layers if name not in stored]):
        raise WeightsError(
            f"{path} holds {found}: expected a dictionary with the layers {', '.join(layers)}"
            + (f" ({', '.join(missing)} missing)" if isinstance(stored, dict) else "")
        )
    weights: dict[str, Tensor] = {}
    for layer in layers:
        parts = _kernel_and_bias(path, layer, stored[layer])
        for part, array in zip(("weight", "bias"), parts, strict=True):
            name = f"{layer}.{part}"
            if array.shape != wanted[name]:
                raise WeightsError(
                    f"{part} of {layer} in {path} has shape {array.shape} (ours: out, in, height, "
                    f"width): expected {wanted[name]}"
                )
            weights[name] = torch.from_numpy(np.array(array, order="C"))
    return weights


def install_vgg16(path: Path) -> Path:
    """Put the weights where the profiles with ``weights="caffe"`` look for them."""
    from safetensors.torch import save_file

    weights, target = read_vgg16(path), home() / CAFFE_FILE
    write_atomically(target, lambda partial: save_file(weights, partial))
    return target


def _kernel_and_bias(path: Path, layer: str, entry: Any) -> tuple[np.ndarray, np.ndarray]:
    """One entry as (out, in, height, width) and (out,)."""
    try:
        kernel, bias = (np.asarray(part, dtype=np.float32) for part in entry)
        return kernel.transpose(3, 2, 0, 1), bias
    except (TypeError, ValueError) as error:
        raise WeightsError(
            f"layer {layer} of {path} is not [kernel, bias] ({error}): expected a kernel (3, 3, "
            "in, out) and a bias (out,)"
        ) from error
