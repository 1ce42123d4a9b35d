"""Commands that make this folder a bundle others use: `python -m bundle flatten`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bundle.flatten import stale, write_flat


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m bundle", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("flatten", help="write configs/train.json and configs/inference.json from the YAML")
    command.add_argument("--check", action="store_true", help="write nothing; exit 1 if one of them is stale")
    options = parser.parse_args(arguments)
    return _flatten(options.check)


def _flatten(check: bool) -> int:
    if check:
        names = stale()
        print(f"stale: {', '.join(names)}; run python -m bundle flatten" if names else "flat configs are up to date")
        return 1 if names else 0
    for path in write_flat():
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
