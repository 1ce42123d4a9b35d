"""Time the scan of a folder of pictures with the counts and sizes of a public set: 7,023 JPEGs of brain MRI.

python -m benchmarks.picture_cohort runs/picture_cohort

The counts are those of Nickparvar's set (four classes, Training and Testing); the pictures are smooth noise.
"""

from __future__ import annotations

import argparse
import time
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from scripts.cohorts.scan import scan_cohort
from scripts.running.files import read_json
from scripts.running.progress import progress

COUNTS = {
    "Training": {"glioma": 1321, "meningioma": 1339, "notumor": 1595, "pituitary": 1457},
    "Testing": {"glioma": 300, "meningioma": 306, "notumor": 405, "pituitary": 300},
}
SIDE = 512  # pixels, of most
CELLS = 24  # of the noise, each side


def write_pictures(folder: Path, share: float) -> int:
    """Write the pictures that are not there; of `notumor` every other has another size.

    Args:
        folder: gets them.
        share: of the counts, in (0, 1].

    Returns:
        How many there are.
    """
    names = [
        (split, name, number)
        for split, counts in COUNTS.items()
        for name, count in counts.items()
        for number in range(max(1, round(count * share)))
    ]
    for split, name, number in progress(names, len(names), "pictures"):
        path = folder / split / name / f"{split[:2]}-{name[:2]}_{number:04d}.jpg"
        if path.is_file():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(zlib.crc32(path.name.encode()))
        size = (SIDE, SIDE) if name != "notumor" or number % 2 else (200 + number % 150, 225)
        cells = random.integers(0, 256, (CELLS, CELLS)).astype(np.uint8)
        Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC).save(path, quality=90)
    return len(names)


def main() -> None:
    """Read the command line, write the pictures, scan them and print how long it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="gets the pictures and cohort.json")
    parser.add_argument("--share", type=float, default=1.0, help="of the counts, in (0, 1], for a trial")
    arguments = parser.parse_args()
    count = write_pictures(arguments.folder / "pictures", arguments.share)
    begin, worked = time.perf_counter(), time.process_time()
    path = scan_cohort(
        arguments.folder / "pictures",
        arguments.folder,
        modalities=["grey"],
        classes=list(COUNTS["Training"]),
        require_masks=False,
    )
    seconds, worked = time.perf_counter() - begin, time.process_time() - worked
    print(f"{count} pictures: {seconds:.1f} s, {worked:.1f} s of CPU, {len(read_json(path)['subjects'])} in the cohort")


if __name__ == "__main__":
    main()
