"""The TVM emitter: float convolutional networks compiled to one shared library that needs nothing but the C library.

TVM imports the model and makes kernels of it; layout, schedule, tiles, order of calls and memory are edgec's
(ARCHITECTURE of this folder: docs/tvm.md). On a device the payload needs no engine: neither TVM nor its runtime.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from edgec_runtime.errors import UnsupportedError
from edgec_targets.types import Board, Built, Problem

if TYPE_CHECKING:
    import onnx_ir as ir

ENGINE_VERSION = ">=1,<2"
"""Of the payload's own interface (EDGEC_ABI in driver.h, `engines/tvm.py` of the runtime), not of TVM."""
PRECISION = "float32"
_SEARCHES = ("auto", "computed")


@dataclass(frozen=True)
class Tvm:
    """Implements `edgec_targets.types.Emitter`.

    Attributes:
        tiles: nest -> tile, choices of an earlier compile to be repeated (`choices` reads them off a payload).
        search: "auto" measures tiles on this machine's board, counts instructions for Arm boards where emulated cores
            are ready, and else computes; "computed" always computes, which gives the same bytes everywhere.
        chosen_by: how `tiles` were found, for the payload's record; empty: as this compile finds them.
    """

    tiles: Mapping[str, str] = field(default_factory=dict)
    search: str = "auto"
    chosen_by: str = ""

    name = "tvm"
    fixed_sizes = True
    optional = True
    precisions = (PRECISION,)

    @property
    def version(self) -> str:
        """The installed compiler's version: what a payload is made with. Empty where there is none."""
        try:
            return version("apache-tvm")
        except PackageNotFoundError:
            return ""

    def emit(self, model: ir.Model, board: Board, *, precision: str) -> Built:
        """Compile `model` for `board`. A minute at most for models of the zoo's size, half of it the search of tiles.

        The same model, versions and tiles give the same bytes.

        Raises:
            UnsupportedError: E432, exit 4: another precision, or something that TVM can't compile, with its node.
            MissingError: E1041, exit 10: apache-tvm or ziglang isn't installed.
        """
        from edgec_targets.emitters.tvm.cpu import cpu
        from edgec_targets.memory import estimate

        if precision != PRECISION:
            raise UnsupportedError(
                f"no tvm payload in {precision}", "TVM's kernels here are compiled in float32.",
                "Use the onnxruntime or the litert payload for it.", code="E432",
            )  # fmt: skip
        built_for = cpu(board)
        made = self._compiled(model, board)
        if isinstance(made, Problem):
            raise _unsupported(made, board)
        chosen_by = self.chosen_by or made.chosen_by
        record = {"format": 1, "chosen_by": chosen_by, "tiles": dict(made.tiles), "apache-tvm": self.version,
                  "unscheduled": list(made.plain)}  # fmt: skip
        return Built(
            engine=self.name,
            precision=precision,
            files={
                "model": (f"model.{precision}.so", made.library),
                "tiles": (f"tiles.{precision}.json", (json.dumps(record, indent=1, sort_keys=True) + "\n").encode()),
            },
            engine_version=ENGINE_VERSION,
            opset=model.opset_imports.get("", 0),
            options={} if board.threads is None else {"threads": board.threads},
            isa=built_for.isa,
            glibc=built_for.glibc,
            portable=False,
            memory=estimate(model).total,
            native_code=True,
            numbers=PRECISION,
            package="apache-tvm",
            choices={"chosen_by": record["chosen_by"], "tiles": record["tiles"]},
        )

    def repeating(self, choices: Mapping[str, Any]) -> Tvm:
        """The emitter that chooses these tiles again (`Built.choices`)."""
        return replace(self, tiles=choices["tiles"], chosen_by=choices["chosen_by"])

    def problems(self, model: ir.Model, board: Board) -> list[Problem]:
        """What keeps the model from being compiled: the first thing that TVM fails at; empty when nothing does."""
        made = replace(self, search="computed")._compiled(model, board)
        return [made] if isinstance(made, Problem) else []

    def _compiled(self, model: ir.Model, board: Board) -> Compiled | Problem:
        import onnx_ir as ir

        from edgec_targets.emitters.tvm import child, count
        from edgec_targets.emitters.tvm.cpu import cpu
        from edgec_targets.emitters.tvm.prepare import prepare

        if board.engines and self.name not in board.engines:
            why = f"The board file names no tvm versions, only {', '.join(board.engines)}."
            return Problem("", "", why, f'Add tvm = "{ENGINE_VERSION}" to [engines] in the board\'s file.')
        prepared, problems = prepare(model)
        if problems:
            return problems[0]
        search, core = "computed", ""
        if self.search == "auto" and board.target == "host":
            search = "measured"
        elif self.search == "auto" and board.arch == "aarch64" and (core := count.core(board.cpu)):
            search = "counted"
        names = [v.name or "" for v in prepared.graph.inputs], [v.name or "" for v in prepared.graph.outputs]
        return child.compile(
            ir.to_proto(prepared).SerializeToString(deterministic=True), names, cpu(board),
            parallel=board.threads != 1, search=search, tiles=self.tiles, core=core,
        )  # fmt: skip


def choices(record: bytes) -> dict[str, str]:
    """The tiles that a payload's file "tiles" records, for `Tvm(tiles=…)`."""
    return dict(json.loads(record)["tiles"])


EMITTER = Tvm()

if TYPE_CHECKING:
    from edgec_targets.emitters.tvm.child import Compiled


def _unsupported(problem: Problem, board: Board) -> UnsupportedError:
    where = f"node {problem.node} ({problem.operator})" if problem.operator else problem.node or "the model"
    return UnsupportedError(
        f"{where} can't be compiled for board '{board.name}'", problem.why, problem.fix, code="E432"
    )
