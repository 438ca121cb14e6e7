"""Quantization side by side with peers: same calibration data, one scoring of every file.

    python -m benchmarks.quantization [--model CASE …] [--peer PEER …] [--fresh] [--rounds N] [--limit N]

Makes each peer's environment (build/peers), quantizes each model by each recipe in a process of that environment,
scores every file on the whole evaluation set, and times all files of a model in turn in one process, in CPU time on
one thread. Environments, files and scores are kept for what they depend on, so that a stopped run goes on where it was;
times are taken anew. Rows go to benchmarks/results/quantization.json, and from there to the table in
docs/quantization.md: a run of one model or peer replaces its rows alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import record, zoo
from benchmarks.quantization import bars, environments, files, results, table
from benchmarks.quantization.environments import PEERS as FOLDER
from benchmarks.quantization.environments import ROOT, Environment, UnavailableError
from benchmarks.quantization.peers import PEERS, recipes
from benchmarks.quantization.recipe import Case

ENGINES = ("onnxruntime", "openvino")
SCORING = ("figures.py", "engines.py")
"""What a kept score depends on, besides its file, data, engine and machine."""
LIMITS = {"minilm_sts": 200}
"""Pairs of sentences, of 600: those that eval.py's own limit takes, for time's sake."""


def identity(peer: str, recipe: str, engine: str) -> str:
    return f"{peer}: {recipe} @ {engine}"


def known(case: str) -> list[str]:
    """Every row that there can be, in the table's order."""
    found = [identity("float32", "as given", engine) for engine in ENGINES]
    return found + [
        identity(peer, r.name, e) for peer in PEERS for r in recipes(peer) if case in r.cases for e in r.engines
    ]


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


class Run:
    """One call of the benchmark: its options, and the environments as they are found."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.environments: dict[str, Environment] = {}
        self.notes: dict[str, Any] = {}
        for name in ("openvino", *given.peer):
            self.environment(name)

    def environment(self, name: str) -> None:
        """Makes it or keeps why not. Our own quantizer runs from the checkout; its environment shows the size."""
        again = self.given.fresh_environments
        try:
            made = environments.prepare_own(again=again) if name == "edgec" else environments.prepare(name, again=again)
            self.environments[name] = made
            self.notes[name] = {k: v for k, v in asdict(made).items() if k not in ("python", "name")}
            print(f"{name}: {made.megabytes} MB, {made.seconds} s to install", flush=True)
        except UnavailableError as error:
            self.notes[name] = {"failed": str(error)}
            print(f"{name}: {error}", flush=True)

    def case(self, name: str) -> dict[str, dict[str, Any]]:
        """All rows of a model asked for, scored and timed."""
        case = Case(zoo.folder(name))
        of_data = case.digest()
        rows: dict[str, dict[str, Any]] = {}
        jobs: list[dict[str, Any]] = []
        size = Path(case.model).stat().st_size
        for engine in ENGINES:
            key = identity("float32", "as given", engine)
            rows[key] = {"peer": "float32", "recipe": "as given", "engine": engine, "bytes": size}
            jobs.append({"id": key, "file": case.model, "engine": engine})
        for peer in self.given.peer:
            for recipe in recipes(peer):
                if name not in recipe.cases or recipe.name in self.given.without:
                    continue
                made = self.made(case, peer, recipe, of_data)
                for engine in recipe.engines:
                    key = identity(peer, recipe.name, engine)
                    rows[key] = {"peer": peer, "recipe": recipe.name, "engine": engine}
                    if made.error:
                        rows[key]["error"] = made.error
                        continue
                    rows[key] |= {"bytes": made.bytes, "cpu_s": made.cpu_s, "peak_mib": made.peak_mib}
                    file = files.exact(case, made.file) if engine == "exact" else made.file
                    jobs.append({"id": key, "file": file, "engine": engine})
        if not self.given.files_only:
            self.score(case, rows, jobs, of_data)
        return rows

    def made(self, case: Case, peer: str, recipe: Any, of_data: str) -> files.Made:
        if peer != "edgec" and peer not in self.environments:
            return files.Made("", error=self.notes[peer]["failed"])
        environment = None if peer == "edgec" else self.environments[peer]
        fresh = self.given.fresh or recipe.name in self.given.redo
        return files.made(case, peer, recipe, environment, of_data, fresh=fresh, said=lambda s: print(s, flush=True))

    def score(self, case: Case, rows: dict[str, Any], jobs: list[dict[str, Any]], of_data: str) -> None:
        scorer = self.environments.get("openvino")
        versions = scorer.packages if scorer else {}
        kept = FOLDER / "scores"
        kept.mkdir(parents=True, exist_ok=True)
        code = b"".join((Path(__file__).parent / name).read_bytes() for name in SCORING)
        reasons = self.notes["openvino"].get("failed", "")
        for job in list(jobs):
            if job["engine"] == "openvino" and scorer is None:
                rows[job["id"]]["error"] = reasons
                jobs.remove(job)
                continue
            engine = "openvino" if job["engine"] == "openvino" else "onnxruntime"
            rows[job["id"]]["versions"] = self.versions(rows[job["id"]]["peer"], engine, versions)
            content = [Path(job["file"]).read_bytes()]
            weights = Path(job["file"]).with_suffix(".bin")
            content += [weights.read_bytes()] if job["file"].endswith(".xml") else []
            facts = f"{engine} {versions.get(engine)} {of_data} {self.limit(case)} {results.machine()[0]}"
            job["kept"] = str(kept / f"{digest(*content, code, facts.encode())}.json")
        work = {
            "case": str(case.folder),
            "score": [j for j in jobs if self.given.fresh or not Path(j["kept"]).exists()],
            "time": [] if self.given.no_times else [j for j in jobs if j["engine"] != "exact"],
            "limit": self.limit(case),
            "rounds": self.given.rounds,
            "times": str(FOLDER / f"times-{case.name}.json"),
        }
        path = FOLDER / f"job-{case.name}.json"
        path.write_text(json.dumps(work))
        python = scorer.python if scorer else sys.executable
        environment = record.compiled_python() | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        subprocess.run(
            [python, "-m", "benchmarks.quantization.score", str(path)], check=True, cwd=ROOT, env=environment
        )
        times = json.loads(Path(work["times"]).read_text()) if work["time"] else {}
        base: Any = times.get(identity("float32", "as given", "onnxruntime"))
        for job in jobs:
            row = rows[job["id"]]
            row |= json.loads(Path(job["kept"]).read_text())
            if job["id"] in times:
                row["float_over_it"] = record.ratio(base, times[job["id"]])
                row["cpu_ms"] = round(1e3 * sorted(times[job["id"]])[len(times[job["id"]]) // 2], 4)

    def limit(self, case: Case) -> int | None:
        """Evaluation samples; None: all."""
        return self.given.limit or LIMITS.get(case.name)

    def versions(self, peer: str, engine: str, scored_with: dict[str, str]) -> dict[str, str]:
        """The tool's and the engine's; of our own also the digest of its sources."""
        found = {engine: scored_with.get(engine, "")}
        if peer == "edgec":
            return found | {"sources": files.sources()[:12]}
        packages = self.environments[peer].packages if peer in self.environments else {}
        return found | {d: v for d, v in packages.items() if d in table.DISTRIBUTIONS.get(peer, ())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--model", nargs="+", default=list(zoo.CASES), choices=zoo.CASES)
    parser.add_argument("--peer", nargs="+", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--limit", type=int, help="evaluation samples; the rows are then not written")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--fresh", action="store_true", help="quantize and score again what is kept")
    parser.add_argument("--redo", nargs="+", default=[], metavar="RECIPE", help="quantize again by these recipes")
    parser.add_argument(
        "--without", nargs="+", default=[], metavar="RECIPE", help="leave these recipes' rows as they are"
    )
    parser.add_argument("--fresh-environments", action="store_true", help="install the peers again")
    parser.add_argument("--files-only", action="store_true", help="quantize what is missing; no scores, no rows")
    parser.add_argument("--no-times", action="store_true", help="leave the times out; the rows are then not written")
    parser.add_argument("--table", action="store_true", help="only write the table in the docs from the results")
    given = parser.parse_args()
    if not given.table:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        run = Run(given)
        for case in given.model:
            rows = run.case(case)
            if given.limit is None and not given.no_times and not given.files_only:
                results.merge(case, rows, run.notes, known(case))
                table.write(results.read())
        if given.files_only:
            return
    found = results.read()
    table.write(found)
    print(bars.printed(found))
    for case, rows in found["rows"].items():
        for line in table.behind(rows):
            print(f"{case}: a peer is better: {line}")


if __name__ == "__main__":
    main()
