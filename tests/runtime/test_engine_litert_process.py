"""A process around LiteRT: threads, forks, signals, memory, no numpy, an interpreter without ctypes' C half."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edgec_runtime.engines import litert_capi
from tests.runtime.litert_models import RELU, bundle, load, tflite

pytestmark = pytest.mark.skipif(litert_capi.library() is None, reason="ai-edge-litert is not installed")
ROOT = str(Path(__file__).parents[2])


def test_two_threads_in_one_executable(tmp_path):
    executable = load(tmp_path, tflite(shape=(1, 1024)))
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(300):
            x = rng.normal(size=(1, 1024)).astype(np.float32)
            if not np.array_equal(executable.run(["y"], {"x": x})[0], np.maximum(x, 0)):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_several_models_share_the_library(tmp_path):
    models = []
    for number in range(8):
        folder = tmp_path / str(number)
        folder.mkdir()
        models.append(load(folder, tflite(shape=(1, number + 1))))
    for number, model in enumerate(models):
        assert model.run(["y"], {"x": np.full((1, number + 1), 2, np.float32)})[0].sum() == 2 * (number + 1)
    assert len({id(model._api) for model in models}) == 1


FORK = """
import os, sys, threading
sys.path.insert(0, {root!r})
import numpy as np
from pathlib import Path
from tests.runtime import litert_models as t
executable = t.load(Path({folder!r}), t.tflite(shape=(1, 64)), threads={threads})
x = np.arange(-32, 32, dtype=np.float32).reshape(1, 64)
want = np.maximum(x, 0)
assert np.array_equal(executable.run(["y"], {{"x": x}})[0], want)
stop = []
def busy():
    while not stop: executable.run(["y"], {{"x": x}})
thread = threading.Thread(target=busy); thread.start()   # the lock is held most of the time
for _ in range(5):
    child = os.fork()
    if child == 0:
        fine = all(np.array_equal(executable.run(["y"], {{"x": x}})[0], want) for _ in range(3))
        os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0
stop.append(1); thread.join()
assert np.array_equal(executable.run(["y"], {{"x": x}})[0], want)
executable.close()
print("fine")
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_a_fork_after_loading(tmp_path, threads):
    program = FORK.format(root=ROOT, folder=str(tmp_path), threads=threads)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout == "fine\n", done.stderr


@pytest.mark.parametrize("handler", [False, True], ids=["default", "handler"])
def test_sigterm_during_a_call(tmp_path, handler):
    program = f"""
import signal, sys
sys.path.insert(0, {ROOT!r})
import numpy as np
from pathlib import Path
from tests.runtime import litert_models as t
if {handler}: signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
executable = t.load(Path({str(tmp_path)!r}), t.tflite(shape=(1, 1 << 20)))
x = np.zeros((1, 1 << 20), np.float32)
print("running", flush=True)
while True: executable.run(["y"], {{"x": x}})
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "running\n"
        time.sleep(0.05)
        process.terminate()
        assert process.wait(timeout=30) == (7 if handler else -signal.SIGTERM)


def test_memory_stays_where_it_was(tmp_path):
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    data = tflite(shape=(1, 65536))
    for _ in range(10):
        load(tmp_path, data).close()
    before = resident()
    for _ in range(60):
        executable = load(tmp_path, data)
        executable.run(["y"], {"x": np.zeros((1, 65536), np.float32)})
        executable.close()
    for _ in range(20):
        load(tmp_path, data)  # not closed: freed when it is dropped
    assert resident() - before < 8e6


def test_a_models_file_is_mapped_not_copied(tmp_path):
    """40 MB of weights: the process holds them once, as file pages that other processes share."""
    data = tflite(size=40_000_000)
    executable = load(tmp_path, data)
    maps = Path("/proc/self/smaps").read_text()
    assert any("m.tflite" in line for line in maps.splitlines())
    executable.close()


def test_an_interpreter_without_the_c_half_of_ctypes_uses_ctypes(tmp_path):
    program = f"""
import ctypes, sys, types
sys.modules["_ctypes"] = types.ModuleType("_ctypes")
sys.path.insert(0, {ROOT!r})
from edgec_runtime.engines import foreign
assert foreign.c_void_p is ctypes.c_void_p
import numpy as np
from pathlib import Path
from tests.runtime import litert_models as t
print(t.load(Path({str(tmp_path)!r}), threads=2).run(["y"], {{"x": t.X}})[0].tolist())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == f"{RELU}\n", done.stderr


def test_without_numpy(tmp_path, kit):
    """A process in which numpy can't be imported loads and runs, and imports nothing of the engine's package."""
    path = bundle(kit, tflite()).write(tmp_path)
    keys = tmp_path / "keys"
    keys.mkdir()
    from edgec_runtime.trust import store

    (keys / f"{store.key_id(kit.trust[0])}.pem").write_bytes(store.to_pem(kit.trust[0]))
    program = f"""
import sys
sys.modules["numpy"] = None
from array import array
import edgec_runtime as rt
with rt.load({str(path)!r}, trust={str(keys)!r}) as model:
    x = memoryview(array("f", [1, -2, 3, -4])).cast("B").cast("f", (1, 4))
    print(model.run({{"x": x}})["y"].tolist(), sorted(m for m in sys.modules if "litert" in m and "edgec" not in m))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == f"{RELU} []\n", done.stderr
