"""ONNX Runtime's C interface: its table of functions, and what all models of a process share in it.

The table's order never changes (onnxruntime_c_api.h: functions are only added at its end); version 18 of it is asked
for, which every release from 1.18 on gives.

ONNX Runtime has one environment in a process, and at most one pool of threads that sessions share. It is made with the
first model, as that model asks for it. A later model that asks for the same, or for nothing in particular, runs on
the shared pool; one that asks for another number of threads gets threads of its own. A model of one thread uses the
caller's and no pool.
"""

from __future__ import annotations

import os

from edgec_runtime.engines import foreign
from edgec_runtime.engines.foreign import byref, c_char_p, c_int, c_uint32, c_void_p
from edgec_runtime.engines.library import LOADED, Library, cut_short
from edgec_runtime.engines.native import CallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

API_VERSION = 18
FATAL = 4  # OrtLoggingLevel
# Places of functions in the table.
MESSAGE, CREATE_ENV, CREATE_SESSION, RUN, CREATE_OPTIONS = 2, 3, 7, 9, 10
DISABLE_ARENA, LOG_SEVERITY, OPTIMIZATION, THREADS = 19, 22, 23, 24
COUNTS, TYPE_INFOS, NAMES = (30, 31), (33, 34), (36, 37)  # of inputs, of outputs
TENSOR_WITH_DATA, TENSOR_DATA, AS_TENSOR, ELEMENT, RANK, SIZES, SYMBOLS, SHAPE_OF = 49, 51, 55, 60, 61, 62, 63, 65
MEMORY_INFO, FREE, ALLOCATOR = 69, 76, 78
RELEASE_ENV, RELEASE_STATUS, RELEASE_SESSION, RELEASE_VALUE = 92, 93, 95, 96
RELEASE_TYPE_INFO, RELEASE_SHAPE, RELEASE_OPTIONS = 98, 99, 100
CREATE_ENV_WITH_POOL, USE_SHARED_POOL, CREATE_POOL_OPTIONS, RELEASE_POOL_OPTIONS, CONFIGURE = 119, 120, 121, 122, 130
SHARE_ARENA, POOL_THREADS, POOL_INTER_THREADS, POOL_SPINS = 144, 147, 148, 149
TABLE = 150


class Api:
    """The library, loaded. Raises CallError where it is none.

    Attributes:
        version: of the library.
        memory, allocator: of the CPU.
        pool: (threads, spinning) of the shared pool, as they were asked for; None where there is no pool.
    """

    def __init__(self, path: str) -> None:
        try:
            get = foreign.Library(path).function("OrtGetApiBase", c_void_p)
        except (OSError, AttributeError) as error:
            raise CallError(f"it is no ONNX Runtime: {error}") from None
        get_api, get_version = (place or 0 for place in (c_void_p * 2).from_address(get()))
        self.version = returning(c_char_p, get_version)().decode()
        table: Any = returning(c_void_p, get_api)(c_uint32(API_VERSION))
        if not table:
            raise CallError(f"ONNX Runtime {self.version} does not have version {API_VERSION} of its C interface")
        self._table: Any = (c_void_p * TABLE).from_address(table)
        self._made: dict[int, Any] = {}  # functions that were asked for: making one takes as long as calling it
        self._message = returning(c_char_p, self._table[MESSAGE])
        self._environment, self.memory, self.allocator = c_void_p(), c_void_p(), c_void_p()
        self.pool: tuple[int, bool | None] | None = None
        self._process = 0
        self.call(MEMORY_INFO, c_int(0), c_int(0), byref(self.memory))  # OrtDeviceAllocator, OrtMemTypeDefault
        self.call(ALLOCATOR, byref(self.allocator))

    def environment(self, threads: int | None, spinning: bool | None) -> tuple[c_void_p, bool]:
        """The environment, and whether a session of so many threads (None: any) uses its pool."""
        if not self._environment:
            self._start(threads, spinning)
        # The pool's threads live in the process that made it: a fork's child has none of them.
        if threads == 1 or self.pool is None or self._process != os.getpid():
            return self._environment, False
        count, spins = self.pool
        return self._environment, threads in (None, count) and spinning in (None, spins)

    def _start(self, threads: int | None, spinning: bool | None) -> None:
        environment = byref(self._environment)
        if threads == 1:
            self.call(CREATE_ENV, c_int(FATAL), b"edgec", environment)
            return
        options = c_void_p()
        self.call(CREATE_POOL_OPTIONS, byref(options))
        try:
            self.call(POOL_THREADS, options, c_int(threads or 0))
            self.call(POOL_INTER_THREADS, options, c_int(1))
            if spinning is not None:
                self.call(POOL_SPINS, options, c_int(spinning))
            self.call(CREATE_ENV_WITH_POOL, c_int(FATAL), b"edgec", options, environment)
        finally:
            self.give_back(RELEASE_POOL_OPTIONS, options)
        self.pool, self._process = (threads or 0, spinning), os.getpid()

    def function(self, place: int) -> Any:
        """A function of the table, which returns a status: None is "ok"."""
        return self._made.get(place) or self._make(place, c_void_p)

    def _make(self, place: int, returns: Any) -> Any:
        made = self._made[place] = returning(returns, self._table[place])
        return made

    def call(self, place: int, *arguments: Any) -> None:
        """Call it. Raises CallError with ONNX Runtime's own words."""
        status = self.function(place)(*arguments)
        if status:
            raise CallError(self.words(status))

    def words(self, status: int) -> str:
        """What a status says; it is freed."""
        text = self._message(c_void_p(status)).decode("utf-8", "replace")
        self.give_back(RELEASE_STATUS, c_void_p(status))
        return str(text)

    def give_back(self, place: int, handle: c_void_p) -> None:
        """Free a handle."""
        if handle:
            (self._made.get(place) or self._make(place, None))(handle)
            handle.value = None


_loaded: dict[str, Api] = {}


def returning(kind: Any, address: int | None) -> Any:
    """The function at an address. It has no argument types: objects that are C types are passed on as they are."""
    function = foreign.Function(address)
    function.restype = kind
    return function


def load(path: str) -> Api:
    """The library at `path`, loaded at first use. Raises CallError where it is none, or only a part of one."""
    api = _loaded.get(path)
    if api is None:
        problem = cut_short(path)
        if problem:
            raise CallError(f"{path}: {problem}")
        stamp = Library(path, "").stamp()
        api = _loaded[path] = Api(path)
        LOADED[path] = stamp
    return api
