"""The child process: `python -m edgec_targets.emitters.tvm.worker FOLDER` compiles FOLDER/model.onnx as job.json says.

It writes model.so and answer.json beside it. An error of TVM's that nobody foresaw ends it with a traceback, which its
parent shows.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import tvm

from edgec_targets.emitters.tvm import build, code, link, lower, proof, schedule, search
from edgec_targets.emitters.tvm.cpu import Cpu
from edgec_targets.emitters.tvm.program import program
from edgec_targets.emitters.tvm.refused import Refused
from edgec_targets.emitters.tvm.tiles import Tile, Vectors, candidates


def main(folder: Path) -> None:
    """Do the job in `folder`."""
    job = json.loads((folder / "job.json").read_text())
    answer: dict[str, Any] = {"refused": None}
    try:
        answer |= _compile(folder, job)
    except Refused as e:
        answer["refused"] = {"node": e.node, "operator": e.operator, "why": e.why}
    (folder / "answer.json").write_text(json.dumps(answer))


def _compile(folder: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    cpu = Cpu(**{**job["cpu"], "vectors": Vectors(**job["cpu"]["vectors"])})
    target = tvm.target.Target(cpu.target)
    model = onnx.load(folder / "model.onnx")
    lowered = lower.lower(model, target)
    made = program(lowered)
    functions = build.kernels(lowered)
    nests = {name: nest for name, function in functions.items() if (nest := schedule.nest(function)) is not None}
    tiles = {nest.key: Tile.parse(job["tiles"][nest.key]) for nest in nests.values() if nest.key in job["tiles"]}
    chosen_by = "given" if tiles and all(nest.key in tiles for nest in nests.values()) else job["search"]
    if chosen_by == "measured":
        tiles = search.measured(functions, nests, made, cpu, tiles)
    elif chosen_by == "counted":
        tiles = search.counted(functions, nests, made, cpu, tiles, folder, job["core"])
    for nest in nests.values():
        if nest.key not in tiles:
            tiles[nest.key] = candidates(nest, cpu.vectors)[0]
    scheduled = build.scheduled(functions, nests, tiles, cpu.vectors, parallel=job["parallel"])
    built = build.build(scheduled.module, target)
    proof.check(model, made, proof.library(cpu, built, scheduled))
    built.write_to_file(str(folder / "kernels.o"), "o")
    text = code.tables(made, (job["names"][0], job["names"][1]), spread=scheduled.spread)
    link.link(folder, ["kernels.o"], text, code.blob(made), arch=cpu.arch, glibc=cpu.glibc)
    return {
        "tiles": {key: str(tiles[key]) for key in sorted(tiles)},
        "chosen_by": chosen_by,
        "plain": list(scheduled.plain),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
