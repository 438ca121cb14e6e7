"""`edgec-rt install FILE [--app NAME] [--choose] [--confirm auto|manual] [--deadline S]`."""

from __future__ import annotations

import argparse
from typing import Any

from edgec_runtime.slots.install import install


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Install the bundle, try it, and make it the app's active version. Raises as `slots.install.install` does.

    With --choose its payloads are timed afterwards, and the fastest is preferred (`slots.choose.choose`).
    """
    done = install(options.file, app=options.app, confirm=options.confirm, deadline=options.deadline)
    if not options.choose:
        return done.as_dict()
    from edgec_runtime.slots.choose import choose

    return {**done.as_dict(), "choice": choose(done.app)}


def text(result: dict[str, Any]) -> str:
    """For people."""
    chosen = f"{choice(result['choice'])}\n" if "choice" in result else ""
    said = {
        "committed": f"installed {result['app']} {result['version']} in slot {result['slot']}",
        "probation": f"{result['app']} {result['version']} is on probation in slot {result['slot']}",
        "unchanged": f"{result['app']} {result['version']} is installed already, in slot {result['slot']}",
    }[result["result"]]
    then = "confirm" if result["result"] == "probation" else "selftest --app"
    return (
        f"{said} ({result['identity'][:16]})\n"
        f"  {result['written']:,} new bytes in the store\n"
        f"{health(result['health'])}"
        f"{chosen}"
        f"next: edgec-rt {then} {result['app']}"
    )


def health(found: dict[str, Any]) -> str:
    """What a health check found, a line a payload."""
    lines = []
    for payload in found.get("payloads", ()):
        said = f"{payload['sqnr_db']:.1f} dB" if payload["result"] == "passed" else payload.get("why", "")
        if "latency_us" in payload:
            said += f"   {payload['latency_us'] / 1e3:.3f} ms   {payload.get('memory', 0) / 1e6:.0f} MB"
        lines.append(f"  {payload['payload']}  {payload['result']}  {said}\n")
    lines += [f"  hook {hook['hook']} ({hook['point']})  {hook['seconds']:.1f} s\n" for hook in found.get("hooks", ())]
    return "".join(lines)


def choice(result: dict[str, Any]) -> str:
    """What was measured, for people: fastest first."""
    lines = [f"on {result['cpu']} {result['app']} prefers {result['preferred']}"]
    for payload in result["payloads"]:
        if "why" in payload:
            lines.append(f"  {payload['payload']}: not used, {payload['why']}")
        else:
            time = f"{payload['median_s'] * 1e3:.3f} ms   spread {payload['spread'] * 100:.0f} %"
            lines.append(f"  {payload['payload']}: median {time}")
    return "\n".join(lines)
