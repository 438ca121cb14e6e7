"""Make and read an engine's operator table.

`support.json`:

    engine, version, onnx, machine   what was probed, and where (no time: the same versions give the same bytes)
    totals                           counts of operators, of type rows asked and of their verdicts
    sets                             interned sets of types: "tensor(float)" is written "float"
    words                            interned error messages of the engine
    operators: {"Add": {"14": {"vars": {"T": "i0 i1 o0"}, "loads": [[3]], "refused": [[5]], "cases": [8, 8, null]}}}

`vars` says where each type variable can be read off a node (`Operator.places`). `loads` and `refused` are boxes: for
each type variable the number of a set (no variables: `[[]]`). `unclear` (a count and a word) counts rows that could be
put into no model the engine would take, for a reason other than type or operator: the table makes no statement about
them. `cases` = [ran, asked, word or null] of the onnx package's single-node cases, run on their inputs.
"""

from __future__ import annotations

import json
import platform
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from edgec_targets.probe import boxes, operators, variants
from edgec_targets.probe.isolate import Answer, Prober

Table = dict[str, Any]
_VERDICTS = ("loads", "refused", "unclear", "crash", "hang")


def short(type_word: str) -> str:
    """ "tensor(float)" -> "float"; other kinds keep their word."""
    word = type_word.replace(" ", "")
    return word[7:-1] if word.startswith("tensor(") else word


def probe(engine: str, *, only: Collection[str] = (), progress: Callable[[str], None] = lambda text: None) -> Table:
    """Ask the engine about every operator, opset version and type row (`only`: just these operators)."""
    found = operators.standard()
    if engine == "onnxruntime":
        found += operators.of_onnxruntime()
    found = [op for op in found if not only or op.name in only]
    samples, cases = variants.samples()
    versions: dict[str, list[operators.Operator]] = defaultdict(list)
    for op in found:
        versions[op.key].append(op)
    answers: dict[operators.Operator, dict[tuple[str, ...], Answer]] = {}
    with Prober(engine) as prober:
        for number, op in enumerate(found):
            nodes = samples.get((op.domain, op.name), [])
            answers[op] = {row: _best(prober, op, row, nodes) for row in variants.rows(op)}
            if number % 50 == 0:
                progress(f"{number}/{len(found)} {op.key}-{op.since}")
        progress(f"{len(cases)} cases")
        tallies = _run_cases(prober, cases, versions, answers)
    totals: dict[str, int] = {"operators": len(found), **dict.fromkeys(_VERDICTS, 0)}
    entries: dict[str, dict[str, Any]] = defaultdict(dict)
    for op in found:
        for answer in answers[op].values():
            totals[answer.verdict] += 1
        entries[op.key][str(op.since)] = _entry(op, answers[op], tallies.get(op))
    return {
        "engine": engine,
        "version": version(engine),
        "onnx": version("onnx"),
        "machine": platform.machine(),
        "totals": totals,
        "operators": dict(sorted(entries.items())),
    }


def _best(
    prober: Prober, op: operators.Operator, row: tuple[str, ...], samples: Sequence[variants.Attributes]
) -> Answer:
    """The best answer to any way of writing the row: loads before refused before the rest."""
    best = Answer("unclear", "no model could be made: an attribute is a graph")
    for blob in variants.models(op, row, samples):
        answer = prober.ask(blob)
        if answer.verdict == "loads":
            return answer
        if best.verdict != "refused":
            best = answer
    return best


def _entry(
    op: operators.Operator, answers: Mapping[tuple[str, ...], Answer], tally: list[Any] | None
) -> dict[str, Any]:
    entry: dict[str, Any] = {"vars": op.places}
    for verdict in ("loads", "refused"):
        rows = [[short(word) for word in row] for row, a in answers.items() if a.verdict == verdict]
        entry[verdict] = boxes.cover(rows)
    rest = [a for a in answers.values() if a.verdict not in ("loads", "refused")]
    if rest:
        entry["unclear"] = [len(rest), rest[0].words]
    if tally:
        entry["cases"] = tally
    return entry


def _run_cases(
    prober: Prober,
    cases: list[Any],
    versions: Mapping[str, list[operators.Operator]],
    answers: dict[operators.Operator, dict[tuple[str, ...], Answer]],
) -> dict[operators.Operator, list[Any]]:
    """Run the onnx package's cases; returns [ran, asked, first words of a failure] an operator.

    One that runs with types that were refused shows that the refusal was not about types (an operator expanded by a
    function that needs shapes): all refusals of that operator become unclear.
    """
    tallies: dict[operators.Operator, list[Any]] = {}
    for model in cases:
        node = model.graph.node[0]
        key = node.op_type if not node.domain else f"{node.domain}::{node.op_type}"
        opset = next(o.version for o in model.opset_import if o.domain in (node.domain, node.domain or "ai.onnx"))
        op = max((o for o in versions.get(key, ()) if o.since <= opset), key=lambda o: o.since, default=None)
        if op is None:
            continue
        answer = prober.ask(model.SerializeToString(), run=True)
        tally = tallies.setdefault(op, [0, 0, None])
        tally[0] += answer.verdict == "loads"
        tally[1] += 1
        if answer.verdict != "loads":
            tally[2] = tally[2] or answer.words
            continue
        refused = [row for row, a in answers[op].items() if a.verdict == "refused"]
        ran = variants.types_of(model)
        seen = [operators.bind(where, *ran) for where in op.places.values()]
        if any(all(s in (None, r) for s, r in zip(seen, row, strict=True)) for row in refused) and None not in seen:
            for row in refused:
                answers[op][row] = Answer("unclear", "refused without shapes, yet the onnx package's case runs")
    return tallies


def encode(table: Table) -> str:
    """The table as JSON with sets and words interned, one operator a line: small, and readable in a diff."""
    sets: dict[str, int] = {}
    words: dict[str, int] = {}

    def intern(store: dict[str, int], text: str) -> int:
        return store.setdefault(text, len(store))

    operators_out: dict[str, dict[str, Any]] = {}
    for name, found_at in table["operators"].items():
        operators_out[name] = out = {}
        for since, entry in found_at.items():
            new = dict(entry)
            for verdict in ("loads", "refused"):
                new[verdict] = [[intern(sets, " ".join(sorted(s))) for s in box] for box in entry[verdict]]
            if "unclear" in new:
                new["unclear"] = [entry["unclear"][0], intern(words, entry["unclear"][1])]
            if "cases" in new and new["cases"][2] is not None:
                new["cases"] = [*entry["cases"][:2], intern(words, entry["cases"][2])]
            out[since] = {key: value for key, value in new.items() if value != [] or key == "vars"}
    head = {key: value for key, value in table.items() if key != "operators"}
    lines = [f"{json.dumps(name)}: {json.dumps(found_at)}" for name, found_at in operators_out.items()]
    top = json.dumps({**head, "sets": list(sets), "words": list(words)}, indent=1)
    return top[:-2] + ',\n "operators": {\n  ' + ",\n  ".join(lines) + "\n }\n}\n"


def decode(text: str) -> Table:
    """The inverse of `encode`, with boxes as tuples of frozensets."""
    table: Table = json.loads(text)
    sets = [frozenset(s.split(" ")) for s in table.pop("sets")]
    words = table.pop("words")
    for found_at in table["operators"].values():
        for entry in found_at.values():
            for verdict in ("loads", "refused"):
                entry[verdict] = [tuple(sets[n] for n in box) for box in entry.get(verdict, [])]
            if "unclear" in entry:
                entry["unclear"][1] = words[entry["unclear"][1]]
            if "cases" in entry and entry["cases"][2] is not None:
                entry["cases"][2] = words[entry["cases"][2]]
    return table
