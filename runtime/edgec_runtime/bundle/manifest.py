"""The manifest of format 1, checked field by field: types, limits, references. Nothing unknown passes.

The rules are those of docs/bundle-1.schema.json, in the standard library alone, and what a schema can't say: member
names that are safe on every system, sorted, unique and all in use; engine version ranges that parse; days that exist;
a security floor that the bundle itself keeps. Each check is a function `(value, where)` that raises ValueError naming
the place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from edgec_runtime import dtypes
from edgec_runtime.bundle import layout, strictjson, version
from edgec_runtime.errors import BadInputError
from edgec_runtime.trust import when

FORMAT = 1
HOOK_POINTS = ("pre-install", "post-verify", "pre-activate", "health", "post-confirm")
MAX_HOOKS = 16  # at one point
SEALED = "edgec-sealed-1"  # the scheme of edgec_runtime.sealed
_HOOK_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
MAX_INTEGER = 2**53 - 1  # RFC 8785
MAX_PAYLOADS = 256
MAX_TENSORS = 1024
MAX_RANK = 64
Check = Callable[[Any, str], None]


def parse(data: bytes) -> dict[str, Any]:
    """The manifest as a dict, once it follows format 1. `data` must come from a checked envelope.

    Raises BadInputError: of another format version (E902), or not what format 1 says, naming the field (E903).
    """
    try:
        value = strictjson.loads(data, limit=layout.MAX_MANIFEST)
        if isinstance(value, dict) and value.get("format") != FORMAT and type(value.get("format")) is int:
            raise BadInputError(
                f"the bundle has format {value['format']}",
                f"this edgec-runtime reads format {FORMAT}",
                "update edgec-runtime on this machine, or compile the model again with an edgec that matches it",
                code="E902",
            )
        _manifest(value, "manifest")
        _members(value)
        if "encryption" in value:
            _sealed(value)
        if value["app"].get("floor", 0) > value["app"]["sequence"]:
            raise ValueError("manifest.app.floor is above the bundle's own sequence, so it would forbid itself")
    except ValueError as error:
        raise BadInputError(
            "the bundle's manifest is not what format 1 says",
            str(error)[:400],
            "compile the model again with a matching edgec",
            code="E903",
        ) from None
    return dict(value)


def safe_name(name: str) -> bool:
    """True for a relative POSIX path that means the same file on every system and stays inside its folder."""
    parts = name.split("/")
    return (
        0 < len(name.encode("utf-8")) <= layout.MAX_NAME
        and name.isprintable()
        and not set(name) & set('\\:*?"<>|')
        and all(part not in ("", ".", "..") and not part.endswith((" ", ".")) for part in parts)
    )


def hook_name(name: str) -> bool:
    """True for a plain file name that a hook may have: it stays inside the folder of hooks, and is no hidden file."""
    return 1 <= len(name) <= 64 and _HOOK_NAME.issuperset(name) and name[0] not in ".-"


def referenced(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Every member that the manifest names outside "members"."""
    for payload in manifest["payloads"]:
        yield from payload["files"].values()
        if payload["golden"]:
            yield payload["golden"]["file"]
    golden = manifest["golden"]
    for name in (golden["inputs"], golden["reference"], manifest["recipe"], manifest["report"], manifest["sbom"]):
        if name is not None:
            yield name


def _members(manifest: Mapping[str, Any]) -> None:
    names = [member["name"] for member in manifest["members"]]
    folded = {name.casefold() for name in names}
    for before, name in zip(names, names[1:]):
        if before >= name:
            raise ValueError(f"members: {name!r} stands after {before!r}: they must be unique and sorted")
    if len(folded) != len(names) or layout.MANIFEST in folded:
        raise ValueError("members: two names differ only in case, or one is the manifest's own")
    for name in names:
        parts = name.casefold().split("/")
        if any("/".join(parts[:n]) in folded for n in range(1, min(len(parts), 128))):
            raise ValueError(f"members: {name!r} lies inside another member")
    known = set(names)
    unused = set(names)
    for name in referenced(manifest):
        unused.discard(name)
        if name not in known:
            raise ValueError(f"{name!r} is named but is not a member")
    if unused:
        raise ValueError(f"the member {min(unused)!r} is named nowhere")
    last = manifest["members"][-1]
    if last["offset"] + last["size"] > MAX_INTEGER:
        raise ValueError("the members are larger than a file can be")


def _sealed(manifest: Mapping[str, Any]) -> None:
    """What is sealed are payloads' files, nothing else, each of the size that its plaintext makes."""
    files = {name for payload in manifest["payloads"] for name in payload["files"].values()}
    others = set(referenced({**manifest, "payloads": [{**p, "files": {}} for p in manifest["payloads"]]}))
    sizes = {member["name"]: member["size"] for member in manifest["members"]}
    for name, plain in manifest["encryption"]["members"].items():
        if name not in files or name in others:
            raise ValueError(f"encryption: {name[:60]!r} is not a payload's file and nothing else")
        if sizes[name] != layout.sealed_size(plain["size"]):
            raise ValueError(f"encryption: {name[:60]!r} has {sizes[name]} bytes, which {plain['size']} do not make")


def _text(value: Any, where: str) -> None:
    if not isinstance(value, str) or not 1 <= len(value) <= 1024:
        raise ValueError(f"{where} must be text of 1 to 1024 characters")


def _any_text(value: Any, where: str) -> None:
    if not isinstance(value, str) or len(value) > 1024:
        raise ValueError(f"{where} must be text of at most 1024 characters")


def _count(value: Any, where: str) -> None:
    if type(value) is not int or not 0 <= value <= MAX_INTEGER:
        raise ValueError(f"{where} must be a whole number from 0 on")


def _number(value: Any, where: str) -> None:
    if type(value) not in (int, float):
        raise ValueError(f"{where} must be a number")


def _flag(value: Any, where: str) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{where} must be true or false")


def _setting(value: Any, where: str) -> None:
    if value is not None and type(value) not in (int, float, bool, str):
        raise ValueError(f"{where} must be a number, text, true, false or null")
    if isinstance(value, str):
        _any_text(value, where)


def _member_name(value: Any, where: str) -> None:
    if not isinstance(value, str) or not safe_name(value):
        raise ValueError(f"{where} must be a plain relative path: {str(value)[:60]!r} is not")


def _sha256(value: Any, where: str) -> None:
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise ValueError(f"{where} must be 64 hex digits")


def _offset(value: Any, where: str) -> None:
    _count(value, where)
    if value % layout.ALIGN:
        raise ValueError(f"{where} must be a multiple of {layout.ALIGN}")


def _range(value: Any, where: str) -> None:
    _text(value, where)
    try:
        version.parse(value)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _dim(value: Any, where: str) -> None:
    if isinstance(value, str):
        _text(value, where)
    else:
        _count(value, where)


def _format(value: Any, where: str) -> None:
    if type(value) is not int or value != FORMAT:
        raise ValueError(f"{where} must be {FORMAT}")


def _step(value: Any, where: str) -> None:
    """A step of pre- or post-processing: known by its `op`; whoever runs it checks the rest."""
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be an object")
    _text(value.get("op"), f"{where}.op")


def _glibc(value: Any, where: str) -> None:
    parts = value.split(".") if isinstance(value, str) and len(value) <= 16 else []
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"{where} must be a version of glibc such as 2.31")


def _time(value: Any, where: str) -> None:
    try:
        when.parse(value)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _hook(value: Any, where: str) -> None:
    if not isinstance(value, str) or not hook_name(value):
        raise ValueError(f"{where} must be a hook's file name: 1 to 64 letters, digits, '.', '_' and '-'")


def _one_of(*choices: str) -> Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"{where} must be one of {', '.join(choices)}, not {str(value)[:40]!r}")

    return check


def _null_or(inner: Check) -> Check:
    def check(value: Any, where: str) -> None:
        if value is not None:
            inner(value, where)

    return check


def _list(inner: Check, *, least: int = 0, most: int = layout.MAX_MEMBERS) -> Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise ValueError(f"{where} must be a list of {least} to {most}")
        for index, item in enumerate(value):
            inner(item, f"{where}[{index}]")

    return check


def _table(inner: Check, *, least: int = 0, most: int = 256) -> Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict) or not least <= len(value) <= most:
            raise ValueError(f"{where} must be an object of {least} to {most} entries")
        for key, item in value.items():
            _text(key, f"a key of {where}")
            inner(item, f"{where}.{key[:60]}")

    return check


def _object(optional: Mapping[str, Check] | None = None, /, **fields: Check) -> Check:
    known = {**fields, **(optional or {})}

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{where} must be an object")
        for name in fields:
            if name not in value:
                raise ValueError(f"{where} lacks {name}")
        for name, item in value.items():
            if name not in known:
                raise ValueError(f"{where} has {name[:60]!r}, which format {FORMAT} does not know")
            known[name](item, f"{where}.{name}")

    return check


_tensor = _object(
    name=_any_text,
    dtype=_one_of(*dtypes.BITS),
    shape=_list(_dim, most=MAX_RANK),
    layout=_null_or(_text),
)
_payload = _object(
    {"board_isa": _list(_text, most=256), "glibc": _glibc},
    id=_text,
    engine=_text,
    engine_version=_range,
    proven_with=_null_or(_object(package=_text, version=_text)),
    files=_table(_member_name, least=1),
    board=_text,
    arch=_text,
    isa=_list(_text, most=256),
    portable=_flag,
    native_code=_flag,
    precision=_text,
    opset=_null_or(_count),
    memory=_null_or(_count),
    options=_table(_setting),
    accuracy=_null_or(_object(metric=_text, value=_number, float_value=_number, n=_count)),
    golden=_null_or(_object(expected=_one_of("run", "float_reference"), file=_member_name, min_sqnr_db=_number)),
)
_manifest = _object(
    {
        "hooks": _object({point: _list(_hook, least=1, most=MAX_HOOKS) for point in HOOK_POINTS}),
        "encryption": _object(
            scheme=_one_of(SEALED),
            key=_sha256,
            members=_table(_object(sha256=_sha256, size=_count), least=1, most=layout.MAX_MEMBERS),
        ),
    },
    format=_format,
    app=_object({"floor": _count, "expires": _time}, name=_text, version=_text, sequence=_count),
    inputs=_list(_tensor, most=MAX_TENSORS),
    outputs=_list(_tensor, least=1, most=MAX_TENSORS),
    preprocessing=_list(_step, most=256),
    postprocessing=_list(_step, most=256),
    members=_list(
        _object(name=_member_name, sha256=_sha256, size=_count, offset=_offset), least=1, most=layout.MAX_MEMBERS
    ),
    payloads=_list(_payload, least=1, most=MAX_PAYLOADS),
    golden=_object(
        kind=_one_of("data", "synthetic", "none"),
        samples=_count,
        inputs=_null_or(_member_name),
        reference=_null_or(_member_name),
        seed=_null_or(_count),
        notes=_list(_text),
    ),
    recipe=_null_or(_member_name),
    report=_null_or(_member_name),
    sbom=_null_or(_member_name),
    compiled_for=_list(_text),
    checked_by=_list(_object(tool=_text, version=_text, what=_text)),
    run_on=_list(_object(machine=_text, cpu=_any_text, isa=_list(_text, most=1024), engine=_text, version=_text)),
)
