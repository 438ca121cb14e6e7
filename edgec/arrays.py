"""Feeds and outputs as .npz files: never pickled, written whole or not at all."""

from __future__ import annotations

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
    """Write an .npz; on failure (a full disk) nothing is left and a BadInputError says so."""
    with atomic.replacing(Path(path)) as (stream, _):
        np.savez(stream, allow_pickle=False, **{name: np.asarray(value) for name, value in arrays.items()})
