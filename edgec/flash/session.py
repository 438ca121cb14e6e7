"""A session with a device's agent: requests and their answers, in order, with as many under way as one likes.

async with connect(address) as connection, session.open(connection, name="pi") as device:
    print(await device.ask("status", app=None))
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import shlex
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgec import __version__
from edgec.flash import errors
from edgec.flash.wire import Wire
from edgec_runtime.agent import frames

if TYPE_CHECKING:
    from edgec.devices.transport import Connection

PATIENCE = 120.0  # seconds without a word while an answer is due: a slow card flushes, a slow core hashes
HELLO = 60.0  # seconds until the agent must have started
DATA_LIMIT = 1 << 28  # bytes that an answer may bring

# The launcher that setup wrote, where setup puts it; `$1` is the root that this machine remembers.
_START = """for root in "$1" "$EDGEC_ROOT" /var/lib/edgec "$HOME/.local/share/edgec"; do
if [ -n "$root" ] && [ -x "$root/bin/edgec-rt" ]; then exec "$root/bin/edgec-rt" agent; fi; done
command -v edgec-rt >/dev/null 2>&1 && exec edgec-rt agent
echo "there is no edgec-rt in ${1:-${EDGEC_ROOT:-/var/lib/edgec or ~/.local/share/edgec}}" >&2; exit 127"""


@dataclass
class Pending:
    """A request whose answer is due.

    Attributes:
        answer: (what `ok` holds, the bytes that followed it).
        arrived: called with how many bytes of the request's data the device has.
        patience: seconds of silence until it counts as hung.
        limit: bytes that may follow the answer.
        size: bytes of data that go with the request; come: of these, what the device said that it has.
    """

    answer: asyncio.Future[tuple[dict[str, Any], bytes]]
    arrived: Callable[[int], None] = lambda count: None
    patience: float = PATIENCE
    limit: int = 0
    size: int = 0
    come: int = 0


@dataclass
class Session:
    """One agent that answers. Made by `open`.

    Attributes:
        name: what errors call the device.
        hello: what the agent said of itself: protocol, edgec_runtime, root, root_version.
    """

    name: object
    wire: Wire
    hello: Mapping[str, Any] = field(default_factory=dict)
    _due: collections.deque[Pending] = field(default_factory=collections.deque)
    _some: asyncio.Event = field(default_factory=asyncio.Event)
    _sending: asyncio.Lock = field(default_factory=asyncio.Lock)
    _failure: Exception | None = None

    async def ask(
        self, request: str, *, data: bytes | None = None, patience: float = PATIENCE, **fields: Any
    ) -> dict[str, Any]:
        """Send a request and wait for what its answer's `ok` holds. `data` follows the request.

        Raises what the device tells (its code and exit code), and errors of the line: E955, E1105, E1106.
        """
        size: dict[str, Any] = {} if data is None or "sizes" in fields else {"size": len(data)}
        pending = await self.post(request, _chunks(data), patience=patience, **size, **fields)
        return (await pending.answer)[0]

    async def fetch(self, request: str, *, data: bytes, patience: float, **fields: Any) -> tuple[dict[str, Any], bytes]:
        """The same for a request whose answer brings bytes."""
        pending = await self.post(request, _chunks(data), patience=patience, limit=DATA_LIMIT, size=len(data), **fields)
        return await pending.answer

    async def post(
        self,
        request: str,
        data: AsyncIterator[bytes] | None = None,
        *,
        arrived: Callable[[int], None] = lambda count: None,
        patience: float = PATIENCE,
        limit: int = 0,
        **fields: Any,
    ) -> Pending:
        """Send a request with its data, and don't wait for the answer. Data end where the device tells an error."""
        async with self._sending:
            if self._failure is not None:
                raise self._failure
            answer: asyncio.Future[tuple[dict[str, Any], bytes]] = asyncio.get_running_loop().create_future()
            answer.add_done_callback(_seen)
            pending = Pending(answer, arrived, patience, limit, int(fields.get("size") or sum(fields.get("sizes", ()))))
            self._due.append(pending)
            self._some.set()
            await self._send(frames.message({"request": request, **fields}))
            if data is not None:
                async for piece in data:
                    if answer.done():
                        break
                    await self._send(frames.frame(frames.DATA, piece))
                await self._send(frames.frame(frames.DATA, b""))
            return pending

    async def _send(self, data: bytes) -> None:
        """Write, or raise what ended the session meanwhile: a device that stops reading is noticed by its silence."""
        try:
            await self.wire.send(data)
        except Exception:
            if self._failure is not None:
                raise self._failure from None
            raise

    async def listen(self) -> None:
        """Read answers until the line ends; what ends it is what every request under way, and to come, raises."""
        try:
            while True:
                await self._some.wait()
                try:
                    said = await asyncio.wait_for(self.wire.message(), self._due[0].patience)
                except TimeoutError:
                    raise errors.silent(self.name, self._due[0].patience) from None
                await self._heard(said)
        except Exception as error:
            self._failure = error
            for pending in self._due:
                if not pending.answer.done():
                    pending.answer.set_exception(error)
            self.wire.abort()

    async def _heard(self, said: dict[str, Any]) -> None:
        pending = self._due[0]
        if said.keys() == {"at"}:
            if type(said["at"]) is not int or not pending.come < said["at"] <= pending.size:
                raise errors.nonsense(self.name, f"it counts what arrives wrongly: {str(said['at'])[:40]}")
            pending.come = said["at"]
            pending.arrived(pending.come)
            return
        if said.keys() not in ({"ok"}, {"error"}):
            raise errors.nonsense(self.name, f"its answer has {', '.join(map(str, said))[:80]}")
        data = bytearray()
        if "ok" in said:
            if not isinstance(said["ok"], dict):
                raise errors.nonsense(self.name, "its answer is no object")
            if pending.limit:
                async for piece in self.wire.data(pending.limit):
                    data += piece
        self._due.popleft()
        if not self._due:
            self._some.clear()
        if pending.answer.done():  # whoever asked has left
            return
        if "error" in said:
            pending.answer.set_exception(errors.told(self.name, said["error"]))
        else:
            pending.answer.set_result((said["ok"], bytes(data)))


@contextlib.asynccontextmanager
async def open(connection: Connection, *, name: object, root: str = "") -> AsyncIterator[Session]:
    """Start a device's agent and greet it.

    Args:
        connection: to the device.
        name: what errors call it.
        root: edgec's folder there, where it is known; the usual places are looked at too.

    Raises:
        MissingError: E1043, it is not set up; E1044, its runtime has no agent yet.
        UnsupportedError: E950, it speaks another protocol. UnreachableError: the line was lost.
    """
    async with connection.talk(shlex.join(["sh", "-c", _START, "sh", root])) as process:
        wire = Wire(process, name)
        listener: asyncio.Task[None] | None = None
        try:
            try:
                await asyncio.wait_for(wire.greet(), HELLO)
            except TimeoutError:
                raise errors.silent(name, HELLO) from None
            made = Session(name, wire)
            listener = asyncio.ensure_future(made.listen())
            hello = await made.ask("hello", protocol=frames.PROTOCOL, edgec=__version__, patience=HELLO)
            if not all(isinstance(hello.get(key), kind) for key, kind in _HELLO.items()):
                raise errors.nonsense(name, "it does not say who it is")
            made.hello = hello
            yield made
        finally:
            if listener is not None:
                listener.cancel()
            wire.close()


_HELLO = {"protocol": int, "edgec_runtime": str, "root": str, "root_version": int}


def _chunks(data: bytes | None) -> AsyncIterator[bytes] | None:
    async def pieces(whole: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(whole), 1 << 16):
            yield whole[start : start + (1 << 16)]

    return None if data is None else pieces(data)


def _seen(answer: asyncio.Future[tuple[dict[str, Any], bytes]]) -> None:
    """An answer that nobody waited for any more is no warning of asyncio's."""
    if not answer.cancelled():
        answer.exception()
