"""Threads, forks and signals in the middle of calls: right answers, no lock that stays locked, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import edgec_runtime as rt
from edgec_runtime.errors import UnsupportedError, UsageError
from tests.runtime.bad_luck import LITERT, WIDE, both, engines, in_child, wide
from tests.runtime.litert_models import RELU, X

pytestmark = both


@engines
def test_threads_that_call_one_model(app, only_libraries, engine):
    """numpy arrays, memoryviews and out=, all at once; then it is closed while they run."""
    path, keys = app(engine)
    model = rt.load(path, trust=str(keys))
    wrong, stop, ended = [], threading.Event(), []

    def work(number):
        x = np.arange(4, dtype=np.float32).reshape(1, 4) - number
        want = np.maximum(x, 0).tolist()
        out = {"y": np.empty((1, 4), np.float32)}
        try:
            for turn in range(10**6):
                if number % 3 == 2:
                    answer = model.run({"x": x}, out=out)
                else:
                    answer = model.run({"x": memoryview(x) if number % 3 else x})
                if answer["y"].tolist() != want:
                    wrong.append((number, turn))
                if turn > 300 and number == 0:
                    stop.set()
        except UsageError:
            ended.append(number)

    # Each way of its own arrays: threads that share `out` would see each other's answers.
    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    stop.wait(60)
    model.close()
    for thread in threads:
        thread.join(60)
    assert not wrong and sorted(ended) == [0, 1, 2, 3, 4]


FORKS = """
import os, sys, threading
import edgec_runtime as rt
from array import array
path, keys, threads = sys.argv[1:]
x = memoryview(array("f", [1, -2, 3, -4])).cast("B").cast("f", (1, 4))
models = [rt.load(path, trust=keys, threads=int(threads)) for _ in range(2)]
def right(): return all(m.run({"x": x})["y"].tolist() == [[1, 0, 3, 0]] for m in models for _ in range(3))
assert right()
stop = []
def busy():
    while not stop: right()
other = threading.Thread(target=busy); other.start()
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        grandchild = os.fork()
        if grandchild == 0: os._exit(0 if right() else 1)
        fine = right() and os.waitpid(grandchild, 0)[1] == 0
        with rt.load(path, trust=keys, threads=int(threads)) as new: fine = fine and bool(new.run({"x": x}))
        [m.close() for m in models]
        os._exit(0 if fine else 1)
    children.append(child)
    assert right()
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
stop.append(1); other.join()
assert right()
print("fine")
"""


@engines
@pytest.mark.parametrize("threads", [1, 2])
def test_forks_after_loading(app, engine, threads):
    """Children and their children run the models that were loaded, and load others; so does the parent meanwhile."""
    path, keys = app(engine)
    done = in_child(FORKS, path, keys, threads)
    assert done.stdout == "fine\n", done.stderr


SIGNALS = """
import os, signal, sys
import edgec_runtime as rt
from array import array
path, keys = sys.argv[1:]
x = memoryview(array("f", [1, -2, 3, -4])).cast("B").cast("f", (1, 4))
class Stop(Exception): pass
def stop(*_): raise Stop
signal.signal(signal.SIGALRM, stop)
with rt.load(path, trust=keys) as model:
    stream_of_runs = stopped = 0
    while stopped < 400:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.00005 * (1 + stopped % 40))
            # Not for ever: an exception in a callback that Python ignores (a weak reference's, at an import) is lost.
            for _ in range(20000):
                answer = model.run({"x": x})
                assert answer["y"].tolist() == [[1, 0, 3, 0]]
                stream_of_runs += 1
        except Stop:
            pass
        stopped += 1
    assert model.run({"x": x})["y"].tolist() == [[1, 0, 3, 0]]
print("fine")
"""


@engines
def test_a_signal_whose_handler_raises_leaves_the_model_usable(app, engine):
    """400 times in the middle of runs: no lock stays locked, no answer is wrong."""
    path, keys = app(engine)
    done = in_child(SIGNALS, path, keys)
    assert done.stdout == "fine\n", done.stderr


TERMINATED = """
import signal, sys
import edgec_runtime as rt
path, keys, handler = sys.argv[1:]
if handler == "handler": signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
with rt.load(path, trust=keys) as model:
    shape = tuple(model.inputs[0]["shape"])
    x = memoryview(bytearray(4 * shape[1])).cast("f", shape)
    print("running", flush=True)
    while True: model.run({"x": x})
"""


@engines
@pytest.mark.parametrize("handler", ["default", "handler"])
def test_sigterm_during_a_call(app, engine, handler):
    """The system's way ends the process at once; a handler of the program's runs when the call has ended."""
    path, keys = app(engine, shape=WIDE, files={f"payloads/{engine}": wide(engine)})
    command = [sys.executable, "-c", TERMINATED, str(path), str(keys), handler]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "running\n"
        process.terminate()
        said = process.communicate(timeout=60)
    assert process.returncode == (7 if handler == "handler" else -signal.SIGTERM), said


def test_nothing_is_left_behind(app, only_libraries):
    """Loading that fails gives back its files."""
    path, keys = app("litert", files={"payloads/litert": LITERT[:200]})
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(UnsupportedError):
            rt.load(path, trust=str(keys))
    assert len(os.listdir("/proc/self/fd")) <= before
    assert not [name for name in os.listdir(Path(keys).parent) if name.endswith(".new")]


@engines
def test_a_model_that_is_dropped_is_freed_at_once(app, only_libraries, engine):
    """Quick runs hold no circle: an engine's memory does not wait for the garbage collector."""
    import gc
    import weakref

    path, keys = app(engine)
    gc.disable()
    try:
        model = rt.load(path, trust=str(keys))
        out = {"y": np.empty((1, 4), np.float32)}
        for _ in range(3):
            assert model.run({"x": X})["y"].tolist() == model.run({"x": X}, out=out)["y"].tolist() == RELU
            assert model._executable.run(["y"], {"x": X})[0].tolist() == RELU
        freed = weakref.ref(model._executable)
        del model
        assert freed() is None
    finally:
        gc.enable()
