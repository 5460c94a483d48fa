"""Run by :func:`checkpoint.read_checkpoint` in a process of its own: variables of a TF checkpoint.

python variables.py model.ckpt variables.npz

TensorFlow and torch's compiler each bring an LLVM: with TensorFlow loaded, loading triton ended the
process (seen with TensorFlow 2.21 and torch 2.14; the other order was not).
"""

from __future__ import annotations

import sys


def main(prefix: str, target: str) -> None:
    """Write every variable but the optimiser's moments."""
    import numpy as np
    import tensorflow

    reader = tensorflow.train.load_checkpoint(prefix)
    names = [name for name in reader.get_variable_to_shape_map() if "/Adam" not in name]
    np.savez(target, **{name: reader.get_tensor(name) for name in names})


if __name__ == "__main__":
    main(*sys.argv[1:])
