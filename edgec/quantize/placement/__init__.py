"""Where Q/DQ nodes sit: one file an engine, because each engine fuses other patterns into integer operators."""

from __future__ import annotations

from edgec.errors import MissingError
from edgec.quantize.placement.rules import Rules

ENGINES = ("onnxruntime", "tensorrt")


def rules(engine: str) -> Rules:
    """The placement rules of an engine.

    Raises:
        MissingError: there are none for it.
    """
    from edgec.quantize.placement import onnxruntime, tensorrt

    known = {"onnxruntime": onnxruntime.RULES, "tensorrt": tensorrt.RULES}
    if engine not in known:
        raise MissingError(f"no Q/DQ placement for engine '{engine}'", "", f"there are: {', '.join(known)}")
    return known[engine]


__all__ = ["ENGINES", "Rules", "rules"]
