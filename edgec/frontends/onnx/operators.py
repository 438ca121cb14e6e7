"""Which operators exist: ONNX's own schemas, and those ONNX Runtime adds in com.microsoft."""

from __future__ import annotations

import difflib
import functools

import onnx
from onnx import defs

from edgec.errors import BadInputError

CONTRIB = "com.microsoft"
_LAYOUT = ("com.microsoft.nchwc", "com.ms.internal.nhwc")


def newest(domain: str) -> int:
    """The newest version of a domain of ONNX that the installed onnx knows; 0 for a domain that isn't ONNX's."""
    return int(_domains().get(domain, 0))


def check_imports(versions: dict[str, int]) -> None:
    """Raise BadInputError for an opset that is newer than what is known, or below 1."""
    for domain, version in versions.items():
        known = newest(domain)
        if known and not 1 <= version <= known:
            raise BadInputError(
                f"the model uses opset {version} of the domain {domain or 'ai.onnx'!r}",
                f"onnx {onnx.__version__} knows 1 to {known}",
                "export the model with an older opset, or install a newer onnx",
                code="E904",
            )


def check(node: onnx.NodeProto, where: str, versions: dict[str, int]) -> None:
    """Raise BadInputError unless the operator exists in this version of its domain.

    Args:
        node: not a call of one of the model's own functions.
        where: the node in words.
        versions: domain -> version, as imported.
    """
    domain, name = node.domain, node.op_type
    if domain == CONTRIB:
        if name not in _contrib():
            raise _unknown(where, domain, name, f"ONNX Runtime {_runtime_version()} has no such operator", _contrib())
        return
    if domain in _LAYOUT:
        raise BadInputError(
            f"{where} has the domain {domain!r}",
            "ONNX Runtime made this file for one kind of machine (optimization level 'all')",
            "give the model as it was before that optimization",
            code="E904",
        )
    if not newest(domain):
        raise BadInputError(
            f"{where} has the unknown domain {domain!r}",
            "edgec knows ONNX's operators and com.microsoft's; a custom one needs code that is not in the file",
            "export without custom operators, or with the operator as a function of the model",
            code="E904",
        )
    if domain not in versions:
        raise BadInputError(
            f"{where} has the domain {domain or 'ai.onnx'!r}, which the model doesn't import",
            "without the version the operator's meaning is not known",
            "add the opset import and save again",
            code="E904",
        )
    if not _exists(domain, name, versions[domain]):
        others = tuple(s.name for s in defs.get_all_schemas() if s.domain == domain)
        later = _first_version(domain, name)
        why = f"opset {versions[domain]} of {domain or 'ai.onnx'!r} has no such operator"
        if later and later > versions[domain]:
            why += f"; it came with opset {later}"
        raise _unknown(where, domain, name, why, others)


def _unknown(where: str, domain: str, name: str, why: str, others: tuple[str, ...] | frozenset[str]) -> BadInputError:
    near = difflib.get_close_matches(name, others, 3)
    return BadInputError(
        f"{where} has the unknown operator {domain + '.' if domain else ''}{name}",
        why,
        f"did you mean {', '.join(near)}?" if near else "export the model again with operators of ONNX",
        code="E904",
    )


@functools.cache
def _domains() -> dict[str, int]:
    found: dict[str, int] = {}
    for domain in {s.domain for s in defs.get_all_schemas()}:
        newest_version = max(s.since_version for s in defs.get_all_schemas_with_history() if s.domain == domain)
        found[domain] = newest_version
    found[""] = max(found.get("", 0), defs.onnx_opset_version())
    # ai.onnx.ml's domain version may be above its youngest operator's.
    found["ai.onnx.ml"] = max(found.get("ai.onnx.ml", 0), 5)
    return found


@functools.cache
def _exists(domain: str, name: str, version: int) -> bool:
    try:
        return not defs.get_schema(name, version, domain).deprecated
    except defs.SchemaError:
        return False


@functools.cache
def _first_version(domain: str, name: str) -> int:
    found = (s.since_version for s in defs.get_all_schemas_with_history() if (s.domain, s.name) == (domain, name))
    return min(found, default=0)


@functools.cache
def _contrib() -> frozenset[str]:
    from onnxruntime.capi import onnxruntime_pybind11_state as engine

    return frozenset(s.name for s in engine.get_all_operator_schema() if s.domain == CONTRIB)


def _runtime_version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)
