"""edgec: a trained model and the name of a board in, one signed, measured file out.

The public API is `edgec.compile`; the command line (`edgec --help`) is the same in words. Importing this package
costs nothing: the compiler is imported at the first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "compile"]

if TYPE_CHECKING:
    from edgec.compiler import compile


def __getattr__(name: str) -> Any:
    if name == "compile":
        from edgec.compiler import compile

        return compile
    raise AttributeError(name)
