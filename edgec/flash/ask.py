"""One question to one device, or to many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from edgec.devices.transport import connect
from edgec.errors import Error
from edgec.flash import answers, errors, session
from edgec.flash.device import Target
from edgec.flash.session import Session

AT_ONCE = 32  # devices asked at a time

T = TypeVar("T")


async def on(target: Target, question: Callable[[Session], Awaitable[T]]) -> T:
    """Connect, start the agent, ask. Raises as `connect` and `session.open` do, and what the question raises."""
    async with (
        connect(target.address) as connection,
        session.open(connection, name=target.name, root=target.root) as device,
    ):
        return await question(device)


async def each(
    targets: Sequence[Target], question: Callable[[Session], Awaitable[T]]
) -> list[T | Error]:  # fmt: skip
    """Ask many at once; an answer or an error for each, in their order."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(target: Target) -> T | Error:
        async with room:
            try:
                return await on(target, question)
            except Error as error:
                return error

    return await asyncio.gather(*[one(target) for target in targets])


async def states(device: Session, app: str | None = None) -> list[Mapping[str, Any]]:
    """The apps of a device. Raises MissingError where `app` is named and not there."""
    return answers.states(device.name, await device.ask("status", app=app))


async def one_app(device: Session, app: str | None) -> str:
    """The app that is meant: the named one, or the only one there is. Raises MissingError (E1045)."""
    if app is not None:
        return app
    names = [answers.text(each.get("app")) for each in await states(device)]
    if len(names) != 1:
        raise errors.which_app(device.name, names)
    return names[0]


async def change(device: Session, what: str, app: str | None) -> answers.Outcome:
    """`rollback` or `confirm` of an app. Raises what the device refuses."""
    name = await one_app(device, app)
    return answers.outcome(device.name, await device.ask(what, app=name, patience=600.0))


async def logs(device: Session, app: str | None, lines: int) -> tuple[str, list[Mapping[str, Any]]]:
    """The app's name and the last entries of its log, oldest first. Raises MissingError where it is not there."""
    name = await one_app(device, app)
    said = await device.ask("logs", app=name, lines=lines)
    entries = said.get("entries")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise errors.nonsense(device.name, "its log is none")
    if not entries and app is not None:
        await states(device, app)  # which says so where there is no such app
    return name, entries
