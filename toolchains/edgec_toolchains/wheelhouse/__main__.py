"""`python -m edgec_toolchains.wheelhouse [-o DIR] [--engine NAME] [--arch ARCH]`: what `make device-wheel` runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgec_runtime.errors import Error
from edgec_toolchains import wheelhouse


def main() -> int:
    """Make the wheels that the arguments name, and say what they are."""
    parser = argparse.ArgumentParser(prog="python -m edgec_toolchains.wheelhouse", description="Make device wheels.")
    parser.add_argument("-o", "--output", type=Path, default=Path("dist"), help="folder for the wheels (dist)")
    parser.add_argument("--downloads", type=Path, default=None, help="folder for the engines' own wheels (your cache)")
    parser.add_argument("--engine", action="append", choices=wheelhouse.names(), help="litert by default; repeatable")
    parser.add_argument("--arch", action="append", choices=wheelhouse.ARCHITECTURES, help="aarch64 by default")
    given = parser.parse_args()
    try:
        for engine in given.engine or wheelhouse.names()[:1]:
            for arch in given.arch or wheelhouse.ARCHITECTURES[:1]:
                made = wheelhouse.device_wheel(engine, arch, folder=given.output, downloads=given.downloads)
                size = made.path.stat().st_size
                print(
                    f"{made.path}  {size / 1e6:.2f} MB, installed {made.installed / 1e6:.2f} MB; "
                    f"Python 3.9 or newer, glibc {made.glibc} or newer"
                )
    except Error as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
