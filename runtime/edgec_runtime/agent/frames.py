"""Frames: what the host and the device's agent say to each other, over any two streams of bytes.

    4 bytes   length of the body, big-endian, at most MAX_BODY
    1 byte    kind: J (a JSON object) or D (data)
    body

After it has started the agent writes PREAMBLE, so that what a login shell says before is told from the first frame.
Then the host speaks: a request is a J frame, `{"request": name, …}`. Requests that bring bytes (`size`) are followed by
D frames, the last of them empty; an empty one before all has come says that the host has stopped. Each request gets
exactly one answer, in order: `{"ok": {…}}` or `{"error": {code, what, why, fix, exit_code}}`. An answer whose `ok` has
"data" is followed by D frames, the last one empty. Between answers the agent may say `{"at": n}`: so many bytes of
what is being sent have come. The first request must be `hello`, with the protocol's number.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

PROTOCOL = 1
PREAMBLE = b"\nedgec-agent\n"
MAX_BODY = 1 << 20  # bytes
MAX_REQUEST = 1 << 16  # bytes of a request: what is long goes as data
HEAD = 5  # bytes before the body
JSON, DATA = b"J", b"D"


class FrameError(ValueError):
    """What came is no frame: the two sides no longer understand each other, and the connection ends."""


def frame(kind: bytes, body: bytes) -> bytes:
    """A frame's bytes. Raises FrameError where the body is too long."""
    if len(body) > MAX_BODY:
        raise FrameError(f"a frame holds at most {MAX_BODY} bytes, not {len(body)}")
    return len(body).to_bytes(4, "big") + kind + body


def message(value: dict[str, Any]) -> bytes:
    """A J frame of an object."""
    import json

    return frame(JSON, json.dumps(value, separators=(",", ":")).encode())


def head(data: bytes) -> tuple[bytes, int]:
    """(kind, length of the body) of a frame's first `HEAD` bytes. Raises FrameError."""
    length, kind = int.from_bytes(data[:4], "big"), data[4:5]
    if kind not in (JSON, DATA):
        raise FrameError(f"a frame's kind is J or D, not {kind!r}")
    if length > MAX_BODY:
        raise FrameError(f"a frame holds at most {MAX_BODY} bytes, not {length}")
    return kind, length


def read(exactly: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    """The next frame: (kind, body). `exactly` gives so many bytes, and raises EOFError where there are fewer."""
    kind, length = head(exactly(HEAD))
    return kind, exactly(length) if length else b""
