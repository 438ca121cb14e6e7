"""What `edgec bench` measures: each file given, and the bare engine on the same payload, side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import edgec_runtime.bundle as reader
from edgec import arrays
from edgec.errors import UsageError
from edgec.measure.interleaved import Candidate, Figure, compare
from edgec.measure.machine import Machine, this_machine


@dataclass(frozen=True)
class Bench:
    """The figures of one run and the machine they belong to."""

    machine: Machine
    figures: list[Figure]

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {"machine": self.machine.as_dict(), "figures": [asdict(f) for f in self.figures]}


def bench(
    files: Sequence[str],
    *,
    against: str | None = None,
    source: str | None = None,
    threads: int | None = None,
    rounds: int = 20,
    allow_unsigned: bool = False,
    progress: Callable[[int], None] = lambda n: None,
) -> Bench:
    """Measure `files` in turn: of bundles every payload for this machine, else the first portable one.

    ONNX files are run by the bare engine.

    `against` "ort" adds plain onnxruntime on the bytes of each payload that is ONNX Runtime's; where this machine's are
    all other engines', on those of the first board that has one. Raises UsageError without an input to run, or without
    a payload to compare with.
    """
    if against not in (None, "ort"):
        raise UsageError(
            f"--against {against} is not known", "This edgec compares with onnxruntime.", "Use --against ort."
        )
    with tempfile.TemporaryDirectory(prefix="edgec-bench-") as folder:
        feed = Path(folder) / "input.npz"
        if source:
            arrays.write(feed, arrays.read(source))
        candidates: list[Candidate] = []
        common = {"threads": threads, "input": str(feed), "allow_unsigned": allow_unsigned}
        for number, file in enumerate(files):
            if Path(file).suffix == ".onnx":
                candidates.append(
                    Candidate(f"{Path(file).name} onnxruntime", {"kind": "onnxruntime", "path": file, **common})
                )
                continue
            with reader.open(file, allow_unsigned=allow_unsigned) as bundle:
                if not feed.exists():
                    arrays.write(feed, golden_input(bundle))
                for payload in usable(bundle.manifest["payloads"]):
                    label = f"{payload['precision']} {payload['engine']} {payload['board']}"
                    label = label if len(files) == 1 else f"{Path(file).stem} {label}"
                    ours = {"kind": "edgec", "path": str(file), "payload": payload["id"], **common}
                    candidates.append(Candidate(label, ours))
                for payload in comparable(bundle.manifest["payloads"]) if against else ():
                    label = f"{payload['precision']} {payload['board']}, bare ort"
                    plain = Path(folder) / f"{number}-{payload['id']}.onnx"
                    plain.write_bytes(bundle.read(payload["files"]["model"]))
                    bare = {"kind": "onnxruntime", "path": str(plain), **common}
                    candidates.append(Candidate(label if len(files) == 1 else f"{Path(file).stem} {label}", bare))
        if not feed.exists():
            raise UsageError("there is no input to run", "An ONNX file has no golden inputs.", "Add --input X.npz.")
        return Bench(this_machine(), compare(candidates, rounds=rounds, progress=progress))


def usable(payloads: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The payloads compiled for this machine's architecture; where there are none, the first that is portable."""
    arch = this_machine().arch
    return [p for p in payloads if p["arch"] == arch] or [p for p in payloads if p["portable"]][:1]


def comparable(payloads: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The payloads that plain onnxruntime can be run on here. Raises UsageError where there is none."""
    theirs = [p for p in payloads if p["engine"] == "onnxruntime" and p["portable"]]
    if not theirs:
        raise UsageError(
            "--against ort has nothing to compare with",
            "The bundle has no payload for ONNX Runtime.",
            "Compile with --engine onnxruntime too, or leave it out.",
        )
    return [p for p in usable(payloads) if p in theirs] or theirs[:1]


def golden_input(bundle: reader.Bundle) -> dict[str, Any]:
    """The first golden input of a bundle as arrays. Raises UsageError where it has none."""
    from edgec.bundle import golden

    samples = golden.inputs(bundle)
    if not samples:
        raise UsageError("the bundle has no golden inputs", "It was compiled with --golden none.", "Add --input X.npz.")
    return samples[0]
