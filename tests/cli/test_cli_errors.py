"""Errors for people and for programs: what, why and fix; JSON; a traceback with --debug alone; pipes and Ctrl-C."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import click
import pytest

import edgec.cli as cli

# A call that fails, and its exit code (ARCHITECTURE.md, "Exit codes").
FAILS = [
    (["boards", "zx81"], 10),
    (["check", "{new}/absent.onnx", "-t", "host"], 9),
    (["check", "{model}", "-t", "zx81"], 10),
    (["check", "{model}", "-t", "host", "--shape", "nobody=1,2"], 9),
    (["compile", "{model}", "-t", "zx81"], 10),
    (["compile", "{model}", "-t", "host", "-o", "{new}/no/such/folder/m.edge"], 9),
    (["compile", "{model}", "-t", "host", "-o", "{new}"], 9),
    (["compile", "{model}", "-t", "host", "--engine", "abacus"], 2),
    (["compile", "{model}", "-t", "host", "--sign", "nobody"], 10),
    (["compile", "{model}", "-t", "host", "--calib", "{new}/absent.npz"], 9),
    (["compile", "{input}", "-t", "host"], 9),
    (["quantize", "{model}", "-o", "{new}/q.onnx", "--calib", "{new}/absent.npz"], 9),
    (["quantize", "{model}", "-o", "{new}/no/such/q.onnx", "--precision", "float16"], 9),
    (["inspect", "{new}/absent.edge"], 9),
    (["inspect", "{input}"], 9),
    (["verify", "{new}/absent.edge"], 9),
    (["verify", "{model}"], 9),
    (["run", "{bundle}", "--input", "{new}/absent.npz"], 9),
    (["run", "{bundle}", "--input", "{model}"], 9),
    (["run", "{new}/absent.edge", "--input", "{input}"], 9),
    (["run", "{bundle}", "--input", "{input}", "-o", "{new}/no/such/y.npz"], 9),
    (["diff", "{bundle}", "{new}/absent.edge"], 9),
    (["rebuild", "{bundle}", "--model", "{input}"], 9),
    (["export", "{bundle}", "--ort-package", "{here}"], 2),
    (["sign", "{new}/absent.edge"], 9),
    (["sign", "{bundle}", "--sign", "nobody"], 10),
    (["keys", "trust", "nobody"], 10),
    (["keys", "new", "release/1"], 2),
    (["bench", "{new}/absent.edge"], 9),
    (["bench", "{bundle}", "--emulate", "abacus"], 10),
]  # fmt: skip
IDS = [" ".join(arguments) for arguments, _ in FAILS]


@pytest.fixture
def filled(small, tmp_path: Path) -> Callable[[list[str]], list[str]]:
    known = {"model": small.model, "bundle": small.bundle, "input": small.input, "here": small.folder}
    return lambda arguments: [a.format(**known, new=tmp_path) for a in arguments]


@pytest.mark.parametrize(("arguments", "code"), FAILS, ids=IDS)
def test_what_why_and_fix(edgec, filled, tmp_path: Path, monkeypatch, arguments: list[str], code: int) -> None:
    monkeypatch.chdir(tmp_path)
    said = edgec(*filled(arguments))
    assert said.code == code, said.err
    assert not said.out.startswith("{")
    what, why, fix = said.err.splitlines()
    assert what.startswith("error[E") and why.startswith("  why: ") and fix.startswith("  fix: ")
    assert not list(tmp_path.iterdir()), "something was left behind"


@pytest.mark.parametrize(("arguments", "code"), FAILS, ids=IDS)
def test_the_same_as_json(edgec, filled, tmp_path: Path, monkeypatch, arguments: list[str], code: int) -> None:
    monkeypatch.chdir(tmp_path)
    said = edgec(*filled(arguments), "--json")
    error = said.json["error"]
    assert said.code == code == error["exit_code"]
    assert error["what"] and error["why"] and error["fix"] and error["code"].startswith("E")
    assert error["what"] in said.err, "a person who reads the log is told as well"


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """`breaks(error)`: `edgec boards` meets it."""

    def use(error: BaseException) -> None:
        @click.command("boards")
        @click.option("--json", "as_json", is_flag=True)
        @click.option("--debug", is_flag=True)
        def command(as_json: bool, debug: bool) -> None:
            raise error

        monkeypatch.setattr(import_module("edgec.cli.boards"), "command", command)

    return use


def test_a_bug_is_one_that_says_so(edgec, breaks) -> None:
    breaks(ZeroDivisionError("division by zero"))
    said = edgec("boards")
    assert said.code == 1 and "error[E000]" in said.err and "ZeroDivisionError: division by zero" in said.err
    assert "--debug" in said.err and "Traceback" not in said.err


def test_a_bug_as_json(edgec, breaks) -> None:
    breaks(ZeroDivisionError("division by zero"))
    said = edgec("boards", "--json")
    assert said.code == 1 and said.json["error"]["code"] == "E000" and said.json["error"]["exit_code"] == 1
    assert "ZeroDivisionError" in said.json["error"]["what"]


def test_debug_shows_where(breaks) -> None:
    breaks(ZeroDivisionError("division by zero"))
    with pytest.raises(ZeroDivisionError):
        cli.main(["boards", "--debug"])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()], ids=repr)
def test_stopped_by_the_user_is_130(edgec, breaks, error: BaseException) -> None:
    breaks(error)
    said = edgec("boards")
    assert said.code == 130 and said.err.strip() == "stopped: nothing was written" and not said.out


def test_a_reader_that_goes_away_is_no_bug() -> None:
    """`edgec boards | head -1`: no traceback, no word of a bug, and click's own exit code for it."""
    command = [sys.executable, "-m", "edgec", "boards", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 1
