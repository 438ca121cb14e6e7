"""Errors for people: what happened, why, what to do, and the exit code that scripts see.

Every error that edgec raises on purpose is an `Error`. The codes' hundreds follow the exit codes of the
command line (ARCHITECTURE.md, "Exit codes"): E2xx usage, E3xx budget, E4xx unsupported by the board, E5xx tampered
or untrusted, E6xx golden answers, E7xx rolled back, E8xx not identical, E9xx bad input, E10xx something is missing.
"""

from __future__ import annotations


class Error(Exception):
    """What, why, what to do. `code` is stable (E501); `exit_code` is what a command returns."""

    code = "E900"
    exit_code = 9

    def __init__(self, what: str, why: str = "", fix: str = "", *, code: str | None = None) -> None:
        self.what = " ".join(what.split())
        self.why = " ".join(why.split())
        self.fix = " ".join(fix.split())
        if code is not None:
            self.code = code
        super().__init__(self.what)

    def __str__(self) -> str:
        lines = [f"error[{self.code}]: {self.what}"]
        if self.why:
            lines.append(f"  why: {self.why}")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, str | int]:
        """The same for `--json`."""
        return {"code": self.code, "what": self.what, "why": self.why, "fix": self.fix, "exit_code": self.exit_code}


class UsageError(Error):
    """A flag or an argument that makes no sense (exit 2)."""

    code, exit_code = "E200", 2


class BudgetError(Error):
    """The accuracy, size or latency budget is not met (exit 3)."""

    code, exit_code = "E300", 3


class UnsupportedError(Error):
    """The board, or its engine, can't run this (exit 4)."""

    code, exit_code = "E400", 4


class TrustError(Error):
    """Tampered with, damaged, unsigned, or signed by a stranger (exit 5)."""

    code, exit_code = "E500", 5


class GoldenError(Error):
    """The model does not give the recorded answers (exit 6)."""

    code, exit_code = "E600", 6


class RolledBackError(Error):
    """A new version failed its trial: the version before it runs on (exit 7)."""

    code, exit_code = "E700", 7


class NotIdenticalError(Error):
    """A rebuild gave other bytes, or two files differ (exit 8)."""

    code, exit_code = "E800", 8


class BadInputError(Error):
    """A file, a model or an array that can't be used (exit 9)."""

    code, exit_code = "E900", 9


class MissingError(Error):
    """A target, an engine, a key or a tool is not there (exit 10)."""

    code, exit_code = "E1000", 10
