"""Feeds and outputs as .npz files: never pickled, written whole or not at all."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgec.bundle import atomic
from edgec.data import npz

Arrays = dict[str, NDArray[Any]]


def read(path: str | Path) -> Arrays:
    """Every array of an .npz by name. Raises BadInputError where it is missing, damaged or pickled."""
    return npz.arrays(Path(path), list(npz.members(Path(path))))


def write(path: str | Path, arrays: Mapping[str, Any]) -> None:
    """Write an .npz; on failure (a full disk) nothing is left and a BadInputError says so.

    Text is stored as numpy's fixed-width strings, types that numpy lacks (bfloat16) as float32. Not `numpy.savez`: it
    has arguments of its own, which an output called "file" would hit.
    """
    with atomic.replacing(Path(path)) as (stream, _), zipfile.ZipFile(stream, "w") as archive:
        for name, value in arrays.items():
            array = np.asarray(value)
            if array.dtype.kind in "OV":
                array = array.astype(np.str_ if array.dtype.kind == "O" else np.float32)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
