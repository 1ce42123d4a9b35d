"""Time patches against the stock MONAI chain that gives the same numbers, and against decompression alone.

python -m benchmarks.patches COHORT/cohort.json
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from isal import isal_zlib
from monai.bundle import ConfigParser
from monai.config import KeysCollection
from monai.transforms import (
    BorderPadd,
    Compose,
    ConcatItemsd,
    EnsureChannelFirstd,
    LoadImaged,
    MapTransform,
    Orientationd,
    ScaleIntensityRange,
    SpatialCropd,
    Transform,
)
from monai.transforms.utils_pytorch_numpy_unification import percentile

from scripts.patches.stage import locate_subjects
from scripts.running.files import read_json
from scripts.volumes.regions import region_codes

ROOT = Path(__file__).parents[1]
PATCH_SIZE = 96


class ScaleBraind(MapTransform):
    """Scale the 0.5-99.5 percentiles of the non-zero voxels to [-1, 1], as `ScaleIntensityRangePercentilesd` does.

    The stock transform has no mask, so the percentiles and the scaling of the same module are called one by one.

    Args:
        keys: modalities.
    """

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Scale each modality; zeros become -1."""
        scaled = dict(data)
        for key in self.key_iterator(scaled):
            image = scaled[key]
            low, high = (float(percentile(image[image != 0], q)) for q in (0.5, 99.5))
            scaled[key] = ScaleIntensityRange(low, high, -1, 1, clip=True)(image)
            scaled[key][image == 0] = -1
        return scaled


class TakeLargestSliced(Transform):
    """Take the axial slice with the largest area of a given region from every volume, and note its centroid.

    Args:
        keys: modalities.
        codes: mask codes of the region.
    """

    def __init__(self, keys: Sequence[str], codes: Sequence[int]) -> None:
        self.keys = keys
        self.codes = list(codes)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Keep one slice."""
        region = np.isin(np.asarray(data["mask"])[0], self.codes)
        index = int(region.sum(axis=(0, 1)).argmax())
        center = np.floor(np.argwhere(region[..., index]).mean(axis=0) + 0.5)
        return {**data, **{key: data[key][..., index] for key in self.keys}, "center": center.astype(int)}


def stock_patch(subject: Mapping[str, Any], modalities: Sequence[str], codes: Sequence[int]) -> np.ndarray:
    """Make a patch of 96 x 96 at 1 mm with MONAI's transforms alone.

    Args:
        subject: entry of `cohort.json` with absolute paths.
        modalities: channels.
        codes: mask codes of the region to center on.

    Returns:
        (C, 96, 96) float32 in [-1, 1].
    """
    keys = list(modalities)
    before = Compose(
        [
            LoadImaged([*keys, "mask"]),
            EnsureChannelFirstd([*keys, "mask"]),
            Orientationd([*keys, "mask"], axcodes="RAS", labels=None),
            ScaleBraind(keys),
            TakeLargestSliced(keys, codes),
            BorderPadd(keys, PATCH_SIZE // 2, mode="constant", value=-1),
        ]
    )
    volumes = before({**subject["images"], "mask": subject["mask"]})
    center = (volumes["center"] + PATCH_SIZE // 2).tolist()
    after = Compose([SpatialCropd(keys, center, [PATCH_SIZE] * 2), ConcatItemsd(keys, "image", dim=0)])
    return np.asarray(after(volumes)["image"])


def preprocessing() -> Compose:
    """Return the transforms of configs/patches.yaml as they stand."""
    files = [str(ROOT / "configs" / f"{name}.yaml") for name in ("common", "patches")]
    return ConfigParser(ConfigParser.load_config_files(files)).get_parsed_content("preprocessing")


def decompress(subject: Mapping[str, Any], function: Callable[[bytes], bytes]) -> None:
    """Read and decompress the files of a subject and do nothing with them."""
    for path in [*subject["images"].values(), subject["mask"]]:
        function(Path(path).read_bytes())


def gunzip(raw: bytes) -> bytes:
    """Decompress one gzip member with the library that configs/patches.yaml reads with."""
    return isal_zlib.decompress(raw, 31)


def seconds(function: Callable[[], Any], repeats: int) -> float:
    """Return the median time of a call, seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def compare(subject: Mapping[str, Any], chain: Compose, modalities: Sequence[str], repeats: int) -> dict[str, float]:
    """Time one subject in every way, after checking that both patches hold the same numbers within 1e-5."""
    patch = chain(dict(subject))
    codes = region_codes(subject["mask_codes"], patch["region"])
    np.testing.assert_allclose(np.asarray(patch["image"]), stock_patch(subject, modalities, codes), atol=1e-5)
    return {
        "configs/patches.yaml": seconds(lambda: chain(dict(subject)), repeats),
        "stock MONAI chain": seconds(lambda: stock_patch(subject, modalities, codes), repeats),
        "decompression (isal)": seconds(
            lambda: decompress(subject, lambda raw: isal_zlib.decompress(raw, 31)), repeats
        ),
        "decompression (zlib)": seconds(lambda: decompress(subject, gzip.decompress), repeats),
    }


def main() -> None:
    """Print seconds per subject and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("cohort", help="cohort.json with one file per modality, voxels of 1 mm")
    parser.add_argument("--subjects", type=int, default=4, help="how many of the first subjects")
    parser.add_argument("--repeats", type=int, default=3, help="calls of which the median counts")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chain = preprocessing()
    cohort = read_json(arguments.cohort)
    subjects = locate_subjects(cohort, Path(arguments.cohort).parent)[: arguments.subjects]
    runs = [compare(subject, chain, cohort["modalities"], arguments.repeats) for subject in subjects]
    mean = {name: statistics.mean(run[name] for run in runs) for name in runs[0]}
    ours = mean["configs/patches.yaml"]
    print(f"{len(subjects)} subjects, median of {arguments.repeats}, one thread; equal within 1e-5")
    for name, value in mean.items():
        print(f"{name:22s} {value:6.3f} s per subject   {value / ours:5.2f} x")


if __name__ == "__main__":
    main()
