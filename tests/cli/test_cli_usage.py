"""Slips on the command line: exit 2 (or the kind's own code), the word that is wrong named, nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest

# What was typed; a word that the answer must hold.
SLIPS = [
    (["frobnicate"], "frobnicate"),
    (["complie", "m.onnx"], "Did you mean 'compile'?"),
    (["--frobnicate"], "--frobnicate"),
    (["keys", "frobnicate"], "frobnicate"),
    (["compile"], "MODEL"),
    (["compile", "m.onnx"], "--target"),
    (["compile", "m.onnx", "-t", "host", "--precision", "int3"], "int3"),
    (["compile", "m.onnx", "-t", "host", "--sequence", "0"], "--sequence"),
    (["compile", "m.onnx", "-t", "host", "--golden", "made-up"], "made-up"),
    (["compile", "m.onnx", "-t", "host", "--shape", "x"], "x"),
    (["compile", "m.onnx", "-t", "host", "--shape", "x=1,-2"], "negative"),
    (["compile", "m.onnx", "-t", "host", "--confidence", "high"], "high"),
    (["compile", "m.onnx", "-t", ","], "board"),
    (["check", "m.onnx"], "--target"),
    (["check", "m.onnx", "-t", ","], "board"),
    (["quantize", "m.onnx"], "-o"),
    (["quantize", "m.onnx", "-o", "q.onnx"], "--calib"),
    (["quantize", "m.onnx", "-o", "q.onnx", "--weight-bits", "6"], "6"),
    (["quantize", "m.onnx", "-o", "q.onnx", "--max-bytes", "0"], "--max-bytes"),
    (["run", "m.edge"], "--input"),
    (["run", "m.edge", "--input", "x.npz", "--top", "0"], "--top"),
    (["bench"], "FILE"),
    (["bench", "m.edge", "--rounds", "2"], "--rounds"),
    (["bench", "m.edge", "--threads", "0"], "--threads"),
    (["bench", "m.edge", "--emulate", "cortex-a76", "--rounds", "5"], "--rounds"),
    (["bench", "m.edge", "--emulate", "cortex-a76", "--against", "ort"], "--against"),
    (["diff", "a.edge"], "SECOND"),
    (["rebuild", "a.edge"], "--model"),
    (["export", "a.edge"], "--ort-package"),
    (["inspect"], "FILE"),
    (["verify"], "FILE"),
    (["sign"], "FILE"),
    (["keys", "new"], "NAME"),
    (["keys", "new", "../key"], "../key"),
    (["targets", "more"], "more"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "word"), SLIPS, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_a_slip_is_exit_2_and_named(edgec, tmp_path: Path, monkeypatch, arguments: list[str], word: str) -> None:
    monkeypatch.chdir(tmp_path)
    said = edgec(*arguments)
    assert said.code == 2 and word in said.err and not said.out
    assert "Traceback" not in said.err and len(said.err.splitlines()) <= 4
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("arguments", "word"), SLIPS, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_a_program_that_asked_for_json_is_told_in_json(edgec, arguments: list[str], word: str) -> None:
    error = edgec(*arguments, "--json").json["error"]
    assert set(error) == {"code", "what", "why", "fix", "exit_code"}
    assert error["exit_code"] == 2 and error["code"].startswith("E2") and error["fix"]
    assert word in " ".join(map(str, error.values()))


def test_edgec_alone_shows_its_help(edgec) -> None:
    said = edgec()
    assert said.code == 2 and "Usage: edgec" in said.out + said.err and "compile" in said.out + said.err


FLAGS_WITHOUT_USE = [
    (["--max-drop", "1%"], []),
    (["--executor", "local:1"], ["--effort", "plain"]),
    (["--max-bytes", "1000"], []),
    (["--method", "histogram"], ["--precision", "float16"]),
    (["--effort", "plain"], ["--precision", "int4-weights"]),
    (["--placement", "tensorrt"], ["--precision", "int8-weights"]),
    (["--weight-bits", "7"], ["--precision", "float16"]),
    (["--arch", "x86_64"], ["--precision", "bfloat16"]),
]


@pytest.mark.parametrize(("flag", "beside"), FLAGS_WITHOUT_USE, ids=lambda v: " ".join(v))
def test_quantize_refuses_a_flag_that_would_do_nothing(edgec, flag: list[str], beside: list[str]) -> None:
    said = edgec("quantize", "m.onnx", "-o", "q.onnx", *beside, *flag)
    assert said.code == 2 and f"{flag[0]} would be ignored" in said.err and "fix:" in said.err


def test_a_search_for_a_form_that_is_no_mixture_is_refused(edgec) -> None:
    said = edgec("quantize", "m.onnx", "-o", "q.onnx", "--precision", "float16", "--effort", "search")
    assert said.code == 2 and "does not look for float16" in said.err


class TestProjectFile:
    """edgec.toml beside the caller: its mistakes are named, its values are defaults that flags overrule."""

    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ("[compile\n", "line 1"),
            ("[frobnicate]\nx = 1\n", "'frobnicate' is not a command's table"),
            ("boards = 1\n", "'boards' is not a command's table"),
            ("[boards]\nfliter = 'rpi4'\n", "Did you mean 'filter'?"),
            ("[boards]\nzebra = 1\n", "edgec boards --help"),
        ],
    )
    def test_a_mistake_is_named(self, edgec, tmp_path: Path, monkeypatch, text: str, word: str) -> None:
        monkeypatch.chdir(tmp_path)
        Path("edgec.toml").write_text(text)
        said = edgec("boards")
        assert said.code == 9 and word in said.err and "fix:" in said.err and not said.out
        assert edgec("boards", "--json").json["error"]["code"] == "E901"

    def test_bytes_that_are_no_text(self, edgec, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("edgec.toml").write_bytes(b"\xff\xfe[boards]")
        assert edgec("boards").code == 9

    def test_flags_overrule_it(self, edgec, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("edgec.toml").write_text("[boards]\nfilter = 'rpi4'\n[check]\ntarget = 'rpi5'\n")
        assert [b["name"] for b in edgec("boards", "--json").json["boards"]] == ["rpi4"]
        assert [b["name"] for b in edgec("boards", "rpi5", "--json").json["boards"]] == ["rpi5"]

    def test_a_value_of_the_wrong_kind_is_a_usage_error(self, edgec, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("edgec.toml").write_text("[bench]\nrounds = 'many'\n")
        said = edgec("bench", "m.edge")
        assert said.code == 2 and "many" in said.err


def test_engines_may_be_named_with_commas_or_one_by_one(edgec, small, tmp_path: Path) -> None:
    ways = ["--engine", "onnxruntime,litert"], ["--engine", "litert", "--engine", "onnxruntime"]
    found = []
    for number, asked in enumerate(ways):
        words = ["compile", small.model, "-t", "rpi5", *asked, "-o", tmp_path / f"{number}.edge", "--json"]
        found.append({payload["engine"] for payload in edgec(*words).json["payloads"]})
    assert found[0] == found[1] and "onnxruntime" in found[0]
