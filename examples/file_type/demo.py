"""Name the type of files by their content: compile a real model for a Raspberry Pi 5 and this machine, then run it.

`make demo` runs this. The model is Magika's (in the registry's package, `make models`); any file is input.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

import edgec_runtime as rt

sys.path.insert(0, str(Path(__file__).parent))
from features import MODEL, ROOT, features, files, labels

BUNDLE = ROOT / "build" / "file-type.edge"


def compiled() -> Path:
    """The bundle, by the same command that the README shows."""
    from edgec.cli import main

    os.chdir(ROOT)  # so that paths read as in the README
    data = Path(__file__).with_name("features.py").relative_to(ROOT)
    arguments = [
        "compile", str(MODEL.relative_to(ROOT)), "-t", "rpi5,host", "-o", str(BUNDLE.relative_to(ROOT)),
        "--name", "file-type", "--calib", f"{data}:calibration", "--eval", f"{data}:evaluate", "--max-drop", "1pt",
    ]  # fmt: skip
    print("$ edgec " + " ".join(arguments))
    main(arguments)
    return BUNDLE


def examples() -> list[Path]:
    """One real file of each kind on this machine, and the bundle itself (a ZIP file inside)."""
    kinds: dict[str, Path] = {}
    for path in files():
        kinds.setdefault(path.suffix, path)
    return [*sorted(kinds.values(), key=lambda p: p.suffix), ROOT / "Makefile", BUNDLE]


def show(bundle: Path) -> None:
    """Load the bundle in the device's runtime and name each file's type."""
    console = Console(highlight=False)
    names = labels()
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("file", overflow="ellipsis", no_wrap=True, max_width=40)
    table.add_column("what it is, by its bytes alone")
    table.add_column("sure", justify="right")
    with rt.load(bundle) as model:
        for path in examples():
            scores = model.run({"bytes": features(path.read_bytes())})["target_label"][0]
            best = int(scores.argmax())
            table.add_row(Text(path.name), names[best], f"{scores[best]:.0%}")
        payload = model.info["payload"]
    console.print()
    console.print(table)
    print(f"\nran {payload} from {bundle.relative_to(ROOT)}, verified and loaded by edgec-runtime")


if __name__ == "__main__":
    show(compiled())
