"""Engines that run payloads: one adapter a file, mirrored by `edgec_targets/emitters/<engine>/`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgec_runtime.engines.base import Engine

BUILT_IN = ("litert", "ncnn", "onnxruntime", "tvm")
WITHIN = ("tvm",)  # those that payloads bring with them: always there
GROUP = "edgec_runtime.engines"  # entry points of third parties: NAME = "package.module:EngineClass"


def find(name: str) -> Engine | None:
    """The adapter of an engine by the name that manifests use, or None where nobody provides one.

    The adapters that come with this package are looked up first: reading the entry points of all installed
    distributions takes longer than loading a small model.
    """
    if name == "ncnn":  # called in one way only
        from edgec_runtime.engines.ncnn import Engine as Ncnn

        return Ncnn()
    if name == "tvm":  # brings all it needs
        from edgec_runtime.engines.tvm import Engine as Tvm

        return Tvm()
    if name in BUILT_IN:
        from edgec_runtime.engines.choice import Choice

        return Choice(name)
    from importlib import metadata

    found = metadata.entry_points()
    group = found.select(group=GROUP) if hasattr(found, "select") else found.get(GROUP, ())  # Python 3.9: a dict
    for point in group:
        if point.name == name:
            engine: Engine = point.load()()
            return engine
    return None


def names() -> list[str]:
    """All engines that an adapter is installed for."""
    from importlib import metadata

    found = metadata.entry_points()
    group = found.select(group=GROUP) if hasattr(found, "select") else found.get(GROUP, ())
    return sorted({*BUILT_IN, *(point.name for point in group)})
