"""Replay the recipe in a bundle: the same model and data must give the same bytes, signature aside."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import edgec_runtime.bundle as reader
from edgec.bundle import recipe as recipes
from edgec.bundle import seal
from edgec.compiler import compile
from edgec.errors import NotIdenticalError
from edgec.progress import Progress, silent


def rebuild(
    path: str | Path,
    model: str | Path,
    *,
    calib: str | None = None,
    eval: str | None = None,
    output: str | Path | None = None,
    allow_unsigned: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Compile `model` by the recipe inside the bundle at `path`; returns identity and counts where all bytes agree.

    Raises NotIdenticalError (exit 8) that names what differs: the source, the data, the tools' versions, the machine,
    or members of the bundle.
    """
    with reader.open(path, allow_unsigned=allow_unsigned) as old, tempfile.TemporaryDirectory() as folder:
        recipe = recipes.Recipe.from_json(bytes(old.member(old.manifest["recipe"])))
        new = Path(output) if output else Path(folder) / "rebuilt.edge"
        compile(model, recipe.request.boards, output=new, calib=calib, eval=eval, recipe=recipe, progress=progress)
        with reader.open(new, allow_unsigned=True) as made:
            if made.identity == old.identity or seal.same(made.manifest, old.manifest):
                return {"identical": True, "identity": old.identity, "members": len(old.manifest["members"])}
            before = {m["name"]: m["sha256"] for m in old.manifest["members"]}
            after = {m["name"]: m["sha256"] for m in made.manifest["members"]}
            differing = sorted(n for n in before.keys() | after.keys() if before.get(n) != after.get(n))
            fields = sorted(k for k in old.manifest if k != "members" and old.manifest[k] != made.manifest[k])
            again = recipes.Recipe.from_json(bytes(made.member(made.manifest["recipe"])))
            tools = [
                f"{k} {v} then, {again.tools.get(k)} now" for k, v in recipe.tools.items() if again.tools.get(k) != v
            ]
    raise NotIdenticalError(
        f"the rebuilt bundle differs in {', '.join(differing + fields) or 'its manifest'}",
        f"Tools differ: {'; '.join(tools)}."
        if tools
        else "The tools' versions are the same; compare the machines in run_on.",
        "Rebuild with the versions that the recipe names (edgec inspect FILE --json).",
        code="E801",
    )
