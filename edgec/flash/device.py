"""One device flashed: connect, check, send what is missing, trial, say what its health check said.

A link that is lost is made again, and the transfer goes on where it stopped; what was acknowledged stays.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from edgec.devices import owned
from edgec.devices.transport import connect
from edgec.errors import Error, RolledBackError, UnreachableError
from edgec.flash import answers, errors, sealing, send, session
from edgec.flash.plan import Package
from edgec.flash.send import Sent, Throttle
from edgec.flash.session import Session
from edgec.flash.target import Flashed, Options, Target, Tell

__all__ = ["Flashed", "Options", "Target", "Tell", "flash_one"]

RECONNECTS = 5  # times in a row that a lost link is made again though nothing arrived in between
PAUSE = 0.5  # seconds before the first time; doubled each time
BUSY = 90.0  # seconds to wait for another transfer, or trial: that of a link that was lost ends after 30
AGAIN = frozenset(["E1100", "E1104", "E1105", "E1106"])  # a link that may come back
SLACK = 60.0  # seconds beside the health check's deadline until the device must have answered


async def _at_once() -> None:
    """Nobody needs to be asked."""


async def flash_one(
    target: Target,
    package: Package,
    options: Options = Options(),  # noqa: B008 (it is frozen)
    *,
    tell: Tell = lambda step, done, total: None,
    activate: Callable[[], Awaitable[None]] = _at_once,
) -> Flashed:
    """Flash one device.

    Args:
        target: the device.
        package: the opened bundle; the same for all devices of a run.
        options: how.
        tell: hears of each step.
        activate: awaited once, after everything was sent and before the device is told to try it.

    Raises:
        RolledBackError (exit 7): the trial failed; the device runs what it ran. `flashed` has the numbers.
        UnreachableError (exit 11): the link is gone and did not come back; what has arrived is kept there.
        MissingError E1043 (exit 10): it is not set up. And what the device refuses, with its own code and words.
    """
    work = _Work(target, package, options, tell, activate)
    failures = 0
    while True:
        before = work.sent.whole + work.sent.patches, work.stage
        try:
            return await work.attempt()
        except UnreachableError as error:
            known = work.reached and error.code in AGAIN
            moved = (work.sent.whole + work.sent.patches, work.stage) != before and error.code != "E1100"
            failures = 0 if moved else failures + 1
            if not known or failures > RECONNECTS:
                raise
            work.reconnects += 1
            tell("reconnecting", 0, 0)
            await asyncio.sleep(PAUSE * 2.0 ** min(failures, 5))


class _Work:
    """What is known of one device across its connections.

    Attributes:
        reached: whether it answered once: only then a link that is gone is waited for.
        stage: 0 sending; 1 told to commit, so it may have; 2 it acknowledged that.
    """

    def __init__(
        self, target: Target, package: Package, options: Options, tell: Tell, activate: Callable[[], Awaitable[None]]
    ) -> None:
        self.target, self.package, self.options, self.tell, self.activate = target, package, options, tell, activate
        self.start = time.monotonic()
        self.sent, self.throttle = Sent(), Throttle(options.limit)
        self.reached, self.stage, self.reconnects, self.wire = False, 0, 0, 0
        self.app, self.needed, self.transfer, self.tried_at = options.app or package.app, 0, 0.0, 0.0
        self.asked, self.followed = False, (0, 0)
        self.device: Session | None = None

    async def attempt(self) -> Flashed:
        """One connection, from wherever the last one stopped."""
        self.tell("connecting", 0, 0)
        async with (
            connect(self.target.address) as connection,
            session.open(connection, name=self.target.name, root=self.target.root) as device,
        ):
            self.reached, self.device = True, device
            try:
                return await self._flash(device)
            finally:
                self.wire += device.wire.sent
                self.device = None

    async def _flash(self, device: Session) -> Flashed:
        if self.stage:
            ended = await self._after_the_cut(device)
            if ended is not None:
                return ended
        if not self.stage:
            self.tell("checking", 0, 0)
            before, now = int(device.hello["root_version"]), await trust(device, self.options.chain)
            if now != before:
                self.followed = (before, now)
            await sealing.give(device, self.package)
            if await self._send(device):
                return self._done("unchanged")
            if not self.asked:
                await send.awaited(device, asyncio.ensure_future(self.activate()))
                self.asked = True
            self.stage = 1
            await device.ask(
                "commit", confirm=self.options.confirm, deadline=self.options.deadline, tries=self.options.tries
            )
            self.stage = 2
        return await self._trial(device)

    async def _send(self, device: Session) -> bool:
        """All that is missing; True where the device has this very version already."""
        for _ in range(4):  # each time round, a member is sent another way
            begun = await self._begin(device)
            if begun.unchanged:
                return True
            self.needed = sum(member.size for member in begun.members)
            begin = time.monotonic()
            try:
                done = await send.members(
                    device, self.package, begun.members, begun.held, self.throttle, self.sent,
                    lambda done, total: self.tell("sending", done, total),
                )  # fmt: skip
            finally:
                self.transfer += time.monotonic() - begin
            if done:
                self.package.remember(begun.members)
                return False
        raise errors.nonsense(self.target.name, "it never has all of the bundle")

    async def _begin(self, device: Session) -> answers.Begun:
        """Ask what is missing; wait where another transfer is under way: perhaps our own, whose link was cut."""
        deadline = time.monotonic() + BUSY
        while True:
            try:
                said = await device.ask("begin", data=self.package.envelope, app=self.options.app)
                return answers.begun(self.target.name, said, self.package)
            except Error as error:
                if error.code != "E202" or "probation" in error.what or time.monotonic() > deadline:
                    raise
                self.tell("waiting for another transfer", 0, 0)
                await asyncio.sleep(2)

    async def _trial(self, device: Session) -> Flashed:
        self.tell("trial", 0, 0)
        self.tried_at = self.tried_at or time.monotonic()
        said = await device.ask("trial", app=self.app, patience=self.options.deadline + SLACK)
        ended = answers.outcome(self.target.name, said)
        return self._done(ended.result, ended.why, ended.health)

    async def _after_the_cut(self, device: Session) -> Flashed | None:
        """The link was cut after the commit was asked for: what did the device make of it?

        None where it is to be gone on with: `stage` says from where.
        """
        deadline = time.monotonic() + self.options.deadline + BUSY
        while True:
            found = answers.state(self.target.name, await device.ask("status", app=None), self.app)
            if found is not None and found.identity == self.package.identity and found.phase in ("none", "probation"):
                return self._done("probation" if found.phase == "probation" else "committed", "", found.health)
            if found is not None and found.phase == "trial" and found.pending == self.package.identity:
                self.stage = 2
                try:
                    return await self._trial(device)
                except Error as error:  # its trial goes on without us
                    if error.code != "E202" or time.monotonic() > deadline:
                        raise
                    await asyncio.sleep(1)
                    continue
            if found is not None and self.stage == 2:
                return self._done("rolled-back", found.why or "it did not pass its trial", found.health)
            self.stage = 0
            return None

    def _done(self, result: str, why: str = "", health: Mapping[str, Any] | None = None) -> Flashed:
        now = time.monotonic()
        flashed = Flashed(
            device=self.target.name,
            address=str(self.target.address),
            app=self.app,
            version=self.package.version,
            identity=self.package.identity,
            result=result,
            why=why,
            health=health or {},
            needed=self.needed,
            sent=self.sent.whole + self.sent.patches,
            patches=self.sent.patches,
            wire=self.wire + (self.device.wire.sent if self.device else 0),
            seconds=now - self.start,
            transfer=self.transfer,
            trial=now - self.tried_at if self.tried_at else 0.0,
            reconnects=self.reconnects,
            followed=self.followed,
            emulated=owned.config(self.target.address.host) is not None,
        )
        if result == "rolled-back":
            raise rolled_back(flashed)
        return flashed


def rolled_back(flashed: Flashed) -> RolledBackError:
    """The error of a trial that failed, with the numbers."""
    error = RolledBackError(
        f"{flashed.device} rolled {flashed.app} {flashed.version} back",
        flashed.why,
        f"It runs what it ran before. edgec logs --on {flashed.device} tells more.",
        code="E700",
    )
    error.flashed = flashed  # type: ignore[attr-defined]
    return error


async def trust(device: Session, chain: Sequence[tuple[int, bytes]]) -> int:
    """Bring the device's root metadata up to this machine's; the version that it has now.

    A device without root metadata (0) trusts single keys and is left at that: `devices setup` pins the first one.
    Raises what the device refuses.
    """
    has = int(device.hello["root_version"])
    newer = [data for version, data in chain if has and version > has]
    if not newer:
        return has
    said = await device.ask("root", data=b"".join(newer), sizes=[len(data) for data in newer])
    return answers.number(device.name, said, "root_version")
