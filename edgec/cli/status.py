"""`edgec status`: what runs on devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgec.cli.common import Output, options
from edgec.cli.flash import app_there_option, on_option

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgec.errors import Error
    from edgec.flash.device import Target

ASKED = "E711"  # why an app went back: somebody asked for it


@click.command("status")
@on_option
@app_there_option
@options
def command(out: Output, names: list[str], app: str | None) -> None:
    """Show what runs on DEVICE, what it could go back to, and what its last check said.

    Without --on all your devices are asked at once.
    """
    import asyncio

    from edgec.devices import inventory
    from edgec.errors import Error
    from edgec.flash import ask
    from edgec.flash.device import Target

    targets = [Target.find(name) for name in names or [device.name for device in inventory.devices()]]
    if not targets:
        out.line(f"no devices in {inventory.path()}")
        out.result({"devices": []})
        out.next("edgec devices add USER@HOST")
        return
    with out.progress(f"asking {len(targets)} device{'s' if len(targets) > 1 else ''}"):
        answers = asyncio.run(ask.each(targets, lambda device: ask.states(device, app)))
    if len(targets) == 1 and isinstance(answers[0], Error):
        raise answers[0]
    found = list(zip(targets, answers, strict=True))
    rows = [row for target, answer in found for row in _rows(target, answer)]
    out.table("", ["device", "app", "version", "state", "back to", "last check"], rows)
    out.result({"devices": [_as_dict(target, answer) for target, answer in found]})
    known = [(target, each) for target, answer in found if not isinstance(answer, Error) for each in answer]
    waiting = next((both for both in known if both[1].get("phase") == "probation"), None)
    if waiting is not None:
        out.next(f"edgec confirm --on {waiting[0].name} --app {waiting[1].get('app')}")
    else:
        out.next(_next(found))


def _next(found: Sequence[tuple[Target, list[Mapping[str, Any]] | Error]]) -> str:
    """The logs of the first device that has an app; else what brings one there."""
    from edgec.errors import Error
    from edgec.flash.answers import text

    answered = [(target, apps) for target, apps in found if not isinstance(apps, Error)]
    for target, apps in answered:
        if apps:
            return f"edgec logs --on {target.name}" + (f" --app {text(apps[0].get('app'))}" if len(apps) > 1 else "")
    return f"edgec flash model.edge --on {answered[0][0].name}" if answered else "edgec devices list"


def _rows(target: Target, answer: list[Mapping[str, Any]] | Error) -> list[list[str]]:
    from edgec.errors import Error
    from edgec.flash.answers import text

    if isinstance(answer, Error):
        return [[target.name, "–", "–", f"{answer.code}: {answer.what}", "", ""]]
    if not answer:
        return [[target.name, "–", "–", "nothing flashed yet", "", ""]]
    rows = []
    for each in answer:
        other = each.get("other")
        back = text(other.get("version")) if isinstance(other, dict) else ""
        why, runs = text(each.get("why")), text(each.get("version")) or "–"
        if each.get("code") == ASKED:  # a rollback by hand says nothing against what runs
            why = f"went back: {why}"
        rows.append([target.name, text(each.get("app")), runs, _state(each), back or "–", why or _passed(each)])
    return rows


def _state(app: Mapping[str, Any]) -> str:
    """In words: runs, on trial, waits to be confirmed, or what is wrong."""
    from edgec.flash.answers import text

    if text(app.get("problem")):
        return f"damaged: {text(app['problem'])}"
    pending = app.get("pending")
    version = text(pending.get("version")) if isinstance(pending, dict) else ""
    return {
        "none": "runs" if text(app.get("version")) else "nothing runs",
        "trial": f"tries {version or 'a version'}, {app.get('tries')} times left",
        "probation": f"waits to be confirmed{_left(app.get('remaining_s'))}",
    }.get(str(app.get("phase")), "unknown")


def _left(seconds: Any) -> str:
    return f", {seconds:.0f} s left" if isinstance(seconds, int | float) else ""


def _passed(app: Mapping[str, Any]) -> str:
    """The last check that passed, in a few words."""
    from edgec.cli.flash import health

    found = app.get("health")
    lines = health(found, 0.0) if isinstance(found, dict) and found.get("ok") is True else []
    return "; ".join(["passed", *lines[:1]]) if lines else "–"


def _as_dict(target: Target, answer: list[Mapping[str, Any]] | Error) -> dict[str, Any]:
    from edgec.errors import Error

    said = {"error": answer.as_dict()} if isinstance(answer, Error) else {"apps": answer}
    return {"device": target.name, "address": str(target.address), **said}
