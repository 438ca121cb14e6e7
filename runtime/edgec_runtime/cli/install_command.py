"""`edgec-rt install FILE [--app NAME] [--choose]`."""

from __future__ import annotations

import argparse
from typing import Any

from edgec_runtime.slots.install import install


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Install the bundle and make it the app's active version. Raises as `slots.install.install` does.

    With --choose its payloads are timed afterwards, and the fastest is preferred (`slots.choose.choose`).
    """
    done = install(options.file, app=options.app)
    if not options.choose:
        return done.as_dict()
    from edgec_runtime.slots.choose import choose

    return {**done.as_dict(), "choice": choose(done.app)}


def text(result: dict[str, Any]) -> str:
    """For people."""
    chosen = f"{choice(result['choice'])}\n" if "choice" in result else ""
    return (
        f"installed {result['app']} in slot {result['slot']} ({result['identity'][:16]})\n"
        f"  {result['written']:,} new bytes in the store\n"
        f"  payloads: {', '.join(result['payloads'])}\n"
        f"{chosen}"
        f"next: edgec-rt selftest --app {result['app']}"
    )


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
