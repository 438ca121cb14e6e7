"""What differs between two bundles, as a plain dict: empty when they are the same, signatures aside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgec.bundle.recipe import Recipe
from edgec.errors import BadInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgec_runtime.bundle import Bundle

_COMPARED = ("arch", "isa", "portable", "precision", "opset", "memory", "engine_version", "proven_with", "options")


def diff(a: Bundle, b: Bundle) -> dict[str, Any]:
    """Compare two open bundles; every leaf is [value in a, value in b], None where one has none.

    Keys, each only where something differs: identity, app, inputs, outputs, preprocessing, postprocessing,
    compiled_for, run_on, checked_by, golden; payloads ({id: {precision, size in bytes, accuracy, ...}}, and their
    order); members ({name: {sha256, size}}); tools ({name: versions}); asked ({option: values}); weights ({member:
    {tensor name: {changed: number of elements, of: how many, max_abs_diff}}}, for ONNX members).
    """
    if a.identity == b.identity:
        return {}
    first, second = a.manifest, b.manifest
    found: dict[str, Any] = {"identity": [a.identity, b.identity]}
    found["app"] = _keys(first["app"], second["app"])
    for field in ("inputs", "outputs"):
        found[field] = _keys(_by(first[field], "name"), _by(second[field], "name"))
    for field in ("preprocessing", "postprocessing", "compiled_for", "run_on", "checked_by"):
        found[field] = _pair(first[field], second[field])
    found["golden"] = _keys(first["golden"], second["golden"])
    found["payloads"] = _payloads(first, second)
    order = [[p["id"] for p in m["payloads"]] for m in (first, second)]
    found["payload_order"] = _pair(*order)
    members = [{m["name"]: {k: m[k] for k in ("sha256", "size")} for m in x["members"]} for x in (first, second)]
    found["members"] = _nested(*members)
    recipes = [_recipe(x) for x in (a, b)]
    if recipes[0] and recipes[1]:
        found["tools"] = _keys(recipes[0].tools, recipes[1].tools)
        found["asked"] = _keys(recipes[0].request.as_dict(), recipes[1].request.as_dict())
    sealed = {name for m in (first, second) for name in m.get("encryption", {}).get("members", {})}
    found["weights"] = {
        name: changed
        for name in sorted((members[0].keys() & members[1].keys()) - sealed)
        if name.endswith(".onnx") and members[0][name] != members[1][name] and (changed := _weights(a, b, name))
    }
    return {field: value for field, value in found.items() if value}


def _pair(a: Any, b: Any) -> list[Any]:
    return [] if a == b else [a, b]


def _keys(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, list[Any]]:
    """{key: [a's value, b's value]} for each key whose values differ."""
    return {k: [a.get(k), b.get(k)] for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k)}


def _nested(a: Mapping[str, Mapping[str, Any]], b: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The same, one level deeper: {name: {key: [a's, b's]}}."""
    return {
        name: _keys(a.get(name, {}), b.get(name, {}))
        for name in sorted(a.keys() | b.keys())
        if a.get(name) != b.get(name)
    }


def _by(items: list[dict[str, Any]], key: str) -> dict[str, dict[str, Any]]:
    return {item[key]: item for item in items}


def _payloads(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    def facts(manifest: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        sizes = {m["name"]: m["size"] for m in manifest["members"]}
        return {
            p["id"]: {
                **{k: p[k] for k in _COMPARED},
                "size": sum(sizes[f] for f in p["files"].values()),
                "accuracy": p["accuracy"],
            }
            for p in manifest["payloads"]
        }

    return _nested(facts(a), facts(b))


def _recipe(bundle: Bundle) -> Recipe | None:
    """The recipe; None where there is none, or one of another edgec (its member's digest tells the rest)."""
    name = bundle.manifest["recipe"]
    if name is None:
        return None
    try:
        return Recipe.from_json(bytes(bundle.member(name)))
    except BadInputError:
        return None


def _weights(a: Bundle, b: Bundle, member: str) -> dict[str, Any]:
    """Which initializers of an ONNX member changed, by name."""
    first, second = _initializers(a, member), _initializers(b, member)
    changed: dict[str, dict[str, Any]] = {}
    for name in sorted(first.keys() | second.keys()):
        x, y = first.get(name), second.get(name)
        if x is None or y is None:
            changed[name] = {"only_in": "b" if x is None else "a"}
        elif x.shape != y.shape or x.dtype != y.dtype:
            changed[name] = {"shape": [list(x.shape), list(y.shape)], "dtype": [str(x.dtype), str(y.dtype)]}
        elif x.tobytes() != y.tobytes():
            changed[name] = _difference(x, y)
    return changed


def _initializers(bundle: Bundle, member: str) -> dict[str, NDArray[Any]]:
    """The named constants of an ONNX file. External data lies in another member, and is compared by its digest."""
    import onnx_ir as ir
    from onnx import ModelProto

    try:
        graph = ir.from_proto(ModelProto.FromString(bytes(bundle.member(member)))).graph
        return {
            name: value.const_value.numpy()
            for name, value in graph.initializers.items()
            if value.const_value is not None and not isinstance(value.const_value, ir.ExternalTensor)
        }
    except Exception as e:  # protobuf and onnx-ir raise many types for a file that is no model
        raise BadInputError(
            f"{member} in {bundle.path} is no readable ONNX file",
            f"{type(e).__name__}: {e}",
            "Compile it again.",
            code="E918",
        ) from e


def _difference(x: NDArray[Any], y: NDArray[Any]) -> dict[str, Any]:
    import numpy as np

    # NaNs with the same bits count as unchanged where the values can be compared, as bytes decide above.
    where = (x != y) & ~((x != x) & (y != y))
    result: dict[str, Any] = {"changed": int(np.count_nonzero(where)), "of": int(x.size)}
    if x.dtype.kind in "iuf":
        gap = np.abs(x.astype(np.float64) - y.astype(np.float64))
        finite = gap[np.isfinite(gap)]
        result["max_abs_diff"] = float(finite.max()) if finite.size else None
    return result
