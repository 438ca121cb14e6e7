"""`rt.load(app=…, follow=True)`: updates and rollbacks are taken up between calls, and nothing else is."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgec_runtime as rt
from edgec_runtime.errors import BadInputError, MissingError, RolledBackError, UsageError
from edgec_runtime.slots import follow, health, state
from edgec_runtime.slots.install import install
from edgec_runtime.slots.remove import remove
from edgec_runtime.slots.rollback import rollback

MODEL = "payloads/onnxruntime/model.onnx"
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def times(number, *, shape=(2, 3), dtype=TensorProto.FLOAT, names=("x", "y")):
    """y = number · x."""
    x, y = (helper.make_tensor_value_info(name, dtype, shape) for name in names)
    by = numpy_helper.from_array(np.array(number, helper.tensor_dtype_to_np_dtype(dtype)), "n")
    graph = helper.make_graph([helper.make_node("Mul", [names[0], "n"], [names[1]])], "g", [x], [y], [by])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return made.SerializeToString()


@pytest.fixture
def installing(kit, tmp_path, root, monkeypatch):
    """put(3) installs version 3.0 of the app, which answers 3 · x; it counts as well unless its health is looked at."""

    def make(number, *, data=None, look=False, confirm="auto", deadline=60.0, **manifest):
        kit.manifest["app"] = {"name": "tiny", "version": f"{number}.0", "sequence": number}
        kit.files[MODEL] = data if data is not None else times(number)
        kit.manifest.update(manifest)
        with monkeypatch.context() as patch:
            if not look:  # a process of its own each time, which is not what these tests are about
                patch.setattr(health, "check", lambda *_, **__: health.Health(True, "", "", {"ok": True}, {}))
            install(kit.write(tmp_path), confirm=confirm, deadline=deadline)

    return make


@pytest.fixture
def put(installing):
    return installing


def tensor(name, shape=(2, 3), dtype="float32"):
    return [{"name": name, "dtype": dtype, "shape": list(shape), "layout": None}]


def factor(model):
    return float(model.run({"x": X})["y"][0, 1])


def until(true, seconds=20.0):
    """Call `true` until it is."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.005)


def test_an_update_is_taken_up_between_calls(put):
    put(1)
    with rt.load(app="tiny", follow=True) as model:
        assert isinstance(model, rt.Model) and factor(model) == 1 and model.info["app"]["version"] == "1.0"
        assert model.info["follow"] == {"app": "tiny", "updates": 0, "held": None}
        put(2)
        assert factor(model) in (1, 2)
        until(lambda: factor(model) == 2)
        assert model.info["app"]["version"] == "2.0" and model.info["follow"]["updates"] == 1
        put(3)
        until(lambda: factor(model) == 3)
        assert "tiny" in repr(model) and float(model(X)["y"][0, 1]) == 3
    with pytest.raises(UsageError, match="closed"):
        model.run({"x": X})


def test_a_rollback_is_followed_too(put, root):
    put(1)
    put(2)
    with rt.load(app="tiny", follow=True) as model:
        assert factor(model) == 2
        rollback("tiny")
        until(lambda: factor(model) == 1)
        assert model.info["app"]["version"] == "1.0"
        rollback("tiny")
        until(lambda: factor(model) == 2)


def test_a_version_on_probation_is_followed_and_left_when_its_time_is_up(put):
    put(1)
    with rt.load(app="tiny", follow=True) as model:
        put(2, confirm="manual", deadline=1.0)
        until(lambda: factor(model) == 2)
        until(lambda: factor(model) == 1)  # nobody wrote a state: the deadline has passed
        assert model.info["app"]["version"] == "1.0" and model.info["follow"]["updates"] == 2


def test_a_version_that_fails_its_trial_is_never_seen(put):
    put(1)
    with rt.load(app="tiny", follow=True) as model:
        with pytest.raises(RolledBackError):
            put(2, data=b"no model", look=True)
        until(lambda: factor(model) and model._seen == follow._stamp(model._path))
        assert factor(model) == 1 and model.info["follow"] == {"app": "tiny", "updates": 0, "held": None}


def test_an_app_that_is_removed_by_its_command_runs_on(put):
    put(1)
    with rt.load(app="tiny", follow=True) as model:
        remove("tiny")
        until(lambda: factor(model) == 1 and model.info["follow"]["held"])
        assert "not installed" in model.info["follow"]["held"]["why"] and factor(model) == 1
        put(2)
        until(lambda: factor(model) == 2)
        assert model.info["follow"]["held"] is None


def test_a_write_of_the_state_that_changes_nothing_loads_nothing(put, root, monkeypatch):
    put(1)
    with rt.load(app="tiny", follow=True) as model:
        folder, loads = root / "apps" / "tiny", []
        monkeypatch.setattr(model, "_load", loads.append)
        now = state.read(str(folder), "tiny")
        now.seq += 1
        (folder / "state").write_bytes(state.encode(now))
        stamp = follow._settled(model._path)
        until(lambda: factor(model) and model._seen == stamp)
        assert not loads and model.info["follow"] == {"app": "tiny", "updates": 0, "held": None}


def test_the_old_version_is_freed_when_its_last_call_has_ended(put):
    put(1)
    with rt.load(app="tiny", follow=True) as model:
        held, old = model.current, weakref.ref(model.current._executable)
        put(2)
        until(lambda: factor(model) == 2)
        assert float(held.run({"x": X})["y"][0, 1]) == 1 and old() is not None  # as a call that is under way does
        del held
        until(lambda: gc.collect() >= 0 and old() is None)


def test_buffers_are_bound_anew(put):
    put(1)
    with rt.load(app="tiny", follow=True) as model:
        y = np.empty((2, 3), np.float32)
        for number in (1, 2, 3):
            if number > 1:
                put(number)
            until(lambda: factor(model) == number)  # noqa: B023
            for _ in range(2):
                y.fill(-1)
                answers = model.run({"x": X}, out={"y": y})
                assert answers["y"] is y and np.array_equal(y, number * X)


@pytest.mark.parametrize(
    "made, said, words",
    [
        ({"shape": (3, 3)}, {"inputs": tensor("x", (3, 3)), "outputs": tensor("y", (3, 3))}, "float32[3, 3]"),
        ({"names": ("z", "y")}, {"inputs": tensor("z")}, "'z'; they were 'x'"),
        ({"names": ("x", "z")}, {"outputs": tensor("z")}, "'z'; they were 'y'"),
        (
            {"dtype": TensorProto.DOUBLE},
            {"inputs": tensor("x", dtype="float64"), "outputs": tensor("y", dtype="float64")},
            "float64[2, 3]",
        ),
        ({}, {"preprocessing": [{"op": "resize", "size": [1, 2]}]}, "preprocessing"),
    ],
)
def test_a_version_for_other_callers_is_held_back(put, made, said, words):
    put(1)
    with rt.load(app="tiny", follow=True) as model:
        put(2, data=times(2, **made), **said)
        until(lambda: factor(model) == 1 and model.info["follow"]["held"])
        held = model.info["follow"]["held"]
        assert held["version"] == "2.0" and words in held["why"] and "load the app again" in held["why"]
        assert factor(model) == 1 and model.info["app"]["version"] == "1.0"


def test_a_size_that_becomes_free_is_no_change(put):
    put(1)
    with rt.load(app="tiny", follow=True) as model:
        put(2, data=times(2, shape=("n", 3)), inputs=tensor("x", ("n", 3)), outputs=tensor("y", ("n", 3)))
        until(lambda: factor(model) == 2)
        assert model.run({"x": np.ones((5, 3), np.float32)})["y"].shape == (5, 3)


def test_a_version_that_can_not_be_loaded_is_held_back_until_the_next(put, root, monkeypatch):
    put(1)
    with rt.load(app="tiny", follow=True) as model:
        monkeypatch.setattr("edgec_runtime.slots.proven.record", lambda *_: {}, raising=False)
        put(2)
        stored = [path for path in (root / "store" / "sha256").iterdir() if path.read_bytes() == times(2)]
        stored[0].unlink()  # before it was loaded: the look waits until the state is no more fresh
        until(lambda: factor(model) == 1 and model.info["follow"]["held"])
        held = model.info["follow"]["held"]
        assert held["version"] == "2.0" and "install the bundle again" not in held["why"] and "gone" in held["why"]
        assert factor(model) == 1 and model.info["app"]["version"] == "1.0" and model.info["follow"]["updates"] == 0
        put(3)
        until(lambda: factor(model) == 3)
        assert model.info["follow"] == {"app": "tiny", "updates": 1, "held": None}


def test_it_is_tried_again_later(put, monkeypatch):
    monkeypatch.setattr(follow, "RETRY", 0.05)
    put(1)
    with rt.load(app="tiny", follow=True) as model:
        real, failures = model._load, []

        def fails(slot):
            if len(failures) < 2:
                failures.append(slot)
                raise MemoryError("none left")
            return real(slot)

        model._load = fails
        put(2)
        until(lambda: factor(model) == 2)
        assert len(failures) == 2 and model.info["follow"]["held"] is None


def test_an_app_that_is_removed_runs_on(put, root):
    put(1)
    with rt.load(app="tiny", follow=True) as model:
        os.rename(root / "apps" / "tiny", root / "apps" / "gone")
        until(lambda: factor(model) == 1 and model.info["follow"]["held"])
        held = model.info["follow"]["held"]
        assert held["version"] is None and "not installed" in held["why"] and factor(model) == 1
        os.rename(root / "apps" / "gone", root / "apps" / "tiny")
        until(lambda: factor(model) == 1 and model.info["follow"]["held"] is None)
        put(2)
        until(lambda: factor(model) == 2)


def test_what_the_caller_asked_for_holds_for_every_version(put, kit):
    put(1)
    with rt.load(app="tiny", follow=True, payload="onnxruntime-float32-host", threads=2) as model:
        put(2)
        until(lambda: factor(model) == 2)
        assert model.info["options"]["threads"] == 2
        put(3, payloads=[kit.payload(id="another")])
        until(lambda: factor(model) == 2 and model.info["follow"]["held"])
        assert "onnxruntime-float32-host" in model.info["follow"]["held"]["why"]


def test_wrong_feeds_and_wrong_calls(put, kit, tmp_path):
    put(1)
    with rt.load(app="tiny", follow=True) as model, pytest.raises(BadInputError):
        model.run({"z": X})
    with pytest.raises(UsageError, match="installed app"):
        rt.load(kit.write(tmp_path), follow=True, trust=kit.trust)
    with pytest.raises(MissingError, match="not installed"):
        rt.load(app="nothing", follow=True)


def test_close_while_a_version_is_being_loaded(put):
    put(1)
    model = rt.load(app="tiny", follow=True)
    real, made, started, go = model._load, [], threading.Event(), threading.Event()

    def slow(slot):
        started.set()
        assert go.wait(20)
        made.append(real(slot))
        return made[0]

    model._load = slow
    put(2)
    until(lambda: factor(model) == 1 and started.is_set())
    model.close()
    go.set()
    until(lambda: not model._working)
    for closed in (model, made[0]):
        with pytest.raises(UsageError, match="closed"):
            closed.run({"x": X})


def test_no_thread_to_be_had(put, monkeypatch):
    put(1)
    with rt.load(app="tiny", follow=True) as model:

        def none(self):
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", none)
            put(2)
            model.look()
            assert factor(model) == 1
        model._due = 0.0
        until(lambda: factor(model) == 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_while_a_version_is_being_loaded(put):
    put(1)
    with rt.load(app="tiny", follow=True) as model:
        real, started = model._load, threading.Event()

        def slow(slot):
            started.set()
            time.sleep(0.2)
            return real(slot)

        model._load = slow
        put(2)
        until(lambda: factor(model) == 1 and started.is_set())
        child = os.fork()
        if child == 0:
            status = 1
            try:
                until(lambda: factor(model) == 2)
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        until(lambda: factor(model) == 2)


def test_a_state_that_was_just_written_is_looked_at_again(put):
    put(1)
    with rt.load(app="tiny", follow=True) as model:
        path = model._path
        now = time.time_ns()
        os.utime(path, ns=(now, now))
        assert follow._fresh(follow._stamp(path))
        started = time.monotonic()
        assert follow._settled(path) == follow._stamp(path)
        assert time.monotonic() - started > 0.02
        assert follow._settled(path + "nothing") == (0, 0, 0)
