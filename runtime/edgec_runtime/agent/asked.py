"""Requests, read strictly: known names, the fields that each must have and no other, each of its type and range."""

from __future__ import annotations

from edgec_runtime.agent import frames
from edgec_runtime.bundle import layout, strictjson
from edgec_runtime.errors import BadInputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

MAX_PATH = 4096
MAX_SIZE = 1 << 40  # bytes of a member: its place is signed anyway
MAX_RUN = 1 << 28  # bytes of the inputs of a run, packed
MAX_ROOTS = 1 << 22  # bytes of a chain of root metadata
MAX_KEYS = 4096  # bytes of a content key wrapped for this device
MAX_LINES = 10_000
HEX = frozenset("0123456789abcdef")


def _text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 64


def _app(value: Any) -> bool:
    return value is None or _text(value)


def _digest(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and HEX.issuperset(value)


def _number(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _seconds(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value <= 86400


def _sizes(value: Any) -> bool:
    fits = _number(1, layout.MAX_ENVELOPE)
    return isinstance(value, list) and 0 < len(value) <= 256 and all(map(fits, value)) and sum(value) <= MAX_ROOTS


# A request's fields with what they may be; those in OPTIONAL may be missing.
REQUESTS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "hello": {"protocol": _number(0, 1 << 30), "edgec": _text},
    "ping": {},
    "root": {"sizes": _sizes},
    "status": {"app": _app},
    "begin": {"app": _app, "size": _number(1, layout.MAX_ENVELOPE)},
    "data": {"sha256": _digest, "offset": _number(0, MAX_SIZE), "size": _number(0, MAX_SIZE)},
    "patch": {"sha256": _digest, "base": _digest, "size": _number(1, MAX_SIZE)},
    "commit": {"confirm": lambda value: value in ("auto", "manual"), "deadline": _seconds, "tries": _number(1, 100)},
    "trial": {"app": _text},
    "rollback": {"app": _text},
    "confirm": {"app": _text},
    "remove": {"app": _text},
    "logs": {"app": _text, "lines": _number(1, MAX_LINES)},
    "run": {"app": _text, "size": _number(1, MAX_RUN)},
    "key": {},
    "keys": {"size": _number(1, MAX_KEYS)},
}
BRINGS = frozenset(["root", "begin", "data", "patch", "run", "keys"])  # requests that data follow


class Asked:
    """A request: its name, its fields, and how many bytes follow it; -1 where it brings none."""

    __slots__ = ("fields", "name", "size")

    def __init__(self, name: str, fields: dict[str, Any]) -> None:
        self.name = name
        self.fields = fields
        self.size: int = (sum(fields["sizes"]) if name == "root" else fields["size"]) if name in BRINGS else -1


def read(body: bytes) -> Asked:
    """The request of a J frame.

    Raises BadInputError: E945 where it is none, E946 for a name that this agent does not know. What data follow such a
    request can't be known, so they are left alone until the next request.
    """
    try:
        value = strictjson.loads(body, limit=frames.MAX_REQUEST)
        if not isinstance(value, dict) or not isinstance(value.get("request"), str):
            raise ValueError("it must be an object with a request's name")
    except ValueError as error:
        raise _bad("a request can't be read", str(error)) from None
    name = value.pop("request")
    wanted = REQUESTS.get(name)
    if wanted is None:
        raise BadInputError(
            f"this agent knows no request {name[:40]!r}",
            f"it knows {', '.join(REQUESTS)}",
            "update edgec-runtime on the device: edgec devices setup",
            code="E946",
        )
    if value.keys() != wanted.keys():
        raise _bad(f"the request {name!r} has other fields", f"it has {', '.join(wanted) or 'none'}")
    for field, fits in wanted.items():
        if not fits(value[field]):
            raise _bad(f"the request {name!r} has no valid {field}", f"it is {str(value[field])[:80]!r}")
    return Asked(name, value)


def _bad(what: str, why: str) -> BadInputError:
    return BadInputError(what, why, "the host's edgec is another version, or the line is disturbed", code="E945")
