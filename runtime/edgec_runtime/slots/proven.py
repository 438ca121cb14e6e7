"""Whether the library that runs an installed payload is one that gave its golden answers on this machine.

A payload that a C library runs is only as good as that library, and `pip install --upgrade` may put another there.
So after an installation each such payload is loaded and its golden inputs are run, and the slot keeps, in the file
`proven`, what the library was then: its SHA-256 and its stamp (path, size, time of change).

    edgec-proven 1 <identity of the manifest>
    <payload id> <sha256> <stamp>

A load compares stamps (`slots.active`), which costs one small file. Where they differ, this module hashes the library;
where that differs too, the golden inputs are run again before the model is given out, and a payload that fails gives
way to the next.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from edgec_runtime.engines.base import Engine
    from edgec_runtime.model import Model
    from edgec_runtime.slots.active import Slot


def check(slot: Slot, entry: Mapping[str, Any], model: Model, engine: Engine) -> None:
    """Prove the payload where its library is not the recorded one, and record it. Raises GoldenError.

    Payloads of an engine whose library is not known (a Python package) pass.
    """
    library = engine.library()
    if library is None:
        return
    stamp, digest = library.stamp(), library.sha256()
    if not digest or slot.proven.get(entry["id"], ("", ""))[0] != digest:
        answers(slot, entry, model)
    if not digest:
        return
    slot.proven[entry["id"]] = (digest, stamp)
    write(slot)


def answers(slot: Slot, entry: Mapping[str, Any], model: Model) -> None:
    """Run the golden inputs, if there are any. Raises GoldenError where the answers are not the recorded ones."""
    inputs, expected = slot.manifest["golden"]["inputs"], entry["golden"]
    if inputs is None or expected is None:
        return
    from edgec_runtime import golden
    from edgec_runtime.bundle import tensors

    found = []
    for member in (inputs, expected["file"]):
        with open(slot.path(member), "rb") as file:
            found.append(tensors.decode(file.read()))
    golden.check(model.run, found[0], found[1], expected["min_sqnr_db"])


def record(root: str, app: str) -> dict[str, str]:
    """Load and prove each payload of an app that was just installed: payload id -> why it can't be used, for those."""
    from edgec_runtime.errors import Error
    from edgec_runtime.model import choose
    from edgec_runtime.slots.active import active

    slot = active(app, root=root)
    problems = {}
    for entry in slot.manifest["payloads"]:
        try:
            choose(slot.manifest, slot.payload, {}, trusted=True, payload=entry["id"], check=slot.check).close()
        except Error as error:
            problems[entry["id"]] = error.why or error.what
    return problems


def write(slot: Slot) -> None:
    """Keep what is proven, where this process may write; else it is proven again each time."""
    from edgec_runtime.slots import files

    lines = [f"edgec-proven 1 {slot.info['identity']}"]
    lines += [f"{name} {digest} {stamp}" for name, (digest, stamp) in slot.proven.items()]
    try:
        stage = os.path.join(slot.root, "stage")
        files.write_atomic(os.path.join(slot.folder, "proven"), "\n".join([*lines, ""]).encode(), stage)
    except OSError:
        return
