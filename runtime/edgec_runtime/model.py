"""A loaded model: `load` finds the payload that this machine can use, `Model.run` runs it."""

from __future__ import annotations

import os

from edgec_runtime import machine as machine_
from edgec_runtime import select
from edgec_runtime.engines.base import Executable, RefusedError
from edgec_runtime.errors import BadInputError, GoldenError, UnsupportedError, UsageError
from edgec_runtime.signature import Signature, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from edgec_runtime.engines.base import Engine
    from edgec_runtime.others import Others
    from edgec_runtime.payload import Payload
    from edgec_runtime.stream import Stream
    from edgec_runtime.trust.store import Trust

    Arrays = dict[str, Any]  # name -> array: numpy's, or memoryviews where the engine goes without


def load(
    path: str | os.PathLike[str] | None = None,
    *,
    app: str | None = None,
    engine: str | None = None,
    payload: str | None = None,
    threads: int | None = None,
    follow: bool = False,
    trust: Trust = None,
    allow_unsigned: bool = False,
) -> Model:
    """Load a model from a bundle, or an app that is installed on this device.

    Args:
        path: a `.edge` file: verified, then loaded.
        app: the name of an installed app instead: its active slot, which was verified when it was installed.
        engine: take only payloads of this engine.
        payload: take only the payload with this id.
        threads: threads for the engine, over the payload's own option.
        follow: take up the app's updates, and rollbacks, between calls (`slots.follow`). With `app` only.
        trust: keys to trust instead of this device's (`trust.store.load_trusted`); with `path` only.
        allow_unsigned: load a bundle that nobody trusted has signed; its native code is never loaded. With `path` only.

    Raises:
        UsageError: arguments that make no sense together.
        BadInputError: no such file, not a bundle, or of an unknown format.
        TrustError: unsigned, by a stranger, damaged or tampered with.
        MissingError: no such app, or no engine.
        UnsupportedError: no payload that this machine can use; each is listed with the reason.
    """
    if (path is None) == (app is None):
        raise UsageError("give a bundle's path or app=, one of them", "both were given, or neither", code="E205")
    if follow and app is None:
        raise UsageError(
            "follow=True is for an installed app",
            "a bundle's file is loaded as it is; what is followed are an app's updates on this device",
            "install it (edgec-rt install FILE), then give app=NAME",
            code="E206",
        )
    if threads is not None and (type(threads) is not int or threads < 1):
        raise UsageError(f"threads={threads!r} makes no sense", "", "give a number from 1 on", code="E205")
    if app is not None:
        if trust is not None or allow_unsigned:
            raise UsageError(
                "trust= and allow_unsigned= are for a bundle's path",
                "an installed app was verified when it was installed",
                "leave them away",
                code="E205",
            )
        if follow:
            from edgec_runtime.slots.follow import Followed

            return Followed(app, engine=engine, payload=payload, threads=threads)
        from edgec_runtime.slots.active import active

        slot = active(app)
        return choose(
            slot.manifest, slot.payload, slot.info, trusted=True, engine=engine, payload=payload, threads=threads,
            check=slot.check, again=lambda name: load(app=app, payload=name, threads=threads),
        )  # fmt: skip
    from edgec_runtime.bundle import reader
    from edgec_runtime.payload import of_bundle

    with reader.open(path, trust=trust, allow_unsigned=allow_unsigned) as bundle:  # type: ignore[arg-type]
        info = {
            "path": bundle.path,
            "identity": bundle.identity,
            "signers": list(bundle.signers),
            "trusted": bundle.trusted,
        }
        return choose(
            bundle.manifest,
            lambda entry: of_bundle(entry, bundle),
            info,
            trusted=bundle.trusted,
            engine=engine,
            payload=payload,
            threads=threads,
            again=lambda name: load(path, payload=name, threads=threads, trust=trust, allow_unsigned=allow_unsigned),
        )


def choose(
    manifest: Mapping[str, Any],
    files: Callable[[Mapping[str, Any]], Payload],
    info: Mapping[str, Any],
    *,
    trusted: bool,
    engine: str | None = None,
    payload: str | None = None,
    threads: int | None = None,
    machine: machine_.Machine | None = None,
    check: Callable[[Mapping[str, Any], Model, Engine], None] | None = None,
    again: Callable[[str], Model] | None = None,
) -> Model:
    """The model of the first payload that this machine can use and whose engine takes it.

    `files` gives the payload's files; `info` is what `Model.info` adds to; `check` may raise GoldenError for a model
    that is not to be given out; `again` loads a payload by its id, for sizes that the one taken lacks. Errors as `load`
    raises them. A member that is not as signed is an error, not a reason to take the next payload.
    """
    here = machine or machine_.this()
    left, refused = select.wanted(manifest["payloads"], engine=engine, payload=payload)
    for entry in left:
        refused[entry["id"]] = select.obstacle(entry, here, trusted=trusted) or ""
    for entry in select.order(left, here):
        if refused[entry["id"]]:
            continue
        adapter = select.engine_for(entry)
        if isinstance(adapter, str):
            refused[entry["id"]] = adapter
            continue
        options = dict(entry["options"])
        if threads is not None:
            options["threads"] = threads
        source = files(entry)
        try:
            executable = adapter.load(source, options)
            _agree(manifest, executable)
        except RefusedError as error:
            from edgec_runtime import preflight

            words = f"{error.what}: {error.why}" if error.why else error.what
            refused[entry["id"]] = preflight.explained(words, adapter, here)
            continue
        except MemoryError:
            refused[entry["id"]] = "memory ran out while it was loaded"
            continue
        finally:
            source.close()
        chosen = {
            **info,
            "app": manifest["app"],
            "payload": entry["id"],
            "engine": entry["engine"],
            "engine_version": adapter.version(),
            "precision": entry["precision"],
            "options": options,
            "refused": [{"payload": name, "why": why} for name, why in refused.items() if why],
        }
        model = Model(executable, manifest, chosen, numpy=adapter.uses_numpy)
        if options.get("batch") == "one" and again is not None:
            from edgec_runtime.others import Others

            rest = [e["id"] for e in select.order(left, here) if not refused.get(e["id"])]
            names = rest[rest.index(entry["id"]) + 1 :]
            model.others = Others(executable, entry["id"], names, again, info.get("identity"))
        if check is not None:
            try:
                check(entry, model, adapter)
            except GoldenError as error:
                model.close()
                refused[entry["id"]] = f"{error.what}: {error.why}"
                continue
        return model
    raise select.none_usable(left, refused, here)


def _agree(manifest: Mapping[str, Any], executable: Executable) -> None:
    """The engine's inputs and outputs are the manifest's: the same names and dtypes. RefusedError where not."""
    for what, said, found in (
        ("inputs", manifest["inputs"], executable.inputs),
        ("outputs", manifest["outputs"], executable.outputs),
    ):
        want = {tensor["name"]: tensor["dtype"] for tensor in said}
        have = {tensor.name: tensor.dtype for tensor in found}
        if want != have if what == "inputs" else not want.items() <= have.items():
            raise RefusedError(f"the model's {what} are {have}", f"the manifest says {want}")


class Model:
    """A model that is loaded. Runs from several threads at once; close it, or use it in a `with` block.

    Attributes:
        info: which payload was taken and why not the others, versions, options, who signed the bundle.
        inputs, outputs: as in the manifest: name, dtype, shape (a size is a number or a name), layout.
        others: for sizes that this payload's file does not take; None where it takes all.
    """

    def __init__(
        self, executable: Executable, manifest: Mapping[str, Any], info: dict[str, Any], *, numpy: bool | None
    ) -> None:
        self.info = info
        self.inputs: Sequence[Mapping[str, Any]] = manifest["inputs"]
        self.outputs: Sequence[Mapping[str, Any]] = manifest["outputs"]
        self._executable = executable
        self._call = executable.run
        self._failures = executable.failures
        self._names = [tensor["name"] for tensor in self.outputs]
        self._signature = Signature(self.inputs, numpy=numpy)
        self._count = len(self.inputs)
        self._steps = [step["op"] for key in ("preprocessing", "postprocessing") for step in manifest[key]]
        self._make_quick: Any = getattr(executable, "quick", None)
        self._quick: Any = None  # runs on feeds like the last ones, where the engine has such a way
        self._quick_into: Any = None  # the same with the last `out`
        self._into: Any = None  # the buffers of the last run(out=…), made when first needed
        self.others: Others | None = None

    def run(self, feeds: Mapping[str, Any], *, out: Mapping[str, Any] | None = None) -> Arrays:
        """Run the model.

        Args:
            feeds: {input name: array}, each of its dtype and shape; a size that the manifest names is free, and the
                same in all inputs ("?" is any size). Arrays are numpy's, or anything with the buffer protocol.
            out: {output name: array} to write outputs into: of their dtype and shape, writable, C-contiguous. Reuse
                the same arrays from call to call: they are bound once. Outputs that are not in it are new arrays.

        Returns:
            {output name: array}, in the manifest's order.

        Raises:
            BadInputError: a missing or unknown name, a wrong dtype or shape (E910, E911); the engine fails on these
                values (E912); `out` does not fit (E913).
            UsageError: the model is closed.
        """
        quick = self._quick_into if out else self._quick
        if quick is not None and type(feeds) is dict:
            try:
                answers: Arrays | None = quick(feeds, out)
            except self._failures as error:
                raise self._failed(error) from error
            if answers is not None:
                return answers
        fast = self._signature.fast
        if fast is not None and type(feeds) is dict and len(feeds) == self._count:
            for name, kind, dtype, shape in fast:
                array: Any = feeds.get(name)
                if (
                    array.__class__ is not kind
                    or array.dtype != dtype
                    or array.shape != shape
                    or not array.flags.c_contiguous
                ):
                    feeds = self._signature.check(feeds)
                    break
        else:
            feeds = self._signature.check(feeds)
        if self.others is not None and self.others.wanted(feeds):
            return self.others.run(feeds, out)
        if out:
            return self._run_into(feeds, out)
        try:
            answers = dict(zip(self._names, self._call(self._names, feeds)))
        except self._failures as error:
            raise self._failed(error) from error
        if self._make_quick is not None:
            self._quick = self._make_quick(self._names, feeds)
        return answers

    def stream(self, state: Mapping[str, str] | None = None, *, initial: Mapping[str, Any] | None = None) -> Stream:
        """Runs that keep the model's state from one to the next, from zeros on.

            with model.stream({"hn": "h", "cn": "c"}) as speech:
                for chunk in microphone:
                    probability = speech.run({"input": chunk})["speech_probs"]

        Args:
            state: {output name: input name}: which output is the input of the next run.
            initial: {input name: array} to start from instead of zeros.

        Raises UsageError (E205) where these are no outputs and inputs that fit each other.
        """
        from edgec_runtime.stream import Stream

        return Stream(self, state, initial)

    def __call__(self, given: Any) -> Any:
        """Run the bundle's own pre-processing, the model, and its post-processing.

        A bundle without such steps takes a dict of feeds, as `run` does, or one array where it has one input; it
        gives the outputs' dict. Raises UnsupportedError where the bundle has steps: this runtime knows none yet.
        """
        if self._steps:
            raise UnsupportedError(
                f"the bundle's step {self._steps[0]!r} is not known",
                "this edgec-runtime has no pre- or post-processing steps yet",
                "prepare the inputs yourself and use run(), or update edgec-runtime",
                code="E403",
            )
        from _collections_abc import Mapping  # what os has loaded already; collections would be loaded anew

        if isinstance(given, Mapping) or self._count != 1:
            return self.run(given)
        return self.run({self.inputs[0]["name"]: given})

    def close(self) -> None:
        """Free the model. Runs that are under way end first; later ones raise UsageError."""
        self._executable.close()
        self._call = self._executable.run
        self._quick = self._quick_into = None
        self._into = None
        if self.others is not None:
            self.others.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        inputs = ", ".join(f"{t['name']}: {text(t['dtype'], t['shape'])}" for t in self.inputs)
        return f"<Model {self.info['app']['name']} {self.info['payload']} ({inputs})>"

    def _run_into(self, feeds: Mapping[str, Any], out: Mapping[str, Any]) -> Arrays:
        from edgec_runtime.outputs import Buffers

        buffers = self._into
        if buffers is None or not buffers.holds(out):
            buffers = Buffers(self._executable, self.outputs, out)
            self._into = buffers
        try:
            result: Arrays = buffers.run(self._call, feeds)
        except self._failures as error:
            raise self._failed(error) from error
        if self._make_quick is not None:
            self._quick_into = self._make_quick(self._names, feeds, out)
        return result

    def _failed(self, error: Exception) -> Exception:
        from edgec_runtime.errors import Error

        if isinstance(error, Error):
            return error
        if isinstance(error, MemoryError) or "bad_alloc" in str(error):
            return UnsupportedError(
                "memory ran out in this run",
                f"{self.info['payload']}: {str(error)[:400] or type(error).__name__}",
                "free memory, feed less at once, or take a smaller payload",
                code="E405",
            )
        return BadInputError(
            f"{self.info['engine']} failed on these inputs",
            str(error)[:400],
            "check the values: shapes inside the model may depend on them",
            code="E912",
        )
