"""Models that are not the zoo's: the graphs people bring, small, each compiled in process and held against onnxruntime.

Written in ONNX's own text form; weights are seeded noise. What each once broke stands beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgec_runtime as rt
import edgec_runtime.bundle
from edgec.compiler import compile
from edgec.errors import UnsupportedError
from tests.e2e.foreign import MODELS, calibration, decibels, feeds, same_interface, session

pytestmark = pytest.mark.filterwarnings("error")
BOARDS = "host,rpi4"


@pytest.mark.parametrize("name", MODELS)
def test_in_float_it_answers_as_onnxruntime_does(name: str, tmp_path: Path, quiet: None) -> None:
    foreign = MODELS[name]
    proto = foreign.proto()
    made = compile(proto.SerializeToString(), BOARDS, output=tmp_path / "m.edge", check_passes=True)
    assert [p.name for p in tmp_path.iterdir()] == ["m.edge"]
    assert made.manifest["golden"]["kind"] == ("synthetic" if proto.graph.input else "none")
    same_interface(tmp_path / "m.edge", proto)
    original = session(proto.SerializeToString())
    with rt.load(tmp_path / "m.edge") as model:
        for feed in feeds(proto, 7, 3, foreign.high):
            expected, got = original.run(None, feed), list(model.run(feed).values())
            for a, b in zip(expected, got, strict=True):
                if a.dtype.kind == "f":
                    np.testing.assert_allclose(a, b, atol=1e-4 * max(np.abs(a).max(initial=0), 1e-6), rtol=0)
                else:
                    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", MODELS)
def test_int8_is_near_or_says_why_not(name: str, tmp_path: Path, quiet: None) -> None:
    foreign = MODELS[name]
    proto = foreign.proto()

    def make(precision: str) -> Any:
        calib = calibration(proto, foreign.high)
        return compile(
            proto.SerializeToString(), BOARDS, output=tmp_path / "m.edge", calib=calib, precision=precision,
        )  # fmt: skip

    if foreign.int8 is None:
        with pytest.raises(UnsupportedError) as refused:
            make("int8")
        assert refused.value.why and refused.value.fix and not list(tmp_path.iterdir())
        assert {d.precision for d in make("auto").decisions} == {"float32"}
        same_interface(tmp_path / "m.edge", proto)
        return
    make("int8")
    same_interface(tmp_path / "m.edge", proto)
    original = session(proto.SerializeToString())
    expected, got = [], []
    with rt.load(tmp_path / "m.edge") as model:
        for feed in feeds(proto, 7, 4, foreign.high):
            expected += original.run(None, feed)
            got += list(model.run(feed).values())
    assert decibels(expected, got) >= foreign.int8
