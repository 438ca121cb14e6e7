"""`python -m edgec_targets.probe ENGINE [-o FILE] [--only OP,OP]`: probe an engine and write its operator table."""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    """Probe an engine; with `worker ENGINE`, be the child process; with `releases DIR`, see `releases.py`."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["worker"]:
        from edgec_targets.probe.isolate import serve

        serve(import_module(f"edgec_targets.emitters.{arguments[1]}.ask").ask)
        return 0
    if arguments[:1] == ["releases"]:
        from edgec_targets.probe.releases import main as releases

        return releases(arguments[1:])
    parser = argparse.ArgumentParser(prog="python -m edgec_targets.probe", description=__doc__)
    parser.add_argument("engine", help="the emitter's name: onnxruntime")
    parser.add_argument("-o", "--output", type=Path, help="default: the engine's support.json in this package")
    parser.add_argument("--only", default="", help="comma-separated operator names, to look at a few")
    options = parser.parse_args(arguments)

    from edgec_targets.probe.table import encode, probe

    only = frozenset(filter(None, options.only.split(",")))
    table = probe(options.engine, only=only, progress=lambda text: print(text, file=sys.stderr, flush=True))
    text = encode(table)
    if only and options.output is None:
        print(text)
        return 0
    output = options.output or Path(__file__).parents[1] / "emitters" / options.engine / "support.json"
    output.write_text(text, encoding="utf-8")
    print(json.dumps({"written": str(output), **table["totals"]}), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
