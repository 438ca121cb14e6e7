"""What `edgec bench --emulate` measures: instructions of each file on an emulated ARM core. Never a time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import edgec_runtime.bundle as reader
from edgec import arrays
from edgec.bundle import seal
from edgec.errors import UnsupportedError, UsageError
from edgec.measure.bench import golden_input
from edgec_runtime import select
from edgec_runtime.machine import Machine

if TYPE_CHECKING:
    from edgec_toolchains.aarch64 import Core, CoreModel, Counts

_ENGINES = {".onnx": "onnxruntime", ".tflite": "litert"}
_KERNELS = {
    "mmla": "int8 matrix products", "dot": "int8 dot products", "smlal": "int8 multiply-add long",
    "fmla": "float multiply-add", "sve": "SVE",
}  # fmt: skip
CALLS = 3  # warm calls; the median is reported


@dataclass(frozen=True)
class Emulated:
    """One candidate: instructions of one warm call and of importing its engine and loading it.

    `refused` says why the core can't run it; the counts are None then.
    """

    name: str
    call: Counts | None = None
    load: Counts | None = None
    refused: str = ""

    @property
    def kernels(self) -> str:
        """Which multiply kernels ran, in words, the one that ran most first."""
        if self.call is None:
            return ""
        ran = {word: getattr(self.call, name) for name, word in _KERNELS.items()}
        most = max(ran.values())
        return ", ".join(word for word, n in sorted(ran.items(), key=lambda item: -item[1]) if n > most / 50)

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {
            "name": self.name,
            "call": self.call and self.call.as_dict(),
            "load": self.load and self.load.as_dict(),
            "kernels": self.kernels,
            "refused": self.refused,
        }


def emulated(
    files: Sequence[str],
    core_name: str,
    *,
    source: str | None = None,
    allow_unsigned: bool = False,
    progress: Callable[[int], None] = lambda n: None,
) -> tuple[CoreModel, list[Emulated]]:
    """Run every payload of bundles that the core can take, and .onnx and .tflite files by their engines' packages.

    Args:
        files: bundles, .onnx or .tflite files.
        core_name: one of `edgec_toolchains.aarch64.CORES`.
        source: .npz of inputs; None for the first golden input of the first bundle.
        allow_unsigned: read bundles that nobody known has signed.
        progress: called with 1 after each candidate.

    Raises:
        MissingError: no such core, or the emulator can't be set up (exit 10).
        UsageError: no input to run, or a file of another kind.
    """
    from edgec_toolchains import aarch64

    core = aarch64.core(core_name)
    feed = arrays.read(source) if source else None
    found = []
    for file in files:
        suffix = Path(file).suffix
        if suffix in _ENGINES:
            if feed is None:
                raise UsageError("there is no input to run", f"{file} has no golden inputs", "Add --input X.npz.")
            label = f"{Path(file).name} {_ENGINES[suffix]}"
            found.append(_measured(core, label, Path(file), feed, engine=_ENGINES[suffix]))
            progress(1)
            continue
        with reader.open(file, allow_unsigned=allow_unsigned) as bundle, tempfile.TemporaryDirectory() as folder:
            seal.refuse(bundle.manifest, "run on an emulated core")
            feed = golden_input(bundle) if feed is None else feed
            for entry in _usable(bundle.manifest["payloads"], core.model, trusted=bundle.trusted):
                label = f"{entry['precision']} {entry['engine']} {entry['board']}"
                label = label if len(files) == 1 else f"{Path(file).stem} {label}"
                paths = {}
                for role, member in entry["files"].items():
                    paths[role] = Path(folder) / f"{entry['id']}-{role}{Path(member).suffix}"
                    paths[role].write_bytes(bundle.read(member))
                first = next(iter(paths.values()))
                found.append(_measured(core, label, first, feed, engine="edgec", entry=entry, files=paths))
                progress(1)
    return core.model, found


def _measured(
    core: Core,
    label: str,
    path: Path,
    feed: Mapping[str, Any],
    *,
    engine: str,
    entry: Mapping[str, Any] | None = None,
    files: Mapping[str, Path] | None = None,
) -> Emulated:
    import edgec_runtime
    from edgec_toolchains import aarch64

    runtime = [Path(edgec_runtime.__file__).parents[1]] if entry else []
    try:
        ran = aarch64.infer(core, path, [feed] * CALLS, engine=engine, entry=entry, paths=runtime, files=files)
    except UnsupportedError as error:
        return Emulated(label, refused=f"{error.what}: {error.why}" if error.why else error.what)
    return Emulated(label, ran.call, ran.load)


def _usable(payloads: Sequence[Mapping[str, Any]], model: CoreModel, *, trusted: bool) -> list[Mapping[str, Any]]:
    """The payloads that the runtime would take on such a core. Raises UnsupportedError where there is none."""
    machine = Machine("aarch64", frozenset(model.features), None)
    refused = {entry["id"]: select.obstacle(entry, machine, trusted=trusted) or "" for entry in payloads}
    left = [entry for entry in select.order(payloads, machine) if not refused[entry["id"]]]
    if not left:
        raise select.none_usable(payloads, refused, machine)
    native = select.distinct([entry for entry in left if entry["arch"] == "aarch64"])
    return native or left[:1]
