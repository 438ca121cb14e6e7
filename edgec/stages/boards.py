"""The boards that were asked for, each with its target."""

from __future__ import annotations

from dataclasses import dataclass

import edgec_targets
from edgec.request import Request
from edgec_targets.types import Board, Target


@dataclass(frozen=True)
class Kind:
    """A board and the family it belongs to."""

    board: Board
    target: Target


def find(request: Request) -> list[Kind]:
    """Look the boards up. Raises MissingError (exit 10) for an unknown one, with near names."""
    return [Kind(board, edgec_targets.target(board.target)) for board in map(edgec_targets.board, request.boards)]
