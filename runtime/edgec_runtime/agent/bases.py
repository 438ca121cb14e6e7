"""Which files of an app the store holds, by name: what a delta can be made against."""

from __future__ import annotations

import os

from edgec_runtime.slots import record
from edgec_runtime.slots import state as state_
from edgec_runtime.slots.active import store_path

MAX_RECORD = 1 << 21  # bytes
MAX_BASES = 2048


def held(root: str, app: str) -> list[tuple[str, str, int]]:
    """(member's name, SHA-256, size) of what the app's slots refer to and the store has, the active slot's first.

    A slot that can't be read has none: then members are sent whole.
    """
    folder = state_.app_folder(root, app)
    try:
        active = state_.read(folder, app).active
    except Exception:
        active = "-"
    found: dict[str, tuple[str, str, int]] = {}
    for slot in sorted(state_.SLOTS, key=lambda name: name != active):
        for name, digest, size in _slot(os.path.join(folder, "slots", slot)):
            try:
                there = os.stat(store_path(root, digest)).st_size
            except (OSError, ValueError):
                continue
            if there == size and len(found) < MAX_BASES:
                found.setdefault(digest, (name, digest, size))
    return list(found.values())


def _slot(folder: str) -> list[tuple[str, str, int]]:
    try:
        with open(os.path.join(folder, "ready.json"), "rb") as file:
            store = record.loads(file.read(MAX_RECORD))["store"]
        return [(str(name), str(digest), int(size)) for name, (digest, size) in store.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
