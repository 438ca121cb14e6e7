"""What can't be compiled, as the child process tells it to its parent."""

from __future__ import annotations


class Refused(Exception):  # noqa: N818 - it is an answer, not an error of the program
    """A node ("" for the whole model), its operator, and why."""

    def __init__(self, node: str, operator: str, why: str) -> None:
        super().__init__(why)
        self.node = node
        self.operator = operator
        self.why = why
