"""What commands print: one JSON object with --json, plain text without a terminal, nothing but errors with --quiet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgec.cli import common

ESCAPE = "\x1b"


# A command on the small bundle, and the keys of its JSON object.
RESULTS = [
    ("targets", [], {"targets"}),
    ("boards", [], {"boards"}),
    ("doctor", [], {"ok", "findings"}),
    ("keys", ["list"], {"folder", "keys"}),
    ("check", ["{model}", "-t", "host"], {"model", "size", "opset", "import_notes", "boards"}),
    ("inspect", ["{model}"], {"manifest", "report"}),
    ("inspect", ["{bundle}"], {"manifest", "report"}),
    ("verify", ["{bundle}"], {"app", "identity", "signers", "members", "bytes", "golden"}),
    ("run", ["{bundle}", "--input", "{input}"], {"payload", "outputs", "seconds"}),
    ("diff", ["{bundle}", "{bundle}"], {"identical", "differences"}),
    ("sign", ["{copy}"], {"file", "identity", "key_id"}),
    ("export", ["{bundle}", "--ort-package", "{new}/package"], {"component", "variants", "left_out"}),
    ("rebuild", ["{bundle}", "--model", "{model}"], {"identity", "members"}),
    ("compile", ["{model}", "-t", "rpi5", "-o", "{new}/m.edge"], {"file", "bytes", "identity", "payloads"}),
    ("quantize", ["{model}", "--precision", "float16", "-o", "{new}/half.onnx"], {"file", "bytes", "source_bytes"}),
]  # fmt: skip
IDS = [" ".join([name, *arguments]) for name, arguments, _ in RESULTS]


@pytest.fixture
def filled(small, tmp_path: Path):
    """The paths that the commands above name."""
    (tmp_path / "copy.edge").write_bytes(small.bundle.read_bytes())
    known = {"model": small.model, "bundle": small.bundle, "input": small.input, "copy": tmp_path / "copy.edge"}
    return lambda arguments: [a.format(**known, new=tmp_path) for a in arguments]


@pytest.mark.parametrize(("name", "arguments", "keys"), RESULTS, ids=IDS)
def test_json_is_one_object_and_all_there_is(edgec, filled, name: str, arguments: list[str], keys: set[str]) -> None:
    said = edgec(name, *filled(arguments), "--json")
    assert said.code == 0, said.err
    assert keys <= set(said.json) and "error" not in said.json
    assert not said.err


@pytest.mark.parametrize(("name", "arguments", "keys"), RESULTS, ids=IDS)
def test_a_pipe_gets_plain_lines_and_the_next_command(edgec, filled, name: str, arguments: list[str], keys) -> None:
    said = edgec(name, *filled(arguments))
    assert said.code == 0, said.err
    assert ESCAPE not in said.out and not said.err
    *before, last = said.out.splitlines()
    assert before and last.startswith("next: edgec ")
    assert all(line == line.rstrip() or len(line) <= common.PIPED for line in before)


@pytest.mark.parametrize(("name", "arguments", "keys"), RESULTS, ids=IDS)
def test_quiet_says_nothing_when_all_is_well(edgec, filled, name: str, arguments: list[str], keys) -> None:
    said = edgec(name, *filled(arguments), "--quiet")
    assert (said.code, said.out, said.err) == (0, "", "")


def test_quiet_keeps_the_exit_code_and_the_error(edgec, small, tmp_path: Path) -> None:
    said = edgec("verify", tmp_path / "absent.edge", "--quiet")
    assert said.code == 9 and said.err.startswith("error[E") and not said.out


def test_a_long_line_is_one_line_in_a_pipe(edgec, small, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 150)
    deep.mkdir()
    copy = deep / "m.edge"
    copy.write_bytes(small.bundle.read_bytes())
    assert edgec("verify", copy).out.splitlines()[-1] == f"next: edgec run {copy} --input x.npz"


class TestTerminal:
    """The same words on a terminal: colour unless NO_COLOR is set; progress on standard error there alone."""

    @pytest.fixture
    def terminal(self, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
        for variable in ("NO_COLOR", "FORCE_COLOR", "TTY_INTERACTIVE"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("TTY_COMPATIBLE", "1")  # rich: take the streams for a terminal
        return monkeypatch

    def test_colour(self, terminal, capsys) -> None:
        common.Output().next("edgec boards")
        assert ESCAPE in capsys.readouterr().out

    def test_no_color_is_obeyed(self, terminal, capsys) -> None:
        terminal.setenv("NO_COLOR", "1")
        out = common.Output()
        out.next("edgec boards")
        out.table("", ["a"], [["1"]])
        said = capsys.readouterr().out
        assert "next: edgec boards" in said and "\x1b[3" not in said

    def test_progress_shows_on_a_terminal(self, terminal, capsys) -> None:
        with common.Output().progress("working", 2) as step:
            step(1)
            step(1)
        said = capsys.readouterr()
        assert "working" in said.err and not said.out

    @pytest.mark.parametrize("flags", [{"as_json": True}, {"quiet": True}], ids=str)
    def test_progress_is_silent_where_words_are(self, terminal, capsys, flags) -> None:
        with common.Output(**flags).progress("working", 2) as step:
            step(2)
        assert capsys.readouterr() == ("", "")

    def test_a_line_breaks_between_words(self, terminal, capsys) -> None:
        terminal.setenv("COLUMNS", "40")
        common.Output().line("word " * 20)
        assert all(len(line) <= 40 for line in capsys.readouterr().out.splitlines())


class TestOutput:
    def test_markup_in_names_is_no_markup(self, capsys) -> None:
        out = common.Output()
        out.line("node [bold]x[/bold]")
        out.table("[red]t[/red]", ["[b]c"], [["[/i]v"]])
        said = capsys.readouterr().out
        assert all(word in said for word in ("[bold]x[/bold]", "[red]t[/red]", "[b]c", "[/i]v"))

    def test_a_title_wider_than_its_table_stays_whole(self, capsys) -> None:
        common.Output().table("Rules that almost fired, and why", ["a"], [["1"]])
        assert capsys.readouterr().out.splitlines()[0] == "Rules that almost fired, and why"

    def test_an_empty_table_is_nothing(self, capsys) -> None:
        common.Output().table("Title", ["a"], [])
        assert capsys.readouterr().out == ""

    def test_a_wide_table_folds_and_loses_nothing(self, capsys) -> None:
        word = "x" * 300
        common.Output().table("", ["a", "b"], [[word, "1"]])
        said = capsys.readouterr().out
        assert said.count("x") == 300 and max(map(len, said.splitlines())) <= common.PIPED

    def test_json_keeps_names_in_any_script(self, capsys) -> None:
        common.Output(as_json=True).result({"name": "модель/出力", "path": Path("a/b")})
        said = capsys.readouterr().out
        assert json.loads(said) == {"name": "модель/出力", "path": "a/b"} and "出力" in said

    @pytest.mark.parametrize(
        ("number", "words"),
        [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (5_100_000, "5.1 MB"), (2e9, "2.0 GB"), (7e13, "70000.0 GB")],
    )
    def test_sizes_in_words(self, number: float, words: str) -> None:
        assert common.size(number) == words

    def test_the_console_is_not_made_for_json(self) -> None:
        out = common.Output(as_json=True)
        out.line("nothing")
        out.table("", ["a"], [[1]])
        assert "console" not in vars(out)
