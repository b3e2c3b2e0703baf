"""``python -m bench.retrieval``: how fast vector stores are filled and searched (``speed``), or with ``--quality`` how
good what is found is (``quality``).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from bench.retrieval import labelled, quality, speed

CACHE = Path.home() / ".cache" / "antiphon-bench"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.retrieval", description=__doc__)
    parser.add_argument("chunks", nargs="*", type=int, help=f"sizes of stores (default: {speed.SIZES})")
    parser.add_argument("--quality", action="store_true", help="measure on the labelled set instead")
    parser.add_argument("--folder", type=Path, default=CACHE, help=f"where packages are kept (default: {CACHE})")
    parser.add_argument("--target-check", action="store_true", help="exit 1 when a target is missed")
    given = parser.parse_args()
    if given.quality:
        good = asyncio.run(quality.measure(labelled.load(given.folder)))
    else:
        good = asyncio.run(speed.measure_all(given.chunks or speed.SIZES))
    return 0 if good or not given.target_check else 1


if __name__ == "__main__":
    sys.exit(main())
