"""Every command explains itself, each flag with a sentence, and `edgec --help` costs no import."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import click
import pytest

from edgec.cli import COMMANDS


def loaded(name: str) -> click.Command:
    command: click.Command = import_module(f"edgec.cli.{name}").command
    return command


GROUPS = {name: command.commands for name in COMMANDS if isinstance(command := loaded(name), click.Group)}
BELOW = {(name, below): command for name, commands in GROUPS.items() for below, command in commands.items()}
FOUND = {(name,): loaded(name) for name in COMMANDS} | BELOW
PATHS = list(FOUND)
DOING = [path for path in PATHS if not isinstance(FOUND[path], click.Group)]


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_edgec_lists_its_commands(edgec, flag: str) -> None:
    said = edgec(flag)
    assert said.code == 0 and not said.err
    for name, line in COMMANDS.items():
        assert f"  {name} " in said.out and line.split()[0] in said.out


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_each_command_explains_itself(edgec, path: tuple[str, ...]) -> None:
    said = edgec(*path, "--help")
    assert said.code == 0 and not said.err
    usage, *rest = said.out.splitlines()
    assert usage.startswith(f"Usage: edgec {' '.join(path)} ")
    assert any(line.startswith("  ") and line.strip() for line in rest), "no sentence says what it does"
    assert edgec(*path, "-h").out == said.out


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_each_flag_has_a_sentence(path: tuple[str, ...]) -> None:
    command = FOUND[path]
    bare = [p.opts[0] for p in command.params if isinstance(p, click.Option) and not (p.help or "").strip()]
    assert not bare


@pytest.mark.parametrize("path", DOING, ids=" ".join)
def test_each_command_has_the_common_flags(path: tuple[str, ...]) -> None:
    flags = {flag for p in FOUND[path].params for flag in p.opts}
    assert {"--json", "--yes", "--quiet", "--debug"} <= flags


def test_the_version_is_the_packages(edgec) -> None:
    import edgec as package

    said = edgec("--version")
    assert said.code == 0 and said.out == f"edgec, version {package.__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["compile", "--help"], ["frobnicate"]], ids=" ".join)
def test_words_cost_no_library(arguments: list[str]) -> None:
    """Help and a slip of the pen answer at once: nothing heavy is imported for them."""
    program = f"""
import sys
from edgec.cli import main
try:
    main({arguments!r})
except SystemExit:
    pass
heavy = {{"numpy", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "cryptography", "rich"}} & set(sys.modules)
print("imported", sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "imported []"
