"""Reading the ready record of an installed app without the package `json`.

A cold start pays for every module: `json` compiles regular expressions that cost more than reading the whole record
(1.3 of the 4 ms that this package adds to importing an engine). Its scanner, in C, needs none of them. The record was
written by this package and its checksum was compared before it is read.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Settings:
    """What the scanner asks for: those of `json.loads` without hooks."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = None


def loads(data: bytes) -> Any:
    """The record's value, as `json.loads` gives it. Raises ValueError where it is no JSON."""
    text = data.decode("utf-8")
    try:
        from _json import make_scanner  # type: ignore[import-not-found,unused-ignore]
    except ImportError:  # an interpreter without the C scanner
        import json

        return json.loads(text)
    try:
        value, end = make_scanner(_Settings())(text, 0)  # type: ignore[arg-type]
    except StopIteration:
        raise ValueError("it is no JSON") from None
    if text[end:].strip():
        raise ValueError("something follows its end")
    return value
