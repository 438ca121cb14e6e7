"""How a long stage tells that it is alive: `with progress("calibrating", 100) as step: step(1)`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Advance = Callable[[int], None]
Progress = Callable[[str, int | None], AbstractContextManager[Advance]]


@contextmanager
def silent(description: str, total: int | None = None) -> Iterator[Advance]:
    """The progress of those who don't want any."""
    yield lambda n: None
