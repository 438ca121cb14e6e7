"""Read one board's TOML file, strictly: an unknown key, a missing one or one of the wrong type is an error."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

from edgec_runtime.bundle import version
from edgec_runtime.errors import BadInputError
from edgec_targets.types import Board

_TYPES: dict[str, type] = {
    "title": str,
    "target": str,
    "arch": str,
    "isa": list,
    "cpu": str,
    "cores": int,
    "memory": int,
    "os": str,
    "glibc": str,
    "python": str,
    "engines": dict,
    "threads": int,
    "spinning": bool,
    "arena": bool,
    "source": str,
}
_REQUIRED = ("title", "target", "arch", "isa", "cpu", "cores", "memory", "engines", "source")
_POSITIVE = ("cores", "memory", "threads")
_ARCHITECTURES = ("aarch64", "x86_64", "armv7l", "riscv64")


def load(path: Path, *, defaults: dict[str, Any] | None = None) -> Board:
    """Read `path`; the board's name is the file's. `defaults` stand for keys that the file leaves out (host).

    Raises BadInputError (E920), naming the file and the key.
    """
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except FileNotFoundError as e:
        raise BadInputError(f"no board file {path}", "", "Give the path of a .toml file.", code="E920") from e
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise _error(path, "can't be read", str(e)) from e
    for key, value in table.items():
        _check(path, key, value)
    table = {**(defaults or {}), **table}
    missing = [key for key in _REQUIRED if key not in table]
    if missing:
        raise _error(path, f"lacks {', '.join(missing)}", "A board file is complete or it is refused.")
    if not table["source"].strip():
        raise _error(path, "has an empty source", "A fact without its source can't be checked by the next reader.")
    table["isa"] = tuple(table["isa"])
    return Board(name=path.stem, **table)


def _check(path: Path, key: str, value: object) -> None:
    if key not in _TYPES:
        near = difflib.get_close_matches(key, _TYPES, 1)
        raise _error(path, f"has an unknown key '{key}'", f"Did you mean '{near[0]}'?" if near else "")
    wanted = _TYPES[key]
    # bool is an int to Python, but `threads = true` is a mistake.
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise _error(path, f"'{key}' is {value!r}", f"It must be a {wanted.__name__}.")
    if key in _POSITIVE and isinstance(value, int) and value < 1:
        raise _error(path, f"'{key}' is {value}", "It must be at least 1.")
    if key == "arch" and value not in _ARCHITECTURES:
        raise _error(path, f"'arch' is {value!r}", f"Known: {', '.join(_ARCHITECTURES)} (as `uname -m` says).")
    if key == "isa" and isinstance(value, list):
        if not all(isinstance(f, str) and f == f.lower() and f.split() == [f] for f in value):
            raise _error(path, "'isa' has a feature that isn't one lower-case word", "Use the words of /proc/cpuinfo.")
        if len(set(value)) != len(value):
            raise _error(path, "'isa' names a feature twice", "")
    if key == "engines" and isinstance(value, dict):
        _check_engines(path, value)


def _check_engines(path: Path, engines: dict[str, object]) -> None:
    if not engines:
        raise _error(path, "'engines' is empty", "Name at least one engine and its version range.")
    for name, text in engines.items():
        try:
            if not isinstance(text, str) or not version.parse(text):
                raise ValueError("It must be a version range like '>=1.18,<2'.")
        except ValueError as e:
            raise _error(path, f"engines.{name} is {text!r}", str(e)) from e


def _error(path: Path, what: str, why: str) -> BadInputError:
    return BadInputError(f"board file {path} {what}", why, "See docs/targets.md, 'A board of your own'.", code="E920")
