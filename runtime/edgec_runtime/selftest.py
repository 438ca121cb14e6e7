"""Is everything here as it was made: hashes, whether each payload's engine takes it, the golden answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from edgec_runtime import golden, select
from edgec_runtime import machine as machine_
from edgec_runtime.bundle import tensors
from edgec_runtime.errors import Error, GoldenError, TrustError
from edgec_runtime.model import choose
from edgec_runtime.payload import Payload, of_bundle
from edgec_runtime.trust.store import Trust

Read = Callable[[str], Any]


def bundle(path: str | os.PathLike[str], *, trust: Trust = None, allow_unsigned: bool = False) -> dict[str, Any]:
    """Test a bundle: {"identity", "members", "payloads": [{"payload", "result", …}]}.

    Each payload's result is "passed" (with "sqnr_db"), "loaded" (it has no golden answers) or "skipped" (with "why":
    not for this machine). Raises TrustError for wrong hashes, GoldenError for wrong answers, and what `load` raises
    where no payload can be used.
    """
    from edgec_runtime.bundle import reader

    with reader.open(path, trust=trust, allow_unsigned=allow_unsigned) as opened:
        opened.verify_all()
        tested = _payloads(
            opened.manifest, lambda entry: of_bundle(entry, opened), opened.member, trusted=opened.trusted
        )
        return {"identity": opened.identity, "members": len(opened.manifest["members"]), "payloads": tested}


def app(name: str, *, root: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Test an installed app the same way, hashing its files in the store. Raises as `bundle` does."""
    from edgec_runtime.slots.active import active

    slot = active(name, root=root)
    for member, (digest, _) in slot.store.items():
        _hash(slot.path(member), member, digest)

    def read(member: str) -> bytes:
        with open(slot.path(member), "rb") as file:
            return file.read()

    tested = _payloads(slot.manifest, slot.payload, read, trusted=True)
    return {"identity": slot.info["identity"], "members": len(slot.store), "payloads": tested}


def _hash(path: str, member: str, digest: str) -> None:
    from hashlib import sha256

    hashed = sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            hashed.update(chunk)
    if hashed.hexdigest() != digest:
        raise TrustError(
            f"the file of {member!r} in the store is damaged",
            f"{path} does not have the SHA-256 of its name",
            "install the bundle again",
            code="E508",
        )


def _payloads(
    manifest: Mapping[str, Any], files: Callable[[Mapping[str, Any]], Payload], read: Read, *, trusted: bool
) -> list[dict[str, Any]]:
    name = manifest["golden"]["inputs"]
    inputs = tensors.decode(read(name)) if name is not None else None
    here = machine_.this()
    tested: list[dict[str, Any]] = []
    for entry in manifest["payloads"]:
        try:
            model = choose(manifest, files, {}, trusted=trusted, payload=entry["id"], machine=here)
        except Error as error:
            if isinstance(error, TrustError):
                raise
            why = (error.why or error.what).partition(f"{entry['id']}: ")
            tested.append({"payload": entry["id"], "result": "skipped", "why": why[2] or why[0]})
            continue
        with model:
            tested.append({"payload": entry["id"], **_answers(model.run, entry, inputs, read)})
    if not any(result["result"] != "skipped" for result in tested):
        raise select.none_usable(manifest["payloads"], {r["payload"]: r["why"] for r in tested}, here)
    return tested


def _answers(
    run: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    entry: Mapping[str, Any],
    inputs: Mapping[str, tensors.Tensor] | None,
    read: Read,
) -> dict[str, Any]:
    expected = entry["golden"]
    if expected is None or inputs is None:
        return {"result": "loaded", "why": "it has no golden answers"}
    recorded = tensors.decode(read(expected["file"]))
    try:
        value = golden.check(run, inputs, recorded, expected["min_sqnr_db"])
    except GoldenError as error:
        raise GoldenError(f"payload {entry['id']!r}: {error.what}", error.why, error.fix, code=error.code) from None
    return {"result": "passed", "sqnr_db": round(value, 2), "min_sqnr_db": expected["min_sqnr_db"]}
