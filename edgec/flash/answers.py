"""A device's answers, read strictly: each value of its type, each text printable and of a bounded length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgec.flash import errors
from edgec.flash.plan import Held, Member, Package

MAX_SIZE = 1 << 40
MAX_TEXT = 600  # characters of a reason
RESULTS = ("committed", "probation", "rolled-back")
PHASES = ("none", "trial", "probation", "damaged")


@dataclass(frozen=True)
class Begun:
    """What a device needs of a bundle, and what it has for deltas."""

    unchanged: bool
    members: list[Member]
    held: list[Held]


@dataclass(frozen=True)
class Outcome:
    """How a trial, a rollback or a confirmation ended."""

    app: str
    result: str
    version: str
    identity: str
    why: str
    health: Mapping[str, Any]


@dataclass(frozen=True)
class State:
    """An app on a device, as far as flashing asks; `pending` is the identity of a version that is not committed yet."""

    app: str
    version: str
    identity: str
    phase: str
    pending: str
    why: str
    health: Mapping[str, Any]


def begun(device: object, said: Mapping[str, Any], package: Package) -> Begun:
    """The answer to `begin`. Raises BadInputError (E955) where it is none, or is about another bundle."""
    if said.get("identity") != package.identity:
        raise errors.nonsense(device, "it speaks of another bundle than the one that it was offered")
    sizes = {entry["sha256"]: (entry["name"], entry["size"]) for entry in package.manifest["members"]}
    wanted = []
    for row in _rows(device, said, "members", 4):
        name, digest, size, have = row
        if sizes.get(digest if isinstance(digest, str) else "") is None or sizes[digest][1] != size:
            raise errors.nonsense(device, f"it asks for {str(name)[:80]!r}, which the bundle has not")
        if type(have) is not int or not 0 <= have <= size:
            raise errors.nonsense(device, f"it has {str(have)[:40]} of {size} bytes")
        wanted.append(Member(sizes[digest][0], digest, size, have))
    held = []
    for name, digest, size in _rows(device, said, "held", 3):
        if not isinstance(name, str) or not isinstance(digest, str) or type(size) is not int or not 0 < size < MAX_SIZE:
            raise errors.nonsense(device, "it names a file that is none")
        held.append(Held(name[:255], digest, size))
    return Begun(said.get("unchanged") is True, list({member.sha256: member for member in wanted}.values()), held)


def outcome(device: object, said: Mapping[str, Any]) -> Outcome:
    """The answer to `trial`, `rollback` and `confirm`."""
    result = said.get("result")
    if result not in RESULTS:
        raise errors.nonsense(device, f"it ends with {str(result)[:40]!r}")
    return Outcome(
        text(said.get("app")), str(result), text(said.get("version")), text(said.get("identity")),
        text(said.get("why")), _object(said.get("health")),
    )  # fmt: skip


def states(device: object, said: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The answer to `status`: an object for each app."""
    apps = said.get("apps")
    if not isinstance(apps, list) or len(apps) > 1000 or not all(isinstance(app, dict) for app in apps):
        raise errors.nonsense(device, "it does not list its apps")
    return apps


def state(device: object, said: Mapping[str, Any], app: str) -> State | None:
    """One app of that answer; None where it is not there."""
    for each in states(device, said):
        if each.get("app") == app:
            phase = each.get("phase")
            if phase not in PHASES:
                raise errors.nonsense(device, f"its phase is {str(phase)[:40]!r}")
            return State(
                app, text(each.get("version")), text(each.get("identity")), str(phase),
                text(_object(each.get("pending")).get("identity")), text(each.get("why")), _object(each.get("health")),
            )  # fmt: skip
    return None


def number(device: object, said: Mapping[str, Any], name: str) -> int:
    """A number of an answer."""
    value = said.get(name)
    if type(value) is not int or value < 0:
        raise errors.nonsense(device, f"its {name} is {str(value)[:40]!r}")
    return value


def text(value: Any) -> str:
    """A text for a person's terminal: printable, bounded; empty for anything else."""
    return "".join(c for c in value[:MAX_TEXT] if c.isprintable()) if isinstance(value, str) else ""


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _rows(device: object, said: Mapping[str, Any], name: str, width: int) -> list[list[Any]]:
    rows = said.get(name)
    if not isinstance(rows, list) or len(rows) > 8192 or not all(isinstance(r, list) and len(r) == width for r in rows):
        raise errors.nonsense(device, f"its list of {name} is none")
    return rows
