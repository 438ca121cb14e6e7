"""Programs on an emulated core, their instructions counted."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgec_runtime.errors import MissingError, UnsupportedError
from edgec_toolchains.aarch64 import counts as counts_
from edgec_toolchains.aarch64.bed import Bed, prepare
from edgec_toolchains.aarch64.cores import CORES, CoreModel
from edgec_toolchains.aarch64.counts import Counts, Region

GUEST = Path(__file__).with_name("guest")
"""Programs and modules for the guest: on its PYTHONPATH."""


@dataclass(frozen=True)
class Ran:
    """What a program did.

    Attributes:
        stdout, stderr: its output.
        returncode: its exit status; negative where a signal ended it.
        regions: instructions up to each mark, in order; the last is what followed the last mark.
    """

    stdout: str
    stderr: str
    returncode: int
    regions: tuple[Region, ...]

    @property
    def counts(self) -> Counts:
        """All instructions, from the first of the dynamic linker on."""
        return counts_.total(self.regions)

    def region(self, tag: int) -> Counts:
        """What ran between the mark `tag` and the one before it; all such regions together where it was set often."""
        return counts_.total(region for region in self.regions if region.tag == tag)


@dataclass(frozen=True)
class Core:
    """An emulated core: `python` runs Python 3.11 on it, `run` any aarch64 program."""

    bed: Bed
    model: CoreModel

    def python(
        self,
        args: Sequence[str | os.PathLike[str]],
        *,
        wheels: Sequence[str] = (),
        paths: Sequence[str | os.PathLike[str]] = (),
        env: Mapping[str, str] | None = None,
        timeout: float = 600,
        check: bool = True,
    ) -> Ran:
        """Run the guest's Python.

        Args:
            args: of the interpreter: ["-c", …] or [script, …]. Files are the host's, by their paths.
            wheels: pinned distributions that can be imported ("onnxruntime", "numpy", …).
            paths: further folders for PYTHONPATH, before them.
            env, timeout, check: as `run` takes them.

        Bytecode is cached beside the sources, so a program's second run counts less than its first.
        """
        search = [*(os.fspath(path) for path in paths), str(GUEST), *(str(self.bed.wheel(name)) for name in wheels)]
        program = self._interpreter
        given = {"PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(search), **(env or {})}
        return self.run([program, *args], env=given, timeout=timeout, check=check)

    def run(
        self,
        args: Sequence[str | os.PathLike[str]],
        *,
        env: Mapping[str, str] | None = None,
        timeout: float = 600,
        check: bool = True,
    ) -> Ran:
        """Run an aarch64 program (a path of the host's) and count its instructions.

        Args:
            args: the program and its arguments.
            env: its whole environment; nothing of this process's goes in.
            timeout: seconds.
            check: raise where it fails, instead of returning.

        Raises:
            UnsupportedError: it failed (with `check`), died of an illegal instruction, or took too long.
            MissingError: there is no such program.
        """
        if not Path(args[0]).is_file():
            raise MissingError(f"there is no program {os.fspath(args[0])!r}", "", "give its path", code="E1030")
        with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
            report = Path(folder) / "counts"
            words = [os.fspath(arg) for arg in args]
            again = Path(folder) / "python3"
            again.write_text(self._python_again())
            again.chmod(0o755)
            # fmt: off
            command = [
                str(self.bed.emulator), "-L", str(self.bed.root(self.model.name)), "-cpu", self.model.qemu,
                "-plugin", f"{self.bed.plugin},out={report}", "-U", "LD_LIBRARY_PATH", *words,
            ]
            # fmt: on
            environment = {
                "PATH": "/usr/bin:/bin",
                "HOME": "/",
                "LC_ALL": "C.UTF-8",
                "EDGEC_PYTHON": str(again),
                **(env or {}),
            }  # fmt: skip
            environment["LD_LIBRARY_PATH"] = self.bed.libraries  # the emulator's own; the guest does not see it
            try:
                done = subprocess.run(
                    command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
                )
            except subprocess.TimeoutExpired as e:
                raise UnsupportedError(
                    f"the program took more than {timeout:.0f} s on the emulated {self.model.name}",
                    "",
                    "use less input",
                ) from e
            lines = report.read_text().splitlines() if report.is_file() else []
        ran = Ran(done.stdout, done.stderr, done.returncode, counts_.parse(lines))
        if check and done.returncode:
            raise _failed(ran, self.model)
        return ran

    @property
    def _interpreter(self) -> Path:
        return self.bed.folder / "guest" / "usr" / "bin" / "python3.11"

    def _python_again(self) -> str:
        """A script by which the guest's Python starts another one (`edgec_runtime.interpreter`); nothing counts there.

        The kernel does not know aarch64 programs: a guest that starts its own interpreter's file would get ENOEXEC.
        """
        words = [
            "exec", "/usr/bin/env", f"LD_LIBRARY_PATH={self.bed.libraries}", str(self.bed.emulator), "-L",
            str(self.bed.root(self.model.name)), "-cpu", self.model.qemu, "-U", "LD_LIBRARY_PATH",
            str(self._interpreter),
        ]  # fmt: skip
        return f'#!/bin/sh\n{shlex.join(words)} "$@"\n'


def core(name: str, *, folder: Path | None = None) -> Core:
    """An emulated core by its name (`CORES`); sets the test bed up where it is missing (`bed.prepare`).

    Raises MissingError (exit 10) for a name that is none, or where the test bed can't be set up.
    """
    if name not in CORES:
        known = ", ".join(CORES)
        raise MissingError(
            f"there is no emulated core {name!r}", f"there are {known}", "take one of them", code="E1030"
        )
    return Core(prepare(folder), CORES[name])


def _failed(ran: Ran, model: CoreModel) -> UnsupportedError:
    if -ran.returncode == signal.SIGILL:
        return UnsupportedError(
            f"the program died of an illegal instruction on the {model.name}",
            f"it was built for a newer core; this one has {' '.join(model.features)}",
            "take a payload and an engine that are for this core",
        )
    how = f"ended by signal {-ran.returncode}" if ran.returncode < 0 else f"exit status {ran.returncode}"
    words = " ".join(ran.stderr.split())[-400:]
    return UnsupportedError(f"the program failed on the emulated {model.name}: {how}", words)
