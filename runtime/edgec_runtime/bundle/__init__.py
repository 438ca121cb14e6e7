"""Bundles of format 1: reading and verifying (`open`), the layout that the writer shares, golden tensors."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgec_runtime.bundle.reader import Bundle, open

__all__ = ["Bundle", "open"]


def __getattr__(name: str) -> Any:  # lazily: loading an installed app needs nothing of this
    if name in __all__:
        from edgec_runtime.bundle import reader

        return getattr(reader, name)
    raise AttributeError(name)
