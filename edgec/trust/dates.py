"""Days and times that users give, as the one form that is signed."""

from __future__ import annotations

from edgec.errors import UsageError
from edgec_runtime.trust import when


def expiry(text: str, flag: str = "--expires") -> str:
    """The signed form of a user's date: 2027-06-01 is the end of that day in UTC; a time such as `when.FORM` is itself.

    Raises UsageError (E221) naming the flag.
    """
    whole = f"{text}T23:59:59Z" if len(text) == 10 else text
    try:
        when.parse(whole)
    except ValueError as e:
        raise UsageError(
            f"{flag} {text} is no date",
            f"{e}.",
            "Give a day such as 2027-06-01, or a time such as 2027-06-01T12:00:00Z.",
            code="E221",
        ) from e
    return whole
