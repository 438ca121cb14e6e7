"""Where independent work runs: this process, processes of this machine, or a Dask cluster.

All three are a `concurrent.futures.Executor`. What is large (a model, its samples) is shared once, by content: workers
of this machine read it from a folder, those of a cluster are sent the bytes. Functions must be importable there, so no
closure of a user's ever travels.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgec.errors import MissingError, UnreachableError, UsageError

CONNECT = 10.0
"""Seconds that a cluster has to answer."""


@dataclass(frozen=True)
class Workers:
    """An executor and how to give it content.

    Attributes:
        executor: takes importable functions and small arguments.
        share: puts bytes where the workers are; what it gives is passed as an argument and read by `content`.
        count: how many calls run at a time.
        here: whether the workers are this machine, so that they compute the very bits that this process would.
    """

    executor: Executor
    share: Callable[[bytes], Any]
    count: int
    here: bool = True


class Inline(Executor):
    """Runs each call at once, in the calling thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call now; the future is done when this returns."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as problem:
            future.set_exception(problem)
        return future


def content(handle: Any) -> bytes:
    """On a worker: the bytes behind what `share` gave."""
    return handle if isinstance(handle, bytes) else Path(handle).read_bytes()


@contextmanager
def workers(where: str = "local") -> Iterator[Workers]:
    """Workers for the time of a block; what still waits when it ends is cancelled.

    Args:
        where: "local": as many processes as this one may use cores; "local:N": N, and with 1 all in this process;
            "dask://HOST:PORT": the cluster of that scheduler.

    Raises:
        UsageError: `where` is none of these (exit 2).
        MissingError: Dask is not installed here, or another edgec on its workers (exit 10).
        UnreachableError: the cluster does not answer, or has no workers (exit 11).
    """
    kind, colon, rest = where.partition(":")
    if kind == "local" and (not colon or (rest.isascii() and rest.isdigit() and int(rest) > 0)):
        with _local(int(rest) if rest else cores()) as found:
            yield found
    elif where.startswith("dask://"):
        with _dask(where) as found:
            yield found
    else:
        raise UsageError(
            f"--executor {where} is not known",
            "Trials run on this machine or on a Dask cluster.",
            "Use local, local:N (processes) or dask://HOST:PORT.",
            code="E216",
        )


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _local(jobs: int) -> Iterator[Workers]:
    if jobs == 1:
        yield Workers(Inline(), lambda data: data, 1)
        return
    with tempfile.TemporaryDirectory(prefix="edgec-shared-") as folder:

        def share(data: bytes) -> Path:
            path = Path(folder) / hashlib.sha256(data).hexdigest()
            if not path.exists():
                path.write_bytes(data)
            return path

        spawn = multiprocessing.get_context("spawn")  # a fork would copy onnxruntime's threads in any state
        pool = ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_end_with_parent)
        try:
            yield Workers(pool, share, jobs)
        except BrokenProcessPool as problem:
            raise MissingError(
                "a worker process ended before its work was done",
                "It ran out of memory or was killed; or this is a script that starts work when it is imported.",
                "Use --executor local:1; in a script, put the call under if __name__ == '__main__'.",
                code="E1012",
            ) from problem
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        assert parent is not None
        parent.join()
        os._exit(1)

    if parent is not None:
        threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _dask(where: str) -> Iterator[Workers]:
    try:
        address = urlsplit(where)
        host, port = address.hostname, address.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise UsageError(f"--executor {where} names no scheduler", fix="Use dask://HOST:PORT.", code="E216")
    try:
        import distributed
    except ImportError as problem:
        raise MissingError(
            "a Dask cluster needs a package that is not installed",
            f"{problem}.",
            "pip install 'edgec[dask]'",
            code="E1011",
        ) from problem
    try:
        connect: Any = distributed.Client
        client = connect(f"tcp://{host}:{port}", timeout=CONNECT, set_as_default=False)
    except (OSError, TimeoutError) as problem:
        raise UnreachableError(
            f"no Dask scheduler answers at {host}:{port}",
            f"{type(problem).__name__}: {problem}",
            "Start one (dask scheduler) with workers that have edgec installed (dask worker), and check the address.",
        ) from problem
    try:
        threads = sum(client.nthreads().values())
        if not threads:
            raise UnreachableError(
                f"the Dask cluster at {host}:{port} has no workers", fix="Start some: dask worker HOST:PORT."
            )
        _same_code(client)
        yield Workers(
            client.get_executor(pure=False),
            lambda data: client.scatter(data, broadcast=True, hash=True),
            threads,
            here=False,
        )
    finally:
        client.close()


def _same_code(client: Any) -> None:
    """Raises MissingError where a worker has no edgec, or another one: its trials would not be ours."""
    from edgec import __version__

    answers = client.run(_version, on_error="return")
    for name, answer in answers.items():
        if answer != __version__:
            why = f"It has edgec {answer}, this is {__version__}." if isinstance(answer, str) else str(answer)
            raise MissingError(
                f"Dask worker {name} can't run trials", why, f"pip install edgec=={__version__} there.", code="E1011"
            )


def _version() -> str:
    from edgec import __version__

    return str(__version__)
