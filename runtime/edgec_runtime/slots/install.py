"""Installing a bundle that lies on this device: begin, copy what is missing, commit, try.

A power cut at any moment leaves the version before or, once its trial was passed, the new one (`slots.incoming`,
`slots.trial`); `edgec-rt recover` finishes what was cut off.
"""

from __future__ import annotations

import os
from typing import Any

from edgec_runtime import root as root_
from edgec_runtime.bundle import reader
from edgec_runtime.errors import RolledBackError
from edgec_runtime.slots import incoming, trial
from edgec_runtime.slots import state as state_
from edgec_runtime.slots.locks import locked
from edgec_runtime.trust.store import Trust, load_trusted

__all__ = ["Installed", "install", "locked"]


class Installed:
    """What an installation did: the app, its slot, the manifest's identity, bytes written to the store.

    `result` is "committed", "probation", or "unchanged" where the active slot held exactly this.
    """

    __slots__ = ("app", "health", "identity", "payloads", "result", "slot", "version", "written")

    def __init__(self, come: incoming.Incoming, outcome: trial.Outcome) -> None:
        self.app = come.name
        self.slot = come.active if come.unchanged else come.slot
        self.identity = come.identity
        self.payloads: list[str] = [entry["id"] for entry in come.entries]
        self.written = come.written
        self.version: str = come.manifest["app"]["version"]
        self.result = "unchanged" if come.unchanged else outcome.result
        self.health = outcome.health

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {name: getattr(self, name) for name in self.__slots__}


def install(
    bundle_path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    trust: Trust = None,
    app: str | None = None,
    confirm: str = "auto",
    deadline: float = state_.DEADLINE,
) -> Installed:
    """Install a bundle as an app, try it, and make it the active version where it passes.

    Args:
        bundle_path: the `.edge` file. It must be signed by a trusted key.
        root: the device's root folder (`root.find`); created where it does not exist.
        trust: the keys to trust; None for those of the root.
        app: the app's name on this device; None for the bundle's own.
        confirm: "auto", or "manual": what passes waits for `confirm` until the deadline.
        deadline: seconds for the health check, and of that probation.

    Raises:
        TrustError: not trusted, damaged, below the app's security floor, or older than its active version.
        UnsupportedError, MissingError: no payload that this machine can use, each listed with the reason.
        BadInputError: not a bundle, or not enough room on the disk.
        UsageError: another installation is under way, or the root can't be written.
        RolledBackError: it failed its trial; the version before it stays.
    """
    incoming.check_terms(confirm, deadline)
    where = root_.find(root)
    trusted = load_trusted(None, root=where) if trust is None else load_trusted(trust)
    with reader.open(bundle_path, trust=trusted) as bundle:
        bundle.verify_all()
        with incoming.begin(bundle.envelope, root=where, trust=trusted, app=app) as come:
            for member in come.members:
                _copy(come, member, bundle.member(member.name))
            come.commit(confirm=confirm, deadline=deadline)
    outcome = trial.trial(come.name, root=where) if not come.unchanged else trial.decided(where, come.name)
    if outcome.result == "rolled-back" and not come.unchanged:
        raise rolled_back(outcome, come.manifest["app"]["version"])
    return Installed(come, outcome)


def rolled_back(outcome: trial.Outcome, version: str) -> RolledBackError:
    """The error for a version that failed its trial."""
    stays = f"{outcome.version} runs on" if outcome.version else "nothing was installed before, and nothing is now"
    return RolledBackError(
        f"{outcome.app} {version} was rolled back: {stays}",
        outcome.why,
        f"see `edgec-rt status {outcome.app}`; then compile it again, or mend the device",
        code=outcome.code or "E700",
    )


def _copy(come: incoming.Incoming, member: incoming.Member, data: memoryview) -> None:
    """Send a member from the file, from where it is; damaged parts of earlier transfers are sent anew."""
    offset = member.have
    with data:
        while offset < member.size:
            offset = come.append(member.sha256, offset, bytes(data[offset : offset + reader.CHUNK]))
    come.finish(member.sha256)
