"""An operator's signature at one opset version, from the onnx package's schemas or from the engine's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FIRST_OPSET = 7  # the oldest that ONNX Runtime promises (docs/Versioning.md of ONNX Runtime) and that edgec imports


@dataclass(frozen=True)
class Parameter:
    """One formal input or output. `type` is the name of a type variable ("T1") or a type ("tensor(int64)").

    `variadic` stands for any number of them, of one type if `homogeneous`.
    """

    name: str
    type: str
    optional: bool = False
    variadic: bool = False
    homogeneous: bool = True


@dataclass(frozen=True, eq=False)
class Operator:
    """What a schema says, reduced to what a probe needs. `required` maps an attribute to its type ("INTS")."""

    domain: str
    name: str
    since: int
    inputs: tuple[Parameter, ...]
    outputs: tuple[Parameter, ...]
    constraints: Mapping[str, tuple[str, ...]]
    required: Mapping[str, str]
    attributes: frozenset[str]

    @property
    def key(self) -> str:
        """The name in the table: "Conv", or "com.microsoft::QAttention"."""
        return self.name if not self.domain else f"{self.domain}::{self.name}"

    @property
    def variables(self) -> tuple[str, ...]:
        """The type variables that inputs or outputs really use, in the schema's order."""
        used = {p.type for p in (*self.inputs, *self.outputs)}
        return tuple(name for name in self.constraints if name in used)

    @property
    def places(self) -> dict[str, str]:
        """Where each type variable can be read off a node: {"T": "i0 i1 o0"}, "i1*" for input 1 and all after it."""
        found: dict[str, list[str]] = {name: [] for name in self.variables}
        for letter, parameters in (("i", self.inputs), ("o", self.outputs)):
            for n, p in enumerate(parameters):
                if p.type in found and p.homogeneous:
                    found[p.type].append(f"{letter}{n}{'*' if p.variadic else ''}")
        return {name: " ".join(where) for name, where in found.items()}


def bind(places: str, inputs: Sequence[str | None], outputs: Sequence[str | None]) -> str | None:
    """Read one type variable off a node: the first known type at `places` (see `Operator.places`), or None."""
    for place in places.split():
        values = inputs if place[0] == "i" else outputs
        first = int(place[1:].rstrip("*"))
        for value in values[first:] if place.endswith("*") else values[first : first + 1]:
            if value is not None:
                return value
    return None


def standard(domains: Iterable[str] = ("", "ai.onnx.ml")) -> list[Operator]:
    """Every (operator, since version) of the onnx package that a model of opset 7 or later can use."""
    from onnx import defs

    schemas = [s for s in defs.get_all_schemas_with_history() if s.domain in domains and not s.deprecated]
    return _alive([_read(s) for s in schemas])


def of_onnxruntime(domains: Iterable[str] = ("com.microsoft",)) -> list[Operator]:
    """The operators of ONNX Runtime's own domains, from the schemas that its wheel carries."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    schemas = [s for s in state.get_all_operator_schema() if s.domain in domains and not s.deprecated]
    return _alive([_read(s) for s in schemas])


def _alive(operators: list[Operator]) -> list[Operator]:
    """Drop versions that a newer one replaced by opset 7, sort by name and version."""
    newest_old: dict[tuple[str, str], int] = {}
    for op in operators:
        if not op.domain and op.since <= FIRST_OPSET:
            key = (op.domain, op.name)
            newest_old[key] = max(newest_old.get(key, 0), op.since)
    alive = [op for op in operators if op.domain or op.since >= newest_old.get((op.domain, op.name), 0)]
    return sorted(alive, key=lambda op: (op.domain, op.name, op.since))


def _parameter(formal: Any) -> Parameter:
    """Both libraries bind the same C++ class under slightly different attribute names."""
    type_ = getattr(formal, "type_str", None) or formal.typeStr
    option = str(formal.option).rpartition(".")[2]
    homogeneous = formal.is_homogeneous if hasattr(formal, "is_homogeneous") else formal.isHomogeneous
    return Parameter(formal.name, type_, option == "Optional", option == "Variadic", bool(homogeneous))


def _read(schema: Any) -> Operator:
    required = {name: str(a.type).rpartition(".")[2] for name, a in sorted(schema.attributes.items()) if a.required}
    constraints = {c.type_param_str: tuple(sorted(c.allowed_type_strs)) for c in schema.type_constraints}
    return Operator(
        schema.domain,
        schema.name,
        schema.since_version,
        tuple(_parameter(p) for p in schema.inputs),
        tuple(_parameter(p) for p in schema.outputs),
        constraints,
        required,
        frozenset(schema.attributes),
    )
