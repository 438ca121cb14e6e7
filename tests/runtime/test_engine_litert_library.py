"""Which LiteRT library is called, and that a wrong one does no harm."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import edgec_runtime as rt
from edgec_runtime.engines import choice, litert_capi, litert_package, selfcheck
from edgec_runtime.errors import MissingError, UnsupportedError
from tests.runtime.litert_models import RELU, X, bundle, tflite

pytestmark = pytest.mark.skipif(litert_capi.library() is None, reason="ai-edge-litert is not installed")


def without_packages(monkeypatch):
    for package in litert_package.PACKAGES:
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.setitem(sys.modules, f"{package}.interpreter", None)


def wrong_library(folder: Path, source: str) -> str:
    path = folder / "libLiteRt.so"
    (folder / "wrong.c").write_text(source)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path, folder / "wrong.c"], check=True)
    (folder / "libLiteRt.so.version").write_text("2.9.0\n")
    return str(path)


WRONG = {
    "older": ("int LiteRtCreateEnvironment(void){return 0;}", "from 2.1.6 on"),
    "crashes": ("int LiteRtCreateModelFromFd(void){return 0;} int LiteRtCreateEnvironment(void){return *(int *)8;}",
                "died of signal 11"),
    "fails": ("int LiteRtCreateModelFromFd(void){return 0;} int LiteRtCreateEnvironment(void){return 5;}",
              "unsupported"),
    "lacks": ("int LiteRtCreateModelFromFd(void){return 0;} int LiteRtCreateEnvironment(void){return 0;}",
              "has no LiteRtGetNumModelSignatures"),
    "hangs": ("int LiteRtCreateModelFromFd(void){return 0;} int LiteRtCreateEnvironment(void){for(;;);}",
              "did not answer"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_library_does_no_harm(tmp_path, kit, monkeypatch, kind):
    source, said = WRONG[kind]
    if kind == "hangs":  # the others answer, however long a busy machine takes
        monkeypatch.setattr(selfcheck, "TIMEOUT", 0.3)
    monkeypatch.setenv(litert_capi.VARIABLE, wrong_library(tmp_path, source))
    without_packages(monkeypatch)
    with pytest.raises(UnsupportedError) as caught:
        rt.load(bundle(kit, tflite()).write(tmp_path), trust=kit.trust)
    assert said in caught.value.why


def test_a_wrong_library_gives_way_to_the_package(tmp_path, kit, monkeypatch):
    monkeypatch.setenv(litert_capi.VARIABLE, wrong_library(tmp_path, WRONG["crashes"][0]))
    kit = bundle(kit, tflite(), engine_version=">=2.3,<3")
    with rt.load(kit.write(tmp_path), trust=kit.trust) as model:
        assert model.run({"x": X})["y"].tolist() == RELU


@pytest.mark.parametrize("content", [b"", b"no library", b"\x7fELF" + b"\0" * 60])
def test_a_file_that_is_no_library(tmp_path, kit, monkeypatch, content):
    (tmp_path / "libLiteRt.so").write_bytes(content)
    (tmp_path / "libLiteRt.so.version").write_text("2.3.0")
    monkeypatch.setenv(litert_capi.VARIABLE, str(tmp_path / "libLiteRt.so"))
    without_packages(monkeypatch)
    with pytest.raises(UnsupportedError, match="no payload"):
        rt.load(bundle(kit, tflite()).write(tmp_path), trust=kit.trust)


def test_no_library_and_no_package(tmp_path, kit, monkeypatch):
    monkeypatch.setenv(litert_capi.VARIABLE, "/nowhere")
    without_packages(monkeypatch)
    with pytest.raises(MissingError, match="engine is missing") as caught:
        rt.load(bundle(kit, tflite()).write(tmp_path), trust=kit.trust)
    assert "ai-edge-litert" in caught.value.fix


def test_a_version_out_of_range_and_one_unknown(tmp_path, kit, monkeypatch):
    path = bundle(kit, tflite(), engine_version=">=99").write(tmp_path)
    with pytest.raises(MissingError, match="missing") as caught:
        rt.load(path, trust=kit.trust)
    assert "it needs litert >=99" in caught.value.why
    target = tmp_path / "libLiteRt.so"
    target.symlink_to(litert_capi.library().path)
    monkeypatch.setenv(litert_capi.VARIABLE, str(target))
    assert litert_capi.Engine().version() is None
    (tmp_path / "libLiteRt.so.version").write_text("2.3.0\n")
    assert litert_capi.Engine().version() == "2.3.0"


def test_the_next_payload_is_taken(tmp_path, kit, onnx_model):
    bundle(kit, b"no model", shape=(2, 3))
    kit.files["payloads/onnxruntime/model.onnx"] = onnx_model()
    kit.manifest["payloads"].append(kit.payload())
    with rt.load(kit.write(tmp_path), trust=kit.trust) as model:
        assert model.info["engine"] == "onnxruntime" and "it is no TFLite model" in model.info["refused"][0]["why"]


def test_the_package_alone(tmp_path, kit, monkeypatch):
    monkeypatch.setenv(litert_capi.VARIABLE, "/nowhere")
    with rt.load(bundle(kit, tflite()).write(tmp_path), trust=kit.trust) as model:
        assert model.run({"x": X})["y"].tolist() == RELU
        assert model.info["engine_version"] == litert_package.Engine().version()


def test_both_ways_are_one_engine():
    engine = choice.Choice("litert")
    assert engine.version() == litert_capi.library().version
    assert engine.library().path == litert_capi.library().path and len(engine.library().sha256()) == 64
