"""`edgec-rt`: run, bench, selftest, doctor, install and what becomes of an app. Standard library only."""

from __future__ import annotations

from edgec_runtime.cli.main import main

__all__ = ["main"]
