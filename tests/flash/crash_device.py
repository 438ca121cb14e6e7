"""A device for the tests of power cuts and kills: small real models in signed bundles, and a look at what it became.

Everything here is the device's own code on a folder that the test gives. Only two things are replaced, and only where
a test asks for it: the boot's id and clock (a test can't reboot the machine), and the process that the health check
runs in (`in_process`; a new Python for each of thousands of states would take an hour).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import edgec_runtime as rt
from edgec_runtime.bundle import tensors
from edgec_runtime.engines import library
from edgec_runtime.errors import Error, MissingError
from edgec_runtime.slots import boot, collect, health, health_child, incoming, journal, states, store
from edgec_runtime.slots import state as state_
from edgec_runtime.trust import store as trust_store
from tests.runtime.conftest import Kit, private_key, public_raw, tiny_model

APP = "tiny"
OPS = {1: "Add", 2: "Mul", 3: "Sub", 4: "Max"}
PADDING = 9000  # bytes: a member of three blocks can be torn
FEED = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
ANSWERS = {
    1: tuple(2 * x for x in FEED), 2: tuple(x * x for x in FEED), 3: (0.0,) * 6, 4: FEED,
}  # fmt: skip


def floats(values: Sequence[float]) -> bytes:
    import struct

    return struct.pack(f"<{len(values)}f", *values)


@dataclass(frozen=True)
class Bundle:
    """What a device is sent: the signed manifest, and the members by their SHA-256."""

    version: int
    envelope: bytes
    members: Mapping[str, bytes] = field(repr=False)

    @property
    def answer(self) -> tuple[float, ...]:
        return ANSWERS[self.version]


def bundle(version: int, *, good: bool = True, floor: int = 0, keys: Iterable[int] = (1,)) -> Bundle:
    """Version `version` of the app: one ONNX model of its own, golden inputs and answers (wrong ones if not good)."""
    import onnx

    model = onnx.load_model_from_string(tiny_model(op=OPS[version]))
    model.doc_string = random.Random(version).randbytes(PADDING // 2).hex()
    kit = Kit(files={"payloads/onnxruntime/model.onnx": model.SerializeToString()})
    kit.manifest["app"] = {"name": APP, "version": f"{version}.0.0", "sequence": version}
    if floor:
        kit.manifest["app"]["floor"] = floor
    kit.files["golden/inputs.bin"] = tensors.encode([tensors.Item("0/x", "float32", (2, 3), floats(FEED))])
    answer = ANSWERS[version] if good else tuple(x + 3 for x in ANSWERS[version])
    kit.files["golden/out.bin"] = tensors.encode([tensors.Item("0/y", "float32", (2, 3), floats(answer))])
    kit.manifest["golden"] = {**kit.manifest["golden"], "kind": "data", "samples": 1, "inputs": "golden/inputs.bin"}
    kit.manifest["payloads"][0]["golden"] = {"expected": "run", "file": "golden/out.bin", "min_sqnr_db": 60.0}
    kit.keys = [private_key(number) for number in keys]
    members = {hashlib.sha256(data).hexdigest(): data for data in kit.files.values()}
    return Bundle(version, kit.envelope(), members)


class Device:
    """A root folder, by the device's own functions."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def trust_key(self, number: int = 1) -> None:
        """The development key, as `devices setup` puts it there."""
        raw = public_raw(private_key(number))
        (self.root / "trust").mkdir(parents=True, exist_ok=True)
        (self.root / "trust" / f"{trust_store.key_id(raw)}.pem").write_bytes(trust_store.to_pem(raw))

    def transfer(self, sent: Bundle, app: str = APP, **how: Any) -> None:
        """All of an installation up to the acknowledgement, in pieces as the agent does."""
        with incoming.begin(sent.envelope, root=self.root, app=app) as coming:
            for member in coming.members:
                data = sent.members[member.sha256]
                offset = member.have
                while offset < member.size:
                    offset = coming.append(member.sha256, offset, data[offset : offset + 6000])
                coming.finish(member.sha256)
            coming.commit(**how)

    def trial(self, app: str = APP) -> Any:
        from edgec_runtime.slots import trial

        return trial.trial(app, root=self.root)

    def install(self, sent: Bundle, app: str = APP, **how: Any) -> Any:
        self.transfer(sent, app, **how)
        return self.trial(app)

    def recover(self) -> Any:
        from edgec_runtime.slots import recover

        return recover.recover(root=self.root)

    def rollback(self, app: str = APP) -> Any:
        from edgec_runtime.slots import rollback

        return rollback.rollback(app, root=self.root)

    def confirm(self, app: str = APP) -> Any:
        from edgec_runtime.slots import confirm

        return confirm.confirm(app, root=self.root)

    def remove(self, app: str = APP) -> Any:
        from edgec_runtime.slots import remove

        return remove.remove(app, root=self.root)

    def collect(self) -> int:
        return collect.collect(str(self.root))

    def status(self, app: str = APP) -> Mapping[str, Any]:
        from edgec_runtime.slots import status

        (found,) = status.status(app, root=self.root)
        return found

    def state(self, app: str = APP) -> state_.State:
        return state_.read(state_.app_folder(str(self.root), app), app)

    def current(self, app: str = APP) -> int | None:
        """The version that a load gives, run and held against its right answers; None where none is installed.

        Raises AssertionError where it computes something else, and what `load` raises.
        """
        try:
            os.environ["EDGEC_ROOT"] = str(self.root)
            model = rt.load(app=app)
        except MissingError:
            return None
        with model:
            import numpy as np

            version = int(model.info["app"]["version"].partition(".")[0])
            answer = model.run({"x": np.array(FEED, np.float32).reshape(2, 3)})["y"]
            assert tuple(answer.ravel().tolist()) == ANSWERS[version], f"version {version} gives wrong answers"
            return version


def wrong(device: Device, app: str = APP) -> str:
    """What is wrong with an app after recovery; empty where nothing is. Absent is right too: the caller knows better.

    One current version that loads and computes; a status that says the same; every file whole of each slot that the
    record names; nothing undecided but a probation.
    """
    where = str(device.root)
    try:
        version = device.current(app)
    except (Error, AssertionError) as error:
        return f"it does not load: {error}"
    try:
        state = device.state(app)
    except MissingError:
        return "" if version is None else "it loads without a state"
    except Error as error:
        return f"its state can't be read: {error}"
    try:
        told = device.status(app)
    except Error as error:
        return f"it has no status: {error}"
    if state.phase == "trial":
        return "it is on trial still"
    effective = state_.effective(state, boot.boot_id(), boot.now())
    if (version is None) != (effective == "-"):
        return f"a load gives {version}, the record says {effective}"
    if version is not None and told["version"] != f"{version}.0.0" and state.phase == "none":
        return f"the status says {told['version']}, a load gives {version}"
    if told["phase"] != state.phase:
        return f"the status says {told['phase']}, the record {state.phase}"
    for name in state_.SLOTS:
        if state.slot(name)[0] != "-":
            try:
                slot = _slot(where, app, state, name)
            except Error as error:
                return f"slot {name}: {error}"
            for member, (digest, size) in slot.store.items():
                if not store.holds(where, digest, size):
                    return f"slot {name}: {member} is not whole in the store"
    journal.read(where, app)
    return ""


def _slot(where: str, app: str, state: state_.State, name: str) -> Any:
    from edgec_runtime.slots import active

    return active.slot(where, app, state, name)


def garbage(device: Device) -> list[str]:
    """What collection should have taken away: members that no slot refers to, and unfinished files."""
    where = str(device.root)
    needed = collect.referenced(where)
    if needed is None:
        return []
    left = [digest for digest, _ in store.members(where) if digest not in needed]
    stage = device.root / "stage"
    return left + [path.name for path in stage.iterdir() if path.name != "lock"] if stage.is_dir() else left


def apps(device: Device) -> list[str]:
    """The apps that have a state."""
    where = str(device.root)
    return [app for app in states.apps(where) if os.path.exists(os.path.join(where, "apps", app, "state"))]


class Boot:
    """A boot that a test can end: another id, and the clock since the start begins again."""

    def __init__(self) -> None:
        self.first()

    def __enter__(self) -> Boot:
        self._kept = boot.boot_id, boot.now
        boot.boot_id, boot.now = lambda: f"{self.number:08x}-0000", lambda: self.clock
        return self

    def __exit__(self, *_: object) -> None:
        boot.boot_id, boot.now = self._kept

    def first(self) -> None:
        """The boot that a test begins in."""
        self.number, self.clock = 1, 100.0

    def again(self) -> None:
        """The power comes back."""
        self.number, self.clock = self.number + 1, 10.0


@contextlib.contextmanager
def in_process() -> Iterator[None]:
    """The health check without a process of its own: the same functions, the same files written.

    The engine's library (26 MB) is hashed once for all checks.
    """
    kept = health._asked, health_child._apart, library.Library.sha256

    def asked(root: str, app: str, slot: str, seconds: float) -> dict[str, Any]:
        try:
            return health_child.check(root, app, slot, lambda step: None)
        except Error as error:
            return {"ok": False, "code": "E708", "why": f"{error.what}: {error.why}"}

    @functools.cache
    def digest(stamp: str, path: str) -> str:
        return kept[2](library.Library(path, ""))

    health._asked, health_child._apart = asked, lambda work, *limits: work()
    library.Library.sha256 = lambda self: digest(self.stamp(), self.path)
    try:
        yield
    finally:
        health._asked, health_child._apart, library.Library.sha256 = kept
