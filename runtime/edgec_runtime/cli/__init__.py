"""`edgec-rt`: run, bench, selftest, install and doctor, on the device. Standard library only."""

from __future__ import annotations

from edgec_runtime.cli.main import main

__all__ = ["main"]
