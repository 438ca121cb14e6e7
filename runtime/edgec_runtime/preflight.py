"""Before the first run: what each payload needs, what this machine has, and what to do about the difference.

The choice of a payload (`select`) knows the CPU's features, the memory, the C library and the engine's version. Here
all of it is told at once, with what an engine's library asks of the system (read from its ELF file, so that a C library
that is too old is a sentence and not a loader's message), and the room that an installation takes. Nothing of an engine
is loaded, except by `trial`, in a process of its own.
"""

from __future__ import annotations

import os
import sys

from edgec_runtime import elf, engines, select
from edgec_runtime import machine as machine_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from edgec_runtime.engines.base import Engine
    from edgec_runtime.engines.library import Library
    from edgec_runtime.machine import Machine

FIXES = {
    "trust": "have it signed by a key in this device's trust folder",
    "isa": "compile it for this board: `edgec devices probe USER@HOST -o board.toml`, `edgec compile … -t board.toml`",
    "arch": "compile it for a board of this architecture",
    "glibc": "compile it for this board's C library, or update the system",
    "memory": "free memory, or compile it in a smaller precision",
    "engine": "`edgec devices setup USER@HOST` brings it; with pip: pip install '{package}{range}'",
    "library": "take another engine's payload (`edgec devices setup USER@HOST --engine NAME`), or update the system",
    "disk": "free some space, or set EDGEC_ROOT to a folder on a larger disk",
}
# The newest release with a wheel for a Python that PyPI's newest no longer serves (pypi.org/project/onnxruntime).
LAST_WHEELS = {"onnxruntime": {(3, 9): "1.19.2", (3, 10): "1.23.2"}}
FOLDERS = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib")


class Problem:
    """One thing that keeps a payload from running here: its kind (a key of FIXES), a sentence, and what to do."""

    __slots__ = ("fix", "kind", "why")

    def __init__(self, kind: str, why: str, fix: str = "") -> None:
        self.kind = kind
        self.why = why
        self.fix = fix or FIXES[kind]

    def as_dict(self) -> dict[str, str]:
        """For `--json`."""
        return {"kind": self.kind, "why": self.why, "fix": self.fix}


def payload(
    entry: Mapping[str, Any],
    machine: Machine,
    *,
    trusted: bool = True,
    find: Callable[[str], Engine | None] = engines.find,
) -> list[Problem]:
    """Everything that keeps this machine from using a payload of a manifest; nothing where it can."""
    found = [Problem(kind, why) for kind, why in select.obstacles(entry, machine, trusted=trusted)]
    engine = select.engine_for(entry, find)
    if isinstance(engine, str):
        package = (entry["proven_with"] or {}).get("package", entry["engine"])
        fix = FIXES["engine"].format(package=package, range=entry["engine_version"])
        return [*found, Problem("engine", engine + _no_wheel(package, entry["engine_version"]), fix)]
    library = engine.library()
    return [*found, *(Problem("library", why) for why in library_problems(library, machine))] if library else found


def manifest(
    whole: Mapping[str, Any], machine: Machine, *, trusted: bool = True, root: str | None = None
) -> list[dict[str, Any]]:
    """For each payload, in the order in which this machine tries them: {"payload", "usable", "problems"}.

    `root` is the device's root folder: with it, the room on its disk is looked at too.
    """
    ordered = select.order(whole["payloads"], machine)
    sizes = {member["name"]: member["size"] for member in whole["members"]}
    report = []
    for entry in [*ordered, *(entry for entry in whole["payloads"] if entry not in ordered)]:
        problems = payload(entry, machine, trusted=trusted)
        if root is not None:
            problems += room(sum(sizes[name] for name in {*entry["files"].values()}), root)
        report.append(
            {"payload": entry["id"], "usable": not problems, "problems": [problem.as_dict() for problem in problems]}
        )
    return report


def library_problems(library: Library, machine: Machine) -> Iterator[str]:
    """What an engine's library asks for that this system does not have."""
    name = f"{os.path.basename(library.path)} {library.version}".strip()
    try:
        found = elf.read(library.path)
    except (OSError, ValueError) as error:
        yield f"{name} is no library that this machine can load: {error}"
        return
    if found.machine != machine.arch:
        yield f"{name} is for {found.machine}; this machine is {machine.arch}"
        return
    yield from _too_old(found, name, machine)


def explained(words: str, engine: Engine, machine: Machine) -> str:
    """Why an engine refused, in its own words; where its library needs a newer system, in that sentence instead."""
    library = engine.library()
    if library is None or not machine.glibc:
        return words
    try:
        found = elf.read(library.path)
    except (OSError, ValueError):
        return words
    name = f"{os.path.basename(library.path)} {library.version}".strip()
    return next(_too_old(found, name, machine), words)


def _too_old(found: elf.Elf, name: str, machine: Machine) -> Iterator[str]:
    """What of the system's own libraries is older than this one needs."""
    floor = found.floor()
    if floor and not machine.glibc:
        yield f"{name} needs glibc {floor}; this system has another C library"
    elif floor and machine_.older(machine.glibc, floor):
        yield f"{name} needs glibc {floor}; this system has {machine.glibc}"
    cxx = found.floor("GLIBCXX_")
    beside = _find("libstdc++.so.6") if cxx else None
    if beside and not _defines(beside, f"GLIBCXX_{cxx}"):
        yield f"{name} needs a libstdc++ with GLIBCXX_{cxx}; {beside} is older"


def room(need: int, root: str) -> list[Problem]:
    """A problem where `need` bytes don't fit on the disk of a folder, which need not exist yet."""
    from edgec_runtime.slots.files import free_bytes

    folder = root
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    free = free_bytes(folder)
    return [Problem("disk", f"it takes {need:,} bytes in {root}; {free:,} are free")] if need > free else []


def trial(library: Library) -> str:
    """Load a library in a child process: what goes wrong, or nothing. LiteRT's also runs a model of one operator.

    An instruction that this CPU lacks ends the child, and is told as such.
    """
    name = os.path.basename(library.path)
    if name == "libLiteRt.so":
        from edgec_runtime.engines import selfcheck
        from edgec_runtime.engines.native import CallError

        try:
            selfcheck.check(library.path)
        except CallError as error:
            return str(error)
        return ""
    return _opens(library.path)


def _opens(path: str) -> str:
    import signal

    from edgec_runtime.engines import foreign

    out, into = os.pipe()
    child = os.fork()
    if child == 0:  # nothing of the parent's clean-up runs here
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            if "faulthandler" in sys.modules:
                sys.modules["faulthandler"].disable()  # where it dies is nobody's concern
            foreign.Library(path)
            said = "fine"
        except BaseException as error:
            said = str(error) or type(error).__name__
        os.write(into, said.encode("utf-8", "replace")[:2000])
        os._exit(0)
    os.close(into)
    _, status = os.waitpid(child, 0)
    with os.fdopen(out, "rb") as pipe:
        said = pipe.read(2000).decode("utf-8", "replace")
    if os.WIFSIGNALED(status):
        ended = os.WTERMSIG(status)
        meaning = ": it was built for a newer CPU" if ended == signal.SIGILL else ""
        return f"{os.path.basename(path)} died of signal {ended} while it was loaded{meaning}"
    return "" if said == "fine" else said or "it ended without a word"


def _no_wheel(package: str, wanted: str) -> str:
    """Where pip has nothing in the range for this Python, a clause that says so."""
    from edgec_runtime.bundle import version

    last = LAST_WHEELS.get(package, {}).get(sys.version_info[:2])
    if last is None or version.within(last, wanted):
        return ""
    return f" (for Python {sys.version_info[0]}.{sys.version_info[1]} pip has {package} up to {last})"


def _find(name: str) -> str | None:
    """A system library's file, where the usual folders have it."""
    triplet = f"{os.uname().machine}-linux-gnu"
    given = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    for folder in (*given, *(os.path.join(base, triplet) for base in FOLDERS), *FOLDERS):
        path = os.path.join(folder, name)
        if folder and os.path.isfile(path):
            return path
    return None


def _defines(path: str, version: str) -> bool:
    """True where a library has a symbol version of this name; also where it can't be read."""
    try:
        with open(path, "rb") as file:
            return version.encode() + b"\0" in file.read()
    except OSError:
        return True
