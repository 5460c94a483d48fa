"""A pickled dictionary of arrays inside an .npy file, read without executing anything in it.

NumPy's own ``allow_pickle=True`` runs whatever a file asks for. Here every name in the pickle but
the four that an array needs is refused, and those four lead to the inert stand-ins below, never to
NumPy's own functions: even these can be led astray by a crafted state.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray


class UnsafeFileError(ValueError):
    """A file asks for more than arrays, lists and dictionaries, or is not such a file at all."""


def read_pickled_npy(path: Path) -> Any:
    """The one Python object in an .npy file, its arrays as NumPy arrays.

    Reads files of Python 2 (the original's) and 3. Raises UnsafeFileError for anything beyond
    dictionaries, lists, tuples, text, numbers and arrays of numbers.
    """
    with path.open("rb") as file:
        _require_object_header(path, file)
        try:
            (value,) = _plain(_ArrayUnpickler(file, encoding="latin1").load())
        except UnsafeFileError as error:
            raise UnsafeFileError(f"{path}: {error}") from None
        except Exception as error:  # a damaged pickle raises nearly anything
            raise UnsafeFileError(
                f"{path} cannot be read ({type(error).__name__}: {error}): expected one pickled "
                "object, whole; copy the file again"
            ) from error
    return value


def _require_object_header(path: Path, file: BinaryIO) -> None:
    """Leave the file at its pickle, behind a header that promises one object."""
    try:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(file)
    except ValueError as error:
        raise UnsafeFileError(f"{path} is not an .npy file ({error}); copy it again") from error
    if shape != () or dtype != np.dtype(object):
        raise UnsafeFileError(
            f"{path} holds a {dtype} array of shape {shape}: expected one pickled dictionary, "
            "as vgg16.npy has it"
        )


class _DType:
    """Stands for numpy.dtype: remembers what kind of numbers an array is said to hold."""

    def __init__(self, code: str, *_: object) -> None:
        self.code, self.order = code, "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def numbers(self) -> np.dtype[Any]:
        kind = np.dtype(f"{self.order if self.order in '<>' else ''}{self.code}")
        if kind.kind not in "fiu":
            raise UnsafeFileError(f"it holds an array of type {kind}: expected numbers")
        return kind


class _Array:
    """Stands for numpy.ndarray: shape, type and bytes (or, for objects, a list)."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, self.fortran, self.content = state

    def value(self) -> Any:
        if isinstance(self.content, list):
            return _plain(self.content)
        raw = self.content.encode("latin1") if isinstance(self.content, str) else self.content
        array: NDArray[Any] = np.frombuffer(raw, self.dtype.numbers())
        return array.reshape(self.shape, order="F" if self.fortran else "C")


def _reconstruct(*_: object) -> _Array:
    """Stands for numpy's function of that name, with which every pickled array begins."""
    return _Array()


def _bytes_of(text: str, encoding: str) -> bytes:
    """Stands for codecs.encode, by which Python 3 writes bytes into protocol 2."""
    if encoding != "latin1":
        raise UnsafeFileError(f"it encodes text as {encoding!r}: expected 'latin1'")
    return text.encode("latin1")


ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _bytes_of,
}
"""Every name a pickle may use, and what it gets instead."""


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise UnsafeFileError(
                f"it asks for {module}.{name}: expected nothing but arrays in dictionaries and "
                "lists. Nothing of it was executed; do not load it by other means"
            )
        return ADMITTED[module, name]


def _plain(value: Any) -> Any:
    """Stand-ins -> arrays, all the way down."""
    if isinstance(value, _Array):
        return value.value()
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, str | bytes | int | float | None):
        return value
    raise UnsafeFileError(f"it holds a {type(value).__name__}: expected arrays and text")
