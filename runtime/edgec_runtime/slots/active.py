"""Loading an installed app: its active slot's ready record and its files in the store, without hashing again.

What was installed was verified then, signature, hashes and all. A load reads two small files and looks at the sizes
of the files that it uses; `edgec-rt selftest --app` hashes everything again.
"""

from __future__ import annotations

import binascii
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgec_runtime import root as root_
from edgec_runtime.errors import TrustError
from edgec_runtime.slots import record
from edgec_runtime.slots import state as state_

if TYPE_CHECKING:
    from edgec_runtime.payload import StoredPayload

READY_FORMAT = 1


class Slot:
    """An app's active slot, ready to load.

    Attributes:
        manifest: the parts of the manifest that loading needs; `payloads` are those that this machine can use.
        info: what `Model.info` starts from.
        store: member name -> (SHA-256 in hex, size in bytes), of the members that are in the store.
    """

    __slots__ = ("info", "manifest", "root", "store")

    def __init__(self, root: str, manifest: Mapping[str, Any], info: dict[str, Any], store: Mapping[str, Any]) -> None:
        self.root = root
        self.manifest = manifest
        self.info = info
        self.store = store

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

    def payload(self, entry: Mapping[str, Any]) -> StoredPayload:
        """The files of a payload, for its engine."""
        from edgec_runtime.payload import StoredPayload

        return StoredPayload(entry, {role: self.path(member) for role, member in entry["files"].items()})


def store_path(root: str, digest: str) -> str:
    """Where the store keeps the bytes with this SHA-256."""
    return os.path.join(root, "store", "sha256", digest)


def active(app: str, *, root: str | os.PathLike[str] | None = None) -> Slot:
    """The active slot of an app.

    Raises MissingError where the app is not installed, TrustError where its state or its slot is damaged.
    """
    where = root_.find(root)
    folder = state_.app_folder(where, app)
    state = state_.read(folder, app)
    try:
        with open(os.path.join(folder, "slots", state.active, "ready.json"), "rb") as file:
            data = file.read()
        if f"{binascii.crc32(data):08x}" != state.ready:
            raise ValueError("its checksum is wrong")
        ready = record.loads(data)
        if ready["identity"] != state.identity:
            raise ValueError("it is not the one that was installed")
        if ready["format"] != READY_FORMAT:
            raise ValueError(f"its format is {ready['format']}, not {READY_FORMAT}")
        info = {
            "path": None,
            "installed": app,
            "slot": state.active,
            "identity": ready["identity"],
            "signers": ready["signers"],
            "trusted": True,
        }
        if state.more:
            from edgec_runtime.slots import preference

            payload, _ = preference.of(state)
            ready["manifest"]["payloads"] = preference.ordered(ready["manifest"]["payloads"], payload)
        return Slot(where, ready["manifest"], info, ready["store"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrustError(
            f"the active slot of the app {app!r} is damaged",
            f"slot {state.active}: {error}",
            "install the bundle again",
            code="E507",
        ) from None
