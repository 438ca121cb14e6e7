"""The device's own programs that a bundle may name: at five points of an installation they are run, and may say no.

    pre-install     before a member is sent
    post-verify     once all of them are in the store
    health          after the health check passed
    pre-activate    right before the new version is what loads get
    post-confirm    after it was committed; what it says changes nothing

A bundle brings no code: its manifest names hooks, `"hooks": {"health": ["check-camera"]}`, and they are files of
/etc/edgec/hooks that root wrote. They run without a shell, in a clean environment, for at most TIMEOUT seconds.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any

from edgec_runtime.errors import MissingError, RolledBackError
from edgec_runtime.slots import contained
from edgec_runtime.slots import state as state_

FOLDER, VARIABLE = "/etc/edgec/hooks", "EDGEC_HOOKS"
POINTS = ("pre-install", "post-verify", "pre-activate", "health", "post-confirm")
TIMEOUT = 30.0  # seconds
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def folder() -> str:
    """Where this device's hooks are; $EDGEC_HOOKS for tests."""
    return os.environ.get(VARIABLE) or FOLDER


def named(manifest: Mapping[str, Any], point: str) -> list[str]:
    """The hooks that a manifest names for a point."""
    return list(manifest.get("hooks", {}).get(point, ()))


def check(manifest: Mapping[str, Any]) -> None:
    """Raise MissingError (E1005) where a hook that the manifest names is not on this device, or can't be trusted."""
    for point in manifest.get("hooks", {}):
        if point not in POINTS:
            raise _missing(point, "this edgec-runtime knows no such point", "update edgec-runtime")
        for name in named(manifest, point):
            path(name)


def path(name: str) -> str:
    """The file of a hook. Raises MissingError where there is none, or somebody else than root could have written it."""
    if not name or name.startswith((".", "-")) or not state_.SAFE.issuperset(name):
        raise _missing(name, "that is no name of a file", "name the hook by its file's name alone")
    where = folder()
    full = os.path.join(where, name)
    try:
        above, found = os.lstat(where), os.lstat(full)
    except OSError as error:
        raise _missing(name, str(error), f"put it into {where}") from None
    owners = {0, os.geteuid()} if os.environ.get(VARIABLE) else {0}
    fix = f"chown root: {full} && chmod 755 {full}"
    if not stat.S_ISREG(found.st_mode):
        raise _missing(name, f"{full} is no plain file", "put the program itself there, no link")
    for what, status in ((where, above), (full, found)):
        if status.st_uid not in owners or status.st_mode & 0o022:
            raise _missing(name, f"others than root can write to {what}", fix)
    if not found.st_mode & 0o111:
        raise _missing(name, f"{full} can't be executed", fix)
    return full


def run_all(
    point: str, manifest: Mapping[str, Any], root: str, app: str, slot: str, *, timeout: float = TIMEOUT
) -> list[dict[str, Any]]:
    """Run a point's hooks in turn: [{"hook", "point", "seconds", "output"}].

    Raises RolledBackError (E707) at the first that says no (any exit code but 0), hangs or can't be run.
    """
    told = {
        "PATH": PATH, "LANG": "C.UTF-8", "HOME": "/", "EDGEC_ROOT": root, "EDGEC_APP": app, "EDGEC_SLOT": slot,
        "EDGEC_POINT": point, "EDGEC_VERSION": manifest["app"]["version"].replace("\0", "?"),
    }  # fmt: skip
    done = []
    for name in named(manifest, point):
        try:
            ended = contained.run([path(name)], env=told, timeout=min(timeout, TIMEOUT))
        except (OSError, MissingError) as error:
            why = error.why if isinstance(error, MissingError) else str(error)
            raise _refused(point, name, f"it can't be run: {why}") from None
        if ended.why():
            raise _refused(point, name, ended.why() + (f": {ended.said()}" if ended.said() else ""))
        output = ended.output.decode("utf-8", "replace")
        done.append({"hook": name, "point": point, "seconds": round(ended.seconds, 3), "output": output})
    return done


def _refused(point: str, name: str, why: str) -> RolledBackError:
    return RolledBackError(
        f"the hook {name!r} ({point}) said no", why, "see what it checks, then install again", code="E707"
    )


def _missing(name: str, why: str, fix: str) -> MissingError:
    return MissingError(f"the hook {name[:64]!r} that the bundle names can't be run here", why, fix, code="E1005")
