"""ncnn called by its package: answers, shapes, threads, forks, and files that are refused before ncnn gets them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from array import array

import numpy as np
import pytest

import edgec_runtime as rt
from edgec_runtime.engines import ncnn, ncnn_check, ncnn_files
from edgec_runtime.engines.base import RefusedError
from edgec_runtime.engines.native import CallError
from edgec_runtime.errors import UnsupportedError, UsageError
from tests.runtime import ncnn_models as models
from tests.runtime.ncnn_models import RELU, X

needs_ncnn = pytest.mark.skipif(ncnn.library() is None, reason="ncnn is not installed (pip install 'edgec[ncnn]')")


@needs_ncnn
def test_a_model_runs_and_closes(tmp_path):
    executable = models.load(tmp_path)
    assert repr(executable.inputs) == "[Tensor('x', 'float32', (1, 4))]" and executable.outputs[0].name == "y"
    for _ in range(3):
        assert executable.run(["y"], {"x": X})[0].tolist() == RELU
    assert X.tolist() == [[1, -2, 3, -4]]  # a layer that works in place leaves the caller's array alone
    executable.close()
    with pytest.raises(UsageError, match="closed"):
        executable.run(["y"], {"x": X})
    executable.close()


@needs_ncnn
def test_numpy_answers_numpy_and_views_answer_views(tmp_path):
    executable = models.load(tmp_path)
    view = memoryview(array("f", X.ravel())).cast("B").cast("f", (1, 4))
    assert type(executable.run(["y"], {"x": X})[0]) is np.ndarray
    answer = executable.run(["y"], {"x": view})[0]
    assert type(answer) is memoryview and answer.shape == (1, 4) and answer.tolist() == RELU
    first = executable.run(["y"], {"x": X})[0]
    executable.run(["y"], {"x": -X})
    assert first.tolist() == RELU  # answers are memory of their own


@needs_ncnn
def test_the_batch_is_put_back_and_outputs_come_in_the_order_asked_for(tmp_path):
    executable = models.load(tmp_path, models.image())
    x = np.arange(48, dtype=np.float32).reshape(1, 3, 4, 4)
    z, y = executable.run(["z", "y"], {"x": x})
    assert y.shape == (1, 3, 4, 4) and np.array_equal(y, 2 * x + 1)
    assert z.shape == (1, 3) and np.array_equal(z, (2 * x + 1).sum(axis=(2, 3)))
    into = {"z": np.empty((1, 3), np.float32)}
    executable.bind(into).run({"x": x})
    assert np.array_equal(into["z"], z)


@needs_ncnn
def test_another_shape_is_refused_with_the_models(tmp_path):
    executable = models.load(tmp_path)
    with pytest.raises(CallError, match=r"'x' is \[1, 4\] in the model, not \[1, 5\]"):
        executable.run(["y"], {"x": np.zeros((1, 5), np.float32)})
    assert executable.run(["y"], {"x": X})[0].tolist() == RELU


@needs_ncnn
def test_float32_is_float32(tmp_path):
    """Half precision has 11 bits; ncnn takes it by itself where the CPU has it."""
    x = np.full((1, 3, 4, 4), 1 + 2**-20, np.float32)
    executable = models.load(tmp_path, models.image())
    assert np.array_equal(executable.run(["y"], {"x": x})[0], 2 * x + 1)
    narrow = {name for name in dir(ncnn.module().Net().opt) if name.startswith(("use_fp16", "use_bf16", "use_int8"))}
    assert narrow and narrow <= set(ncnn.OFF), "a release with more of them"


@needs_ncnn
def test_several_threads_may_call_one_model(tmp_path):
    executable = models.load(tmp_path, models.big(64))
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal((64, 64)).astype(np.float32) for _ in range(4)]
    expected = [executable.run(["y"], {"x": x})[0] for x in inputs]
    wrong = []

    def call(number):
        for _ in range(20):
            if not np.array_equal(executable.run(["y"], {"x": inputs[number]})[0], expected[number]):
                wrong.append(number)

    workers = [threading.Thread(target=call, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


@needs_ncnn
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_forks_child_can_run_what_its_parent_loaded(tmp_path, threads):
    """In a process of its own: the OpenMP library's threads are gone in the child, where a call would wait for them."""
    program = """
import os, sys, numpy as np
from pathlib import Path
from tests.runtime import ncnn_models as models
executable = models.load(Path(sys.argv[1]), models.big(), threads=int(sys.argv[2]))
x = np.ones((256, 256), np.float32)
before = executable.run(["y"], {"x": x})[0]
child = os.fork()
if child == 0:
    same = all(np.allclose(executable.run(["y"], {"x": x})[0], before, rtol=1e-5) for _ in range(3))
    executable.close()
    os._exit(0 if same else 3)
status = os.waitpid(child, 0)[1]
again = executable.run(["y"], {"x": x})[0]
sys.exit(os.waitstatus_to_exitcode(status) or (0 if np.array_equal(again, before) else 4))
"""
    command = [sys.executable, "-c", program, str(tmp_path), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **_path()})
    assert done.returncode == 0, done.stderr


def _path() -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join([str(p) for p in sys.path if p])}


@needs_ncnn
def test_a_model_from_a_bundle(tmp_path, kit):
    made = models.relu()
    kit.files = {f"payloads/ncnn/{role}": data for role, data in made.items()}
    tensors = [{"name": name, "dtype": "float32", "shape": [1, 4], "layout": None} for name in "xy"]
    kit.manifest["inputs"], kit.manifest["outputs"] = tensors[:1], tensors[1:]
    entry = {
        "id": "ncnn-float32", "engine": "ncnn", "engine_version": ">=1", "options": {"threads": 1, "spinning": False},
        "files": {role: f"payloads/ncnn/{role}" for role in made},
    }  # fmt: skip
    kit.manifest["payloads"] = [kit.payload(**entry)]
    with rt.load(kit.write(tmp_path), trust=kit.trust) as model:
        assert model.run({"x": X})["y"].tolist() == RELU
        assert model.run({"x": X})["y"].tolist() == RELU
        assert model.info["engine"] == "ncnn"


@needs_ncnn
def test_the_next_payload_is_taken_where_ncnn_refuses(tmp_path, model_kit):
    made = {**models.relu(), "param": models.RELU_PARAM.replace("ReLU", "NoSuchLayer").encode()}
    model_kit.files |= {f"payloads/ncnn/{role}": data for role, data in made.items()}
    files = {role: f"payloads/ncnn/{role}" for role in made}
    broken = model_kit.payload(id="ncnn-float32", engine="ncnn", engine_version=">=1", files=files)
    model_kit.manifest["payloads"].insert(0, broken)
    with rt.load(model_kit.write(tmp_path), trust=model_kit.trust) as model:
        assert model.info["engine"] == "onnxruntime"


@needs_ncnn
def test_a_model_that_fails_on_its_first_run_is_refused_as_it_loads(tmp_path):
    wrong = models.changed(models.image(), outputs=[models.port("y", [1, 3], [3], "y0")])
    with pytest.raises(RefusedError, match="ncnn refuses") as caught:
        models.load(tmp_path, wrong, proven=False)
    assert "other dimensions" in caught.value.why


@needs_ncnn
def test_a_bin_that_lacks_weights_is_refused(tmp_path):
    made = models.image()
    cut = models.changed({**made, "bin": made["bin"][:-8]}, bin=len(made["bin"]) - 8)
    with pytest.raises(RefusedError) as caught:
        models.load(tmp_path, cut, proven=False)
    assert ".bin" in caught.value.why


@needs_ncnn
def test_an_option_that_ncnn_lacks_is_refused(tmp_path):
    with pytest.raises(RefusedError, match="speed"):
        models.load(tmp_path, speed=9)


@needs_ncnn
def test_a_module_that_is_in_no_package(tmp_path):
    """As in a wheel that has the runtime and the engine's file together; the variable says where it is."""
    real = ncnn.library()
    folder = tmp_path / "lib"
    folder.mkdir()
    file = folder / os.path.basename(real.path)
    file.symlink_to(real.path)
    (folder / f"{file.name}.version").write_text(real.version)
    package = os.path.dirname(real.path)
    (tmp_path / "ncnn.libs").symlink_to(f"{package}.libs")  # where its OpenMP library is looked for
    program = """
import sys
from pathlib import Path
sys.path[:] = [entry for entry in sys.path if not (Path(entry) / "ncnn").is_dir()]
from edgec_runtime.engines import ncnn
from edgec_runtime.payload import StoredPayload
files = {role: f"{sys.argv[1]}/{role}" for role in ncnn.ROLES}
engine = ncnn.Engine()
engine.load(StoredPayload({"files": files}, files), {}).close()
print(engine.version(), ncnn.module().__file__)
"""
    models.payload(tmp_path, models.relu())
    environment = {**os.environ, **_path(), ncnn.VARIABLE: str(file)}
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.stdout == f"{real.version} {file}\n", done.stderr


def test_without_the_package_the_payload_is_refused_and_says_why(tmp_path, monkeypatch):
    monkeypatch.setenv(ncnn.VARIABLE, "")
    engine = ncnn.Engine()
    assert engine.version() is None and engine.library() is None
    with pytest.raises(UnsupportedError, match="no package ncnn"):
        engine.load(models.payload(tmp_path, models.relu()), {})


@needs_ncnn
@pytest.mark.parametrize("role", ncnn.ROLES)
def test_a_payload_without_one_of_its_files(tmp_path, role):
    made = {name: data for name, data in models.relu().items() if name != role}
    with pytest.raises(RefusedError, match=f"no {role}"):
        models.load(tmp_path, made)


@needs_ncnn
def test_a_package_that_crashes_is_refused(tmp_path, monkeypatch):
    """As a wheel does whose instructions the CPU lacks."""
    monkeypatch.delitem(sys.modules, "ncnn", raising=False)
    monkeypatch.setattr(ncnn_check, "_passed", set())
    monkeypatch.setattr(ncnn_check, "_computes", lambda path: os.kill(os.getpid(), 4))
    with pytest.raises(RefusedError) as caught:
        models.load(tmp_path, proven=False)
    assert "died of signal 4" in caught.value.why


@needs_ncnn
@pytest.mark.parametrize(("spinning", "turns"), [(None, "0"), (False, "0"), (True, "300000")])
def test_threads_sleep_while_they_wait_unless_told_otherwise(tmp_path, spinning, turns):
    """What the OpenMP library says of itself as it is loaded; the process' environment is as it was afterwards."""
    program = """
import os, sys
from pathlib import Path
from tests.runtime import ncnn_models as models
options = {} if sys.argv[2] == "None" else {"spinning": sys.argv[2] == "True"}
models.load(Path(sys.argv[1]), **options)
print("OMP_WAIT_POLICY" in os.environ)
"""
    environment = {**os.environ, **_path(), "OMP_DISPLAY_ENV": "verbose"}
    environment.pop("OMP_WAIT_POLICY", None)
    command = [sys.executable, "-c", program, str(tmp_path), str(spinning)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert f"GOMP_SPINCOUNT = '{turns}'" in done.stderr and done.stdout == "False\n"


@needs_ncnn
def test_no_numpy_is_imported(tmp_path):
    program = """
import sys
from array import array
from edgec_runtime.engines import ncnn
from edgec_runtime.payload import StoredPayload
files = {role: f"{sys.argv[1]}/{role}" for role in ncnn.ROLES}
model = ncnn.Engine().load(StoredPayload({"files": files}, files), {"threads": 1})
x = memoryview(array("f", [1, -2, 3, -4])).cast("B").cast("f", (1, 4))
print(model.run(["y"], {"x": x})[0].tolist(), "numpy" in sys.modules)
"""
    models.payload(tmp_path, models.relu())
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, env={**os.environ, **_path()}
    )
    assert done.stdout == f"{RELU} False\n", done.stderr


# What follows needs no ncnn: files are checked before it gets them.


def test_the_interface_is_read():
    interface = ncnn_files.read(models.image()["interface"])
    assert interface.inputs == [ncnn_files.Port("x", (1, 3, 4, 4), "x", (3, 4, 4))]
    assert [port.blob for port in interface.outputs] == ["y0", "z"] and interface.size == 28


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "format 2"),
        ({"outputs": []}, "no outputs"),
        ({"bin": "4"}, "bin"),
        ({"more": 1}, "object of format"),
        ({"inputs": [{"name": "x"}]}, "lacks"),
        ({"inputs": [models.port("x", [1, 4], [5])]}, r"\[1, 4\] as an array and \[5\]"),
        ({"inputs": [models.port("x", [1, 4], [1, 1, 1, 1, 4])]}, "at most 4 sizes"),
        ({"inputs": [models.port("x", [0, 4], [0])]}, "sizes"),
        ({"inputs": [models.port("x", [True], [1])]}, "sizes"),
        ({"inputs": [models.port("x", [1 << 31], [1 << 31])]}, "as an array"),
        ({"inputs": [models.port("x", [4], [4]), models.port("x", [4], [4])]}, "one name"),
        ({"inputs": {}}, "lists"),
    ],
)
def test_an_interface_that_makes_no_sense(change, words):
    with pytest.raises(CallError, match=words):
        ncnn_files.read(models.changed(models.relu(), **change)["interface"])


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"format": 1, "format": 1}', b"\xff"])
def test_an_interface_that_is_none(data):
    with pytest.raises(CallError, match="interface"):
        ncnn_files.read(data)


@pytest.mark.parametrize(
    ("param", "words"),
    [
        ("", "none, or cut off"),
        ("1\n2 2\nInput x 0 1 x 0=4\nReLU y 1 1 x y\n", "none, or cut off"),
        (models.RELU_PARAM[:-1], "none, or cut off"),
        (models.RELU_PARAM[:-4] + "\n", "lacks names"),
        (models.RELU_PARAM.replace("2 2", "3 2"), "other numbers"),
        (models.RELU_PARAM.replace("2 2", "2 9"), "other numbers"),
        (models.RELU_PARAM.replace("2 2", "2"), "can't be read"),
        (models.RELU_PARAM.replace("1 1 x y", "1 1 z y"), "read before it is made"),
        (models.RELU_PARAM.replace("1 1 x y", "2 1 x x y"), "twice"),
        (models.RELU_PARAM.replace("1 1 x y", "1 1 x x"), "made twice"),
        (models.RELU_PARAM.replace("1 1 x y", "1 1 x y z"), "no parameter"),
        (models.RELU_PARAM.replace("1 1 x y", "-1 1 x y"), "lacks names"),
        (models.RELU_PARAM.replace("1 1 x y", "1 1 x w"), "no blob 'y'"),
        (models.RELU_PARAM.replace("ReLU", "é"), "can't be read"),
    ],
)
def test_a_param_that_ncnn_would_take_on_trust(param, words):
    interface = ncnn_files.read(models.relu()["interface"])
    with pytest.raises(CallError, match=words):
        ncnn_files.check(interface, param.encode(), 0)


def test_a_bin_of_another_size():
    with pytest.raises(CallError, match="28"):
        made = models.image()
        ncnn_files.check(ncnn_files.read(made["interface"]), made["param"], 27)


def test_good_files_pass():
    for made in (models.relu(), models.image(), models.big(8)):
        ncnn_files.check(ncnn_files.read(made["interface"]), made["param"], len(made["bin"]))
        assert json.loads(made["interface"])["format"] == ncnn_files.FORMAT
