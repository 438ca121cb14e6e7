"""What goes wrong on a board with libraries, memory and files: the next payload, or one clear error; never a crash."""

from __future__ import annotations

import os
import shutil

import pytest

import edgec_runtime as rt
from edgec_runtime.engines import library
from edgec_runtime.errors import MissingError, UnsupportedError
from tests.runtime.bad_luck import CAPI, LITERT, WIDE, both, engines, in_child, wide
from tests.runtime.litert_models import RELU, X

pytestmark = both


# Libraries: missing, of another version, half written, replaced


@engines
def test_a_missing_library_gives_way_to_the_next_payload(app, only_libraries, monkeypatch, engine):
    other = next(name for name in CAPI if name != engine)
    path, keys = app(engine, other)
    monkeypatch.setenv(CAPI[engine].VARIABLE, "/nowhere")
    with rt.load(path, trust=str(keys)) as model:
        assert model.info["payload"] == other and model.run({"x": X})["y"].tolist() == RELU
        (refused,) = model.info["refused"]
        assert refused["payload"] == engine and "not installed" in refused["why"]


def test_all_libraries_missing_is_one_error_that_names_each(app, only_libraries, monkeypatch):
    path, keys = app("litert", "onnxruntime")
    for capi in CAPI.values():
        monkeypatch.setenv(capi.VARIABLE, "/nowhere")
    with pytest.raises(MissingError, match="engine is missing") as caught:
        rt.load(path, trust=str(keys))
    assert "litert: " in caught.value.why and "onnxruntime: " in caught.value.why


@engines
def test_a_library_of_another_version_gives_way_and_both_is_one_error(app, only_libraries, engine):
    other = next(name for name in CAPI if name != engine)
    path, keys = app(engine, other, **{engine: {"engine_version": ">=98,<99"}})
    with rt.load(path, trust=str(keys)) as model:
        assert model.info["payload"] == other
        assert f"it needs {engine} >=98,<99" in model.info["refused"][0]["why"]
    path, keys = app(engine, other, **{name: {"engine_version": ">=98,<99"} for name in CAPI})
    with pytest.raises(MissingError) as caught:
        rt.load(path, trust=str(keys))
    assert caught.value.why.count(">=98,<99") == 2


@engines
def test_a_half_written_library_is_not_loaded(app, only_libraries, monkeypatch, tmp_path, engine):
    """Loading one would end the process: its pages beyond the file's end are no memory."""
    whole = CAPI[engine].library()
    name = os.path.basename(whole.path)
    (tmp_path / f"{name}.version").write_text(whole.version)
    monkeypatch.setenv(CAPI[engine].VARIABLE, str(tmp_path / name))
    other = next(one for one in CAPI if one != engine)
    path, keys = app(engine, other)
    size = os.path.getsize(whole.path)
    for part in (0, 63, 64, 4096, size // 2, size - 1):
        with open(whole.path, "rb") as source, open(tmp_path / name, "wb") as target:
            shutil.copyfileobj(source, target)
            target.truncate(part)
        with rt.load(path, trust=str(keys)) as model:
            assert model.info["payload"] == other
            said = model.info["refused"][0]["why"]
            assert f"cut off: {part} of {size}" in said if part >= 64 else "no shared library" in said
    assert library.cut_short(whole.path) == ""


REPLACED = """
import os, sys
import edgec_runtime as rt
from array import array
path, keys, target, how = sys.argv[1:]
x = memoryview(array("f", [1, -2, 3, -4])).cast("B").cast("f", (1, 4))
def right(model): return model.run({"x": x})["y"].tolist() == [[1, 0, 3, 0]]
model = rt.load(path, trust=keys)
assert right(model)
if how == "removed": os.unlink(target)
else:
    with open(target + ".new", "wb") as file: file.write(b"half of another")
    os.replace(target + ".new", target)
assert right(model)
second = rt.load(path, trust=keys)  # this process keeps the library that it has
assert right(second) and right(model)
model.close(); second.close()
print("fine")
"""


@engines
@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_a_library_replaced_while_it_runs(app, monkeypatch, tmp_path, engine, how):
    """As pip does it: a new file under the old name. Who runs goes on; who starts then sees the new file."""
    whole = CAPI[engine].library()
    target = tmp_path / os.path.basename(whole.path)
    os.link(whole.path, target)
    (tmp_path / f"{target.name}.version").write_text(whole.version)
    monkeypatch.setenv(CAPI[engine].VARIABLE, str(target))
    path, keys = app(engine)
    done = in_child(REPLACED, path, keys, target, how)
    if how == "removed" and done.returncode:
        assert "is missing" in done.stderr  # the second load finds none; what was loaded went on
    else:
        assert done.stdout == "fine\n", done.stderr
    later = in_child("import edgec_runtime as rt; rt.load(sys.argv[1], trust=sys.argv[2])", path, keys)
    assert later.returncode == 1 and ("E401" in later.stderr or "E1001" in later.stderr), later.stderr


# Memory


LIMITED = """
import resource, sys
import edgec_runtime as rt
from edgec_runtime.errors import Error
path, keys, room = sys.argv[1:]
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(float(room) * 1e6), -1))
try:
    with rt.load(path, trust=keys) as model:
        shape = tuple(model.inputs[0]["shape"])
        answer = model.run({"x": memoryview(bytearray(4 * shape[0] * shape[1])).cast("f", shape)})
        print("ran", model.info["payload"], [refused["why"] for refused in model.info["refused"]])
except Error as error:
    print(error.code, error.why)
except MemoryError:
    print("MemoryError")
"""


@engines
def test_too_little_memory_is_an_error_or_enough(app, engine):
    """From hardly any to plenty: each time it runs or says why not; it is never aborted."""
    path, keys = app(engine, shape=WIDE, files={f"payloads/{engine}": wide(engine)})
    outcomes = []
    for room in (12, 40, 90, 500):
        done = in_child(LIMITED, path, keys, room)
        assert done.returncode == 0, (room, done.stderr)
        outcomes.append(done.stdout.split()[0])
    assert outcomes[0] in ("E401", "E1001", "E405", "MemoryError") and outcomes[-1] == "ran", outcomes
    assert outcomes == sorted(outcomes, key="ran".__eq__)  # what is enough once is enough with more


def test_a_payload_that_is_said_to_need_more_gives_way(app):
    path, keys = app("onnxruntime", "litert", onnxruntime={"memory": 10**9}, litert={"memory": 10**5})
    done = in_child(LIMITED, path, keys, 200)
    assert done.stdout.startswith("ran litert ['it needs 1000 MB of memory; 1"), done.stdout + done.stderr


def test_a_run_without_memory_is_no_bad_input(app):
    path, keys = app("litert")
    with rt.load(path, trust=str(keys)) as model:
        for cause in (MemoryError(), RuntimeError("Non-zero status code ... std::bad_alloc")):
            error = model._failed(cause)
            assert isinstance(error, UnsupportedError) and error.code == "E405" and "litert" in error.why


# Files that an engine refuses


def operator(name: str) -> bytes:
    """A TFLite file whose only operator is of this kind, with one input and one output and no options."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    import flatbuffers

    model = schema.ModelT.InitFromPackedBuf(bytearray(LITERT), 0)
    code = model.operatorCodes[0]
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.customCode = b"NobodysOperator" if name == "CUSTOM" else None
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize("name", ["CUSTOM", "CONV_2D", "UNIDIRECTIONAL_SEQUENCE_LSTM", "CONCATENATE_NOBODY"])
def test_a_tflite_form_that_is_refused_gives_way(app, only_libraries, name):
    data = operator(name) if name != "CONCATENATE_NOBODY" else LITERT[:200]
    path, keys = app("litert", "onnxruntime", files={"payloads/litert": data})
    with rt.load(path, trust=str(keys)) as model:
        assert model.info["payload"] == "onnxruntime" and model.run({"x": X})["y"].tolist() == RELU
        assert "LiteRT refuses the model" in model.info["refused"][0]["why"]
    path, keys = app("litert", files={"payloads/litert": data})
    with pytest.raises(UnsupportedError) as caught:
        rt.load(path, trust=str(keys))
    assert caught.value.code == "E401" and "LiteRT refuses the model" in caught.value.why
