"""Is the proto a graph: names made once, used after they are made or at least not in a circle, operators known.

Plain Python over the proto, before any C++ sees it, so that each complaint can name the node or the value.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import onnx

from edgec.errors import BadInputError
from edgec.frontends.onnx import operators, tensors

MAX_NESTING = 32
"""Graphs inside nodes; exporters make 2 or 3. ONNX's C++ recurses once a level."""

MAX_EXPANDED = 1_000_000
"""Nodes after all functions are inlined; the largest models in use have some 100,000."""

NEWEST_IR = 14
"""onnx 1.23 writes 14; a newer one may mean something that this reader doesn't know."""

_A = onnx.AttributeProto


@dataclass
class _Context:
    """What holds for all graphs of one model or function."""

    versions: dict[str, int]
    functions: frozenset[tuple[str, str, str]]
    notes: list[str] = field(default_factory=list)


def check(proto: onnx.ModelProto) -> list[str]:
    """Raise BadInputError naming the node or value that is wrong; returns notes (unsorted nodes are only noted)."""
    if not 1 <= proto.ir_version <= max(NEWEST_IR, onnx.IR_VERSION):
        raise BadInputError(
            f"the model has IR version {proto.ir_version}",
            f"onnx {onnx.__version__} knows 1 to {onnx.IR_VERSION}",
            "export the model with an older onnx, or install a newer one",
            code="E904",
        )
    if proto.ir_version < 3 and not proto.opset_import:
        proto.opset_import.add(domain="", version=1)  # by the spec: IR 1 and 2 have no imports and mean opset 1
    versions = _versions(proto.opset_import)
    operators.check_imports(versions)
    ids = [(f.domain if f.domain != "ai.onnx" else "", f.name, f.overload) for f in proto.functions]
    _once(("::".join(i) for i in ids), "the function", "is defined twice")
    context = _Context(versions, frozenset(ids))
    _expansion(proto, ids)
    for function in proto.functions:
        _function(function, context)
    graph = proto.graph
    if not graph.output:
        raise BadInputError(
            "the graph has no outputs", "nothing would be computed", "export the model with its outputs", code="E903"
        )
    _graph(graph, context, set(), "", 0)
    return context.notes


def name_of(node: onnx.NodeProto, index: int = -1) -> str:
    """The node in words: its name, else its operator and first output."""
    if node.name:
        return f"node {node.name!r} ({node.op_type})"
    out = next((o for o in node.output if o), "")
    return f"the {node.op_type} node " + (f"that makes {out!r}" if out else f"at position {index}")


def _versions(imports: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    versions: dict[str, int] = {}
    for one in imports:
        if versions.setdefault(one.domain, one.version) != one.version:
            raise BadInputError(
                f"the domain {one.domain or 'ai.onnx'!r} is imported as {versions[one.domain]} and as {one.version}",
                "", "export the model again", code="E904",
            )  # fmt: skip
    return versions


def _once(names: Iterable[str], what: str, wrong: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise BadInputError(
                f"{what} {name!r} {wrong}", "names must be unique in a graph", "export the model again", code="E903"
            )
        seen.add(name)


def _function(function: onnx.FunctionProto, context: _Context) -> None:
    versions = {**context.versions, **_versions(function.opset_import)}
    operators.check_imports(versions)
    inner = _Context(versions, context.functions, context.notes)
    where = f"function {function.name!r}: "
    _once(function.input, f"{where}the input", "is declared twice")
    made = _nodes(function.node, inner, set(function.input), set(), where, 0)
    for name in function.output:
        if name not in made:
            raise BadInputError(f"{where}nothing makes its output {name!r}", "", "export the model again", code="E903")


def _graph(graph: onnx.GraphProto, context: _Context, outer: set[str], where: str, depth: int) -> None:
    if depth > MAX_NESTING:
        raise BadInputError(
            f"{where}graphs are nested more than {MAX_NESTING} deep", "", "the file is damaged", code="E903"
        )
    for kind, infos in (("input", graph.input), ("output", graph.output), ("value", graph.value_info)):
        for info in infos:
            if not info.name and kind != "value":
                raise BadInputError(f"{where}an {kind} has no name", "", "export the model again", code="E903")
            _type(info.type, f"{where}the {kind} {info.name!r}")
    _once((i.name for i in graph.input), f"{where}the input", "is declared twice")
    _once((o.name for o in graph.output), f"{where}the output", "is declared twice")
    sparse_names = [s.values.name for s in graph.sparse_initializer]
    _once([*(t.name for t in graph.initializer), *sparse_names], f"{where}the initializer", "is there twice")
    for tensor in graph.initializer:
        if not tensor.name:
            raise BadInputError(f"{where}an initializer has no name", "", "export the model again", code="E903")
        tensors.check(tensor, f"{where}the initializer {tensor.name!r}")
    for sparse in graph.sparse_initializer:
        tensors.check_sparse(sparse, f"{where}the sparse initializer {sparse.values.name!r}")
    if depth == 0:
        for info in graph.input:
            if info.type.WhichOneof("value") is None:
                raise BadInputError(f"the input {info.name!r} has no type", "", "export the model again", code="E903")
    known = {i.name for i in graph.input} | {t.name for t in graph.initializer} | set(sparse_names)
    made = _nodes(graph.node, context, known, outer, where, depth)
    for info in graph.output:
        if info.name not in made and info.name not in outer:
            raise BadInputError(
                f"{where}nothing makes the output {info.name!r}",
                "no node, input or initializer has this name",
                "the file is cut short or was edited; export the model again",
                code="E903",
            )


def _nodes(
    nodes: Iterable[onnx.NodeProto], context: _Context, known: set[str], outer: set[str], where: str, depth: int
) -> set[str]:
    """Check the nodes of one graph; returns the names known after them."""
    listed = list(nodes)
    producer: dict[str, int] = {}
    for i, node in enumerate(listed):
        for name in node.output:
            if not name:
                continue
            if name in producer or name in known:
                other = name_of(listed[producer[name]]) if name in producer else "an input or initializer"
                raise BadInputError(
                    f"{where}{name_of(node, i)} makes {name!r}, which {other} makes too",
                    "each value must be made once (single assignment)",
                    "rename one of them and export again",
                    code="E903",
                )
            producer[name] = i
    everything = known | producer.keys()
    visible = everything | outer
    needs: list[list[int]] = []
    sorted_already = True
    for i, node in enumerate(listed):
        here = where + name_of(node, i)
        if not node.op_type:
            raise BadInputError(f"{here} has no operator", "", "the file is damaged", code="E903")
        if (node.domain, node.op_type, node.overload) not in context.functions:
            operators.check(node, here, context.versions)
        wanted = [n for n in node.input if n]
        for name in wanted:
            if name not in visible:
                raise BadInputError(
                    f"{here} takes {name!r}, which nothing makes",
                    "no node, input or initializer has this name",
                    "the file is cut short or was edited; export the model again",
                    code="E903",
                )
        for attribute in node.attribute:
            wanted += _attribute(attribute, here, context, visible, depth)
        before = sorted({producer[n] for n in wanted if n in producer})
        needs.append(before)
        sorted_already = sorted_already and all(p < i for p in before)
    if not sorted_already:
        _refuse_cycle(listed, needs, where)
        context.notes.append("the nodes were not in order of their use, and were sorted")
    return everything


def _attribute(
    attribute: onnx.AttributeProto, here: str, context: _Context, visible: set[str], depth: int
) -> list[str]:
    """Check an attribute's tensors and graphs; returns what its graphs take from outside."""
    where = f"{here}: the attribute {attribute.name!r}"
    if attribute.HasField("t"):
        tensors.check(attribute.t, where)
    for tensor in attribute.tensors:
        tensors.check(tensor, where)
    if attribute.HasField("sparse_tensor"):
        tensors.check_sparse(attribute.sparse_tensor, where)
    for sparse in attribute.sparse_tensors:
        tensors.check_sparse(sparse, where)
    free: list[str] = []
    for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
        _graph(graph, context, visible, f"{where}: ", depth + 1)
        free += _free(graph)
    return free


def _free(graph: onnx.GraphProto) -> set[str]:
    """Names that a subgraph uses and doesn't make."""
    made = {i.name for i in graph.input} | {t.name for t in graph.initializer}
    made |= {s.values.name for s in graph.sparse_initializer}
    used = {o.name for o in graph.output}
    for node in graph.node:
        made.update(node.output)
        used.update(node.input)
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                used |= _free(inner)
    return used - made - {""}


def _refuse_cycle(nodes: list[onnx.NodeProto], needs: list[list[int]], where: str) -> None:
    """Kahn's algorithm; what is left when it stops holds a cycle, which is walked to name it."""
    users: list[list[int]] = [[] for _ in nodes]
    waiting = [len(n) for n in needs]
    for i, before in enumerate(needs):
        for p in before:
            users[p].append(i)
    ready = [i for i, n in enumerate(waiting) if n == 0]
    done = 0
    while ready:
        done += 1
        for user in users[ready.pop()]:
            waiting[user] -= 1
            if waiting[user] == 0:
                ready.append(user)
    if done == len(nodes):
        return
    at = next(i for i, n in enumerate(waiting) if n)
    path: list[int] = []
    while at not in path:
        path.append(at)
        at = next(p for p in needs[at] if waiting[p])
    cycle = [name_of(nodes[i]) for i in reversed(path[path.index(at) :])]
    shown = " → ".join(cycle[:6] + (["…"] if len(cycle) > 6 else []) + cycle[:1])
    raise BadInputError(
        f"{where}the graph goes in a circle at {cycle[0]}", shown, "export the model again: ONNX graphs have no cycles",
        code="E903",
    )  # fmt: skip


def _type(kind: onnx.TypeProto, where: str) -> None:
    """Data types that exist and shapes that can be, also inside sequences, optionals and maps."""
    for _ in range(MAX_NESTING):
        which = kind.WhichOneof("value")
        if which in ("tensor_type", "sparse_tensor_type"):
            tensor = getattr(kind, which)
            if tensor.elem_type not in tensors.BITS and tensor.elem_type not in (0, onnx.TensorProto.STRING):
                raise tensors.unknown_type(where, tensor.elem_type)
            if tensor.HasField("shape"):
                tensors.elements([d.dim_value for d in tensor.shape.dim if d.HasField("dim_value")], where)
                tensors.elements([1] * len(tensor.shape.dim), where)
            return
        if which in ("sequence_type", "optional_type"):
            kind = getattr(kind, which).elem_type
        elif which == "map_type":
            kind = kind.map_type.value_type
        else:
            return
    raise BadInputError(
        f"{where} has a type nested more than {MAX_NESTING} deep",
        "no real model has",
        "export the model again",
        code="E906",
    )


def _expansion(proto: onnx.ModelProto, ids: list[tuple[str, str, str]]) -> None:
    """Refuse functions that call themselves, and those that would grow beyond `MAX_EXPANDED` nodes."""
    bodies = dict(zip(ids, proto.functions, strict=True))
    sizes: dict[tuple[str, str, str], int] = {}

    def size(identity: tuple[str, str, str], path: tuple[tuple[str, str, str], ...]) -> int:
        if identity in path:
            names = " → ".join(i[1] for i in (*path[path.index(identity) :], identity))
            raise BadInputError(
                f"the function {identity[1]!r} calls itself", names, "ONNX functions can't recurse", code="E903"
            )
        if len(path) > MAX_NESTING:
            raise BadInputError(
                f"functions are nested more than {MAX_NESTING} deep",
                "no real model's are",
                "export it again",
                code="E903",
            )
        if identity not in sizes:
            sizes[identity] = _count(bodies[identity].node, (*path, identity))
        return sizes[identity]

    def _count(nodes: Iterable[onnx.NodeProto], path: tuple[tuple[str, str, str], ...]) -> int:
        total = 0
        for node in nodes:
            identity = (node.domain, node.op_type, node.overload)
            total += size(identity, path) if identity in bodies else 1
            for attribute in node.attribute:
                for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                    total += _count(graph.node, path)
            if total > MAX_EXPANDED:
                raise BadInputError(
                    f"the model would have more than {MAX_EXPANDED} nodes", "its functions call each other many times",
                    "the file is damaged, or made to exhaust memory", code="E903",
                )  # fmt: skip
        return total

    for identity in ids:
        size(identity, ())
    _count(proto.graph.node, ())
