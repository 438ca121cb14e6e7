"""Calling C libraries: the few things of ctypes that the engines need, from its C half, which ctypes is built on.

`import ctypes` takes 5 million instructions on a Cortex-A76, a third of what loading a model takes otherwise; its C
half alone takes 0.8. The names are those of ctypes; where an interpreter's C half lacks one, they are ctypes' own.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ctypes import addressof, byref, c_char, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint32, c_void_p
    from typing import Any

    Function: Any
    dlopen: Any
else:
    try:
        from _ctypes import FUNCFLAG_CDECL, CFuncPtr, _SimpleCData, addressof, byref, dlopen

        class c_char(_SimpleCData):  # noqa: N801, D101
            _type_ = "c"

        class c_char_p(_SimpleCData):  # noqa: N801, D101
            _type_ = "z"

        class c_void_p(_SimpleCData):  # noqa: N801, D101
            _type_ = "P"

        class c_int(_SimpleCData):  # noqa: N801, D101
            _type_ = "i"

        class c_uint32(_SimpleCData):  # noqa: N801, D101
            _type_ = "I"

        class c_int64(_SimpleCData):  # noqa: N801, D101
            _type_ = "q"

        class c_size_t(_SimpleCData):  # noqa: N801, D101
            _type_ = "L"

        c_int32 = c_int
    except ImportError:
        from ctypes import _FUNCFLAG_CDECL as FUNCFLAG_CDECL
        from ctypes import _CFuncPtr as CFuncPtr
        from ctypes import _dlopen as dlopen
        from ctypes import addressof, byref, c_char, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint32, c_void_p

    class Function(CFuncPtr):
        """A C function that returns an int. Made from an address, or from (name, library)."""

        _flags_ = FUNCFLAG_CDECL
        _restype_ = c_int


__all__ = [
    "Function", "Library", "addressof", "byref", "c_char", "c_char_p", "c_int", "c_int32", "c_int64", "c_size_t",
    "c_uint32", "c_void_p",
]  # fmt: skip


class Library:
    """A shared library, loaded. None as its path: the process itself, with the C library. Raises OSError."""

    def __init__(self, path: str | None) -> None:
        self._handle = dlopen(path, os.RTLD_LOCAL | os.RTLD_NOW)

    def function(self, name: str, returns: Any = c_int) -> Any:
        """A function by its name; arguments must be C types. Raises AttributeError where there is none."""
        function = Function((name, self))
        function.restype = returns
        return function
