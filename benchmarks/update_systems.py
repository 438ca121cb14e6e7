"""Update systems beside edgec on one machine: the same int8 model as an update, each system's own programs.

    python -m benchmarks.update_systems          (root: RAUC mounts its bundles by loop devices)

RAUC, SWUpdate, OSTree and casync come as Debian packages, unpacked into a folder. The update is int8 EfficientNet-Lite0
(5.0 MB), changed as in `benchmarks.delta`. Told are: bytes of the device's part and of the libraries that no Debian
base has; bytes on the wire for each change; the time of one local installation of the whole update, signature check
included, as each system's command takes it (median of 5); and what is checked after it. Nothing is estimated except
what is said to be: RAUC streams missing 4 KiB blocks by NBD, which this kernel lacks, so they are counted in the index
files that RAUC itself made. A system that does not run here is left out.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import record
from edgec_toolchains.aarch64 import packages

PACKAGES = {
    "rauc": ("rauc", "libjson-glib-1.0-0"),
    "swupdate": (
        "swupdate", "libswupdate0.1", "libconfig9", "libgpiod2", "liblua5.3-0", "libb2-1", "librsync2",
        "liburiparser1", "libwebsockets17", "libzck1",
    ),
    "ostree": ("ostree", "libostree-1-1", "libavahi-glib1", "libfuse3-3", "libgpgme11"),
    "casync": ("casync", "libfuse2"),
}  # fmt: skip
TOOLS = ("squashfs-tools", "liblzo2-2", "libostree-1-1")  # to make bundles, not to install them
CHECKS = {
    "rauc": "signature; then dm-verity while reading (here: plain bundle); no check of what the system does",
    "swupdate": "signature, SHA-256 of each file while it is written",
    "ostree": "SHA-256 of each object (deltas and commits may be signed)",
    "casync": "SHA-256 of each chunk and of the whole",
    "edgec": "signature, SHA-256 of each member, again from the disk; engine builds, golden answers, latency, memory; "
    "else rolled back",
}
ROUNDS = 5
BLOCK = 4096


class Bench:
    """The packages, the models, and a folder to work in."""

    def __init__(self, folder: Path, models: dict[str, bytes]) -> None:
        self.folder, self.models = folder, models
        machine = packages.machine()
        names = sorted({name for group in PACKAGES.values() for name in group} | set(TOOLS))
        got = packages.unpack([f"{n}:{machine}" for n in names], folder / "root", folder / "apt")
        self.versions = {package.name: package.version for package in got}
        usr = folder / "root"
        libraries = [*usr.glob("usr/lib/*-linux-gnu"), *usr.glob("lib/*-linux-gnu")]
        self.environment = {
            **os.environ, "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
            "PATH": f"{usr}/usr/bin:{usr}/usr/sbin:{os.environ['PATH']}",
        }  # fmt: skip
        self.sizes = {name: self._size(group) for name, group in PACKAGES.items()}
        self.call("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem",
                  "-days", "30", "-subj", "/CN=bench", "-addext", "extendedKeyUsage=emailProtection")  # fmt: skip

    def call(self, *words: object, where: Path | None = None, **more: Any) -> str:
        """Run a program; its output. What it says is told where it fails."""
        done = subprocess.run(
            [str(word) for word in words], capture_output=True, text=True, cwd=where or self.folder,
            env={**self.environment, **more}, timeout=120,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{words[0]}: {(done.stderr or done.stdout)[-300:]}")
        return done.stdout

    def _size(self, group: tuple[str, ...]) -> int:
        """Bytes of programs and libraries, without documentation and translations."""
        with tempfile.TemporaryDirectory() as name:
            machine = packages.machine()
            packages.unpack(
                [f"{n}:{machine}" for n in group], Path(name), self.folder / "apt", leave_out=["./usr/share/*"]
            )
            return sum(p.stat().st_size for p in Path(name).rglob("*") if p.is_file() and not p.is_symlink())

    def space(self, name: str) -> Path:
        """A new folder."""
        made = self.folder / "work" / name
        made.mkdir(parents=True)
        return made


def timed(prepare: Callable[[], Callable[[], Any]]) -> float:
    """Seconds, median: `prepare` makes what is timed."""
    taken = []
    for _ in range(ROUNDS):
        run = prepare()
        begin = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begin)
    return round(statistics.median(taken), 3)


def rauc(bench: Bench) -> dict[str, Any]:
    where = bench.space("rauc")

    def bundle(name: str, data: bytes, *, adaptive: bool) -> Path:
        folder = where / name
        folder.mkdir()
        (folder / "model.img").write_bytes(data + bytes(-len(data) % BLOCK))
        kind, more = ("verity", "adaptive=block-hash-index\n") if adaptive else ("plain", "")
        (folder / "manifest.raucm").write_text(
            f"[update]\ncompatible=bench\nversion=2\n[bundle]\nformat={kind}\n[image.model]\nfilename=model.img\n{more}"
        )
        made = where / f"{name}.raucb"
        key = ("--cert", bench.folder / "cert.pem", "--key", bench.folder / "key.pem")
        bench.call("rauc", *key, "bundle", folder, made)
        return made

    def index(name: str, data: bytes) -> list[bytes]:
        made = bundle(name, data, adaptive=True)
        bench.call("unsquashfs", "-q", "-d", where / f"{name}-out", made)
        raw = (where / f"{name}-out" / "model.img.block-hash-index").read_bytes()
        return [raw[at : at + 32] for at in range(0, len(raw), 32)]

    old = set(index("old", bench.models["old"]))
    wire = {
        what: BLOCK * len(set(index(what.replace(" ", "-").replace("%", "p"), data)) - old)
        for what, data in bench.models.items() if what != "old"
    }  # fmt: skip
    new = bundle("plain", bench.models["last layer"], adaptive=False)
    with _rauc_service(bench, where) as environment:
        seconds = timed(lambda: lambda: bench.call("rauc", "install", new, **environment))
    assert (where / "slot1.img").read_bytes().startswith(bench.models["last layer"])
    return {"wire": wire, "install_seconds": seconds}


@contextlib.contextmanager
def _rauc_service(bench: Bench, where: Path) -> Iterator[dict[str, str]]:
    """A message bus and RAUC's service of our own, with two slots that are files."""
    for slot in (0, 1):
        with open(where / f"slot{slot}.img", "wb") as file:
            file.truncate(8 << 20)
    slots = "".join(
        f"[slot.model.{n}]\ndevice={where}/slot{n}.img\ntype=raw\nbootname={'AB'[n]}\n" for n in (0, 1)
    )  # fmt: skip
    (where / "system.conf").write_text(
        f"[system]\ncompatible=bench\nbootloader=noop\nmountprefix={where}/mnt\ndata-directory={where}\n"
        f"[keyring]\npath={bench.folder}/cert.pem\n{slots}"
    )
    (where / "bus.conf").write_text(
        '<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" '
        '"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">\n<busconfig><type>system</type>'
        f'<listen>unix:path={where}/bus</listen><policy context="default"><allow own="*"/>'
        '<allow send_destination="*"/><allow eavesdrop="true"/><allow user="*"/></policy></busconfig>'
    )
    environment = {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={where}/bus"}
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = [subprocess.Popen(["dbus-daemon", f"--config-file={where}/bus.conf", "--nofork"], **quiet)]
    try:
        time.sleep(0.5)
        command = ["rauc", f"--conf={where}/system.conf", "--override-boot-slot=A", "service"]
        started.append(subprocess.Popen(command, env={**bench.environment, **environment}, **quiet))
        time.sleep(1)
        yield environment
    finally:
        for process in started[::-1]:
            process.terminate()
            process.wait()


def swupdate(bench: Bench) -> dict[str, Any]:
    import hashlib

    where = bench.space("swupdate")
    data = bench.models["last layer"]
    (where / "sw-description").write_text(
        'software = { version = "2.0"; hardware-compatibility: [ "1.0" ]; files: ( { filename = "model.onnx"; '
        f'path = "{where}/out/model.onnx"; sha256 = "{hashlib.sha256(data).hexdigest()}"; '
        'properties = { atomic-install = "true"; create-destination = "true"; }; } ); }\n'
    )
    bench.call(
        "openssl", "cms", "-sign", "-in", "sw-description", "-out", "sw-description.sig", "-signer",
        bench.folder / "cert.pem", "-inkey", bench.folder / "key.pem", "-outform", "DER", "-nosmimecap", "-binary",
        where=where,
    )  # fmt: skip
    names = ("sw-description", "sw-description.sig")
    update = _cpio([*((n, (where / n).read_bytes()) for n in names), ("model.onnx", data)])
    (where / "update.swu").write_bytes(update)
    command = ("swupdate", "-k", bench.folder / "cert.pem", "-H", "bench:1.0", "-i", "update.swu")
    seconds = timed(lambda: lambda: bench.call(*command, where=where))
    assert (where / "out" / "model.onnx").read_bytes() == data
    whole = len(update)
    return {"wire": {what: whole for what in bench.models if what != "old"}, "install_seconds": seconds}


def _cpio(files: list[tuple[str, bytes]]) -> bytes:
    """cpio's "crc" format, which SWUpdate reads."""
    made = bytearray()
    for number, (name, data) in enumerate([*files, ("TRAILER!!!", b"")], 1):
        fields = (number, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, sum(data) & 0xFFFFFFFF)
        made += b"070702" + "".join(f"{field:08x}" for field in fields).encode() + name.encode() + b"\0"
        made += bytes(-len(made) % 4) + data
        made += bytes(-len(made) % 4)
    return bytes(made + bytes(-len(made) % 512))


def ostree(bench: Bench) -> dict[str, Any]:
    where = bench.space("ostree")

    def run(*words: object) -> str:
        return bench.call("ostree", *words, where=where).strip()

    run("--repo=server", "init", "--mode=archive")
    (where / "tree").mkdir()
    commits, wire = {}, {}
    for what, data in bench.models.items():
        (where / "tree" / "model.onnx").write_bytes(data)
        commits[what] = run("--repo=server", "commit", "-b", "main", "tree")
        if what != "old":
            run("--repo=server", "static-delta", "generate", "--inline", "--min-fallback-size=0",
                "--filename=one.delta", f"--from={commits['old']}", f"--to={commits[what]}")  # fmt: skip
            wire[what] = (where / "one.delta").stat().st_size
    run("--repo=server", "static-delta", "generate", "--empty", "--inline", "--min-fallback-size=0",
        "--filename=whole.delta", f"--to={commits['last layer']}")  # fmt: skip
    count = 0

    def prepare() -> Callable[[], None]:
        nonlocal count
        count += 1
        device, out = f"device{count}", f"out{count}"
        run(f"--repo={device}", "init", "--mode=bare-user-only")

        def install() -> None:
            run(f"--repo={device}", "static-delta", "apply-offline", "whole.delta")
            run(f"--repo={device}", "checkout", "-U", commits["last layer"], out)

        return install

    seconds = timed(prepare)
    assert (where / f"out{count}" / "model.onnx").read_bytes() == bench.models["last layer"]
    return {"wire": wire, "install_seconds": seconds}


def casync(bench: Bench) -> dict[str, Any]:
    where = bench.space("casync")
    stores: dict[str, dict[str, int]] = {}
    indexes = {}
    for what, data in bench.models.items():
        name = what.replace(" ", "-").replace("%", "p")
        (where / name).write_bytes(data)
        bench.call("casync", "make", f"--store={name}.castr", f"{name}.caibx", name, where=where)
        stores[what] = {p.name: p.stat().st_size for p in (where / f"{name}.castr").rglob("*.cacnk")}
        indexes[what] = (where / f"{name}.caibx").stat().st_size
    wire = {
        what: indexes[what] + sum(size for name, size in chunks.items() if name not in stores["old"])
        for what, chunks in stores.items() if what != "old"
    }  # fmt: skip
    command = ("casync", "extract", "--store=last-layer.castr", "last-layer.caibx", "out")

    def prepare() -> Callable[[], Any]:
        (where / "out").unlink(missing_ok=True)
        return lambda: bench.call(*command, where=where)

    seconds = timed(prepare)
    assert (where / "out").read_bytes() == bench.models["last layer"]
    return {"wire": wire, "install_seconds": seconds}


def edgec(bench: Bench) -> dict[str, Any]:
    import shutil
    import sys

    import edgec_runtime
    from benchmarks import zoo
    from edgec.flash import delta

    where = bench.space("edgec")
    old = bench.models["old"]
    wire = {what: len(delta.encode(old, data)) for what, data in bench.models.items() if what != "old"}
    os.environ["EDGEC_CONFIG"], os.environ["EDGEC_ROOT"] = f"{where}/config", f"{where}/root"
    bundle = zoo.compiled("efficientnet_lite0", "int8", where)
    command = (sys.executable, "-m", "edgec_runtime", "install", bundle)

    def prepare() -> Callable[[], Any]:
        for name in ("store", "apps", "stage"):
            shutil.rmtree(where / "root" / name, ignore_errors=True)
        return lambda: bench.call(*command, **record.compiled_python())

    seconds = timed(prepare)
    package = Path(edgec_runtime.__file__).parent
    size = sum(p.stat().st_size for p in package.rglob("*") if p.suffix in (".py", ".sh", ".json"))
    return {"wire": wire, "install_seconds": seconds, "device_bytes": size, "version": edgec_runtime.__version__}


def main() -> None:
    from benchmarks.delta import models

    updates = {what: files["onnxruntime"] for what, files in models()}
    systems: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="edgec-systems-") as name:
        bench = Bench(Path(name), updates)
        for system in (edgec, rauc, swupdate, ostree, casync):
            key = system.__name__
            try:
                found = system(bench)
            except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
                print(f"{key} does not run here: {error}")
                continue
            known = {"version": bench.versions.get(key, ""), "device_bytes": bench.sizes.get(key, 0)}
            systems[key] = {**known, **found, "checks": CHECKS[key]}
    size = len(updates["old"])
    changes = [what for what in updates if what != "old"]
    print(f"{'':10} {'version':24} {'device MB':>9} {'install s':>9} " + " ".join(f"{what:>17}" for what in changes))
    for key, told in systems.items():
        parts = " ".join(f"{100 * told['wire'][what] / size:15.1f} %" for what in changes)
        print(f"{key:10} {told['version']:24} {told['device_bytes'] / 1e6:9.2f} {told['install_seconds']:9.3f} {parts}")
    print(record.save("update_systems", systems, bytes=size, rounds=ROUNDS))


if __name__ == "__main__":
    main()
