"""The slim device runtime of edgec: verifies a signed bundle, picks the engine, runs the model.

    import edgec_runtime as rt
    with rt.load("model.edge") as model:              # or rt.load(app="kws"): what is installed
        outputs = model.run({"image": array})         # {name: array}

Standard library only; numpy and an engine are imported when a model is loaded. Importing this package imports nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # not typing's own: importing typing takes as long as loading a small model
if TYPE_CHECKING:
    from typing import Any

    from edgec_runtime.model import Model, load

__version__ = "0.1.0"
__all__ = ["Model", "load"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from edgec_runtime import model

        value = getattr(model, name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
