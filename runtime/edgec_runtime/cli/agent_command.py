"""`edgec-rt agent`: what `edgec flash` talks to, over standard input and output. Not for people."""

from __future__ import annotations

import argparse
import os
import sys

from edgec_runtime import root as root_
from edgec_runtime.agent.line import Line
from edgec_runtime.agent.server import Server


def serve(options: argparse.Namespace) -> int:
    """Serve one host; returns the exit code. Raises UsageError where the root folder is unclear."""
    where = root_.find()
    # The line is ours alone: what engines print goes to standard error, and no child reads requests.
    sys.stdout.flush()
    incoming, outgoing = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return Server(Line(incoming, outgoing), where, debug=options.debug).serve()
