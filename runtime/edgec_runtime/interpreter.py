"""The Python that starts further processes of this package."""

from __future__ import annotations

import os
import sys

VARIABLE = "EDGEC_PYTHON"


def path() -> str:
    """`$EDGEC_PYTHON`, else the one that runs.

    The variable is for a Python that can't be started by its own file: one of another architecture under an emulator
    of user programs, where the kernel knows nothing of the emulator.
    """
    return os.environ.get(VARIABLE) or sys.executable
