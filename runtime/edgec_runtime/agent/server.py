"""The agent's loop: a request, its answer. Whatever comes, an answer goes back or the line ends; never a traceback."""

from __future__ import annotations

import contextlib
import errno

from edgec_runtime import __version__
from edgec_runtime.agent import asked as asked_
from edgec_runtime.agent import frames
from edgec_runtime.agent.line import GoneError, Line
from edgec_runtime.agent.transfer import Transfer
from edgec_runtime.errors import BadInputError, Error, UnsupportedError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Callable

    from edgec_runtime.agent.asked import Asked

    Answer = Any  # a dict, or a dict and a file whose bytes follow


class Server:
    """One host's session on a root folder."""

    def __init__(self, line: Line, root: str, *, debug: bool = False) -> None:
        self._line, self._root, self._debug = line, root, debug
        self._transfer = Transfer(root)
        self._greeted = False
        self._skipping = False  # data of a request that could not be read

    def serve(self) -> int:
        """Answer until the host leaves (0) or what it says is no frame (9); what has arrived is kept."""
        try:
            self._line.send(frames.PREAMBLE)
            while True:
                kind, body = self._line.read()
                if kind == frames.JSON:
                    self._answer(body)
                elif not self._skipping:
                    raise frames.FrameError("data came that no request had announced")
        except GoneError:
            return 0
        except frames.FrameError as error:
            wrong = BadInputError("what came is no message for edgec's agent", str(error), "connect again", code="E945")
            with contextlib.suppress(GoneError):
                self._line.send(frames.message({"error": wrong.as_dict()}))
            return wrong.exit_code
        finally:
            self._transfer.close()

    def _answer(self, body: bytes) -> None:
        """Read one request, do it, answer. What of its data was not used is read and dropped."""
        self._skipping = False
        pieces: Iterator[bytes] = iter(())
        try:
            request = asked_.read(body)
            if request.size >= 0:
                pieces = self._line.pieces(request.size)
            if not self._greeted and request.name != "hello":
                raise UsageError("the first request must be hello", f"it was {request.name}", "", code="E945")
            answer = self._do(request, pieces)
        except (GoneError, frames.FrameError):
            raise
        except Exception as error:
            known = _known(error)
            if self._debug and known is not error:
                import traceback

                traceback.print_exc()
            self._skipping = known.code in ("E945", "E946")
            self._line.send(frames.message({"error": known.as_dict()}))
            answer = None
        for _ in pieces:
            pass
        if answer is not None:
            self._tell(answer)

    def _tell(self, answer: Answer) -> None:
        fields, file = answer if isinstance(answer, tuple) else (answer, None)
        try:
            said = frames.message({"ok": fields})
        except frames.FrameError as error:  # it was done, but what hooks said of it, of many apps, is too much
            if file is not None:
                file.close()
            wrong = UnsupportedError("the device's answer is too long", str(error), "ask for one app", code="E951")
            said, file = frames.message({"error": wrong.as_dict()}), None
        self._line.send(said)
        if file is not None:
            with file:
                while data := file.read(1 << 16):
                    self._line.send(frames.frame(frames.DATA, data))
            self._line.send(frames.frame(frames.DATA, b""))

    def _do(self, request: Asked, pieces: Iterator[bytes]) -> Answer:
        handlers: dict[str, Callable[..., Answer]] = {
            "hello": self._hello,
            "ping": dict,
            "root": self._new_root,
            "status": self._status,
            "begin": self._begin,
            "data": self._data,
            "patch": self._patch,
            "commit": self._transfer.commit,
            "trial": lambda app: self._outcome("trial", app),
            "rollback": lambda app: self._outcome("rollback", app),
            "confirm": lambda app: self._outcome("confirm", app),
            "remove": self._remove,
            "logs": self._logs,
            "run": self._run,
            "key": self._key,
            "keys": self._keys,
        }
        more = {"pieces": pieces} if request.size >= 0 else {}
        return handlers[request.name](**request.fields, **more)

    def _hello(self, protocol: int, edgec: str) -> Answer:
        if protocol != frames.PROTOCOL:
            raise UnsupportedError(
                f"this device's agent speaks protocol {frames.PROTOCOL}",
                f"the host (edgec {edgec[:40]}) speaks {protocol}; the device has edgec-runtime {__version__}",
                "bring both to one version: edgec devices setup",
                code="E950",
            )
        self._greeted = True
        return {
            "protocol": frames.PROTOCOL,
            "edgec_runtime": __version__,
            "root": self._root,
            "root_version": _root_version(self._root),
        }

    def _new_root(self, sizes: list[int], pieces: Iterator[bytes]) -> Answer:
        from edgec_runtime.trust import rotate

        data = _all(pieces, sum(sizes))
        ends = [sum(sizes[: n + 1]) for n in range(len(sizes))]
        chain = [data[end - size : end] for size, end in zip(sizes, ends)]
        return {"root_version": rotate.update(chain, root=self._root)}

    def _status(self, app: str | None) -> Answer:
        from edgec_runtime.slots import status

        return {"apps": status.status(app, root=self._root)}

    def _begin(self, app: str | None, size: int, pieces: Iterator[bytes]) -> Answer:
        return self._transfer.begin(_all(pieces, size), app)

    def _data(self, sha256: str, offset: int, size: int, pieces: Iterator[bytes]) -> Answer:
        return self._transfer.data(sha256, offset, size, pieces)

    def _patch(self, sha256: str, base: str, size: int, pieces: Iterator[bytes]) -> Answer:
        return self._transfer.patch(sha256, base, size, pieces)

    def _outcome(self, what: str, app: str) -> Answer:
        import importlib

        module = importlib.import_module(f"edgec_runtime.slots.{what}")
        return getattr(module, what)(app, root=self._root).as_dict()

    def _remove(self, app: str) -> Answer:
        from edgec_runtime.slots import remove

        remove.remove(app, root=self._root)
        return {"app": app}

    def _logs(self, app: str, lines: int) -> Answer:
        from edgec_runtime.slots import journal

        return {"entries": journal.read(self._root, app, lines)}

    def _key(self) -> Answer:
        from edgec_runtime.sealed import device_key

        return {"public": device_key.create(self._root).hex()}

    def _keys(self, size: int, pieces: Iterator[bytes]) -> Answer:
        from edgec_runtime.sealed import wrapped

        return {"key": wrapped.add(self._root, wrapped.decode(_all(pieces, size)))}

    def _run(self, app: str, size: int, pieces: Iterator[bytes]) -> Answer:
        from edgec_runtime.agent import running

        return running.run(self._root, app, pieces, size)


def _all(pieces: Iterator[bytes], size: int) -> bytes:
    """The data of a request, which must be as long as was announced. Raises BadInputError (E945)."""
    data = b"".join(pieces)
    if len(data) != size:
        raise BadInputError("a request's data were cut short", f"{len(data)} of {size} bytes came", "", code="E945")
    return data


def _root_version(root: str) -> int:
    """Of the root metadata that this device trusts; 0 where it trusts single keys, or nothing that can be read."""
    from edgec_runtime.trust import store

    try:
        return int(getattr(store.load_trusted(None, root=root), "version", 0) or 0)
    except Exception:
        return 0


def _known(error: Exception) -> Error:
    """An error as one of ours: the disk's, memory's, or a bug, which is told as such."""
    if isinstance(error, Error):
        return error
    if isinstance(error, MemoryError):
        return UnsupportedError("the device's memory ran out", "", "free some, or restart it", code="E951")
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return BadInputError(
            "the device's disk is full" if full else "the device can't read or write its root folder",
            str(error)[:300],
            "free some space there; nothing was changed for the app" if full else "look at its disk and permissions",
            code="E906" if full else "E952",
        )
    bug = Error(
        "the device's agent has a bug",
        f"{type(error).__name__}: {error}"[:300],
        "report it with this line",
        code="E953",
    )
    bug.exit_code = 1
    return bug
