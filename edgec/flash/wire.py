"""Frames to and from a device's agent, over one SSH channel; what a device sends is bounded and not believed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from edgec.flash import errors
from edgec_runtime.agent import frames

if TYPE_CHECKING:
    import asyncssh

GREETING = 1 << 16  # bytes that a login shell may say before the agent does
NOTICE = 4000  # characters of standard error that are kept


class Wire:
    """Both directions. `device` is what errors call it.

    Attributes:
        sent: bytes that were given to the channel, with the frames' heads.
    """

    def __init__(self, process: asyncssh.SSHClientProcess[bytes], device: object) -> None:
        self._process, self._device = process, device
        self.sent = 0
        self._words = bytearray()
        self._reader = asyncio.ensure_future(self._errors())

    async def greet(self) -> None:
        """Read up to the agent's first frame. Raises MissingError (E1043) where no agent speaks."""
        seen = bytearray()
        while not seen.endswith(frames.PREAMBLE):
            byte = await self._process.stdout.read(1)
            seen += byte
            if not byte or len(seen) > GREETING:
                why = await self.words() or _line(bytes(seen)) or "no agent answers"
                raise (errors.old_agent if "invalid choice" in why else errors.no_agent)(self._device, why)

    async def send(self, data: bytes) -> None:
        """Give a frame to the channel. Raises UnreachableError (E1106) where the agent ended."""
        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionError) as e:
            raise errors.gone(self._device, await self.words()) from e
        self.sent += len(data)

    async def message(self) -> dict[str, Any]:
        """The next J frame. Raises BadInputError (E955) where something else comes, E1106 at the end."""
        kind, body = await self._frame()
        if kind != frames.JSON:
            raise errors.nonsense(self._device, "data came where an answer was due")
        try:
            value = json.loads(body)
        except (ValueError, RecursionError) as e:
            raise errors.nonsense(self._device, f"its answer is no JSON: {e}"[:200]) from e
        if not isinstance(value, dict):
            raise errors.nonsense(self._device, "its answer is no object")
        return value

    async def data(self, limit: int) -> AsyncIterator[bytes]:
        """The bodies of D frames up to the empty one; E955 where they are more than `limit` bytes."""
        come = 0
        while True:
            kind, body = await self._frame()
            if kind != frames.DATA:
                raise errors.nonsense(self._device, "an answer came where data were due")
            if not body:
                return
            come += len(body)
            if come > limit:
                raise errors.nonsense(self._device, f"it sends more than the {limit:,} bytes that it announced")
            yield body

    async def words(self) -> str:
        """What the agent, or the shell that was to start it, says on standard error: the last of it."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._reader), 1)
        return _line(bytes(self._words))

    def abort(self) -> None:
        """Close the channel: whoever is writing to it stops."""
        self._process.close()

    def close(self) -> None:
        """Stop listening; the process is its opener's."""
        self._reader.cancel()

    async def _frame(self) -> tuple[bytes, bytes]:
        try:
            kind, length = frames.head(await self._process.stdout.readexactly(frames.HEAD))
            return kind, await self._process.stdout.readexactly(length) if length else b""
        except frames.FrameError as e:
            raise errors.nonsense(self._device, str(e)) from e
        except (asyncio.IncompleteReadError, ConnectionError) as e:
            raise errors.gone(self._device, await self.words()) from e

    async def _errors(self) -> None:
        while data := await self._process.stderr.read(4096):
            self._words += data
            del self._words[:-NOTICE]


def _line(data: bytes) -> str:
    """The last lines of some output, as one printable line."""
    text = " ".join(data.decode("utf-8", "replace").split())
    return "".join(c for c in text if c.isprintable())[-300:]
