"""What `edgec doctor` looks at. Each check gives one `Finding`; nothing is changed on the machine."""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

LOW_DISK = 2_000_000_000  # bytes: a venv with the engines takes about 1 GB, a compile of a 100 MB model as much again


@dataclass(frozen=True)
class Finding:
    """`state`: ok, note (works, but read it) or missing (something required isn't there)."""

    what: str
    state: Literal["ok", "note", "missing"]
    found: str
    fix: str = ""

    def as_dict(self) -> dict[str, str]:
        """For --json."""
        return asdict(self)


def examine() -> list[Finding]:
    """Every check, in the order to read them."""
    return [*_python(), *_packages(), _engine_loads(), *_cpu(), *_keys(), *_disk()]


def _python() -> Iterator[Finding]:
    running = platform.python_version()
    wanted = version_wanted()
    if tuple(int(n) for n in platform.python_version_tuple()[:2]) >= wanted:
        yield Finding("Python", "ok", running)
    else:
        yield Finding("Python", "missing", running, f"edgec needs {wanted[0]}.{wanted[1]} or newer")
    yield Finding("platform", "ok", platform.platform())


def version_wanted() -> tuple[int, int]:
    """The oldest Python of this distribution, from its metadata (`Requires-Python`)."""
    from importlib.metadata import metadata

    match = re.search(r"(\d+)\.(\d+)", metadata("edgec")["Requires-Python"] or "")
    return (int(match[1]), int(match[2])) if match else (3, 11)


def _packages() -> Iterator[Finding]:
    """Every dependency of edgec against the range in its own metadata (extras aside)."""
    from edgec_runtime.bundle.version import within

    for text in requires("edgec") or ():
        name_and_range, _, marker = text.partition(";")
        if "extra" in marker:
            continue
        match = re.match(r"\s*([A-Za-z0-9._-]+)\s*(.*)", name_and_range)
        if match is None:
            continue
        name, allowed = match[1], match[2].strip().strip("()").strip()
        install = f"pip install '{name}{allowed}'"
        try:
            found = version(name)
        except PackageNotFoundError:
            yield Finding(name, "missing", "not installed", install)
            continue
        if within(found, allowed):
            yield Finding(name, "ok", f"{found} ({allowed})")
        else:
            yield Finding(name, "missing", f"{found}, outside {allowed}", install)


def _engine_loads() -> Finding:
    """Import ONNX Runtime and run one node: a wheel for another CPU or C library fails only then."""
    from edgec_targets.emitters.onnxruntime.session import open_session
    from edgec_targets.probe.releases import one_node

    try:
        import numpy as np

        session = open_session(one_node(21, 10), {})
        answer = np.asarray(session.run(None, {"x": np.array([-1.0], np.float32)})[0]).item()
    except Exception as e:  # whatever it is, it is the finding
        return Finding("ONNX Runtime runs", "missing", f"{type(e).__name__}: {e}", "reinstall onnxruntime")
    if answer != 0.0:
        return Finding("ONNX Runtime runs", "missing", f"Relu(-1) gave {answer}", "reinstall onnxruntime")
    return Finding("ONNX Runtime runs", "ok", "one node, right answer")


def _cpu() -> Iterator[Finding]:
    from edgec_targets.machine import facts

    machine = facts()
    yield Finding("CPU", "ok", f"{machine['cpu'] or machine['arch']}, {machine['cores']} cores")
    yield int8_finding(machine["arch"], machine["isa"])


def int8_finding(arch: str, isa: tuple[str, ...]) -> Finding:
    """What the CPU's features mean for int8: speed, and on x86 also whether its answers are those of the boards."""
    features = set(isa)
    if arch == "x86_64":
        vnni = sorted(features & {"avx512_vnni", "avx_vnni", "avx_vnni_int8"})
        if vnni:
            return Finding("int8 on this CPU", "ok", f"{', '.join(vnni)}: exact 8-bit products, as on Arm boards")
        return Finding(
            "int8 on this CPU",
            "note",
            "no VNNI: u8 x s8 products are summed in 16 bits and may saturate",
            "int8 accuracy measured here can be lower than on boards with VNNI or on Arm; quantize with 7-bit weights "
            "for CPUs like this one, or measure on a CPU with VNNI",
        )
    if arch == "aarch64":
        fast = [name for name in ("i8mm", "asimddp") if name in features]
        if fast:
            return Finding("int8 on this CPU", "ok", f"{', '.join(fast)}: fast int8 kernels")
        return Finding(
            "int8 on this CPU", "note", "no dot product (asimddp): int8 is exact, its gain over float32 small"
        )
    return Finding("int8 on this CPU", "note", f"not known for {arch}")


def _keys() -> Iterator[Finding]:
    from edgec.errors import Error

    try:
        from edgec.bundle import keys

        names = [key.name for key in keys.list_keys()]
        found = ", ".join(names) if names else "none yet: the first compile makes the development key"
        yield Finding("signing keys", "ok", f"{found} ({keys.folder()})")
    except Error as e:
        yield Finding("signing keys", "missing", e.what, e.fix)
    try:
        from edgec_runtime import root
        from edgec_runtime.trust import store

        folder = root.find()
        trusted = store.load_trusted()
    except Error as e:
        yield Finding("device root", "missing", e.what, e.fix)
        return
    yield Finding("device root", "ok", folder if Path(folder).is_dir() else f"{folder} (made when first needed)")
    yield Finding("trusted keys", "ok", ", ".join(sorted(k[:16] for k in trusted)) or "none yet")


def _disk() -> Iterator[Finding]:
    import tempfile

    for what, folder in (("disk, here", "."), ("disk, temporary files", tempfile.gettempdir())):
        free = shutil.disk_usage(folder).free
        state: Literal["ok", "note"] = "ok" if free >= LOW_DISK else "note"
        fix = "" if state == "ok" else f"less than {LOW_DISK / 1e9:.0f} GB are free at {Path(folder).resolve()}"
        yield Finding(what, state, f"{free / 1e9:.1f} GB free", fix)
