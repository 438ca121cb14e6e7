"""Threads that call at full speed while another process installs one version after the other."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import edgec_runtime as rt
from edgec_runtime.engines import onnxruntime_capi
from tests.runtime.test_rt_follow import MODEL, times

VERSIONS = 4
INSTALL = "import sys\nfrom edgec_runtime.slots.install import install\nfor path in sys.argv[1:]: install(path)"


@pytest.mark.parametrize("kind", ["package", "library"])
def test_each_answer_is_one_versions(kind, kit, tmp_path, root, request, monkeypatch):
    if kind == "package":
        monkeypatch.setenv(onnxruntime_capi.VARIABLE, "/nowhere")
    elif onnxruntime_capi.library() is None:
        pytest.skip("no libonnxruntime.so here")
    else:
        request.getfixturevalue("only_libraries")
    paths = []
    for number in range(1, VERSIONS + 1):
        kit.manifest["app"] = {"name": "tiny", "version": f"{number}.0", "sequence": number}
        kit.files[MODEL] = times(number)
        paths.append(str(kit.write(tmp_path, f"{number}.edge")))
    command = [sys.executable, "-c", INSTALL]
    subprocess.run([*command, paths[0]], check=True, timeout=60)
    problems, seen, calls, stop = [], [set() for _ in range(4)], [0] * 4, threading.Event()

    def call(place):
        generator = np.random.default_rng(place)
        y, last = np.empty((2, 3), np.float32), 0.0
        try:
            while not stop.is_set():
                x = generator.integers(1, 100, (2, 3)).astype(np.float32)
                given = {"out": {"y": y}} if place % 2 else {}
                answer = np.asarray(model.run({"x": x}, **given)["y"])
                factor = float(answer[0, 0] / x[0, 0])
                if not np.array_equal(answer, factor * x) or factor < last:
                    problems.append((place, factor, last, x.tolist(), answer.tolist()))
                    return
                last = factor
                seen[place].add(factor)
                calls[place] += 1
        except BaseException as error:
            problems.append((place, repr(error)))

    with rt.load(app="tiny", follow=True) as model:
        assert hasattr(model.current._executable, "lock") == (kind == "library")
        threads = [threading.Thread(target=call, args=(place,)) for place in range(4)]
        for thread in threads:
            thread.start()
        try:
            subprocess.run([*command, *paths[1:]], check=True, timeout=120)
            end = time.monotonic() + 30
            while not problems and any(VERSIONS not in factors for factors in seen):
                assert time.monotonic() < end, seen
                time.sleep(0.02)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not problems
        assert min(calls) > 0 and model.info["app"]["version"] == f"{VERSIONS}.0"
        assert all(factors <= set(range(1, VERSIONS + 1)) for factors in seen)
        assert model.info["follow"]["updates"] >= 1 and model.info["follow"]["held"] is None
