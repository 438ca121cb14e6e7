"""One run of an installed app, in a process of its own: what an engine does to its process, it does not to the agent.

Inputs and outputs travel in the container of golden files (`bundle.tensors`), named "0/x": a device needs no numpy.
"""

from __future__ import annotations

import os
import sys

from edgec_runtime.errors import BadInputError, Error, UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import IO, Any

    from edgec_runtime.bundle import tensors

LONGEST = 600.0  # seconds
LIMIT = 1 << 28  # bytes of inputs, unpacked
MAX_HEAD = 1 << 16  # bytes of what the child says of itself


def run(root: str, app: str, pieces: Iterator[bytes], size: int) -> tuple[dict[str, Any], IO[bytes]]:
    """Run an app once; what the run says of itself, and a file with its outputs.

    Raises as `load` and `Model.run` do; UnsupportedError (E954) where the engine ends the process, or takes too long.
    """
    from tempfile import TemporaryFile

    from edgec_runtime import interpreter
    from edgec_runtime.bundle import strictjson
    from edgec_runtime.slots import contained

    stage = os.path.join(root, "stage")
    folder = stage if os.path.isdir(stage) else None
    with TemporaryFile(dir=folder) as inputs:
        for piece in pieces:
            inputs.write(piece)
        if inputs.tell() != size:
            raise BadInputError("the inputs were cut short", f"{inputs.tell()} of {size} bytes", "", code="E945")
        inputs.seek(0)
        answer = TemporaryFile(dir=folder)  # noqa: SIM115 (who asked closes it)
        try:
            command = [interpreter.path(), "-m", "edgec_runtime.agent.running", root, app]
            paths = os.pathsep.join(filter(None, sys.path))
            # In "/": `-m` puts the folder that it is started in, the user's home, before the standard library.
            env = {**os.environ, "PYTHONPATH": paths}
            ended = contained.run(command, env=env, timeout=LONGEST, stdin=inputs, stdout=answer)
            if ended.timed_out:
                raise _died(app, f"it took over {LONGEST:.0f} seconds")
            if ended.code < 0:
                raise _died(app, ended.why())
            answer.seek(0)
            line = answer.readline(MAX_HEAD)
            try:
                said = strictjson.loads(line, limit=MAX_HEAD)
            except ValueError:
                raise _died(app, ended.said() or "it said nothing") from None
            if "error" in said:
                raise _error(said["error"])
            return {**said, "data": os.fstat(answer.fileno()).st_size - answer.tell()}, answer
        except BaseException:
            answer.close()
            raise


def _child(root: str, app: str) -> None:
    """In the child: inputs on standard input, a line of JSON and the outputs on standard output."""
    import json
    import time

    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # engines print
    from edgec_runtime.slots import contained

    contained.no_core()
    try:
        from edgec_runtime import golden
        from edgec_runtime.bundle import tensors
        from edgec_runtime.model import load

        os.environ["EDGEC_ROOT"] = root
        samples = golden.samples(tensors.decode(sys.stdin.buffer.read(), LIMIT))
        if len(samples) != 1:
            raise BadInputError("a run takes one sample", f"{len(samples)} came", "", code="E945")
        with load(app=app) as model:
            feed = golden.feed(samples[0])
            start = time.perf_counter()
            answers = model.run(feed)
            seconds = time.perf_counter() - start
            kinds = {tensor["name"]: tensor["dtype"] for tensor in model.outputs}
            packed = tensors.encode([_item(name, answers[name], kinds[name]) for name in answers], level=1)
            keep = ("payload", "engine", "engine_version", "precision", "slot", "identity")
            said = {name: model.info.get(name) for name in keep} | {
                "seconds": seconds, "version": model.info["app"]["version"]
            }  # fmt: skip
    except Error as error:
        said, packed = {"error": error.as_dict()}, b""
    out.write(json.dumps(said).encode() + b"\n" + packed)
    out.close()


def _item(name: str, value: Any, dtype: str) -> tensors.Item:
    from edgec_runtime.bundle import tensors

    if isinstance(value, memoryview):
        return tensors.Item(f"0/{name}", dtype, tuple(value.shape or ()), value.tobytes())
    if dtype == "string":
        return tensors.Item(f"0/{name}", dtype, value.shape, tensors.pack_strings(str(each) for each in value.flat))
    from edgec_runtime import arrays

    return tensors.Item(f"0/{name}", dtype, value.shape, arrays.pack(value, dtype))


def _error(fields: Mapping[str, Any]) -> Error:
    error = Error(str(fields["what"]), str(fields["why"]), str(fields["fix"]), code=str(fields["code"]))
    error.exit_code = int(fields["exit_code"])
    return error


def _died(app: str, why: str) -> Error:
    return UnsupportedError(
        f"a run of {app!r} ended badly on the device", why, "edgec-rt selftest --app NAME", code="E954"
    )


if __name__ == "__main__":
    _child(*sys.argv[1:3])
