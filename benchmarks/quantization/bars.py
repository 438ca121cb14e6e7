"""What the project asks of itself, held against the rows: met or not, and the best peer beside it."""

from __future__ import annotations

from typing import Any


def table(found: dict[str, Any]) -> list[str]:
    return []


def printed(found: dict[str, Any]) -> str:
    return "\n".join(table(found))
