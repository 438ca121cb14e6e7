"""`edgec-rt doctor [FILE]`: what this device has, what is amiss, and which payloads of a bundle can run here."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from edgec_runtime import __version__, engines, machine, preflight, select
from edgec_runtime import root as root_
from edgec_runtime.errors import Error, UsageError


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Python, architecture, instruction set, memory, engines with versions, root folder, trusted keys, apps.

    An engine's library is loaded in a process of its own. With FILE, each of its payloads is held against all this
    (`preflight`). Raises UnsupportedError or MissingError where none can run here, and what `bundle.open` raises.
    """
    if options.allow_unsigned and options.file is None:
        raise UsageError("--allow-unsigned is for a FILE", "there is none", "leave it away", code="E205")
    import platform

    here = machine.this()
    problems: list[str] = []
    found: dict[str, str | None] = {}
    libraries: dict[str, str] = {}
    for name in engines.names():
        engine = engines.find(name)
        found[name] = engine.version() if engine else None
        library = engine.library() if engine else None
        if library is not None:
            wrong = [*preflight.library_problems(library, here)] or [*filter(None, [preflight.trial(library)])]
            libraries[name] = library.path
            problems += [f"the engine {name!r} does not work here: {why}" for why in wrong]
    if not any(version for name, version in found.items() if name not in engines.WITHIN):
        problems.append("no engine is installed: pip install 'edgec-runtime[onnxruntime]'")
    root, apps = None, []
    trusts: dict[str, Any] = {"trusted_keys": [], "root_version": 0, "threshold": 1, "trust_expires": None, "notes": []}
    try:
        root = root_.find()
        trusts, wrong = _trusts(root)
        problems += wrong
        apps = _apps(root)
    except Error as error:
        problems.append(f"{error.what}: {error.why}. {error.fix}")
    if not trusts["trusted_keys"]:
        problems.append("no key is trusted: put its PEM file into the root's trust folder")
    return {
        "edgec_runtime": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "libc": " ".join(platform.libc_ver()).strip(),
        "kernel": platform.release(),
        **here.as_dict(),
        "cpus": os.cpu_count(),
        "engines": found,
        "libraries": libraries,
        "root": root,
        **trusts,
        "apps": apps,
        "problems": problems,
        **({"bundle": _bundle(options, here, root)} if options.file is not None else {}),
    }


def _bundle(options: argparse.Namespace, here: machine.Machine, root: str | None) -> list[dict[str, Any]]:
    """The payloads of FILE, each with what keeps it from running here."""
    from edgec_runtime.bundle import reader

    with reader.open(options.file, allow_unsigned=options.allow_unsigned) as bundle:
        whole, trusted = bundle.manifest, bundle.trusted
    report = preflight.manifest(whole, here, trusted=trusted, root=root)
    if not any(each["usable"] for each in report):
        # A missing engine is worth telling only where it is all that is missing.
        left = {each["payload"]: [p for p in each["problems"] if p["kind"] != "engine"] for each in report}
        reasons = {
            each["payload"]: "; ".join(p["why"] for p in left[each["payload"]] or each["problems"]) for each in report
        }
        raise select.none_usable(whole["payloads"], reasons, here)
    return report


def told(isa: list[str]) -> list[str]:
    """The features that change which kernels an engine picks; --json has all."""
    parts = ("avx", "vnni", "amx", "asimd", "fphp", "i8mm", "bf16", "sve")
    return [feature for feature in isa if feature.startswith(parts) or "vnni" in feature]


def text(result: dict[str, Any]) -> str:
    """For people."""
    memory = "?" if result["memory"] is None else f"{result['memory'] / 1e6:.0f} MB"
    lines = [
        f"edgec-runtime {result['edgec_runtime']}, Python {result['python']}, {result['libc'] or 'libc unknown'}",
        f"machine   {result['arch']}, {result['cpus']} CPUs, {memory} of memory free",
        f"isa       {' '.join(told(result['isa'])) or 'unknown'}",
        *(f"engine    {name} {version or 'not installed'}" for name, version in result["engines"].items()),
        f"root      {result['root'] or 'unclear'}",
        *(
            [
                f"trust     root metadata, version {result['root_version']}, until {result['trust_expires']}: "
                f"{result['threshold']} of these must sign"
            ]
            if result["root_version"]
            else []
        ),
        *(f"key       {key}" for key in result["trusted_keys"]),
        *(f"note      {note}" for note in result["notes"]),
        *(f"app       {app['app']}, slot {app['active']}" for app in result["apps"]),
        *(f"problem   {problem}" for problem in result["problems"]),
    ]
    for payload in result.get("bundle", ()):
        lines.append(f"payload   {payload['payload']}: {'can run here' if payload['usable'] else 'can not run here'}")
        for problem in payload["problems"]:
            lines += [f"            {problem['why']}", f"            fix: {problem['fix']}"]
    return "\n".join(lines)


def _trusts(root: str) -> tuple[dict[str, Any], list[str]]:
    """Whom this device trusts, and what is wrong with that."""
    from edgec_runtime.trust import clock, store

    trusted = store.load_trusted(None, root=root)
    notes, problems = [], []
    if trusted.version:
        beside = sorted(name for name in os.listdir(os.path.join(root, "trust")) if name.endswith(".pem"))
        if beside:
            notes.append(f"{len(beside)} single keys in the trust folder don't count beside root metadata: "
                         f"{', '.join(name[:16] for name in beside[:4])}")  # fmt: skip
        try:
            clock.refuse_expired_root(trusted, root=root)
        except Error as error:
            problems.append(f"{error.what}: {error.why}. {error.fix}")
    found = {
        "trusted_keys": sorted(trusted),
        "root_version": trusted.version,
        "threshold": trusted.threshold,
        "trust_expires": trusted.expires,
        "notes": notes,
    }
    return found, problems


def _apps(root: str) -> list[dict[str, Any]]:
    from edgec_runtime.slots import remove, state

    folder = os.path.join(root, "apps")
    apps = []
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        if remove.forgotten(root, name):
            continue
        try:
            active = state.read(os.path.join(folder, name), name).active
        except Error as error:
            active = error.what
        apps.append({"app": name, "active": active})
    return apps
