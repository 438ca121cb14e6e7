"""Compiled models: opened, run, closed, forked; damaged or foreign files are refused; native code needs trust.

The models here are driver.c, which is in every payload, with a table of one kernel in C: no TVM is needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from array import array
from pathlib import Path

import numpy as np
import pytest

from edgec_runtime import engines, select
from edgec_runtime.engines import tvm
from edgec_runtime.engines.base import RefusedError
from edgec_runtime.engines.native import CallError
from edgec_runtime.errors import UsageError
from edgec_runtime.machine import Machine
from edgec_runtime.payload import StoredPayload

DRIVER = Path(__file__).parents[2] / "targets/edgec_targets/emitters/tvm"
COMPILER = next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None)
pytestmark = pytest.mark.skipif(COMPILER is None or not DRIVER.is_dir(), reason="a C compiler makes the models here")

# y = 2 x of four floats, spread to threads where there are several; a first value of -13 fails.
KERNEL = r"""
#include "driver.h"
typedef struct { void *sync; int32_t tasks; } Group;
extern int (*__TVMBackendParallelLaunch)(int (*)(int, Group *, void *), void *, int);
extern void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int);
extern int (*__TVMBackendFreeWorkspace)(int, int, void *);
void TVMFFIErrorSetRaisedFromCStrParts(const char *, const char **, int32_t);

static int twice(int task, Group *group, void *data) {
  float **both = data;
  for (int n = task; n < 4; n += group->tasks) both[1][n] = 2 * both[0][n];
  return 0;
}
static float *of(Any *argument) { return ((DLTensor *)argument->pointer)->data; }
static int fails(float *x) {
  const char *parts[] = {"thirteen", " is unlucky"};
  if (x[0] == -13) TVMFFIErrorSetRaisedFromCStrParts("ValueError", parts, 2);
  return x[0] == -13 ? -1 : 0;
}
static int one(void *self, Any *a, int32_t count, Any *result) {
  float *both[] = {of(a), of(a + 1)};
  Group group = {0, 1};
  return fails(both[0]) ? -1 : twice(0, &group, both);
}
static int many(void *self, Any *a, int32_t count, Any *result) {
  float *scratch = __TVMBackendAllocWorkspace(1, 0, 16, 2, 32);
  float *both[] = {of(a), scratch};
  int status = fails(both[0]) ? -1 : __TVMBackendParallelLaunch(twice, both, 0);
  for (int n = 0; n < 4; n++) of(a + 1)[n] = scratch[n];
  __TVMBackendFreeWorkspace(1, 0, scratch);
  return status;
}
static const int64_t shape[] = {1, 4}, strides[] = {4, 1};
const char model_tensors[] = "i float32 1x4 x\no float32 1x4 twice x\no float32 1x4 copy\n";
const uint64_t model_arena = 64;
const unsigned char model_weights[64] = {0};
const Argument model_arguments[] = {
  {IN_INPUT, 0, 2, 2, 32, shape, strides}, {IN_ARENA, 0, 2, 2, 32, shape, strides},
  {IN_ARENA, 0, 2, 2, 32, shape, strides}, {IN_OUTPUT, 0, 2, 2, 32, shape, strides},
  {IN_INPUT, 0, 2, 2, 32, shape, strides}, {IN_OUTPUT, 1, 2, 2, 32, shape, strides}};
const int32_t model_argument_count = 6;
const Step model_steps[] = {{one, many, 2, 16}, {0, 0, 2, 16}, {0, 0, 2, 16}};
const int32_t model_step_count = 3;
const int32_t model_parallel = 1;
"""
X = np.array([[1, -2, 3, 4]], np.float32)


def compiled(folder: Path, source: str = KERNEL, flags: tuple[str, ...] = ()) -> Path:
    shutil.copy(DRIVER / "driver.h", folder)
    (folder / "model.c").write_text(source)
    path = folder / "model.so"
    subprocess.run(
        # As the product links it: TVM's own library, if it is in this process, does not replace the driver's functions.
        [str(COMPILER), "-O1", "-w", "-shared", "-fPIC", "-Wl,-Bsymbolic", *flags, "-o", path, DRIVER / "driver.c",
         folder / "model.c", "-lpthread"],
        check=True,
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    return compiled(tmp_path_factory.mktemp("tvm"))


def load(path: Path, **options) -> tvm.Executable:
    entry = {"id": "p", "engine": "tvm", "files": {"model": "m"}}
    return tvm.Engine().load(StoredPayload(entry, {"model": str(path)}), options)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_model_runs_on_any_number_of_threads(library, threads):
    executable = load(library, threads=threads)
    assert repr(executable.inputs) == "[Tensor('x', 'float32', (1, 4))]"
    assert [tensor.name for tensor in executable.outputs] == ["twice x", "copy"]
    for n in range(200):
        twice, copy = executable.run(["twice x", "copy"], {"x": X + n})
        assert np.array_equal(twice, 2 * (X + n)) and np.array_equal(copy, X + n)
    executable.close()
    with pytest.raises(UsageError, match="closed"):
        executable.run(["copy"], {"x": X})
    executable.close()


def test_answers_without_numpy_and_the_quick_way(library):
    executable = load(library, threads=1)
    view = memoryview(array("f", X.ravel())).cast("B").cast("f", (1, 4))
    assert executable.run(["twice x"], {"x": view})[0].tolist() == (2 * X).tolist()
    quick = executable.quick(["copy"], {"x": view})
    assert quick({"x": view}, None)["copy"].tolist() == X.tolist()
    assert quick({"x": X.astype(np.float64)}, None) is None


def test_every_pointer_is_aligned(library):
    executable = load(library, threads=1)
    assert all(port.address % 64 == 0 for port in (*executable.ports_in, *executable.ports_out))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_kernel_that_fails_says_why(library, threads):
    executable = load(library, threads=threads)
    with pytest.raises(CallError, match="ValueError: thirteen is unlucky"):
        executable.run(["copy"], {"x": np.array([[-13, 0, 0, 0]], np.float32)})
    assert np.array_equal(executable.run(["copy"], {"x": X})[0], X)


def test_other_shapes_are_refused(library):
    with pytest.raises(CallError, match=r"'x' is \[1, 4\] in the compiled model, not \[2, 4\]"):
        load(library, threads=1).run(["copy"], {"x": np.zeros((2, 4), np.float32)})


def test_two_threads_in_one_executable_and_two_executables_of_one_library(library):
    first, second = load(library, threads=2), load(library, threads=1)
    wrong: list[object] = []

    def work(executable, seed):
        for n in range(200):
            x = X + seed + n
            if not np.array_equal(executable.run(["twice x"], {"x": x})[0], 2 * x):
                wrong.append((seed, n))

    workers = [threading.Thread(target=work, args=(e, s)) for e, s in ((first, 0), (first, 1000), (second, 2000))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
    first.close()
    assert np.array_equal(second.run(["copy"], {"x": X})[0], X)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("threads", [1, 3])
def test_a_forks_child_has_threads_of_its_own(library, threads):
    executable = load(library, threads=threads)
    executable.run(["copy"], {"x": X})
    child = os.fork()
    if child == 0:
        good = all(np.array_equal(executable.run(["twice x"], {"x": X})[0], 2 * X) for _ in range(20))
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(executable.run(["twice x"], {"x": X})[0], 2 * X)
    executable.close()


def test_closing_ends_the_threads_and_unmaps_the_library(library):
    def threads() -> int:
        return len(os.listdir("/proc/self/task"))

    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count(str(library))

    before, maps = threads(), mapped()
    for _ in range(3):
        executable = load(library, threads=4)
        assert threads() == before + 3 and mapped()
        executable.run(["copy"], {"x": X})
        executable.close()
    assert (threads(), mapped()) == (before, maps)


def test_anonymous_files_of_the_same_name_are_different_models(tmp_path, library):
    """Out of a bundle each payload is /proc/self/fd/N, with the same N: the loader must not take one for the other."""
    other = tmp_path / "other"
    other.mkdir()
    thrice = compiled(other, KERNEL.replace("= 2 * both", "= 3 * both"))
    answers, kept = [], []
    for path in (library, thrice):
        file = os.memfd_create("edgec")
        os.write(file, path.read_bytes())
        kept.append(load(Path(f"/proc/self/fd/{file}"), threads=1))
        os.close(file)
        answers.append(kept[-1].run(["twice x"], {"x": X})[0].tolist())
    assert answers == [(2 * X).tolist(), (3 * X).tolist()]


def test_a_payload_without_a_path_is_opened_from_its_bytes(library):
    class Bytes(StoredPayload):
        def path(self, role):
            return None

    entry = {"id": "p", "engine": "tvm", "files": {"model": "m"}}
    for _ in range(2):
        executable = tvm.Engine().load(Bytes(entry, {"model": str(library)}), {"threads": 1})
        assert np.array_equal(executable.run(["copy"], {"x": X})[0], X)
        executable.close()


def damaged(good: bytes) -> dict[str, bytes]:
    other = bytearray(good)
    other[18] = 183 if os.uname().machine == "x86_64" else 62
    return {
        "empty": b"",
        "no library": b"#!/bin/sh\n" * 50,
        "cut off": good[: len(good) // 2],
        "its end cut off": good[:-10],
        "of another machine": bytes(other),
        "a 32-bit header": good[:4] + b"\x01" + good[5:],
    }


@pytest.mark.parametrize("name", damaged(b"\x7fELF" + bytes(100)))
def test_a_damaged_file_is_refused_and_does_no_harm(tmp_path, library, name):
    path = tmp_path / "model.so"
    path.write_bytes(damaged(library.read_bytes())[name])
    with pytest.raises(RefusedError, match="can't be opened"):
        load(path)


def test_a_library_of_somebody_elses_is_refused(tmp_path):
    (tmp_path / "nothing.c").write_text("int nothing;")
    path = tmp_path / "nothing.so"
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-o", path, tmp_path / "nothing.c"], check=True)
    with pytest.raises(RefusedError) as caught:
        load(path)
    assert "no library that edgec made" in caught.value.why


def test_another_version_of_the_interface_is_refused(tmp_path):
    shutil.copy(DRIVER / "driver.h", tmp_path)
    header = (tmp_path / "driver.h").read_text().replace("#define EDGEC_ABI 1", "#define EDGEC_ABI 7")
    (tmp_path / "driver.h").write_text(header)
    (tmp_path / "driver.c").write_text((DRIVER / "driver.c").read_text())
    (tmp_path / "model.c").write_text(KERNEL)
    path = tmp_path / "model.so"
    sources = [tmp_path / "driver.c", tmp_path / "model.c"]
    subprocess.run([str(COMPILER), "-w", "-shared", "-fPIC", "-o", path, *sources, "-lpthread"], check=True)
    with pytest.raises(RefusedError) as caught:
        load(path)
    assert "version 7; this runtime knows 1" in caught.value.why


@pytest.mark.parametrize("options", [{"threads": -1}, {"threads": "two"}, {"spinning": True}])
def test_options_that_make_no_sense(library, options):
    with pytest.raises(RefusedError):
        load(library, **options)


def test_native_code_comes_from_trusted_bundles_for_this_machine_alone():
    entry = {
        "id": "p", "engine": "tvm", "engine_version": ">=1,<2", "arch": "aarch64", "isa": ["asimd"], "portable": False,
        "native_code": True, "memory": None,
    }  # fmt: skip
    board = Machine("aarch64", frozenset({"asimd"}), None)
    assert "untrusted" in (select.obstacle(entry, board, trusted=False) or "")
    assert select.obstacle(entry, board, trusted=True) is None
    assert "for aarch64" in (select.obstacle(entry, Machine("x86_64", frozenset(), None), trusted=True) or "")
    assert select.order([entry], Machine("x86_64", frozenset(), None)) == []
    assert isinstance(select.engine_for(entry), tvm.Engine)
    assert "it needs tvm" in str(select.engine_for({**entry, "engine_version": ">=2,<3"}))


def test_the_registry_gives_it_out():
    assert isinstance(engines.find("tvm"), tvm.Engine) and "tvm" in engines.names()
