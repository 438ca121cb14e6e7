"""Checking a whole bundle: who signed it, its manifest and layout, every byte, and the answers of each payload.

The first four are the device's own reader, which knows the rules of docs/bundle-1.schema.json. The last runs every
payload that this machine can run on the golden inputs, through the runtime, and compares with the recorded answers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from edgec.bundle import arrays
from edgec.errors import GoldenError, MissingError, UnsupportedError
from edgec_runtime import golden
from edgec_runtime.bundle import reader, tensors

if TYPE_CHECKING:
    from edgec_runtime.bundle import Bundle
    from edgec_runtime.trust.store import Trust

Run = Callable[[Mapping[str, Any]], Mapping[str, Any]]
Load = Callable[[str], AbstractContextManager[Run]]


def verify(
    path: str | os.PathLike[str],
    *,
    trust: Trust = None,
    allow_unsigned: bool = False,
    run_golden: bool = True,
    load: Load | None = None,
) -> dict[str, Any]:
    """Check the bundle at `path`; a dict of what was checked, for `edgec verify`.

    Args:
        path: the `.edge` file.
        trust: keys to trust, as `edgec_runtime.bundle.open` takes them; None for this machine's own.
        allow_unsigned: accept a bundle that nobody trusted has signed.
        run_golden: run the payloads on the golden inputs too.
        load: payload id -> a context manager that gives its `run`; None for the runtime's own.

    Raises:
        TrustError: unsigned, signed by strangers, damaged (exit 5).
        BadInputError: no bundle, or of another format (exit 9).
        GoldenError: a payload does not give its recorded answers (exit 6).
    """
    with reader.open(path, trust=trust, allow_unsigned=allow_unsigned) as bundle:
        bundle.verify_all()
        members = bundle.manifest["members"]
        found: dict[str, Any] = {
            "file": os.fspath(path),
            "identity": bundle.identity,
            "app": bundle.manifest["app"],
            "trusted": bundle.trusted,
            "signers": list(bundle.signers),
            "members": len(members),
            "bytes": sum(m["size"] for m in members),
            "golden": {},
        }
        if run_golden:
            found["golden"] = answers(bundle, load or _runtime(path, trust, allow_unsigned))
    return found


def answers(bundle: Bundle, load: Load) -> dict[str, dict[str, Any]]:
    """{payload id: {"samples", "sqnr_db", "min_sqnr_db"}}, or {"skipped": why} where it can't be run here.

    Raises GoldenError naming the first payload whose answers are not the recorded ones.
    """
    found: dict[str, dict[str, Any]] = {}
    feeds = arrays.inputs(bundle)
    for payload in bundle.manifest["payloads"]:
        expected = payload["golden"]
        if expected is None or not feeds:
            found[payload["id"]] = {"skipped": "it has no golden answers"}
            continue
        recorded = tensors.decode(bundle.member(expected["file"]))
        try:
            with load(payload["id"]) as run:
                outputs = [run(feed) for feed in feeds]
        except (UnsupportedError, MissingError) as e:
            found[payload["id"]] = {"skipped": e.what}
            continue
        value = golden.sqnr_db(recorded, outputs)
        if not value >= expected["min_sqnr_db"]:
            raise GoldenError(
                f"payload '{payload['id']}' does not give its recorded answers",
                f"SQNR {value:.1f} dB on {len(feeds)} golden inputs; at least {expected['min_sqnr_db']:.1f} dB is due.",
                "This machine's engine computes something else: compare its version with proven_with (edgec inspect).",
                code="E601",
            )
        found[payload["id"]] = {
            "samples": len(feeds), "sqnr_db": round(value, 2), "min_sqnr_db": expected["min_sqnr_db"],
        }  # fmt: skip
    return found


def _runtime(path: str | os.PathLike[str], trust: Trust, allow_unsigned: bool) -> Load:
    """Payloads as the device's runtime loads them."""
    from collections.abc import Iterator
    from contextlib import contextmanager

    import edgec_runtime

    @contextmanager
    def load(payload: str) -> Iterator[Run]:
        with edgec_runtime.load(path, payload=payload, trust=trust, allow_unsigned=allow_unsigned) as model:
            yield model.run

    return load
