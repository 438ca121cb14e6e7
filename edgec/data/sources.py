"""What DATA on the command line may be: .npz, a folder of .npz, `file.py:function`, `package.module:function`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgec.data import npz
from edgec.data.dataset import Dataset, InputSpec
from edgec.data.evaluation import Evaluation
from edgec.errors import BadInputError, UsageError


def load_calibration(spec: str, inputs: Iterable[Any]) -> Dataset:
    """Open calibration data; nothing is read yet but headers.

    Args:
        spec: an .npz (first axis of each array = samples), a folder of .npz (one feed each, in the order of their
            names), or a function that takes no argument and gives feeds `{input name: array}`: it is called anew for
            every pass. A function is the user's own code and is run because the user asked for it.
        inputs: the model's inputs: `InputSpec`s or `onnx_ir.Value`s.

    Arrays of an .npz are matched with the inputs by name; others (labels) are ignored; a single unnamed array
    (`arr_0`) serves a model with a single input. An array of the input's rank is cut into samples that keep the
    first axis with length 1 (the model's first dimension must be 1 or symbolic); an array of one rank more is cut
    into samples without that axis.

    Raises:
        UsageError: the text is none of these.
        BadInputError: there is no such file or function, or it can't be read.
    """
    specs = tuple(InputSpec.of(i) for i in inputs)
    path = Path(spec)
    if path.is_dir():
        return _folder(path, specs)
    if path.suffix == ".npz":
        return _npz(path, specs)
    function = _function(spec, "--calib")
    return Dataset(lambda: _call(function, spec), specs, describe=spec)


def load_evaluation(spec: str) -> Evaluation:
    """The user's metric, `path/to/file.py:function` or `package.module:function`; see `Evaluation`.

    Raises:
        UsageError: the text is not a function.
        BadInputError: there is no such function, or importing it failed.
    """
    return Evaluation(_function(spec, "--eval"), spec)


def _npz(path: Path, specs: tuple[InputSpec, ...]) -> Dataset:
    found = npz.members(path)
    names = _match(path, list(found), specs)
    counts: dict[str, int] = {}
    for spec in specs:
        member = found[names[spec.name]]
        if not member.shape:
            raise BadInputError(f"array '{member.name}' of {path} has no first axis", "it is a scalar", code="E925")
        counts[member.name] = member.shape[0]
        if spec.shape is not None:
            _check_rank(path, spec, member.shape)
    if len(set(counts.values())) > 1:
        why = ", ".join(f"{name}: {n}" for name, n in counts.items())
        raise BadInputError(f"arrays of {path} have different numbers of samples", why, code="E925")
    keep = {s.name for s in specs if s.shape is None or len(s.shape) == len(found[names[s.name]].shape)}

    def feeds() -> Iterator[dict[str, np.ndarray]]:
        for row in npz.samples(path, list(names.values())):
            yield {i: row[n][None] if i in keep else row[n] for i, n in names.items()}

    return Dataset(feeds, specs, describe=str(path), count=min(counts.values(), default=0))


def _check_rank(path: Path, spec: InputSpec, shape: tuple[int, ...]) -> None:
    want = spec.shape
    assert want is not None
    if len(shape) == len(want) + 1 or (len(shape) == len(want) and (not isinstance(want[0], int) or want[0] == 1)):
        return
    if len(shape) == len(want):
        why = f"the model takes batches of {want[0]}; a sample must be a whole batch"
        fix = f"give an array of shape (samples, {', '.join(map(str, want))})"
    else:
        why, fix = f"it has {len(shape)} axes, the model wants {spec.wanted()}", "the first axis are the samples"
    raise BadInputError(f"array for input '{spec.name}' in {path} has the wrong shape", why, fix, code="E925")


def _folder(path: Path, specs: tuple[InputSpec, ...]) -> Dataset:
    files = sorted(p for p in path.iterdir() if p.suffix == ".npz")
    if not files:
        why, fix = "it has no .npz file", "write one .npz per sample with numpy.savez"
        raise BadInputError(f"folder {path} holds no sample", why, fix, code="E921")

    def feeds() -> Iterator[dict[str, np.ndarray]]:
        for file in files:
            names = _match(file, list(npz.members(file)), specs)
            loaded = npz.arrays(file, list(names.values()))
            yield {i: loaded[n] for i, n in names.items()}

    return Dataset(feeds, specs, describe=str(path), count=len(files))


def _match(path: Path, found: list[str], specs: tuple[InputSpec, ...]) -> dict[str, str]:
    """Input name -> array name."""
    if len(specs) == 1 and specs[0].name not in found and found == ["arr_0"]:
        return {specs[0].name: "arr_0"}
    for spec in specs:
        if spec.name not in found:
            raise BadInputError(
                f"{path} has no array for input '{spec.name}'",
                f"its arrays are {', '.join(found)}",
                "name the arrays after the model's inputs: numpy.savez(path, **{input: array})",
                code="E923",
            )
    return {spec.name: spec.name for spec in specs}


def _function(spec: str, flag: str) -> Callable[..., Any]:
    where, colon, name = spec.rpartition(":")
    if not colon or not where or not name.isidentifier():
        what = "a function" if flag == "--eval" else "an .npz, a folder or a function"
        raise UsageError(
            f"{flag} '{spec}' is not {what}",
            "" if colon else "there is no such folder, and no ':' that would name a function",
            "use path/to/file.py:function or package.module:function",
            code="E211",
        )
    module = _import_file(Path(where)) if where.endswith(".py") else _import_module(where)
    function = getattr(module, name, None)
    if not callable(function):
        functions = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
        raise BadInputError(
            f"{where} has no function '{name}'",
            f"it has {', '.join(functions) or 'none'}",
            "check the name",
            code="E931",
        )
    return function  # type: ignore[no-any-return]


def _import_file(path: Path) -> Any:
    if not path.is_file():
        raise BadInputError(f"{path} is not there", "no such file", "check the path", code="E931")
    spec = importlib.util.spec_from_file_location(f"edgec_user_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)  # as `python file.py` would: its neighbours can be imported
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except Exception as problem:
        raise _import_failed(str(path), problem) from problem
    finally:
        sys.path.remove(folder)
    return module


def _import_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as problem:
        raise _import_failed(name, problem) from problem


def _import_failed(what: str, problem: Exception) -> BadInputError:
    why = f"{type(problem).__name__}: {problem}"
    return BadInputError(f"importing {what} failed", why, "run it with python to see where", code="E931")


def _call(function: Callable[..., Any], spec: str) -> Iterable[Mapping[str, Any]]:
    feeds = function()
    if isinstance(feeds, Mapping) or not isinstance(feeds, Iterable):
        raise BadInputError(
            f"{spec} returned {type(feeds).__name__}", "it must give feeds, one after the other",
            "yield {input name: array}", code="E922",
        )  # fmt: skip
    return feeds
