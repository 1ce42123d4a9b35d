"""Small likenesses of folders of T1-weighted heads as they lie on a disk: IXI, OASIS-1 and BIDS."""

from __future__ import annotations

import zlib
from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (12, 14, 10)
SPACING_MM = (1.0, 1.0, 1.5)
SITES = ("Guys", "HH", "IOP")


def head(name: str, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Return an ellipsoid of tissue in clean air that is another one for every name, brighter towards the right."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    axes = np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij")
    radius = sum((axis / side) ** 2 for axis, side in zip(axes, random.uniform(0.8, 0.95, 3), strict=True))
    tissue = 400 + 150 * axes[0] + 100 * np.cos(4 * radius) + random.normal(0, 10, shape)
    return np.where(radius < 1, tissue, 0).astype(np.int16)


def write_ixi(folder: Path, count: int = 6) -> Path:
    """Write `IXI002-Guys-0828-T1.nii.gz` and so on, sites in turn, with a table and a T2 beside them."""
    folder.mkdir(parents=True)
    for index in range(count):
        path = folder / f"IXI{index + 2:03d}-{SITES[index % 3]}-{800 + index:04d}-T1.nii.gz"
        nib.save(nib.Nifti1Image(head(path.name), np.diag([*SPACING_MM, 1.0])), path)
    (folder / "IXI.csv").write_text("IXI_ID,AGE\n2,35.8\n")
    return folder


def write_pair(path: Path, voxels: np.ndarray, spacing_mm: tuple[float, ...] = SPACING_MM) -> Path:
    """Write an Analyze pair, `path` its voxels; 3D ones with a fourth dimension of 1 as OASIS-1 has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = nib.AnalyzeHeader()
    header.set_data_dtype(voxels.dtype)
    header.set_data_shape((*voxels.shape, 1)[:4])
    header.set_zooms((*spacing_mm, 1.0))
    path.with_suffix(".hdr").write_bytes(header.binaryblock)
    path.write_bytes(voxels.tobytes(order="F"))
    return path


def write_oasis(folder: Path, count: int = 4) -> Path:
    """Write the tree of OASIS-1: the atlas-registered image of each, masked and not, in Analyze pairs."""
    for index in range(1, count + 1):
        name = f"OAS1_{index:04d}_MR1"
        atlas = folder / "disc1" / name / "PROCESSED" / "MPRAGE" / "T88_111"
        for kind in ("t88_gfc", "t88_masked_gfc"):
            write_pair(atlas / f"{name}_mpr_n4_anon_111_{kind}.img", head(f"{name} {kind}"))
        (folder / "disc1" / name / f"{name}.txt").write_text("SESSION ID: x\n")
    return folder


def write_bids(folder: Path, count: int = 4) -> Path:
    """Write a BIDS tree: participants, of the last a second session, T1w and FLAIR, and something derived."""
    rows = ["participant_id\tage\tsex\tsite\tdiagnosis"]
    for index in range(1, count + 1):
        name = f"sub-{index:02d}"
        rows.append(f"{name}\t{20 + index}\tF\t{SITES[index % 2]}\t{'CN' if index % 2 else 'AD'}")
        for session in ("ses-1", "ses-2") if index == count else ("ses-1",):
            for kind in ("T1w", "FLAIR"):
                path = folder / name / session / "anat" / f"{name}_{session}_{kind}.nii.gz"
                path.parent.mkdir(parents=True, exist_ok=True)
                nib.save(nib.Nifti1Image(head(path.name), np.diag([*SPACING_MM, 1.0])), path)
    derived = folder / "derivatives" / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_T1w.nii.gz"
    derived.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image(head("derived"), np.eye(4)), derived)
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")
    (folder / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}\n')
    return folder
