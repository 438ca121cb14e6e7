"""Which releases of ONNX Runtime can load a model: read from `releases.json`, which `edgec_targets.probe` measured.

ONNX Runtime promises that a release runs all opsets that an older one ran, from 7 on, and that public API and ABI
are kept within a major version (docs/Versioning.md and the "Compatibility" page of its documentation). So the first
release that takes the opset and the IR version opens the range, and the next major version closes it.
"""

from __future__ import annotations

import functools
import json
from importlib.resources import files
from typing import Any

from edgec_runtime.bundle.version import within


@functools.cache
def table() -> dict[str, dict[str, int]]:
    """Release -> {"opset", "ir"}: the newest it loads, oldest release first."""
    text = (files(__package__) / "releases.json").read_text(encoding="utf-8")
    loaded: dict[str, dict[str, int]] = json.loads(text)
    return loaded


def requirement(opset: int, ir_version: int) -> str | None:
    """The range of releases that load such a model, e.g. ">=1.18,<2"; None where no measured release does."""
    for release, newest in table().items():
        if newest["opset"] >= opset and newest["ir"] >= ir_version:
            major, minor, _ = release.split(".")
            return f">={major}.{minor},<{int(major) + 1}"
    return None


def newest_for(board_range: str) -> dict[str, Any] | None:
    """The newest measured release that a board's range allows: {"release", "opset", "ir"}; None where none is."""
    fitting = [{"release": name, **newest} for name, newest in table().items() if within(name, board_range)]
    return fitting[-1] if fitting else None


def overlap(board_range: str, needed: str) -> bool:
    """True when some measured release is in both ranges."""
    return any(within(release, board_range) and within(release, needed) for release in table())
