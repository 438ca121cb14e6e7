"""`edgec inspect`: what is in a bundle or an ONNX file, on one screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgec.cli.common import Output, allow_unsigned_option, options, shape_option, size

MOST_WHY = 40  # lines of --why on a terminal; --json has all


@click.command("inspect")
@click.argument("file")
@click.option("--ops", is_flag=True, help="Operators, before and after the passes.")
@click.option("--why", is_flag=True, help="Which rules fired, which almost did and why not.")
@shape_option
@allow_unsigned_option
@options
def command(
    out: Output, file: str, ops: bool, why: bool, shape: dict[str, list[int | str]], allow_unsigned: bool
) -> None:
    """Show what is in FILE, a bundle or an ONNX file; for ONNX, what the passes would do to it."""
    from edgec.errors import UsageError

    manifest: dict[str, Any] | None = None
    with Path(file).open("rb") if Path(file).is_file() else _missing(file) as stream:
        is_bundle = stream.read(4) == b"PK\3\4"
    if is_bundle:
        if shape:
            raise UsageError("--shape goes with an ONNX file", "A bundle's shapes are fixed when it is compiled.")
        report, manifest = _bundle(out, file, allow_unsigned)
    else:
        report = _onnx(out, file, shape)
    if ops:
        before, after = report["operators"]["before"], report["operators"]["after"]
        rows = [[op, before.get(op, 0) or "–", after.get(op, 0) or "–"] for op in sorted(before.keys() | after.keys())]
        out.table("Operators", ["operator", "as imported", "after the passes"], rows)
    if why:
        _why(out, report["passes"])
    out.result({"manifest": manifest, "report": report})
    out.next(f"edgec run {file} --input INPUT.npz" if is_bundle else f"edgec compile {file} -t host")


def _missing(file: str) -> Any:
    from edgec.errors import BadInputError

    raise BadInputError(f"{file} is not there", "no such file", "Give the path of a .edge or .onnx file.", code="E902")


def _bundle(out: Output, file: str, allow_unsigned: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    import json

    import edgec_runtime.bundle as reader

    with reader.open(file, allow_unsigned=allow_unsigned) as bundle:
        m = bundle.manifest
        report = json.loads(bytes(bundle.member(m["report"])))
        sizes = {x["name"]: x["size"] for x in m["members"]}
        signed = ", ".join(s[:16] for s in bundle.signers) or "nobody that is trusted here"
        out.line(
            f"{m['app']['name']} {m['app']['version']} (sequence {m['app']['sequence']}), "
            f"{size(Path(file).stat().st_size)}"
        )
        out.line(f"identity {bundle.identity}")
        out.line(f"signed by {signed}")
        if "floor" in m["app"]:
            out.line(f"security floor {m['app']['floor']}: once confirmed, nothing with a lower sequence is installed")
        if "expires" in m["app"]:
            out.line(f"to be installed until {m['app']['expires']}")
        for point, names in m.get("hooks", {}).items():
            out.line(f"the device's own hooks at {point}: {', '.join(names)}")
        _ports(out, m["inputs"], m["outputs"])
        rows = []
        for p in m["payloads"]:
            a = p["accuracy"]
            held = f"{a['metric']} {a['value']:.4g}, float {a['float_value']:.4g}" if a else "not measured"
            rows.append(
                [
                    p["board"],
                    p["engine"],
                    p["precision"],
                    size(sum(sizes[name] for name in p["files"].values())),
                    size(p["memory"]) if p["memory"] else "–",
                    held,
                ]
            )
        out.table("Payloads, best first", ["board", "engine", "precision", "size", "memory*", "accuracy"], rows)
        out.line("* estimate: weights and live activations, without the engine itself")
        out.line(f"compiled for: {', '.join(m['compiled_for'])}")
        out.line("checked by:   " + "; ".join(f"{c['tool']} {c['version']}: {c['what']}" for c in m["checked_by"]))
        out.line(
            "run on:       "
            + (
                "; ".join(f"{r['cpu'] or r['machine']} with {r['engine']} {r['version']}" for r in m["run_on"])
                or "nothing"
            )
        )
        out.line(f"golden:       {m['golden']['samples']} {m['golden']['kind']} samples")
        for decision in report["decisions"]:
            out.line(f"{decision['board']}: {decision['precision']}, since {decision['why']}")
        said = {tuple(words): name for name, words in reversed(report.get("notes", {}).items())}
        for words, name in reversed(said.items()):  # boards often share a file
            out.line(f"{name}: {'; '.join(words)}")
        return report, m


def _onnx(out: Output, file: str, shape: dict[str, list[int | str]]) -> dict[str, Any]:
    from edgec import facts, frontends, passes

    with out.progress("reading and trying the passes"):
        imported = frontends.load(file, shapes=shape or None)
        before = passes.counts(imported.model)
        ports = facts.ports(imported.model)
        applied = passes.run(imported.model)
    out.line(
        f"{file}: ONNX opset {imported.opset}, IR {imported.ir_version}, {size(imported.size)}, "
        f"SHA-256 {imported.sha256[:16]}…"
    )
    for note in imported.notes:
        out.line(f"note: {note}")
    _ports(out, *ports)
    after = passes.counts(imported.model)
    out.line(f"nodes: {sum(before.values())} as imported, {sum(after.values())} after the passes")
    return {"operators": {"before": before, "after": after}, "passes": facts.passes(applied)}


def _ports(out: Output, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
    rows = [
        [kind, p["name"], p["dtype"], "×".join(map(str, p["shape"])) or "scalar"]
        for kind, ports in (("in", inputs), ("out", outputs))
        for p in ports
    ]
    out.table("", ["", "name", "dtype", "shape"], rows)


def _why(out: Output, passes: list[dict[str, Any]]) -> None:
    fired = [[p["name"], f["rule"], f["count"], ", ".join(f["nodes"][:3])] for p in passes for f in p["fired"]]
    out.table("Rules that fired", ["pass", "rule", "times", "nodes"], fired)
    refused = [[r["rule"], r["node"], r["why"]] for p in passes for r in p["refused"]]
    out.table("Rules that almost fired", ["rule", "node", "why not"], refused[:MOST_WHY])
    if len(refused) > MOST_WHY:
        out.line(f"… and {len(refused) - MOST_WHY} more (--json has all)")
