"""An installed payload and the library that runs it: proven at installation, proven again when the library changes."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import edgec_runtime as rt
from edgec_runtime import golden
from edgec_runtime.engines import litert_capi, litert_package, selfcheck
from edgec_runtime.engines.library import LOADED
from edgec_runtime.errors import MissingError, RolledBackError, UnsupportedError
from edgec_runtime.slots import proven
from edgec_runtime.slots.active import active
from edgec_runtime.slots.install import install

pytestmark = pytest.mark.skipif(litert_capi.library() is None, reason="ai-edge-litert is not installed")
X = np.array([[1, -2, 3, -4]], np.float32)


def tflite():
    from binascii import a2b_base64

    return a2b_base64(selfcheck.MODEL)


@pytest.fixture
def bundle(kit):
    """A bundle of relu(x) for LiteRT with one golden input; `answer` is what it records of it."""
    from edgec.bundle import arrays

    def make(answer=(1, 0, 3, 0)):
        recorded = np.array([answer], np.float32)
        kit.files = {
            "payloads/litert/model.tflite": tflite(),
            "golden/inputs.bin": arrays.encode([{"x": X}]),
            "golden/litert.bin": arrays.encode([{"y": recorded}]),
        }
        tensors = [{"name": name, "dtype": "float32", "shape": [1, 4], "layout": None} for name in "xy"]
        kit.manifest["inputs"], kit.manifest["outputs"] = tensors[:1], tensors[1:]
        kit.manifest["golden"] = {"kind": "data", "samples": 1, "inputs": "golden/inputs.bin", "reference": None,
                                  "seed": None, "notes": []}  # fmt: skip
        kit.manifest["payloads"] = [
            kit.payload(
                id="litert", engine="litert", engine_version=">=2.3,<3", options={"threads": 1},
                proven_with={"package": "ai-edge-litert", "version": "2.3.0"},
                files={"model": "payloads/litert/model.tflite"},
                golden={"expected": "run", "file": "golden/litert.bin", "min_sqnr_db": 60.0},
            )
        ]  # fmt: skip
        return kit

    return make


def changed(library_file, how=b"another build"):
    """Another build of the library, and this process as if it had loaded none: a new one would find it so."""
    with open(library_file, "ab") as file:
        file.write(how)
    os.utime(library_file, (1, 1))
    LOADED.clear()


@pytest.fixture
def own_library(tmp_path, monkeypatch):
    """A copy of the library that a test may replace."""
    target = tmp_path / "libLiteRt.so"
    shutil.copy(litert_capi.library().path, target)
    (tmp_path / "libLiteRt.so.version").write_text("2.3.0")
    monkeypatch.setenv(litert_capi.VARIABLE, str(target))
    return target


@pytest.fixture
def runs(monkeypatch):
    """How often golden inputs were run."""
    count = []
    check = golden.check
    monkeypatch.setattr(golden, "check", lambda *arguments: count.append(1) or check(*arguments))
    return count


def test_an_installation_proves_and_a_load_believes_it(bundle, tmp_path, root, own_library, runs):
    install(bundle().write(tmp_path))
    assert len(runs) == 0  # in this process: the health check has one of its own
    digest, stamp = active("tiny").proven["litert"]
    assert digest == litert_capi.library().sha256() and stamp == litert_capi.library().stamp()
    for _ in range(2):
        with rt.load(app="tiny") as model:
            assert model.run({"x": X})["y"].tolist() == [[1, 0, 3, 0]]
    assert len(runs) == 0


def test_the_same_library_touched_is_hashed_and_believed(bundle, tmp_path, root, own_library, runs):
    install(bundle().write(tmp_path))
    changed(own_library, b"")
    rt.load(app="tiny").close()
    assert len(runs) == 0 and active("tiny").proven["litert"][1] == litert_capi.library().stamp()


def test_another_library_is_proven_again_and_remembered(bundle, tmp_path, root, own_library, runs):
    install(bundle().write(tmp_path))
    changed(own_library)
    rt.load(app="tiny").close()
    assert len(runs) == 1 and active("tiny").proven["litert"][0] == litert_capi.library().sha256()
    rt.load(app="tiny").close()
    assert len(runs) == 1


def test_another_library_with_other_answers_is_refused(bundle, tmp_path, root, own_library, monkeypatch):
    install(bundle().write(tmp_path))
    changed(own_library)
    monkeypatch.setattr(golden, "sqnr_db", lambda *_: -20.0)
    with pytest.raises(UnsupportedError) as caught:
        rt.load(app="tiny")
    assert "does not give its recorded answers" in caught.value.why


def test_answers_that_are_wrong_from_the_start(bundle, tmp_path, root, own_library):
    with pytest.raises(RolledBackError) as caught:
        install(bundle(answer=(5, 5, 5, 5)).write(tmp_path))
    assert caught.value.code == "E702" and "litert: the model does not give its recorded answers" in caught.value.why
    with pytest.raises(MissingError, match="no version to load"):
        rt.load(app="tiny")


def test_a_root_that_can_not_be_written_is_proven_each_time(bundle, tmp_path, root, own_library, runs, monkeypatch):
    install(bundle().write(tmp_path))
    changed(own_library)
    from edgec_runtime.slots import files

    def refuse(*_):
        raise PermissionError("read-only")

    monkeypatch.setattr(files, "write_atomic", refuse)
    for count in (1, 2):
        rt.load(app="tiny").close()
        assert len(runs) == count


NONSENSE = [b"", b"nonsense\n", b"edgec-proven 1 other\nlitert a b\n", b"\xff\xfe", b"edgec-proven 2"]


@pytest.mark.parametrize("content", NONSENSE)
def test_a_record_that_is_none_proves_nothing(bundle, tmp_path, root, own_library, runs, content):
    install(bundle().write(tmp_path))
    Path(active("tiny").folder, "proven").write_bytes(content)
    assert active("tiny").proven == {}
    rt.load(app="tiny").close()
    assert len(runs) == 1


def test_the_check_of_the_library_is_skipped_where_it_is_proven(bundle, tmp_path, root, own_library, monkeypatch):
    install(bundle().write(tmp_path))
    monkeypatch.setattr(selfcheck, "check", lambda path: pytest.fail("it was checked again"))
    rt.load(app="tiny").close()


def test_record_says_what_can_not_be_used(bundle, tmp_path, root, own_library, monkeypatch):
    for package in litert_package.PACKAGES:
        monkeypatch.setitem(sys.modules, f"{package}.interpreter", None)
    install(bundle().write(tmp_path))
    assert proven.record(str(root), "tiny") == {}
    (tmp_path / "other.so").write_bytes(b"no library")
    (tmp_path / "other.so.version").write_text("2.3.0")
    monkeypatch.setenv(litert_capi.VARIABLE, str(tmp_path / "other.so"))
    assert list(proven.record(str(root), "tiny")) == ["litert"]


def test_a_library_replaced_under_a_running_process(bundle, tmp_path, root, own_library, runs):
    """The process keeps the library that it has, and takes no answer of it for the new one's."""
    install(bundle().write(tmp_path))
    rt.load(app="tiny").close()
    shutil.copy(own_library, tmp_path / "new")
    with open(tmp_path / "new", "ab") as file:
        file.write(b"another build")
    (tmp_path / "new").replace(own_library)
    before = active("tiny").proven
    rt.load(app="tiny").close()
    assert active("tiny").proven == before and len(runs) == 0
