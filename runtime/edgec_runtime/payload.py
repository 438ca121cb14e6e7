"""A payload's files, for the engine that loads it: as a path, or as mapped memory.

The files of an installed payload lie in the store, verified when they were installed. Those of a payload inside a
bundle are copied, hashed as they are copied, into an anonymous file (memfd_create, Linux 3.17): an engine that opens
a path reads exactly what was verified, nothing is left behind, and no second copy of the model sits in the heap.
Measured with ONNX Runtime 1.32 on a 91 MB model: peak memory 142 MB over the import for a path and for a memfd alike,
262 MB for `bytes`.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from edgec_runtime.bundle.reader import Bundle


class Payload:
    """One payload as the manifest lists it, and its files by role ("model", …).

    Attributes:
        entry: the manifest's entry (id, engine, options, …).
        roles: role -> the member's name.
        proven: the stamp (`engines.library.Library.stamp`) of the engine's library that gave this payload's golden
            answers on this machine; empty where none has.
    """

    proven = ""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        self.entry = entry
        self.roles: Mapping[str, str] = entry["files"]

    def path(self, role: str) -> str | None:
        """A path that gives the verified file's bytes until `close`; None where this system can't."""
        raise NotImplementedError

    def buffer(self, role: str) -> bytes | memoryview:
        """The verified file's bytes, mapped where possible, valid until `close`."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what `path` and `buffer` made. Engines have read their files by then, or hold a map."""


def of_bundle(entry: Mapping[str, Any], bundle: Bundle) -> Payload:
    """A payload inside an open bundle. Raises TrustError where it is sealed and this device can't open it."""
    if "encryption" in bundle.manifest:
        from edgec_runtime.sealed.payload import bundled

        return bundled(entry, bundle)
    return BundlePayload(entry, bundle)


class BundlePayload(Payload):
    """A payload inside an open bundle."""

    def __init__(self, entry: Mapping[str, Any], bundle: Bundle) -> None:
        super().__init__(entry)
        self._bundle = bundle
        self._files: dict[str, int] = {}

    def path(self, role: str) -> str | None:
        """A path of an anonymous file with the member's bytes. Raises TrustError where they are not as signed."""
        if not hasattr(os, "memfd_create"):
            return None
        if role not in self._files:
            file = os.memfd_create("edgec", os.MFD_CLOEXEC)
            try:
                self._bundle.copy(self.roles[role], file)
            except BaseException:
                os.close(file)
                raise
            self._files[role] = file
        return f"/proc/self/fd/{self._files[role]}"

    def buffer(self, role: str) -> bytes | memoryview:
        """A copy of the member that was hashed itself, so that nobody changes it afterwards."""
        return self._bundle.read(self.roles[role])

    def close(self) -> None:
        """Close the anonymous files; a map of one stays valid."""
        while self._files:
            os.close(self._files.popitem()[1])


class StoredPayload(Payload):
    """A payload whose files lie in a device's store, verified when they were installed."""

    def __init__(self, entry: Mapping[str, Any], paths: Mapping[str, str]) -> None:
        super().__init__(entry)
        self._paths = paths

    def path(self, role: str) -> str:
        """The file in the store."""
        return self._paths[role]

    def buffer(self, role: str) -> bytes | memoryview:
        """The file in the store, mapped."""
        import mmap

        with open(self._paths[role], "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return b""
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
