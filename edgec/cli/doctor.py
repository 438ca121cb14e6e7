"""`edgec doctor`: is everything here that edgec needs, and what does this CPU mean for int8?"""

from __future__ import annotations

import click

from edgec.cli.common import Output, options


@click.command("doctor")
@options
def command(out: Output) -> None:
    """Check this machine: tools, engines, versions, CPU, keys. Exit 10 when something required is missing."""
    from edgec.doctor import examine

    findings = examine()
    mark = {"ok": "ok", "note": "note", "missing": "MISSING"}
    out.table("", ["", "what", "found"], [[mark[f.state], f.what, f.found] for f in findings])
    advice = [f for f in findings if f.fix]
    for f in advice:
        out.line(f"{f.what}: {f.fix}", "red" if f.state == "missing" else "yellow")
    missing = [f.what for f in findings if f.state == "missing"]
    out.result({"ok": not missing, "findings": [f.as_dict() for f in findings]})
    if missing:
        raise click.exceptions.Exit(10)
    out.next("edgec boards")
