"""`edgec targets`: the families of boards."""

from __future__ import annotations

from typing import Any

import click

from edgec.cli.common import Output, options


@click.command("targets")
@options
def command(out: Output) -> None:
    """List the families of boards, built in and installed."""
    from edgec.errors import Error
    from edgec_targets.registry import boards, target, target_names

    members: dict[str, list[str]] = {}
    for name, board in boards().items():
        members.setdefault(board.target, []).append(name)
    found: list[dict[str, Any]] = []
    for name in target_names():
        try:
            t = target(name)
        except Error as e:  # one broken plug-in must not hide the others
            found.append(
                {"name": name, "title": f"can't be loaded: {e.why or e.what}", "engines": [], "precisions": []}
            )
        else:
            engines = [emitter.name for emitter in t.emitters]
            found.append({"name": name, "title": t.title, "engines": engines, "precisions": list(t.precisions)})
        found[-1]["boards"] = members.get(name, [])
    rows = [
        [t["name"], t["title"], ", ".join(t["engines"]), ", ".join(t["precisions"]), ", ".join(t["boards"])]
        for t in found
    ]
    out.table("", ["target", "what it is", "engines", "precisions", "boards"], rows)
    out.result({"targets": found})
    out.next("edgec boards")
