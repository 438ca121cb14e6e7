"""The user's devices, in SQLite: `devices.sqlite` in `$EDGEC_CONFIG`, else in the user's configuration folder.

Not in the data folder: that may be this machine's own root (`edgec_runtime.root`).
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec.devices.address import Address, plain
from edgec.errors import BadInputError, MissingError, UsageError

VERSION = 1  # of the table: PRAGMA user_version
_TABLE = """
CREATE TABLE IF NOT EXISTS devices (
  name TEXT PRIMARY KEY,
  address TEXT NOT NULL UNIQUE,
  board TEXT NOT NULL DEFAULT '',
  added TEXT NOT NULL,
  probed TEXT NOT NULL DEFAULT '',
  probe TEXT NOT NULL DEFAULT '{}',
  installed TEXT NOT NULL DEFAULT '{}'
)
"""


@dataclass(frozen=True)
class Device:
    """One device.

    Attributes:
        name: unique, the user's.
        address: as `Address.parse` reads it.
        board: a board's name or the path of a board file; empty for not known.
        added, probed: when, ISO 8601 in UTC; empty for never.
        probe: what the last probe found (`Probe.as_dict`).
        installed: what setup put there: version, engine, root.
    """

    name: str
    address: str
    board: str
    added: str
    probed: str
    probe: Mapping[str, Any]
    installed: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {**self.__dict__, "probe": dict(self.probe), "installed": dict(self.installed)}


def path() -> Path:
    """Where the inventory is; it need not exist yet."""
    configured = os.environ.get("EDGEC_CONFIG")
    if configured:
        return Path(configured) / "devices.sqlite"
    import platformdirs

    return Path(platformdirs.user_config_dir("edgec")) / "devices.sqlite"


def devices() -> list[Device]:
    """All devices, by name."""
    with _open() as store:
        return [_device(row) for row in store.execute("SELECT * FROM devices ORDER BY name")]


def add(address: Address, *, name: str, board: str, now: str) -> Device:
    """Add a device. Raises UsageError (E215) where its name or its address is there already."""
    plain(name)
    with _open() as store:
        try:
            store.execute(
                "INSERT INTO devices (name, address, board, added) VALUES (?, ?, ?, ?)",
                (name, str(address), board, now),
            )
        except sqlite3.IntegrityError as e:
            row = store.execute("SELECT * FROM devices WHERE name = ? OR address = ?", (name, str(address))).fetchone()
            raise UsageError(
                f"there is a device '{row['name']}' at {row['address']}", "Names and addresses are unique.",
                f"Choose another --name, or first: edgec devices remove {row['name']}", code="E215",
            ) from e  # fmt: skip
    return get(name)


def remove(name: str) -> Device:
    """Take a device out of the inventory; nothing on the device changes. Raises MissingError (E1040)."""
    device = get(name)
    with _open() as store:
        store.execute("DELETE FROM devices WHERE name = ?", (device.name,))
    return device


def get(name: str) -> Device:
    """The device of a name, or of an address that was added. Raises MissingError (E1040) where there is none."""
    found = find(name)
    if found is None:
        names = ", ".join(device.name for device in devices()) or "none"
        raise MissingError(
            f"no device '{name}'", f"known are: {names}", "edgec devices add USER@HOST adds one.", code="E1040"
        )
    return found


def find(name: str) -> Device | None:
    """The same, or None."""
    with _open() as store:
        row = store.execute("SELECT * FROM devices WHERE name = ? OR address = ?", (name, name)).fetchone()
    return _device(row) if row else None


def board(name: str) -> str:
    """What `-t NAME` means where NAME is one of the user's devices: its board or board file; else NAME itself."""
    from edgec_targets import registry

    if name.endswith(".toml") or name in registry.board_names() or not path().is_file():
        return name
    found = find(name)
    return found.board if found and found.board else name


def resolve(text: str) -> Address:
    """The address of a device by its name, or the address itself."""
    found = find(text)
    return Address.parse(found.address if found else text)


def note(address: Address, *, now: str, probe: Mapping[str, Any], board: str = "") -> None:
    """Remember what a probe found, where the device is in the inventory; its board only where none was named."""
    with _open() as store:
        store.execute(
            "UPDATE devices SET probed = ?, probe = ?, board = CASE WHEN board = '' THEN ? ELSE board END "
            "WHERE address = ?",
            (now, json.dumps(dict(probe)), board, str(address)),
        )


def note_setup(address: Address, installed: Mapping[str, Any]) -> None:
    """Remember what setup put on a device, where it is in the inventory."""
    with _open() as store:
        text = json.dumps(dict(installed))
        store.execute("UPDATE devices SET installed = ? WHERE address = ?", (text, str(address)))


@contextlib.contextmanager
def _open() -> Iterator[sqlite3.Connection]:
    """The store, made where it is missing; one transaction. Raises BadInputError (E917)."""
    where = path()
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
        store = sqlite3.connect(where, timeout=10)
    except (OSError, sqlite3.Error) as e:
        raise _broken(where, str(e)) from e
    try:
        store.row_factory = sqlite3.Row
        with store:
            version = store.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise _broken(where, f"a newer edgec wrote it (version {version})")
            store.execute(_TABLE)
            store.execute(f"PRAGMA user_version = {VERSION}")
            yield store
    except sqlite3.IntegrityError:
        raise
    except sqlite3.Error as e:
        raise _broken(where, str(e)) from e
    finally:
        store.close()


def _device(row: sqlite3.Row) -> Device:
    return Device(
        row["name"],
        row["address"],
        row["board"],
        row["added"],
        row["probed"],
        json.loads(row["probe"]),
        json.loads(row["installed"]),
    )


def _broken(where: Path, why: str) -> BadInputError:
    return BadInputError(
        f"the inventory of devices can't be used: {where}", why, "Move the file away to begin anew.", code="E917"
    )
