"""Marks for the counting plugin, set by a program inside the guest."""

import contextlib
import os


def mark(tag: int) -> None:
    """End the region `tag` here (0 to 65535): the plugin sees a close() that fails and does nothing else."""
    with contextlib.suppress(OSError):
        os.close(0x7ED60000 | tag)
