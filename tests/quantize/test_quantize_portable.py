"""The same int8 answers on every x86 CPU: seven bits can't saturate, and each CPU picks what is proven for it."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgec_targets
from edgec import decide
from edgec import quantize as q
from edgec.data import Dataset
from edgec.errors import BudgetError, GoldenError, MissingError
from edgec.measure.accuracy import Accuracy
from edgec.quantize import portable
from edgec.quantize.session import Session
from edgec.request import Request
from edgec.stages import choose, emit, emulate
from edgec.stages.boards import Kind
from edgec.stages.emit import Candidate
from edgec_runtime import select
from edgec_runtime.machine import Machine
from edgec_targets.types import Built
from edgec_toolchains import x86_emulation

ROOT = Path(__file__).parents[2]
eight_bits = st.integers(0, 255)


@settings(max_examples=200)
@given(eight_bits, eight_bits, st.integers(-63, 63), st.integers(-63, 63))
def test_no_pair_of_products_leaves_int16_with_seven_bits(a, b, v, w):
    assert -(2**15) <= a * v + b * w < 2**15


def test_eight_bits_do():
    assert 255 * 127 * 2 >= 2**15
    assert q.Scheme().weight_max == 127 and portable.narrow(q.Scheme()).weight_max == 63


@pytest.mark.parametrize(
    ("arch", "isa", "may"),
    [
        ("x86_64", (), True),
        ("x86_64", ("avx2", "fma"), True),
        ("x86_64", ("avx512f", "avx512bw"), True),
        ("x86_64", ("avx2", "avx_vnni"), False),
        ("x86_64", ("avx512f", "avx512_vnni"), False),
        ("aarch64", ("asimd",), False),
    ],
)
def test_which_cpus_may_saturate(arch, isa, may):
    assert portable.may_saturate(arch, isa) is may


def test_boards_without_vnni_are_known_as_such():
    may = {n for n, b in edgec_targets.boards().items() if portable.may_saturate(b.arch, b.isa)}
    assert {"generic-x86-64-v3", "generic-x86-64-v4"} <= may and "intel-n100" not in may and "rpi5" not in may


class Fixed:
    """An emitter that writes the model's name."""

    name = "onnxruntime"
    fixed_sizes = False

    def emit(self, model, board, *, precision):
        return Built("onnxruntime", precision, {"model": (f"model.{precision}.onnx", model)}, ">=1", 21)


def candidates(board: str, monkeypatch, *, exact: bool = True, models=None) -> list[Candidate]:
    found = edgec_targets.board(board)
    target = edgec_targets.types.Target("t", "t", [Fixed()], ("int8",))
    machine = type("M", (), {"exact_int8": exact})
    monkeypatch.setattr(emit, "this_machine", lambda: machine)
    models = models or {"float32": b"float", "int8": b"eight", portable.NARROW: b"seven"}
    return emit.emit(models, Kind(found, target), list(models)).candidates


def chosen(several: list[Candidate], board: str, value=0.9, narrow=0.9, **asked) -> dict[str, Candidate]:
    values = {"float32": 0.9, "int8": value, portable.NARROW: narrow}
    measured = choose.Measured({c.digest: Accuracy("top1", values[c.name], 0.9, 100) for c in several})
    request = Request((board,), **asked)
    decisions = choose.choose({board: several}, measured, [several[0].kind], request, None, "")
    return choose.payloads({board: several}, decisions)


def picked(payloads: dict[str, Candidate], *isa: str) -> str | None:
    """What a machine takes, by the device's own rules."""
    machine = Machine("x86_64", frozenset(isa), None)
    entries = [
        {"id": name, "arch": "x86_64", "isa": list(c.built.isa), "portable": True, "native_code": False, "memory": None}
        for name, c in payloads.items()
    ]
    usable = (e["id"] for e in select.order(entries, machine) if select.obstacle(e, machine, trusted=True) is None)
    return next(usable, None)


def test_each_cpu_takes_what_is_proven_for_it(monkeypatch):
    board = "generic-x86-64-v3"
    made = chosen(candidates(board, monkeypatch), board)
    assert picked(made, "avx2", "avx512_vnni") == f"onnxruntime-int8-{board}"
    assert picked(made, "avx2", "avx_vnni") == f"onnxruntime-int8-avx_vnni-{board}"
    assert picked(made, "avx2") == f"onnxruntime-int8w7-{board}"
    contents = {name: c.built.files["model"] for name, c in made.items()}
    assert set(contents.values()) == {("model.int8.onnx", b"eight"), ("model.int8w7.onnx", b"seven")}
    assert all(c.precision == "int8" for c in made.values())


def test_seven_bits_over_the_budget_give_way_to_float(monkeypatch):
    board = "generic-x86-64-v4"
    made = chosen(candidates(board, monkeypatch), board, narrow=0.5, max_drop="1pt")
    assert picked(made, "avx512f") == f"onnxruntime-float32-{board}"
    assert picked(made, "avx512f", "avx512_vnni") == f"onnxruntime-int8-{board}"


def test_boards_that_surely_have_vnni_get_one_payload_that_says_so(monkeypatch):
    made = chosen(candidates("intel-n100", monkeypatch), "intel-n100")
    assert [c.built.isa for c in made.values()] == [("avx_vnni",)]
    assert picked(made, "avx2") is None
    arm = chosen(candidates("rpi5", monkeypatch), "rpi5")
    assert [c.built.isa for c in arm.values()] == [()]


def test_on_a_machine_that_saturates_itself_eight_bits_are_not_shipped_unproven(monkeypatch):
    board = "generic-x86-64-v3"
    made = chosen(candidates(board, monkeypatch, exact=False), board)
    assert [(c.built.isa, c.built.files["model"][1]) for c in made.values()] == [((), b"seven")]


def test_without_the_seven_bit_model_no_cpu_gets_what_it_would_saturate(monkeypatch):
    board = "generic-x86-64-v3"
    several = candidates(board, monkeypatch, models={"float32": b"float", "int8": b"eight"})
    assert picked(chosen(several, board), "avx2") == f"onnxruntime-float32-{board}"


def test_int8_by_name_with_a_budget_holds_for_the_seven_bits_too(monkeypatch):
    board = "generic-x86-64-v3"
    models = {"int8": b"eight", portable.NARROW: b"seven"}
    with pytest.raises(BudgetError, match="without VNNI"):
        chosen(candidates(board, monkeypatch, models=models), board, narrow=0.5, precision="int8", max_drop="1pt")
    made = chosen(candidates(board, monkeypatch, models=models), board, narrow=0.5, precision="int8")
    assert picked(made, "avx2") == f"onnxruntime-int8w7-{board}"


def test_a_decision_goes_through_the_recipe_and_back():
    made = decide.Decision("b", "int8", "why", portable.NARROW)
    assert made.as_dict()["fallback"] == portable.NARROW
    assert "fallback" not in decide.Decision("b", "int8", "why").as_dict()


@pytest.fixture(scope="module")
def emulator() -> Path:
    unpacked = ROOT / "build" / "qemu" / "usr" / "bin" / "qemu-x86_64-static"
    found = x86_emulation.find() or (unpacked if unpacked.is_file() else None)
    if found is None or platform.machine() != "x86_64":
        pytest.skip("no qemu-x86_64: make emulator, or install qemu-user-static")
    return found


def saturating(build, feeds, bits: int) -> tuple[ir.Model, list[dict[str, np.ndarray]]]:
    """All products large and of one sign: eight-bit weights overflow int16 at each pair."""
    weight = np.full((16, 64, 1, 1), 0.5, np.float32)
    weight[::2] *= np.linspace(0.2, 1, 64, dtype=np.float32)[:, None, None]
    model = build([("Conv", ["x", "w"], ["y"])], {"x": [1, 64, 4, 4]}, ["y"], {"w": weight})
    data = [{"x": np.full((1, 64, 4, 4), v, np.float32)} for v in (0.9, 1.0)]
    made = q.quantize_with_data(
        model, Dataset.of(data, model.graph.inputs), scheme=q.Scheme(weight_bits=bits),
        effort="plain", arch="",
    )  # fmt: skip
    return made.model, data


@pytest.mark.parametrize("bits", [8, 7])
def test_an_emulated_cpu_without_vnni_shows_it(build, feeds, emulator, bits):
    model, data = saturating(build, feeds, bits)
    there = x86_emulation.run(emulator, ir.to_proto(model).SerializeToString(), data[1:])
    assert "avx2" in there.isa and not {"avx512_vnni", "avx_vnni"} & set(there.isa)
    exact = Session(model, optimize=False).run(data[1])[0]  # float arithmetic on the dequantized numbers
    if bits == 7:
        np.testing.assert_allclose(there.answers[0][0], exact, rtol=0.02)
    else:
        assert there.answers[0][0].max() < 0.8 * exact.max()


def test_a_payload_that_answers_otherwise_there_is_not_shipped(build, feeds, emulator, monkeypatch):
    monkeypatch.setenv("EDGEC_QEMU_X86_64", str(emulator))
    model, data = saturating(build, feeds, 7)
    content = ir.to_proto(model).SerializeToString()
    kind = Kind(edgec_targets.board("generic-x86-64-v3"), edgec_targets.target("x86_cpu"))
    candidate = Candidate(
        kind, Built("onnxruntime", "int8", {"model": ("m.onnx", content)}, ">=1", 21), portable.NARROW
    )
    here = [Session(model).run(data[1])]
    (entry,) = emulate.proofs({"p": candidate}, {candidate.digest: here}, data[1:], 20.0)
    assert "emulated" in entry["cpu"] and "avx2" in entry["isa"]
    with pytest.raises(GoldenError, match="otherwise"):
        emulate.proofs({"p": candidate}, {candidate.digest: [[np.zeros_like(here[0][0])]]}, data[1:], 20.0)


def test_without_an_emulator_nothing_is_claimed(monkeypatch):
    monkeypatch.setattr(x86_emulation, "find", lambda: None)
    assert emulate.proofs({}, {}, [], 20.0) == []


def test_an_emulator_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setenv("EDGEC_QEMU_X86_64", "/nowhere/qemu")
    with pytest.raises(MissingError, match="names no file"):
        x86_emulation.find()
