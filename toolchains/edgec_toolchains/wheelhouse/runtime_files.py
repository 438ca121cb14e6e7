"""edgec-runtime as it is installed here, for a device wheel: its modules and what its metadata says."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import edgec_runtime
from edgec_runtime.errors import MissingError
from edgec_toolchains.wheelhouse.wheel import Distribution


def installed() -> Distribution:
    """The runtime that this Python imports, so that host and device run the same code.

    Raises MissingError where its distribution is not installed (its metadata is needed).
    """
    folder = Path(edgec_runtime.__file__).parent
    try:
        found = importlib.metadata.distribution("edgec-runtime")
    except importlib.metadata.PackageNotFoundError as e:
        raise MissingError(
            "edgec-runtime is not installed", "its metadata goes into the wheel", "pip install edgec-runtime",
            code="E1035",
        ) from e  # fmt: skip
    about = found.metadata
    files = {
        path.relative_to(folder.parent).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in (".py", ".typed")
    }
    return Distribution(
        version=edgec_runtime.__version__,
        summary=about["Summary"],
        requires_python=about["Requires-Python"],
        license=about["License-Expression"],
        files=files,
        license_text=_license(found, folder),
        scripts={point.name: point.value for point in found.entry_points if point.group == "console_scripts"},
    )


def _license(found: importlib.metadata.Distribution, folder: Path) -> bytes:
    """From the installed metadata, or (an editable installation) beside the package."""
    for name in found.files or ():
        if name.name == "LICENSE":
            return Path(str(found.locate_file(name))).read_bytes()
    return (folder.parent / "LICENSE").read_bytes()
