"""Find boards and targets by name: the TOML files beside this one, a user's own file, installed plug-ins."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from edgec_runtime.errors import Error, MissingError
from edgec_targets import boardfile, machine
from edgec_targets.types import Board, Target

GROUP = "edgec.targets"
_BUILT_IN = {"host": "edgec_targets.host", "arm_cpu": "edgec_targets.arm_cpu", "x86_cpu": "edgec_targets.x86_cpu"}
_BOARDS = Path(__file__).parent / "boards"


def boards() -> dict[str, Board]:
    """Every board that ships with edgec, by name; "host" first, described as this machine is now."""
    names = sorted(path.stem for path in _BOARDS.glob("*.toml"))
    return {name: _shipped(name) for name in sorted(names, key=lambda n: (n != "host", n))}


def board_names() -> tuple[str, ...]:
    """The names of the boards that ship with edgec, without reading any."""
    return tuple(sorted(path.stem for path in _BOARDS.glob("*.toml")))


def board(name: str) -> Board:
    """The board called `name`, or the one in a user's file where `name` is a path to a `.toml`.

    Raises MissingError (E1020, exit 10) with names near to `name`; BadInputError (E920) for a broken file.
    """
    if name.endswith(".toml"):
        return boardfile.load(Path(name))
    if "/" not in name and (_BOARDS / f"{name}.toml").is_file():
        return _shipped(name)
    raise _unknown("board", name, [path.stem for path in _BOARDS.glob("*.toml")], "E1020", "edgec boards")


def target_names() -> list[str]:
    """Names of the built-in targets and of those that installed packages bring, without loading any."""
    return [*_BUILT_IN, *sorted(name for name in _plugins() if name not in _BUILT_IN)]


def target(name: str) -> Target:
    """The target called `name`. Raises MissingError (E1021) where it is unknown or its package fails to import."""
    if name in _BUILT_IN:
        found: Target = import_module(_BUILT_IN[name]).TARGET
        return found
    point = _plugins().get(name)
    if point is None:
        raise _unknown("target", name, target_names(), "E1021", "edgec targets")
    try:
        loaded = point.load()
    except Error:
        raise
    except Exception as e:  # a plug-in may raise anything while it is imported
        package = point.dist.name if point.dist else point.value
        raise MissingError(
            f"target '{name}' of package {package} can't be loaded",
            f"{type(e).__name__}: {e}",
            f"Update or uninstall {package}.",
            code="E1021",
        ) from e
    if not isinstance(loaded, Target):
        raise MissingError(
            f"target '{name}' is not a Target",
            f"The entry point {point.value} gives a {type(loaded).__name__}.",
            "Report it to the package's author.",
            code="E1021",
        )
    return loaded


def targets() -> dict[str, Target]:
    """Every target by name, loaded. Raises MissingError where a plug-in is broken (`target` loads just one)."""
    return {name: target(name) for name in target_names()}


@functools.cache
def _shipped(name: str) -> Board:
    return boardfile.load(_BOARDS / f"{name}.toml", defaults=machine.facts() if name == "host" else None)


def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _unknown(kind: str, name: str, known: Iterable[str], code: str, command: str) -> MissingError:
    near = difflib.get_close_matches(name, list(known), 3, 0.5)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    return MissingError(
        f"no {kind} called '{name}'",
        f"This edgec knows no {kind} of that name.",
        f"{hint}'{command}' lists them.",
        code=code,
    )
