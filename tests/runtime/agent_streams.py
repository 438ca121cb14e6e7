"""Hostile message streams for the agent: recorded sessions, mutated; run in a process whose memory is limited.

python -m tests.runtime.agent_streams FOLDER COUNT SEED     reads FOLDER/*.in, prints one JSON object
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import shutil
import struct
import sys
import tempfile
import time
from pathlib import Path

from edgec_runtime.agent import frames
from edgec_runtime.agent.line import Line
from edgec_runtime.agent.server import Server
from edgec_runtime.errors import Error
from edgec_runtime.slots import state

SPARE = 96 << 20  # bytes of address space beside what the process has when it begins
STRANGE = [
    None, True, -1, 0, 1, 2**31, 2**53, 1e300, "", "..", "../../etc", "a" * 70, "\u202e", "\0", [], [[]], {}, {"a": {}},
    "0" * 64, "f" * 64, ["x"] * 300,
]  # fmt: skip


def answered(root: Path, stream: bytes, folder: Path) -> tuple[int, list[dict[str, object]], bytes]:
    """What the agent makes of a stream: its exit code, its messages, all that it wrote."""
    (folder / "in").write_bytes(stream)
    incoming = os.open(folder / "in", os.O_RDONLY)
    outgoing = os.open(folder / "out", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        code = Server(Line(incoming, outgoing), str(root)).serve()
    finally:
        os.close(incoming)
        os.close(outgoing)
    said = (folder / "out").read_bytes()
    assert said.startswith(frames.PREAMBLE)
    return code, [json.loads(body) for kind, body in split(said[len(frames.PREAMBLE) :]) if kind == b"J"], said


def split(stream: bytes) -> list[tuple[bytes, bytes]]:
    """The frames of a stream that is well formed."""
    found, at = [], 0
    while at < len(stream):
        kind, length = frames.head(stream[at : at + 5])
        found.append((kind, stream[at + 5 : at + 5 + length]))
        assert len(found[-1][1]) == length
        at += 5 + length
    return found


def mutated(sessions: list[bytes], draw: random.Random) -> bytes:
    """A session with a few things wrong."""
    stream = draw.choice(sessions)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        stream = draw.choice(MUTATIONS)(stream, sessions, draw)
    return stream


def _framewise(change):
    """A mutation of a list of frames; nothing where the stream is no longer one."""

    def mutation(stream: bytes, sessions: list[bytes], draw: random.Random) -> bytes:
        try:
            parts = split(stream)
        except (frames.FrameError, AssertionError):
            return stream
        change(parts, sessions, draw)
        return b"".join(struct.pack(">I", len(body)) + kind + body for kind, body in parts)

    return mutation


def _flip(stream, sessions, draw):
    made = bytearray(stream)
    for _ in range(draw.choice((1, 3, 20))):
        if made:
            made[draw.randrange(len(made))] ^= 1 << draw.randrange(8)
    return bytes(made)


def _cut(stream, sessions, draw):
    return stream[: draw.randrange(len(stream) + 1)]


def _insert(stream, sessions, draw):
    at = draw.randrange(len(stream) + 1)
    return stream[:at] + draw.randbytes(draw.choice((1, 5, 100))) + stream[at:]


def _length(stream, sessions, draw):
    """A frame that says that it is as long as can be."""
    at = draw.randrange(len(stream) + 1)
    return stream[:at] + struct.pack(">I", draw.choice((0xFFFFFFFF, 1 << 20, (1 << 20) + 1, 1 << 31))) + stream[at:]


def _splice(stream, sessions, draw):
    other = draw.choice(sessions)
    return stream[: draw.randrange(len(stream) + 1)] + other[draw.randrange(len(other) + 1) :]


@_framewise
def _drop(parts, sessions, draw):
    if parts:
        del parts[draw.randrange(len(parts))]


@_framewise
def _double(parts, sessions, draw):
    if parts:
        at = draw.randrange(len(parts))
        parts.insert(draw.randrange(len(parts) + 1), parts[at])


@_framewise
def _swap(parts, sessions, draw):
    if len(parts) > 1:
        a, b = draw.sample(range(len(parts)), 2)
        parts[a], parts[b] = parts[b], parts[a]


@_framewise
def _field(parts, sessions, draw):
    """Another value, another field, or none."""
    places = [n for n, (kind, _) in enumerate(parts) if kind == b"J"]
    if not places:
        return
    at = draw.choice(places)
    try:
        value = json.loads(parts[at][1])
    except (ValueError, RecursionError):
        return
    if not isinstance(value, dict) or not value:
        return
    name = draw.choice(list(value))
    how = draw.randrange(4)
    if how == 0:
        del value[name]
    elif how == 1:
        value[draw.choice(("size", "sha256", "x", "app", "request"))] = draw.choice(STRANGE)
    elif how == 2 and isinstance(value[name], int):
        value[name] = max(0, value[name] + draw.choice((-1, 1, 100, 1 << 20)))
    else:
        value[name] = draw.choice(STRANGE)
    parts[at] = (b"J", json.dumps(value).encode())


@_framewise
def _deep(parts, sessions, draw):
    bodies = (b"[" * 60000, b'{"a":' * 9000, b"[" + b"[]," * 20000 + b"1]", b'{"request":"hello"', b"\xff")
    body = draw.choice(bodies)
    parts.insert(draw.randrange(len(parts) + 1), (b"J", body))


@_framewise
def _noise(parts, sessions, draw):
    """Data that are other bytes, of the same length."""
    places = [n for n, (kind, body) in enumerate(parts) if kind == b"D" and body]
    if places:
        at = draw.choice(places)
        parts[at] = (b"D", draw.randbytes(len(parts[at][1])))


@_framewise
def _flood(parts, sessions, draw):
    """As much data as a frame holds, many times, where some are due or not."""
    at = draw.randrange(len(parts) + 1)
    parts[at:at] = [(b"D", bytes(frames.MAX_BODY))] * draw.choice((1, 3))


MUTATIONS = [
    _flip, _cut, _insert, _length, _splice, _drop, _double, _swap, _field, _field, _field, _deep, _noise, _noise,
    _flood,
]  # fmt: skip


def gone(process: int, wait: float = 30.0) -> bool:
    """Whether a process that was killed has ended, or does so soon; one that nobody has waited for yet counts."""
    end = time.monotonic() + wait
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def honest(root: Path, allowed: set[str]) -> str:
    """What is wrong with a root folder; nothing where all that it has is as signed."""
    store = root / "store" / "sha256"
    for path in store.iterdir() if store.is_dir() else ():
        if hashlib.sha256(path.read_bytes()).hexdigest() != path.name:
            return f"{path.name} is not what its name says"
    apps = root / "apps"
    for app in apps.iterdir() if apps.is_dir() else ():
        if not (app / "state").exists():
            continue
        found = state.read(str(app), app.name)
        for identity in (found.identity, found.other):
            if identity != "-" and identity not in allowed:
                return f"{app.name} has {identity}, which nobody has signed"
    if sorted(p.name for p in root.iterdir()) != sorted({p.name for p in root.iterdir()} & KNOWN):
        return f"strange files: {[p.name for p in root.iterdir()]}"
    return ""


KNOWN = {"store", "apps", "stage", "trust", "lock"}


def main(folder: Path, count: int, seed: int) -> dict[str, object]:
    """Run so many streams; counts of what came of them, and what should not have been."""
    sessions = [path.read_bytes() for path in sorted(folder.glob("*.in"))]
    allowed = set((folder / "allowed").read_text().split())
    draw = random.Random(seed)
    memory = Path("/dev/shm")  # flushes cost nothing there, and are not what is tested here
    work = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else folder))
    root = work / "root"
    answered(_fresh(folder, root), sessions[0], work)  # everything is imported
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE, used + SPARE))
    codes: dict[str, int] = {}
    wrong: list[str] = []
    committed = 0
    for number in range(count):
        if number % 20 == 0:
            _fresh(folder, root)
        stream = mutated(sessions, draw)
        try:
            _, messages, _ = answered(root, stream, work)
            for message in messages:
                if "error" in message:
                    error = message["error"]
                    codes[error["code"]] = codes.get(error["code"], 0) + 1
                    assert set(error) == {"code", "what", "why", "fix", "exit_code"} and error["what"]
                    if error["code"] in ("E953", "E951"):
                        wrong.append(f"{number}: {error}")
                committed += message.get("ok", {}) == {"app": "tiny"} if isinstance(message.get("ok"), dict) else 0
            if problem := honest(root, allowed):
                wrong.append(f"{number}: {problem}")
        except (Exception, Error) as error:
            wrong.append(f"{number}: {type(error).__name__}: {error}")
    shutil.rmtree(work)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"streams": count, "codes": codes, "committed": committed, "wrong": wrong, "peak": peak}


def _fresh(folder: Path, root: Path) -> Path:
    shutil.rmtree(root, ignore_errors=True)
    (root / "trust").mkdir(parents=True)
    for pem in (folder / "trust").iterdir():
        shutil.copy(pem, root / "trust")
    return root


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
