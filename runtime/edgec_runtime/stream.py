"""A model with state, fed piece by piece: what a run gives of its state is what the next run takes.

Recurrent models as exporters write them have their state among inputs and outputs (an LSTM's `h` and `hn`). A `Stream`
keeps it between runs, so that the caller feeds chunks and nothing else. One model serves any number of streams.
"""

from __future__ import annotations

import _thread

from edgec_runtime import dtypes
from edgec_runtime.errors import UsageError
from edgec_runtime.signature import NAMELESS, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from edgec_runtime.model import Arrays, Model

    Described = Mapping[str, Any]  # a tensor as the manifest describes it


class Stream:
    """Runs of a model that belong together. `Model.stream` makes it; runs from several threads take turns.

    The state's arrays are the answers of the last run as the engine gave them: nothing is copied from output to input
    but what every run copies. A run that fails leaves the state as it was.

    Raises UsageError (E205) for pairs that are no outputs and inputs of the model, or don't fit each other.
    """

    def __init__(self, model: Model, state: Mapping[str, str] | None, initial: Mapping[str, Any] | None) -> None:
        inputs = {tensor["name"]: tensor for tensor in model.inputs}
        outputs = {tensor["name"]: tensor for tensor in model.outputs}
        if not state:
            raise _without(model.inputs, model.outputs)
        for made, taken in state.items():
            _fits(outputs.get(made), inputs.get(taken), made, taken)
        if len(set(state.values())) < len(state):
            raise _wrong("two outputs are for the same input", "each part of the state has an input of its own")
        self._model = model
        self._pairs = list(state.items())
        self._taken = {name: inputs[name] for name in state.values()}
        self._others = [tensor for name, tensor in inputs.items() if name not in self._taken]
        self._lock = _thread.allocate_lock()
        self._state: dict[str, Any] = {}
        self.reset(initial)

    def run(self, feeds: Mapping[str, Any]) -> Arrays:
        """Run on the next piece.

        Args:
            feeds: {input name: array} of the inputs that are no state, as `Model.run` takes them.

        Returns:
            {output name: array} of the outputs that are no state.

        Raises what `Model.run` raises; UsageError where `feeds` names a part of the state.
        """
        with self._lock:
            state = self._state
            if len(state) < len(self._taken):
                state = {**self._zeros(feeds), **state}
            given = {**feeds, **state}
            if len(given) != len(feeds) + len(state):
                name = next(name for name in self._taken if name in feeds)
                raise _wrong(f"the input {name!r} is the stream's state", "give it to reset() where it is to change")
            answers = self._model.run(given)
            self._state = {taken: answers.pop(made) for made, taken in self._pairs}
            return answers

    def reset(self, initial: Mapping[str, Any] | None = None) -> None:
        """Start anew: zeros, or for the inputs that `initial` names, these arrays."""
        given = dict(initial or {})
        unknown = [name for name in given if name not in self._taken]
        if unknown:
            raise _wrong(
                f"{unknown[0]!r} is no input of the state", f"the state is {', '.join(map(repr, self._taken))}"
            )
        with self._lock:
            self._renew()
            self._state = given

    def _renew(self) -> None:
        """Before the state is set anew: a stream that follows its app takes the newest version here."""

    @property
    def state(self) -> dict[str, Any]:
        """{input name: array} that the next run takes; without what is still to become zeros. For `reset`, later."""
        with self._lock:
            return dict(self._state)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.reset()

    def __repr__(self) -> str:
        pairs = ", ".join(f"{made} → {taken}" for made, taken in self._pairs)
        return f"<Stream of {self._model.info['app']['name']} ({pairs})>"

    def _zeros(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Zeros for each part of the state, of the sizes that the feeds show where they are free, else of 1."""
        sizes: dict[str, int] = {}
        for tensor in self._others:
            shape = getattr(feeds.get(tensor["name"]), "shape", ())
            sizes.update((name, size) for name, size in zip(tensor["shape"], shape) if isinstance(name, str))
        for nameless in NAMELESS:
            sizes.pop(nameless, None)
        return {
            name: _zero(tensor["dtype"], tuple(sizes.get(size, 1) if isinstance(size, str) else size for size in shape))
            for name, tensor in self._taken.items()
            for shape in (tensor["shape"],)
        }


def _zero(dtype: str, shape: tuple[int, ...]) -> Any:
    """Zeros without numpy where a memoryview knows the type."""
    from edgec_runtime.engines.memory import FORMATS

    if dtype in FORMATS and 0 not in shape:
        kind: Any = FORMATS[dtype]
        return memoryview(bytearray(dtypes.nbytes(dtype, dtypes.count(shape)))).cast(kind, shape)
    import numpy

    from edgec_runtime import arrays

    return numpy.zeros(shape, arrays.numpy_type(dtype))


def _fits(made: Described | None, taken: Described | None, output: str, input_: str) -> None:
    if made is None:
        raise _wrong(f"the model has no output {output!r}", "state= is {output name: input name}")
    if taken is None:
        raise _wrong(f"the model has no input {input_!r}", "state= is {output name: input name}")
    if not _alike(made, taken):
        raise _wrong(
            f"the output {output!r} is no state for the input {input_!r}",
            f"it is {text(made['dtype'], made['shape'])}, the input {text(taken['dtype'], taken['shape'])}",
        )


def _alike(made: Described, taken: Described) -> bool:
    return (
        made["dtype"] == taken["dtype"] != "string"
        and len(made["shape"]) == len(taken["shape"])
        and all(a == b or isinstance(a, str) or isinstance(b, str) for a, b in zip(made["shape"], taken["shape"]))
    )


def _without(inputs: Sequence[Described], outputs: Sequence[Described]) -> UsageError:
    """Which outputs could be the state of which inputs, for one who did not say."""
    could = [f"{made['name']!r}: {taken['name']!r}" for made in outputs for taken in inputs if _alike(made, taken)]
    return _wrong(
        "the model's state is not named",
        f"these fit each other: {', '.join(could[:8])}" if could else "no output has the type and shape of an input",
    )


def _wrong(what: str, why: str) -> UsageError:
    return UsageError(what, why, 'name the state: model.stream({"output": "input"})', code="E205")
