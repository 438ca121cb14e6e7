"""The golden check: the measure, with and without numpy, and selftest on bundles and installed apps."""

from __future__ import annotations

import builtins
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgec_runtime import golden, selftest
from edgec_runtime.bundle import tensors
from edgec_runtime.bundle.tensors import Item, Tensor
from edgec_runtime.errors import BadInputError, GoldenError, MissingError, TrustError

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def tensor(array, every=1):
    return Tensor(str(array.dtype), array.shape, np.ascontiguousarray(array).ravel()[::every].tobytes(), every)


def with_golden(kit, answer=2 * X, least=30.0, every=1):
    kit.files["golden/inputs.bin"] = tensors.encode([Item("0/x", "float32", (2, 3), X.tobytes())])
    coding = ("raw", 1) if every == 1 else ("stride", every)
    data = answer.ravel()[::every].tobytes()
    kit.files["golden/out.bin"] = tensors.encode([Item("0/y", "float32", (2, 3), data, *coding)])
    kit.manifest["golden"] = {**kit.manifest["golden"], "kind": "data", "samples": 1, "inputs": "golden/inputs.bin"}
    kit.manifest["payloads"][0]["golden"] = {"expected": "run", "file": "golden/out.bin", "min_sqnr_db": least}
    return kit


def test_sqnr_is_the_ratio_of_energies():
    recorded = {"0/y": tensor(np.array([3.0, 4.0]))}
    assert golden.sqnr_db(recorded, [{"y": np.array([3.0, 4.5])}]) == pytest.approx(20.0)
    assert golden.sqnr_db(recorded, [{"y": np.array([3.0, 4.0])}]) == golden.IDENTICAL
    assert golden.sqnr_db(recorded, [{"y": np.array([3.0, np.nan])}]) == -golden.IDENTICAL
    assert golden.sqnr_db({"0/y": tensor(np.zeros(2))}, [{"y": np.ones(2)}]) == -golden.IDENTICAL


def test_nan_and_infinity_that_were_recorded_count_as_equal():
    recorded = {"0/y": tensor(np.array([np.nan, np.inf, 1.0]))}
    assert golden.sqnr_db(recorded, [{"y": np.array([np.nan, np.inf, 1.0])}]) == golden.IDENTICAL
    assert golden.sqnr_db(recorded, [{"y": np.array([np.nan, -np.inf, 1.0])}]) == -golden.IDENTICAL
    assert golden.sqnr_db(recorded, [{"y": np.array([0.0, np.inf, 1.0])}]) == -golden.IDENTICAL


def test_floats_decide_over_indices_and_indices_where_they_are_alone():
    index = {"0/i": tensor(np.array([5], np.int64))}
    both = {**index, "0/y": tensor(np.array([1.0]))}
    assert golden.sqnr_db(both, [{"i": np.array([4]), "y": np.array([1.0])}]) == golden.IDENTICAL
    assert golden.sqnr_db(index, [{"i": np.array([4])}]) == pytest.approx(10 * math.log10(25))


def test_each_kth_element_is_compared():
    values = np.arange(10.0)
    recorded = {"0/y": tensor(values, every=3)}
    other = values.copy()
    other[[1, 2, 4]] = 99
    assert golden.sqnr_db(recorded, [{"y": other}]) == golden.IDENTICAL
    other[3] = 0
    assert golden.sqnr_db(recorded, [{"y": other}]) < 20


@pytest.mark.parametrize("outputs", [[], [{}], [{"y": np.zeros(3)}], [{"y": np.zeros((2, 1))}]])
def test_missing_outputs_and_other_shapes(outputs):
    with pytest.raises(GoldenError) as caught:
        golden.sqnr_db({"0/y": tensor(np.zeros(2))}, outputs)
    assert caught.value.exit_code == 6


def test_text():
    recorded = {"0/y": Tensor("string", (2,), tensors.pack_strings(["a", "b"]))}
    assert golden.sqnr_db(recorded, [{"y": np.array(["a", "b"], object)}]) == golden.IDENTICAL
    with pytest.raises(GoldenError):
        golden.sqnr_db(recorded, [{"y": np.array(["a", "c"], object)}])


@pytest.fixture
def no_numpy(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "numpy":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    return lambda: monkeypatch.setattr(builtins, "__import__", refuse), lambda: monkeypatch.undo()


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(width=32), st.floats(width=32)), min_size=1, max_size=12), st.integers(1, 3))
def test_without_numpy_the_same_number(no_numpy, pairs, every):
    a, b = (np.array(side, np.float32) for side in zip(*pairs, strict=True))
    recorded = {"0/y": tensor(a, every)}
    expected = golden.sqnr_db(recorded, [{"y": b}])
    off, on = no_numpy
    off()
    try:
        found = golden.sqnr_db(recorded, [{"y": memoryview(b)}])
        sample = golden.feed({"x": Tensor("float32", (len(a),), a.tobytes())})["x"]
        assert isinstance(sample, memoryview) and sample.shape == (len(a),)
    finally:
        on()
    assert found == pytest.approx(expected, abs=1e-6)


def test_selftest_passes(model_kit, tmp_path):
    for every in (1, 4):
        found = selftest.bundle(with_golden(model_kit, every=every).write(tmp_path), trust=model_kit.trust)
        assert found["payloads"] == [
            {"payload": "onnxruntime-float32-host", "result": "passed", "sqnr_db": 200.0, "min_sqnr_db": 30.0}
        ]
        assert found["members"] == 3


def test_selftest_fails_on_other_answers(model_kit, tmp_path):
    path = with_golden(model_kit, answer=2 * X + 1).write(tmp_path)
    with pytest.raises(GoldenError) as caught:
        selftest.bundle(path, trust=model_kit.trust)
    assert caught.value.code == "E601" and "onnxruntime-float32-host" in caught.value.what and "dB" in caught.value.why
    selftest.bundle(with_golden(model_kit, answer=2 * X + 1, least=5.0).write(tmp_path), trust=model_kit.trust)


def test_selftest_tries_every_payload_and_says_why_not(model_kit, tmp_path):
    with_golden(model_kit)
    model_kit.manifest["payloads"] += [model_kit.payload(id="npu", engine="npu"), model_kit.payload(id="plain")]
    found = selftest.bundle(model_kit.write(tmp_path), trust=model_kit.trust)["payloads"]
    assert [p["result"] for p in found] == ["passed", "skipped", "loaded"]
    assert "no adapter" in found[1]["why"]
    model_kit.manifest["payloads"] = [model_kit.manifest["payloads"][1]]
    model_kit.manifest["payloads"][0]["golden"] = {"expected": "run", "file": "golden/out.bin", "min_sqnr_db": 1}
    with pytest.raises(MissingError):
        selftest.bundle(model_kit.write(tmp_path), trust=model_kit.trust)


def test_selftest_hashes_everything(model_kit, tmp_path):
    path = with_golden(model_kit).write(tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(model_kit.files["golden/out.bin"])] ^= 1
    path.write_bytes(data)
    with pytest.raises(TrustError):
        selftest.bundle(path, trust=model_kit.trust)


def test_golden_files_that_are_none(model_kit, tmp_path):
    with_golden(model_kit)
    model_kit.files["golden/inputs.bin"] = b"not zlib"
    with pytest.raises(BadInputError):
        selftest.bundle(model_kit.write(tmp_path), trust=model_kit.trust)
    model_kit.files["golden/inputs.bin"] = tensors.encode([Item("x", "float32", (2, 3), X.tobytes())])
    with pytest.raises(GoldenError):
        selftest.bundle(model_kit.write(tmp_path), trust=model_kit.trust)


def test_selftest_of_an_installed_app(model_kit, tmp_path, root):
    from edgec_runtime.slots.install import install

    install(with_golden(model_kit).write(tmp_path), app="app")
    assert selftest.app("app")["payloads"][0]["result"] == "passed"
    files = sorted((root / "store" / "sha256").iterdir(), key=lambda p: p.stat().st_size)
    files[0].chmod(0o644)
    files[0].write_bytes(bytes(files[0].stat().st_size))
    with pytest.raises(TrustError, match="damaged"):
        selftest.app("app")
