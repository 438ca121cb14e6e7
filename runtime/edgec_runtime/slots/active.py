"""Loading an installed app: its active slot's ready record and its files in the store, without hashing again.

What was installed was verified then, signature, hashes and all. A load reads two small files and looks at the sizes
of the files that it uses; `edgec-rt selftest --app` hashes everything again.
"""

from __future__ import annotations

import binascii
import os

from edgec_runtime import root as root_
from edgec_runtime.errors import MissingError, TrustError
from edgec_runtime.slots import record
from edgec_runtime.slots import state as state_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from edgec_runtime.engines.base import Engine
    from edgec_runtime.model import Model
    from edgec_runtime.payload import Payload

READY_FORMAT = 1
MAX_PROVEN = 65536  # bytes


class Slot:
    """A slot of an app, ready to load: the active one, or the one on probation.

    Attributes:
        manifest: the parts of the manifest that loading needs; `payloads` are those that this machine can use.
        info: what `Model.info` starts from.
        store: member name -> (SHA-256 in hex, size in bytes), of the members that are in the store.
        folder: the slot's own.
        proven: payload id -> (SHA-256, stamp) of the library that gave its golden answers here (`slots.proven`).
    """

    __slots__ = ("folder", "info", "manifest", "proven", "root", "store")

    def __init__(
        self, root: str, folder: str, manifest: Mapping[str, Any], info: dict[str, Any], store: Mapping[str, Any]
    ) -> None:
        self.root = root
        self.folder = folder
        self.manifest = manifest
        self.info = info
        self.store = store
        self.proven = _proven(folder, info["identity"])

    def path(self, member: str) -> str:
        """The file of a member in the store. Raises TrustError where it is gone or has another size."""
        digest, size = self.store[member]
        path = store_path(self.root, digest)
        try:
            found = os.stat(path).st_size
        except OSError:
            found = -1
        if found != size:
            raise TrustError(
                f"the file of {member!r} in the store is {'gone' if found < 0 else 'damaged'}",
                f"{path} has {max(found, 0)} bytes, not {size}",
                "install the bundle again",
                code="E508",
            )
        return path

    def payload(self, entry: Mapping[str, Any]) -> Payload:
        """The files of a payload, for its engine. Raises TrustError: sealed, and this device can't open them."""
        payload: Payload
        if "encryption" in self.manifest:
            from edgec_runtime.sealed.payload import stored

            payload = stored(entry, self)
        else:
            from edgec_runtime.payload import StoredPayload

            payload = StoredPayload(entry, {role: self.path(member) for role, member in entry["files"].items()})
        payload.proven = self.proven.get(entry["id"], ("", ""))[1]
        return payload

    def check(self, entry: Mapping[str, Any], model: Model, engine: Engine) -> None:
        """Raise GoldenError where the engine's library is not the proven one, and does not give the golden answers."""
        library = engine.library()
        if library is not None and self.proven.get(entry["id"], ("", ""))[1] != library.stamp():
            from edgec_runtime.slots import proven

            proven.check(self, entry, model, engine)


def store_path(root: str, digest: str) -> str:
    """Where the store keeps the bytes with this SHA-256."""
    return os.path.join(root, "store", "sha256", digest)


def _proven(folder: str, identity: str) -> dict[str, tuple[str, str]]:
    """What the slot's file `proven` says of this manifest; nothing where there is none, or it is of another."""
    try:
        with open(os.path.join(folder, "proven"), "rb") as file:
            lines = file.read(MAX_PROVEN).decode().splitlines()
    except (OSError, ValueError):
        return {}
    if not lines or lines[0] != f"edgec-proven 1 {identity}":
        return {}
    parts = [line.split(" ", 2) for line in lines[1:]]
    return {part[0]: (part[1], part[2]) for part in parts if len(part) == 3}


def active(app: str, *, root: str | os.PathLike[str] | None = None) -> Slot:
    """The slot of an app that a load gets (`state.effective`).

    Raises MissingError where the app is not installed or has no version yet, TrustError where its state or its slot is
    damaged.
    """
    where = root_.find(root)
    folder = state_.app_folder(where, app)
    state = state_.read(folder, app)
    name = state.active
    if state.phase == "probation":
        from edgec_runtime.slots import boot

        name = state_.effective(state, boot.boot_id(), boot.now())
    if name == "-":
        raise none_active(state, app)
    return slot(where, app, state, name)


def slot(where: str, app: str, state: state_.State, name: str) -> Slot:
    """A slot of an app by its name, if its ready record is the one that the state says; else TrustError."""
    slot_folder = os.path.join(where, "apps", app, "slots", name)
    identity, crc = state.slot(name)
    try:
        with open(os.path.join(slot_folder, "ready.json"), "rb") as file:
            data = file.read()
        if f"{binascii.crc32(data):08x}" != crc:
            raise ValueError("its checksum is wrong")
        ready = record.loads(data)
        if ready["identity"] != identity:
            raise ValueError("it is not the one that was installed")
        if ready["format"] != READY_FORMAT:
            raise ValueError(f"its format is {ready['format']}, not {READY_FORMAT}")
        info = {
            "path": None,
            "installed": app,
            "slot": name,
            "identity": ready["identity"],
            "signers": ready["signers"],
            "trusted": True,
        }
        if state.more:
            from edgec_runtime.slots import preference

            payload, _ = preference.of(state)
            ready["manifest"]["payloads"] = preference.ordered(ready["manifest"]["payloads"], payload)
        return Slot(where, slot_folder, ready["manifest"], info, ready["store"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrustError(
            f"the {'active' if name == state.active else 'other'} slot of the app {app!r} is damaged",
            f"slot {name}: {error}",
            "install the bundle again",
            code="E507",
        ) from None


def none_active(state: state_.State, app: str) -> MissingError:
    """Why an app has no version to load, though it has a state."""
    if state.phase == "trial":
        why, fix = "its first version is on trial", "wait for its trial, or finish it: edgec-rt recover"
    elif state.phase == "probation":
        why, fix = "its first version was not confirmed in time", "install it again, and confirm it in time"
    else:
        why = f"its first version was given up: {state.why}" if state.why else "it has no version any more"
        fix = "install a version that works here: edgec-rt install FILE"
    return MissingError(f"the app {app!r} has no version to load", why, fix, code="E1002")
