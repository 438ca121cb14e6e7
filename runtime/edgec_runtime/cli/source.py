"""FILE or --app NAME, and --input X.npz: what several commands take."""

from __future__ import annotations

import argparse
from typing import Any

from edgec_runtime.errors import BadInputError, MissingError, UsageError
from edgec_runtime.model import Model, load

MAX_NPZ = 1 << 32  # bytes of one array: an input of a model is smaller


def check(options: argparse.Namespace) -> None:
    """Exactly one of FILE and --app, and no flag that would be ignored. Raises UsageError."""
    if (options.file is None) == (options.app is None):
        raise UsageError(
            "give a FILE or --app NAME, one of them", "both were given, or neither", "see --help", code="E205"
        )
    if options.app is not None and options.allow_unsigned:
        raise UsageError(
            "--allow-unsigned is for a FILE",
            "an installed app was verified when it was installed",
            "leave it away",
            code="E205",
        )


def open_model(options: argparse.Namespace) -> Model:
    """The model that the options name. Raises as `load` does."""
    check(options)
    return load(
        options.file,
        app=options.app,
        engine=options.engine,
        payload=options.payload,
        threads=options.threads,
        allow_unsigned=options.allow_unsigned,
    )


def numpy() -> Any:
    """The numpy module. Raises MissingError where it is not installed."""
    try:
        import numpy as module
    except ImportError:
        raise MissingError(
            "numpy is not installed",
            "reading and writing .npz files needs it",
            "pip install 'edgec-runtime[numpy]'",
            code="E1003",
        ) from None
    return module


def read_npz(path: str) -> dict[str, Any]:
    """The arrays of an .npz file; pickled objects are refused. Raises BadInputError."""
    np = numpy()
    try:
        loaded = np.load(path, allow_pickle=False)
        if not hasattr(loaded, "files"):
            raise ValueError("it is a single array, not an .npz file of named arrays")
        with loaded as data:
            for entry in data.zip.infolist():
                if entry.file_size > MAX_NPZ:
                    raise ValueError(f"{entry.filename!r} says it has {entry.file_size} bytes")
            return {name: data[name] for name in data.files}
    except Exception as error:  # numpy raises what its parsers raise
        raise BadInputError(
            f"can't read the inputs {path}",
            str(error)[:300],
            "write them with numpy.savez(path, **{input name: array})",
            code="E914",
        ) from None


def write_npz(path: str, arrays: dict[str, Any]) -> None:
    """Write arrays to an .npz file, whole or not at all. Raises BadInputError where it can't be written.

    Text becomes fixed-width strings, types that numpy lacks float32. `numpy.savez` itself has an argument "file".
    """
    import os
    import zipfile

    np = numpy()
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "xb") as file, zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                if array.dtype.kind in "OV":
                    array = array.astype(str if array.dtype.kind == "O" else "float32")
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
        os.replace(temporary, path)
    except Exception as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise BadInputError(
            f"can't write the outputs to {path}", str(error)[:300], "give another path", code="E915"
        ) from None
