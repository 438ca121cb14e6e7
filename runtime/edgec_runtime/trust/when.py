"""Signed points in time: `2026-11-24T17:00:00Z`, this one form, in UTC, without the package `datetime`."""

from __future__ import annotations

DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # of the months
FORM = "2026-11-24T17:00:00Z"
_PLACES = ((4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":"), (19, "Z"))


def parse(text: object) -> int:
    """Seconds since 1970-01-01T00:00:00Z. Raises ValueError where it is not a time in exactly this form.

    The form is that of RFC 3339 with a capital T and Z, whole seconds, no leap second, years 1970 to 9999.
    """
    if not isinstance(text, str) or len(text) != len(FORM) or any(text[at] != mark for at, mark in _PLACES):
        raise ValueError(f"{str(text)[:40]!r} is not a time such as {FORM}")
    parts = (text[:4], text[5:7], text[8:10], text[11:13], text[14:16], text[17:19])
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"{text!r} is not a time such as {FORM}")
    year, month, day, hour, minute, second = map(int, parts)
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not (year >= 1970 and 1 <= month <= 12 and hour < 24 and minute < 60 and second < 60):
        raise ValueError(f"there is no time {text!r}")
    if not 1 <= day <= DAYS[month - 1] + (leap and month == 2):
        raise ValueError(f"there is no day {text[:10]!r}")
    before = year - 1
    days = before * 365 + before // 4 - before // 100 + before // 400 - 719162  # days from year 1 to 1970
    days += sum(DAYS[: month - 1]) + (leap and month > 2) + day - 1
    return ((days * 24 + hour) * 60 + minute) * 60 + second


def text(seconds: float) -> str:
    """The form of a point in time, given in seconds since 1970."""
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
