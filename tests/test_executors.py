"""Executors: this process, processes of this machine, a real Dask cluster; and what they say when they can't."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgec.errors import MissingError, UsageError
from edgec.executors import UnreachableError, content, workers


def test_this_process_runs_calls_at_once_and_keeps_their_errors() -> None:
    with workers("local:1") as crew:
        assert crew.count == 1 and crew.here
        assert crew.executor.submit(os.getpid).result() == os.getpid()
        assert crew.executor.submit(content, crew.share(b"abc")).result() == b"abc"
        with pytest.raises(ZeroDivisionError):
            crew.executor.submit(divmod, 1, 0).result()


def test_processes_of_this_machine_read_what_is_shared() -> None:
    with workers("local:2") as crew:
        handle = crew.share(b"abc" * 1000)
        assert Path(handle) == crew.share(b"abc" * 1000), "the same content is shared once"
        assert crew.executor.submit(content, handle).result() == b"abc" * 1000
        assert crew.executor.submit(os.getpid).result() != os.getpid()
    assert not Path(handle).exists()


@pytest.mark.parametrize("where", ["local:0", "local:x", "elsewhere", "dask://", "dask://host", "dask://host:port"])
def test_a_place_that_is_none_is_a_usage_error(where: str) -> None:
    with pytest.raises(UsageError) as problem, workers(where):
        pass
    assert problem.value.exit_code == 2


def test_without_the_package_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingError) as problem, workers("dask://localhost:8786"):
        pass
    assert problem.value.exit_code == 10
    assert "edgec[dask]" in problem.value.fix


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def test_a_cluster_that_does_not_answer_is_exit_11(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("edgec.executors.CONNECT", 1.0)
    with pytest.raises(UnreachableError) as problem, workers(f"dask://127.0.0.1:{free_port()}"):
        pass
    assert problem.value.exit_code == 11


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A scheduler and two workers, each a process of its own, as a user starts them."""
    pytest.importorskip("distributed")
    port, folder = free_port(), tmp_path_factory.mktemp("dask")
    address = f"tcp://127.0.0.1:{port}"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port)]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
    running = [subprocess.Popen([*scheduler, "--no-dashboard"], **quiet)]  # type: ignore[call-overload]
    try:
        for _ in range(2):
            running.append(subprocess.Popen([*worker, "--no-nanny", "--host", "127.0.0.1"], **quiet))  # type: ignore[call-overload]
        from distributed import Client

        deadline = time.monotonic() + 120
        while True:
            try:
                with Client(address, timeout=5, set_as_default=False) as client:
                    client.wait_for_workers(2, timeout=60)
                break
            except OSError:
                assert time.monotonic() < deadline and running[0].poll() is None
                time.sleep(0.2)
        yield f"dask://127.0.0.1:{port}"
    finally:
        for process in running:
            process.kill()
            process.wait()


def test_a_cluster_of_two_workers_is_sent_bytes(cluster: str) -> None:
    with workers(cluster) as crew:
        assert crew.count == 2 and not crew.here
        handle = crew.share(b"abc" * 1000)
        assert crew.executor.submit(content, handle).result() == b"abc" * 1000
        assert crew.executor.submit(os.getpid).result() != os.getpid()
        with pytest.raises(ZeroDivisionError):
            crew.executor.submit(divmod, 1, 0).result()


def test_a_search_on_a_cluster_finds_what_this_process_finds(cluster: str) -> None:
    from tests.quantize.search_cases import find, small_case

    case = small_case()
    with workers(cluster) as crew:
        there = find(case, crew)
    with workers("local:1") as crew:
        here = find(case, crew)
    assert there.report == here.report
    assert there.ran == here.ran and there.ran["noise"] > 0
    assert there.quantized is not None and here.quantized is not None
