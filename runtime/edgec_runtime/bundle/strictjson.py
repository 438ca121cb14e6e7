"""JSON from strangers: bounded size and depth, no duplicate keys, no NaN, no huge numbers, nothing after the end."""

from __future__ import annotations

from typing import Any

MAX_DEPTH = 32


def loads(data: bytes, *, limit: int) -> Any:
    """Parse UTF-8 JSON of at most `limit` bytes. Raises ValueError with the reason as a phrase.

    Python's own parser takes duplicate keys (the last wins), NaN, integers of any length and lone surrogates;
    two readers that treat them differently would see two documents in what was signed once.
    """
    import json

    if len(data) > limit:
        raise ValueError(f"it has {len(data)} bytes, more than {limit}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    decoder = json.JSONDecoder(
        object_pairs_hook=_unique, parse_int=_integer, parse_float=_number, parse_constant=_constant
    )
    try:
        value = decoder.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH}") from None
    _check(value)
    return value


def _check(value: Any) -> None:
    """Refuse deep nesting and lone surrogates (which only a \\u escape can smuggle in), without recursion."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH and any(isinstance(item, (list, dict)) for item in level):
            raise ValueError(f"it is nested deeper than {MAX_DEPTH}")
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.keys()
                inner += item.values()
            elif isinstance(item, list):
                inner += item
            elif isinstance(item, str):
                try:
                    item.encode("utf-8")
                except UnicodeEncodeError:
                    raise ValueError("a string holds half a character (a lone surrogate)") from None
        level = inner


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("an object has the same key twice")
    return result


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > 2**53 - 1:  # RFC 8785: what every JSON reader holds exactly
        raise ValueError(f"the number {text[:20]} is out of range")
    return int(text)


def _number(text: str) -> float:
    value = float(text) if len(text) <= 32 else float("inf")
    if value - value != 0:  # infinite
        raise ValueError(f"the number {text[:20]} is out of range")
    return value


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")
