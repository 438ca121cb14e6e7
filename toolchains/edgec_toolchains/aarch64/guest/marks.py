"""Marks for the counting plugin, set by a program inside the guest. Imports nothing that Python has not imported."""

import os


def mark(tag: int) -> None:
    """End the region `tag` here (0 to 65535): the plugin sees a close() that fails and does nothing else."""
    try:  # noqa: SIM105 - contextlib's import would be counted
        os.close(0x7ED60000 | tag)
    except OSError:
        pass
