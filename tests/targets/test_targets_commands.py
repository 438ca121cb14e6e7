"""The commands targets, boards, check and doctor, as a user calls them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgec import doctor
from edgec.cli import edgec
from edgec.errors import Error


def call(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(edgec, arguments)
    if isinstance(result.exception, Error):
        return result.exception.exit_code, str(result.exception)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_targets_lists_both_and_their_boards() -> None:
    code, text = call("targets", "--json")
    found = {t["name"]: t for t in json.loads(text)["targets"]}
    assert code == 0 and found["host"]["boards"] == ["host"] and "rpi5" in found["arm_cpu"]["boards"]
    assert found["arm_cpu"]["engines"] == ["onnxruntime", "litert", "tvm", "ncnn"]


def test_boards_filters_by_name_cpu_and_isa() -> None:
    def names(*filter: str) -> list[str]:
        return [b["name"] for b in json.loads(call("boards", *filter, "--json")[1])["boards"]]

    assert {"host", "rpi5", "imx8mp"} <= set(names())
    assert names("a72") == ["rpi4"]
    assert "generic-armv8.6-i8mm" in names("i8mm") and "rpi4" not in names("asimddp")
    code, text = call("boards", "rpi4")
    assert code == 0 and "Cortex-A72" in text and "source" in text
    code, text = call("boards", "zx81")
    assert code == 10 and "zx81" in text


def test_an_unknown_board_is_exit_10_with_near_names() -> None:
    code, text = call("check", "model.onnx", "-t", "rpi6")
    assert code == 10 and "rpi5" in text


def test_check_says_yes_and_what_it_costs(zoo: Callable[[str], Path]) -> None:
    model = zoo("resnet8_cifar10") / "model.onnx"
    code, text = call("check", str(model), "-t", "rpi5,host", "--json")
    result = json.loads(text)
    assert code == 0 and [b["runs"] for b in result["boards"]] == [True, True]
    assert result["size"] == model.stat().st_size
    assert result["boards"][0]["memory"]["weights"] > 250_000
    code, text = call("check", str(model), "-t", "rpi5")
    assert code == 0 and "can run" in text and "next: edgec compile" in text


def test_check_names_the_node_and_exits_4(tmp_path: Path) -> None:
    from onnx import parser

    text = """<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>
        g (float[1,4,8] x, float[8] w) => (float[1,4,8] y) {
            [first] a = com.microsoft.BiasAdd(x, w, x) [second] y = com.microsoft.BiasAdd(a, w, x) }"""
    proto = parser.parse_model(text)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    code, text = call("check", str(tmp_path / "m.onnx"), "-t", "rpi5", "--json")
    assert code == 4
    assert [p["node"] for p in json.loads(text)["boards"][0]["problems"]] == ["first", "second"]


def test_doctor_is_content_here_and_says_what_int8_means() -> None:
    code, text = call("doctor", "--json")
    result = json.loads(text)
    assert code == 0 and result["ok"]
    what = {f["what"]: f for f in result["findings"]}
    assert {"Python", "onnxruntime", "ONNX Runtime runs", "int8 on this CPU", "device root"} <= set(what)


def test_doctor_exits_10_when_something_required_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: "1.0" if name == "onnxruntime" else real(name))
    code, text = call("doctor", "--json")
    assert code == 10
    (bad,) = [f for f in json.loads(text)["findings"] if f["state"] == "missing"]
    assert bad["what"] == "onnxruntime" and "1.0" in bad["found"] and "pip install" in bad["fix"]


@pytest.mark.parametrize(
    ("arch", "isa", "state", "says"),
    [
        ("x86_64", ("avx2", "avx512_vnni"), "ok", "avx512_vnni"),
        ("x86_64", ("avx2",), "note", "saturate"),
        ("aarch64", ("asimd", "asimddp"), "ok", "asimddp"),
        ("aarch64", ("asimd",), "note", "no dot product"),
        ("riscv64", (), "note", "riscv64"),
    ],
)
def test_what_a_cpu_means_for_int8(arch: str, isa: tuple[str, ...], state: str, says: str) -> None:
    finding = doctor.int8_finding(arch, isa)
    assert finding.state == state and says in finding.found
