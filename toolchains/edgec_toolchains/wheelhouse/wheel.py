"""One self-contained wheel for a device: edgec-runtime and one engine's library. The same inputs give the same bytes.

The platform tag is what the library really needs, read from its symbols' versions, not what its own wheel is named:
libLiteRt.so 2.3.0 for aarch64 comes in a wheel named manylinux_2_27 and needs glibc 2.34 and GCC 12's libstdc++.
Formats: PyPA's binary distribution format, PEP 600 (manylinux_X_Y), PEP 440 (the engine is the local part of the
version), PEP 639 (licences).
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

from edgec_runtime import elf
from edgec_runtime.errors import UnsupportedError
from edgec_toolchains.wheelhouse.fetch import EngineLibrary

FOLDER = "edgec_runtime/lib"  # where edgec_runtime.engines.library looks first
PLATFORM = {"libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1", "libpthread.so.0", "libstdc++.so.6", "libgcc_s.so.1"}
"""Libraries that every manylinux system has (PEP 600's policies), beside the dynamic linker."""

GLIBC_OF_GLIBCXX = (
    ((3, 4, 19), (2, 17)), ((3, 4, 22), (2, 24)), ((3, 4, 24), (2, 27)), ((3, 4, 28), (2, 31)), ((3, 4, 29), (2, 34)),
    ((3, 4, 30), (2, 35)), ((3, 4, 33), (2, 39)),
)  # fmt: skip
"""The oldest manylinux policy whose systems have this libstdc++ (pypa/auditwheel, manylinux-policy.json)."""

LEVEL = 9  # of deflate
EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time that ZIP can write: a build has no date


@dataclass(frozen=True)
class Distribution:
    """edgec-runtime as it goes into the wheel.

    Attributes:
        version: its own, without the engine.
        summary, requires_python, license: for METADATA.
        files: path in the wheel -> bytes.
        license_text: the text of its licence.
        scripts: console scripts, name -> "module:function".
    """

    version: str
    summary: str
    requires_python: str
    license: str
    files: Mapping[str, bytes]
    license_text: bytes
    scripts: Mapping[str, str]


@dataclass(frozen=True)
class Wheel:
    """A wheel: its file name, its bytes, how much it takes when it is installed, and the oldest glibc for it."""

    name: str
    data: bytes
    installed: int
    glibc: str


def build(runtime: Distribution, library: EngineLibrary) -> Wheel:
    """Put the runtime and an engine's library into one wheel.

    Raises UnsupportedError where the library needs another one than every system of its platform has.
    """
    pin, floor = library.pin, glibc(library.elf)
    version = f"{runtime.version}+{pin.engine}.{pin.version}"
    tag = f"py3-none-manylinux_{floor.replace('.', '_')}_{pin.arch}"
    info = f"edgec_runtime-{version}.dist-info"
    files = dict(runtime.files)
    files[f"{FOLDER}/{library.name}"] = library.data
    if not library.name.endswith(f".so.{pin.version}"):  # else the name says it
        files[f"{FOLDER}/{library.name}.version"] = f"{pin.version}\n".encode()
    licenses = {"LICENSE": runtime.license_text} | {
        f"{pin.distribution}/{name}": text for name, text in library.licenses.items()
    }
    for name, text in licenses.items():
        files[f"{info}/licenses/{name}"] = text
    files[f"{info}/METADATA"] = _metadata(runtime, library, version, sorted(licenses))
    files[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: edgec {runtime.version}\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()
    )
    scripts = "".join(f"{name} = {target}\n" for name, target in sorted(runtime.scripts.items()))
    files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{scripts}".encode()
    data = _zip(files, f"{info}/RECORD")
    return Wheel(f"edgec_runtime-{version}-{tag}.whl", data, sum(map(len, files.values())), floor)


def glibc(library: elf.Elf) -> str:
    """The oldest glibc whose systems can load a library: by its own symbols, and by those of libstdc++."""
    strange = sorted(name for name in library.needed if name not in PLATFORM and not name.startswith("ld-linux"))
    if strange:
        raise UnsupportedError(
            f"{library.soname} needs {', '.join(strange)}", "not every manylinux system has that", "Pin another wheel."
        )
    floor = elf.number(library.floor() or "2.17")
    cxx = library.floor("GLIBCXX_")
    if cxx:
        fits = [oldest for newest, oldest in GLIBC_OF_GLIBCXX if elf.number(cxx) <= newest]
        if not fits:
            raise UnsupportedError(
                f"{library.soname} needs GLIBCXX_{cxx}", "no manylinux policy has that yet", "Pin an older wheel."
            )
        floor = max(floor, fits[0])
    return ".".join(map(str, floor))


def _metadata(runtime: Distribution, library: EngineLibrary, version: str, licenses: list[str]) -> bytes:
    expression = " AND ".join(dict.fromkeys([runtime.license, library.pin.license]))
    lines = [
        "Metadata-Version: 2.4",
        "Name: edgec-runtime",
        f"Version: {version}",
        f"Summary: {runtime.summary}",
        f"License-Expression: {expression}",
        *(f"License-File: {name}" for name in licenses),
        f"Requires-Python: {runtime.requires_python}",
        "",
        f"edgec-runtime {runtime.version} with {library.name} of {library.pin.distribution} {library.pin.version}",
        f"(SHA-256 {hashlib.sha256(library.data).hexdigest()}).",
    ]
    return ("\n".join(lines) + "\n").encode()


def _zip(files: Mapping[str, bytes], record: str) -> bytes:
    """The archive: sorted, dateless, its metadata last (so that it is read first), with a RECORD of every file."""
    lines = []
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in sorted(files, key=lambda name: (".dist-info/" in name, name)):
            digest = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).rstrip(b"=").decode()
            lines.append(f"{name},sha256={digest},{len(files[name])}\n")
            _write(archive, name, files[name])
        _write(archive, record, "".join([*lines, f"{record},,\n"]).encode())
    return out.getvalue()


def _write(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix, whatever this machine is: the permissions below are read
    entry.external_attr = (0o100755 if ".so" in name.rpartition("/")[2] and "version" not in name else 0o100644) << 16
    archive.writestr(entry, data, compresslevel=LEVEL)
