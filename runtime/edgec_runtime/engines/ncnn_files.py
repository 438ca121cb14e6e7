"""An ncnn payload's files, read and checked before ncnn gets them: its own parser trusts what it reads.

"interface" is JSON: {"format": 1, "bin": bytes of the `.bin`, "inputs": [{"name", "shape", "blob", "dims"}], "outputs":
the same}. `shape` is that of the program's array, `dims` the blob's, outermost first: the same elements in the same
order, float32. The `.param` is text, a line a layer: kind, name, how many blobs it reads and makes, their names,
parameters.
"""

from __future__ import annotations

from edgec_runtime.engines.native import CallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple

    class Port(NamedTuple):
        """An input or output."""

        name: str
        shape: tuple[int, ...]
        blob: str
        dims: tuple[int, ...]

    class Interface(NamedTuple):
        """All of them, and the size of the `.bin` in bytes."""

        inputs: list[Port]
        outputs: list[Port]
        size: int

else:
    from collections import namedtuple

    Port = namedtuple("Port", "name shape blob dims")
    Interface = namedtuple("Interface", "inputs outputs size")

FORMAT = 1
MAGIC = b"7767517"
MAX_INTERFACE = 4 << 20  # bytes
MAX_PORTS = 1024
MAX_RANK = 64
MAX_DIMS = 4
MAX_ELEMENTS = 1 << 29  # ncnn counts bytes in 32 bits here and there
PORT = frozenset(("name", "shape", "blob", "dims"))


def read(data: bytes | memoryview) -> Interface:
    """The interface. Raises CallError where it is none."""
    from edgec_runtime.bundle import strictjson

    try:
        document = strictjson.loads(bytes(data), limit=MAX_INTERFACE)
        if not isinstance(document, dict) or set(document) != {"format", "bin", "inputs", "outputs"}:
            raise ValueError("it is not an object of format, bin, inputs and outputs")
        if document["format"] != FORMAT:
            raise ValueError(f"it has format {document['format']!r}, and {FORMAT} is what is known here")
        inputs, outputs = _ports(document["inputs"]), _ports(document["outputs"])
        if not outputs:
            raise ValueError("it has no outputs")
        if type(document["bin"]) is not int:
            raise ValueError("bin is no number")
        return Interface(inputs, outputs, document["bin"])
    except ValueError as error:
        raise CallError(f"the payload's interface can't be read: {error}") from None


def _ports(value: Any) -> list[Port]:
    if not isinstance(value, list) or len(value) > MAX_PORTS:
        raise ValueError("inputs and outputs are no lists")
    ports = []
    for port in value:
        if not isinstance(port, dict) or set(port) != PORT:
            raise ValueError("an input or output lacks its name, shape, blob or dims")
        name, blob = port["name"], port["blob"]
        if not isinstance(name, str) or not isinstance(blob, str):
            raise ValueError("a name is no text")
        shape, dims = _sizes(port["shape"], MAX_RANK), _sizes(port["dims"], MAX_DIMS)
        if not dims or _product(shape) != _product(dims) or _product(dims) > MAX_ELEMENTS:
            raise ValueError(f"{name!r} is {list(shape)} as an array and {list(dims)} as a blob")
        ports.append(Port(name, shape, blob, dims))
    if len({port.name for port in ports}) != len(ports):
        raise ValueError("two inputs or outputs have one name")
    return ports


def _sizes(value: Any, most: int) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > most or not all(type(n) is int and n > 0 for n in value):
        raise ValueError(f"{value!r:.80} is no list of at most {most} sizes")
    return tuple(value)


def _product(sizes: tuple[int, ...]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product


def check(interface: Interface, param: bytes, size: int) -> None:
    """Raise CallError where the `.param` or the `.bin`'s size isn't what ncnn's parser takes for granted."""
    if size != interface.size:
        raise CallError(f"the .bin has {size} bytes, and should have {interface.size}")
    lines = param.split(b"\n")
    if len(lines) < 3 or lines[0] != MAGIC or lines.pop() != b"":
        raise CallError("the .param is none, or cut off")
    try:
        layers, blobs = (int(word) for word in lines[1].split())
        made = _blobs(lines[2:])
    except ValueError as error:
        raise CallError(f"the .param can't be read: {error}") from None
    if layers != len(lines) - 2 or blobs != len(made):
        raise CallError("the .param has other numbers of layers and blobs than it says")
    for port in (*interface.inputs, *interface.outputs):
        if port.blob not in made:
            raise CallError(f"the .param has no blob {port.blob!r}")


def _blobs(lines: list[bytes]) -> set[str]:
    """The names of all blobs. Each must be made once, before the one layer that may read it."""
    made: set[str] = set()
    unread: set[str] = set()
    for line in lines:
        words = line.decode("ascii").split()
        if len(words) < 4:
            raise ValueError(f"{line[:60]!r} is no layer")
        reads, makes = int(words[2]), int(words[3])
        if reads < 0 or makes < 0 or len(words) < 4 + reads + makes:
            raise ValueError(f"{line[:60]!r} lacks names")
        if any("=" not in word for word in words[4 + reads + makes :]) or any(len(w) > 255 for w in words[:2]):
            raise ValueError(f"{line[:60]!r} has something that is no parameter")
        for name in words[4 : 4 + reads]:
            if name not in unread:
                raise ValueError(f"{name!r} is read before it is made, or twice")
            unread.remove(name)
        for name in words[4 + reads : 4 + reads + makes]:
            if name in made:
                raise ValueError(f"{name!r} is made twice")
            made.add(name)
            unread.add(name)
    return made
