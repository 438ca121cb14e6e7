"""External data: only plain files in the model's folder, whole; weights are mapped, not read."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgec import frontends
from edgec.errors import BadInputError
from edgec.frontends.onnx import read
from edgec_targets.emitters.onnxruntime.write import write


def save(folder: Path, location: str, rows: int = 2, **info: object) -> Path:
    """x[1, rows] @ w[rows, 4] with w in `location`; `info` replaces entries of its external_data, None removes."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[rows, 4], data_location=TensorProto.EXTERNAL)
    entries = {"location": location, "offset": 0, "length": rows * 16, **info}
    for key, value in entries.items():
        if value is not None:
            weight.external_data.add(key=key, value=str(value))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, rows])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"], name="mul")], "g", [x], [y], [weight])
    path = folder / "model.onnx"
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    path.write_bytes(made.SerializeToString())
    return path


def data(path: Path, rows: int = 2) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(np.arange(rows * 4, dtype=np.float32).tobytes())


@pytest.mark.parametrize("info", [{}, {"offset": None, "length": None}])
@pytest.mark.parametrize("location", ["w.bin", "sub/w.bin"])
def test_weights_are_found(tmp_path: Path, location: str, info: dict[str, object]) -> None:
    data(tmp_path / location)
    imported = frontends.load(save(tmp_path, location, **info))
    weight = imported.model.graph.initializers["w"].const_value
    np.testing.assert_array_equal(weight.numpy(), np.arange(8, dtype=np.float32).reshape(2, 4))
    whole = onnx.load_from_string(frontends.save_bytes(imported.model))
    assert onnx.numpy_helper.to_array(whole.graph.initializer[0]).sum() == 28
    written, opset = write(imported.model)
    assert opset == 21 and onnx.load_from_string(written).graph.initializer[0].raw_data
    assert imported.original == tmp_path / "model.onnx"


def test_the_digest_covers_the_data(tmp_path: Path) -> None:
    path = save(tmp_path, "w.bin")
    data(tmp_path / "w.bin")
    first = frontends.load(path)
    (tmp_path / "w.bin").write_bytes(bytes(32))
    second = frontends.load(path)
    assert first.sha256 != second.sha256
    assert first.size == second.size == path.stat().st_size + 32


@pytest.mark.parametrize(
    "location", ["/etc/hostname", "../w.bin", "sub/../../w.bin", "C:\\w.bin", "..\\w.bin", "", "a\0b"]
)
def test_no_path_outside_the_folder(tmp_path: Path, location: str) -> None:
    inside = tmp_path / "model"
    inside.mkdir()
    data(tmp_path / "w.bin")
    refused(save(inside, location), "'w'", "outside")


def test_no_links(tmp_path: Path) -> None:
    data(tmp_path / "real.bin")
    (tmp_path / "soft.bin").symlink_to(tmp_path / "real.bin")
    refused(save(tmp_path, "soft.bin"), "symbolic link")
    (tmp_path / "folder").mkdir()
    data(tmp_path / "folder/w.bin")
    (tmp_path / "to").symlink_to(tmp_path / "folder")
    refused(save(tmp_path, "to/w.bin"), "symbolic link")
    os.link(tmp_path / "real.bin", tmp_path / "hard.bin")
    refused(save(tmp_path, "hard.bin"), "hard links")


def test_missing_short_or_mismatched_data(tmp_path: Path) -> None:
    refused(save(tmp_path, "w.bin"), "'w'", "missing", "w.bin")
    (tmp_path / "w.bin").mkdir()
    refused(save(tmp_path, "w.bin"), "not a file")
    data(tmp_path / "v.bin")
    refused(save(tmp_path, "v.bin", offset=16), "'w'", "48", "32")
    refused(save(tmp_path, "v.bin", length=8), "'w'", "8 bytes", "32")
    refused(save(tmp_path, "v.bin", offset="-1"), "offset", "-1")
    refused(save(tmp_path, "v.bin", offset="9" * 30), "offset")


def test_bytes_have_no_folder(tmp_path: Path) -> None:
    data(tmp_path / "w.bin")
    with pytest.raises(BadInputError, match="'w'"):
        frontends.load(save(tmp_path, "w.bin").read_bytes())


def test_more_than_2_gb_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse file of 2.25 GB: the file system stores nothing, and the import maps nothing."""
    rows = 9 << 24
    # Hashing it takes seconds and is tested above; it reads in chunks of a megabyte.
    monkeypatch.setattr(read, "digest", lambda file, paths: ("0" * 64, sum(p.stat().st_size for p in paths)))
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(rows * 16)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    imported = frontends.load(save(tmp_path, "w.bin", rows))
    assert imported.size > 2 << 30
    assert imported.model.graph.initializers["w"].const_value.nbytes == rows * 16
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 64 << 20
    with pytest.raises(BadInputError, match="2 GB"):
        frontends.save_bytes(imported.model)


def refused(path: Path, *words: str) -> None:
    with pytest.raises(BadInputError) as caught:
        frontends.load(path)
    assert caught.value.code == "E905"
    for word in words:
        assert word in caught.value.what
