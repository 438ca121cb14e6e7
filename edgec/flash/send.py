"""Sending members: the shorter of two ways for each, several under way at once, no faster than is allowed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from edgec.errors import Error
from edgec.flash import errors, plan
from edgec.flash.plan import Held, Member, Package
from edgec.flash.session import Pending, Session

CHUNK = 1 << 16  # bytes of a frame
THINKING = 8.0  # seconds after which a device hears that the host is still there
ELSEWHERE = "E942"  # the device has other bytes of a member than it said: begin again
DAMAGED = "E508"  # the device found another hash than the signed one


class Throttle:
    """At most `rate` bytes a second, over all that is sent through it; None for as fast as it goes."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._free = 0.0  # when what was sent until now has had its time

    @property
    def chunk(self) -> int:
        """Bytes of a frame: about a fifth of a second's."""
        return CHUNK if self._rate is None else max(256, min(CHUNK, int(self._rate / 5)))

    async def take(self, count: int) -> None:
        """Wait until `count` bytes may go."""
        if self._rate is None:
            return
        now = asyncio.get_running_loop().time()
        self._free = max(now, self._free) + count / self._rate
        await asyncio.sleep(max(0.0, self._free - count / self._rate - now))


@dataclass
class Sent:
    """What went over the line of the members, over all attempts.

    Attributes:
        whole: bytes of members and of their parts.
        patches: bytes of patches; made: bytes that were made of them.
        refused: members whose patch the device would not take: they are sent whole.
        damaged: how often a member arrived damaged.
        arrived: bytes that the device said it has, of this attempt.
    """

    whole: int = 0
    patches: int = 0
    made: int = 0
    refused: set[str] = field(default_factory=set)
    damaged: dict[str, int] = field(default_factory=dict)
    arrived: int = 0


T = TypeVar("T")
Tell = Callable[[int, int], None]


async def members(
    session: Session, package: Package, wanted: Sequence[Member], held: Sequence[Held], throttle: Throttle,
    sent: Sent, tell: Tell,
) -> bool:  # fmt: skip
    """Send what is missing. Returns False where something has to be sent again: begin once more, then.

    Members that have a likely base wait for their patch; the others go first meanwhile. `tell` hears how many bytes
    have arrived, of how many.

    Raises what the device tells (its disk is full), and UnsupportedError (E956) for what arrives damaged twice.
    """
    missing = [member for member in wanted if member.have < member.size]
    bases = {
        member.sha256: base
        for member in missing
        if member.sha256 not in sent.refused and (base := package.base(member, held)) is not None
    }
    patches = {digest: asyncio.ensure_future(package.patch(base, digest)) for digest, base in bases.items()}
    outbox = _Outbox(session, package, throttle, sent, tell, sum(member.size - member.have for member in missing))
    for member in sorted(missing, key=lambda member: member.sha256 in bases):
        patch = await awaited(session, patches[member.sha256]) if member.sha256 in patches else None
        if patch is not None and plan.worth(patch, member.size - member.have):
            await outbox.patch(member, bases[member.sha256], patch)
        else:
            await outbox.whole(member)
        if outbox.stopped():
            break
    return await outbox.settled()


class _Outbox:
    """Members under way, and what became of them."""

    def __init__(
        self, session: Session, package: Package, throttle: Throttle, sent: Sent, tell: Tell, total: int
    ) -> None:  # fmt: skip
        self._session, self._package, self._throttle, self._sent, self._tell = session, package, throttle, sent, tell
        self._total, self._before = total, 0
        self._under_way: list[tuple[Member, bool, Pending]] = []
        tell(0, total)

    async def whole(self, member: Member) -> None:
        """A member, from where the device has it."""
        data = self._package.data(member.sha256)
        if data is None or len(data) != member.size:
            raise errors.nonsense(self._session.name, f"it asks for {member.name[:80]!r}, which the bundle has not")
        await self._post(member, memoryview(data)[member.have :], request="data", offset=member.have)

    async def patch(self, member: Member, base: str, patch: bytes) -> None:
        """A patch that makes the member of the base."""
        missing = member.size - member.have
        self._total -= missing - len(patch)
        await self._post(member, memoryview(patch), request="patch", base=base)

    async def _post(self, member: Member, data: memoryview, *, request: str, **fields: Any) -> None:
        patch, sent, before = request == "patch", self._sent, self._before
        self._before += len(data)

        def arrived(count: int) -> None:
            self._tell(before + min(count, len(data)), self._total)

        async def pieces() -> AsyncIterator[bytes]:
            step = self._throttle.chunk
            for start in range(0, len(data), step):
                piece = bytes(data[start : start + step])
                await self._throttle.take(len(piece))
                yield piece
                if patch:
                    sent.patches += len(piece)
                else:
                    sent.whole += len(piece)

        pending = await self._session.post(
            request, pieces(), arrived=arrived, sha256=member.sha256, size=len(data), **fields
        )
        self._under_way.append((member, patch, pending))

    def stopped(self) -> bool:
        """Whether a member has failed already."""
        return any(p.answer.done() and p.answer.exception() is not None for _, _, p in self._under_way)

    async def settled(self) -> bool:
        """Wait for all answers; False where a member is to be sent again."""
        fine = True
        fatal: Error | None = None
        for member, patch, pending in self._under_way:
            try:
                answer, _ = await pending.answer
                if answer.get("done") is not True:
                    raise errors.nonsense(self._session.name, f"it has not all of {member.name}")
                self._sent.made += member.size if patch else 0
            except Error as error:
                fine = False
                if self._fatal(member, patch, error):
                    fatal = fatal or error
        if fatal is not None:
            raise fatal
        return fine

    def _fatal(self, member: Member, patch: bool, error: Error) -> bool:
        """Note what went wrong with a member; True where sending it again won't help."""
        if patch and (error.code == DAMAGED or error.code in REFUSED):
            self._sent.refused.add(member.sha256)
            return False
        if error.code == ELSEWHERE:
            return False
        if error.code == DAMAGED:
            count = self._sent.damaged.get(member.sha256, 0) + 1
            self._sent.damaged[member.sha256] = count
            if count > 1:
                raise errors.damaged_again(self._session.name, member.name) from error
            return False
        return True


REFUSED = frozenset(["E940", "E947", "E951", "E953"])
"""A patch that is not for this base, a base that is gone or damaged, too little memory or a fault: sent whole then."""


async def awaited(session: Session, what: asyncio.Future[T]) -> T:
    """Wait for something on this side; the device, which gives up on silence, hears meanwhile that it goes on."""
    while not what.done():
        await asyncio.wait([what], timeout=THINKING)
        if not what.done():
            await session.ask("ping")
    return what.result()
