"""`edgec` called in this process, as its entry point calls it: what a shell would see, without an interpreter's start.

An interpreter of its own costs a test a second and a half; it has one where it is about processes.
"""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from typing import Any

from edgec.cli import main


@dataclass(frozen=True)
class Said:
    """What a call left behind: exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Standard output as the one JSON object that it must be."""
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


def edgec(*arguments: object) -> Said:
    """`edgec("boards", "rpi4", "--json")`; neither stream is a terminal."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as e:
            code = e.code or 0
    assert isinstance(code, int)
    return Said(code, out.getvalue(), err.getvalue())
