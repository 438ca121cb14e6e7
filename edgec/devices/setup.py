"""The runtime and one engine onto a bare device: Python 3.9 is all it needs; no pip, no root, no internet there.

look (probe) → refuse what can't work, before anything is sent → make the device wheel here → send it (what a cut
transfer left is kept) → unpack beside what runs → try it there: the engine computes, a small signed bundle passes its
selftest → whom it trusts → only then make it the one that runs, and have systemd recover after a power cut. Doing it
again changes nothing.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgec.devices import board
from edgec.devices.address import Address
from edgec.devices.probe import Probe, probe
from edgec.devices.surprises import surprises
from edgec.devices.transport import Connection, connect
from edgec.errors import BadInputError, TrustError, UnreachableError, UnsupportedError, UsageError
from edgec_toolchains import wheelhouse

RECEIVE = Path(__file__).with_name("remote") / "receive.py"
RECONNECTS = 2  # times that a lost connection is made again before giving up
SPARE = 4_000_000  # bytes left free beside the wheel and what it becomes

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Package:
    """A device wheel that is ready to send.

    Attributes:
        path: the file.
        id: the version's folder on the device: changes with any byte of the wheel.
        engine, version, arch: what is in it; installed: bytes that it becomes.
    """

    path: Path
    id: str
    engine: str
    version: str
    arch: str
    installed: int


@dataclass(frozen=True)
class Key:
    """The public key whose bundles the device shall trust: its id, and its PEM text."""

    id: str
    pem: str


NO_KEY = Key("", "")
"""For a device that is to trust root metadata: single keys don't count there."""


@dataclass(frozen=True)
class SetUp:
    """What setup did.

    Attributes:
        root: edgec's folder on the device; launcher: `edgec-rt` there.
        importable: the file that lets the user's Python import edgec_runtime; empty where it may not.
        id, before: the version that runs now, and the one that ran before.
        engine, version: what came.
        key_id: the key that was put there; empty where root metadata was sent instead.
        root_version: of the root metadata that is trusted now, whose release keys alone count; 0 where single keys do.
        unit: the systemd unit that recovers after a power cut, empty where none was put; note: what to know about it.
        sent: bytes; 0 where all was there.
        doctor: what `edgec-rt doctor --json` said; selftest: what the check's selftest said, None without one.
    """

    root: str
    launcher: str
    importable: str
    id: str
    before: str
    engine: str
    version: str
    key_id: str
    sent: int
    doctor: dict[str, Any]
    selftest: dict[str, Any] | None
    root_version: int = 0
    unit: str = ""
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def choose_engine(found: Probe, wanted: str | None) -> str:
    """The engine whose library this device can load: `wanted`, or the slimmest that edgec compiles for such a device.

    Raises UnsupportedError (E408, exit 4) where none, or not the wanted one, fits; MissingError for an unknown name.
    """
    compiled = board.engines(found)
    reasons = []
    for name in [wanted] if wanted else [name for name in wheelhouse.names() if name in compiled]:
        pin = wheelhouse.pin(name, found.arch)
        if found.glibc and board.older(found.glibc, pin.glibc):
            reasons.append(f"{name} {pin.version} needs glibc {pin.glibc}; the device has {found.glibc}")
        else:
            return name
    raise UnsupportedError(
        f"{wanted or 'no engine'} can't run on this device", "; ".join(reasons),
        "Take another --engine." if wanted else "Update its system.", code="E408",
    )  # fmt: skip


def refuse(address: Address, found: Probe) -> None:
    """Raise UnsupportedError (E409, exit 4) where something stops a device; nothing was sent then."""
    stops = [each for each in surprises(found) if each.level == "stop"]
    if stops:
        raise UnsupportedError(
            f"{address} can't be set up: {stops[0].what}",
            "; ".join(each.what for each in stops[1:]) or "nothing was sent",
            " ".join(each.fix for each in stops),
            code="E409",
        )


def package(found: Probe, *, engine: str | None = None, wheel: Path | None = None) -> Package:
    """The wheel for a device: made here (the engine's own wheel is downloaded once), or the one that is given.

    Raises BadInputError (E918) where the given file is no device wheel, or is for another machine.
    """
    if wheel is None:
        made = wheelhouse.device_wheel(choose_engine(found, engine), found.arch)
        return _package(made.path, made.engine, made.version, made.arch, made.installed)
    return given(wheel, found.arch)


def given(wheel: Path, arch: str) -> Package:
    """A device wheel that somebody made elsewhere, by its name. Raises BadInputError (E918)."""
    import zipfile

    try:
        _, version, _, _, platform = wheel.name.removesuffix(".whl").split("-")
        engine, _, engine_version = version.partition("+")[2].partition(".")
        with zipfile.ZipFile(wheel) as archive:
            installed = sum(entry.file_size for entry in archive.infolist())
            if not any(name.startswith("edgec_runtime/lib/") for name in archive.namelist()):
                raise ValueError("it holds no engine")
    except (OSError, ValueError, zipfile.BadZipFile) as e:
        raise BadInputError(f"{wheel} is no device wheel", str(e), "make device-wheel makes one.", code="E918") from e
    if not platform.endswith(f"_{arch}"):
        raise BadInputError(f"{wheel.name} is for {platform}", f"the device is {arch}", "", code="E918")
    return _package(wheel, engine, engine_version, arch, installed)


async def setup(
    address: Address,
    *,
    key: Key,
    chain: Sequence[bytes] = (),
    root: str = "",
    engine: str | None = None,
    wheel: Path | None = None,
    check: Callable[[Probe, str], Path | None] = lambda found, engine: None,
    importable: bool = True,
    step: Progress = lambda text: None,
    sent: Callable[[int], None] = lambda count: None,
) -> tuple[Probe, SetUp]:
    """Set a device up; what is there already is kept. Raises as its parts do: nothing runs that was not tried there.

    Args:
        address: the device.
        key: whose bundles it shall trust (`NO_KEY` beside a chain).
        chain: envelopes of root metadata, oldest first: the last is pinned where the device has none, those that it
            lacks are followed where it has one (`edgec_runtime.trust.rotate.adopt`).
        root: edgec's folder there; empty for the device's own rule (`$EDGEC_ROOT`, /var/lib/edgec where it exists,
            ~/.local/share/edgec).
        engine, wheel: which engine, or the wheel itself.
        check: makes a bundle for the device and engine whose selftest must pass there; None for none.
        importable: whether the user's own Python shall find edgec_runtime (a .pth file in the user's site-packages).
        step: told of each step; `sent` of each piece that goes over the line.
    """
    if root and (not root.isprintable() or root in ("/", "~", "~/")):
        raise UsageError(f"--root {root!r} is no folder for edgec", "", "Name a folder of its own.", code="E216")
    step("looking at the device")
    async with connect(address) as device:
        found = await probe(device, root=root)
    refuse(address, found)
    step("making the wheel")
    ready = package(found, engine=engine, wheel=wheel)
    bundle = check(found, ready.engine)
    _room(address, found, ready)
    python = found.python
    assert python is not None  # else it was refused
    order = {
        "root": found.root, "id": ready.id, "wheel": f"{found.root}/stage/{ready.id}.whl", "key_id": key.id,
        "pem": key.pem, "python": python.path, "importable": importable,
    }  # fmt: skip
    for attempt in range(RECONNECTS + 1):
        try:
            async with connect(address) as device:
                return found, await _install(device, order, ready, bundle, key, chain, step, sent)
        except UnreachableError as error:
            # A connection that was lost is made again; one that can't be made is told.
            if error.code != "E1104" or attempt == RECONNECTS:
                raise
            step("the connection was lost: going on where it stopped")
    raise AssertionError


async def _install(
    device: Connection,
    order: dict[str, Any],
    ready: Package,
    bundle: Path | None,
    key: Key,
    chain: Sequence[bytes],
    step: Progress,
    sent: Callable[[int], None],
) -> SetUp:
    python, root = order["python"], order["root"]
    there = await _ask(device, python, "state", order)
    count = 0
    if not there["complete"]:
        step(f"sending {ready.engine} {ready.version} ({ready.path.stat().st_size / 1e6:.1f} MB)")
        count = await device.put(ready.path, order["wheel"], progress=sent)
    step("unpacking")
    folder = (await _ask(device, python, "unpack", order))["folder"]
    step("trying it there")
    environment = ["env", f"EDGEC_ROOT={root}", f"PYTHONPATH={folder}"]
    edgec_rt = [*environment, python, "-m", "edgec_runtime"]
    try:
        doctor = await _doctor(device, edgec_rt, ready)
        selftest = await _selftest(device, edgec_rt, root, bundle) if bundle else None
    except UnsupportedError:
        await _ask(device, python, "discard", order)
        raise
    version = int(doctor.get("root_version") or 0)
    if chain:
        step("telling it whom to trust")
        version = await _trust(device, environment, python, chain)
    step("making it the one that runs")
    done = await _ask(device, python, "activate", order)
    unit = await _unit(device, edgec_rt, python, order)
    return SetUp(
        root=root,
        launcher=done["launcher"],
        importable=done["importable"],
        id=ready.id,
        before=done["before"],
        engine=ready.engine,
        version=ready.version,
        key_id=key.id,
        sent=count,
        doctor=doctor,
        selftest=selftest,
        root_version=version,
        unit=unit["unit"],
        note=unit["note"],
    )


async def _trust(device: Connection, environment: list[str], python: str, chain: Sequence[bytes]) -> int:
    """Send root metadata; the version that the device trusts then. Raises TrustError as the device says."""
    data = json.dumps({"chain": [base64.b64encode(envelope).decode() for envelope in chain]}).encode()
    done = await device.run([*environment, python, "-m", "edgec_runtime.trust"], stdin=data, check=False, timeout=120)
    answer: dict[str, Any] = _json(done.stdout or done.stderr.encode(), device)
    said = answer.get("error")
    if said:
        raise TrustError(
            f"{device.address}: {said['what']}", said["why"], f"{said['fix']}. What ran before still runs.",
            code=said["code"],
        )  # fmt: skip
    return int(answer["version"])


async def _unit(device: Connection, edgec_rt: list[str], python: str, order: dict[str, Any]) -> dict[str, Any]:
    """Have `edgec-rt recover` run when the device starts; what came of it, with a note where something is to do."""
    units = {}
    for kind in ("user", "system"):
        done = await device.run([*edgec_rt, "recover", "--unit", kind], check=False, timeout=60)
        if done.status:
            return {"unit": "", "note": "this version of edgec-rt has no unit for systemd"}
        units[kind] = done.stdout.decode("utf-8", "replace")
    try:
        return await _ask(device, python, "unit", {**order, "units": units})
    except UnsupportedError as error:  # the runtime runs already: a unit that can't be put is no reason to fail
        return {"unit": "", "note": f"systemd's unit was not put: {error.why}"}


async def _ask(device: Connection, python: str, action: str, order: dict[str, Any]) -> dict[str, Any]:
    """One action of the program that runs on the device."""
    command = [python, "-", action, json.dumps(order)]
    done = await device.run(command, stdin=RECEIVE.read_bytes(), check=False, timeout=600)
    if done.status:
        words = (done.stderr.strip().splitlines() or [f"exit status {done.status}"])[-1]
        raise UnsupportedError(
            f"{device.address} can't {action} the runtime in {order['root']}", words,
            "Look at that folder and its disk; what ran before still runs.", code="E410",
        )  # fmt: skip
    answer: dict[str, Any] = _json(done.stdout, device)
    return answer


async def _doctor(device: Connection, edgec_rt: list[str], ready: Package) -> dict[str, Any]:
    done = await device.run([*edgec_rt, "doctor", "--json"], check=False, timeout=600)
    if done.status:
        raise _does_not_work(device, ready, " ".join(done.stderr.split())[-400:] or f"exit status {done.status}")
    found: dict[str, Any] = _json(done.stdout, device)
    wrong = [problem for problem in found["problems"] if f"'{ready.engine}'" in problem]
    if wrong or found["engines"].get(ready.engine) != ready.version:
        raise _does_not_work(device, ready, "; ".join(wrong) or f"found are {found['engines']}")
    return found


async def _selftest(device: Connection, edgec_rt: list[str], root: str, bundle: Path) -> dict[str, Any]:
    path = f"{root}/stage/check.edge"
    await device.put(bundle, path)
    # Who signed it is not what is tested here: the device may trust another key than this user's.
    done = await device.run([*edgec_rt, "selftest", path, "--allow-unsigned", "--json"], check=False, timeout=600)
    await device.run(["rm", "-f", path], check=False)
    if done.status:
        raise UnsupportedError(
            f"the selftest fails on {device.address}", " ".join(done.stderr.split())[-400:],
            "What ran before still runs.", code="E411",
        )  # fmt: skip
    found: dict[str, Any] = _json(done.stdout, device)
    return found


def _does_not_work(device: Connection, ready: Package, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"{ready.engine} {ready.version} does not work on {device.address}", why,
        "Take another --engine. What ran before still runs.", code="E411",
    )  # fmt: skip


def _json(data: bytes, device: Connection) -> Any:
    """The last JSON object of an output: login shells may print a greeting first."""
    text = data.decode("utf-8", "replace")
    try:
        return json.loads(text[text.index("{") :])
    except ValueError as e:
        raise UnsupportedError(
            f"{device.address} answers with something else",
            text.strip()[-200:],
            "Is its login shell quiet?",
            code="E406",
        ) from e


def _room(address: Address, found: Probe, ready: Package) -> None:
    need = ready.path.stat().st_size + ready.installed + SPARE
    if found.disk is not None and found.disk < need:
        raise UnsupportedError(
            f"{address} has too little room", f"{need / 1e6:.0f} MB are needed at {found.root}, {found.disk / 1e6:.0f} "
            "MB are free", "Free some space, or name another --root. Nothing was sent.", code="E409",
        )  # fmt: skip


def _package(path: Path, engine: str, version: str, arch: str, installed: int) -> Package:
    from edgec_toolchains.wheelhouse.fetch import digest

    runtime = path.name.split("-")[1].partition("+")[0]
    return Package(path, f"{runtime}-{engine}-{version}-{digest(path)[:12]}", engine, version, arch, installed)
