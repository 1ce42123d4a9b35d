from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandFlipd

from scripts.patches.class_balance import class_counts
from scripts.patches.tensors import (
    LabeledImages,
    PatchTensorDataset,
    batches,
    bytes_of_images,
    load_images,
    load_patch,
)
from scripts.running.files import read_json, sha256_file, write_json
from tests.helpers import image_form
from tests.patches import write_tiny_patches


@pytest.fixture
def patches(tmp_path) -> dict[str, str]:
    return write_tiny_patches(tmp_path / "patches")


def write_image(path: Path, volume: np.ndarray) -> str:
    nib.save(nib.Nifti1Image(volume.astype(np.float32), np.eye(4)), path)
    return str(path)


@pytest.mark.parametrize("size", [(12, 10, 1), (8, 10, 12)], ids=["2d", "3d"])
@pytest.mark.parametrize("num_channels", [1, 4])
def test_images_arrive_channel_first_and_unchanged(tmp_path, size, num_channels):
    image = np.random.RandomState(0).uniform(-1, 1, (*size, num_channels)).astype(np.float32)
    path = write_image(tmp_path / "image.nii.gz", image if num_channels > 1 else image[..., 0])
    dims = 2 if size[-1] == 1 else 3
    dataset = LabeledImages([{"image": path, "label": 1}], image_form(num_channels, size[:dims]))
    expected = np.moveaxis(image, -1, 0)
    assert np.array_equal(dataset[0]["image"].numpy(), expected[..., 0] if dims == 2 else expected)
    assert dataset[[0]]["image"].shape == (1, num_channels, *size[:dims])
    assert dataset[[0]]["label"].tolist() == [1]


def test_images_of_two_sizes_are_refused_by_file(tmp_path):
    items = [
        {"image": write_image(tmp_path / f"{name}.nii.gz", np.zeros((8, width, 1, 2))), "label": 0}
        for name, width in (("a", 8), ("b", 10))
    ]
    with pytest.raises(ValueError, match=r"b\.nii\.gz must have the shape of .*a\.nii\.gz"):
        load_images(items, 2)


def test_an_image_without_a_grade_leaves_all_without_labels(tmp_path):
    path = write_image(tmp_path / "a.nii.gz", np.zeros((4, 5, 1, 2)))
    dataset = LabeledImages([{"image": path, "label": 0}, {"image": path, "label": None}], image_form(2))
    assert list(dataset[[0, 1]]) == ["image"]


def test_random_transforms_change_copies_and_follow_their_seed(patches):
    listing = read_json(patches["patches_path"])
    folder = Path(patches["patches_path"]).parent
    items = [{**row, "image": str(folder / row["image"])} for row in listing["training"]]
    transform = Compose([RandFlipd("image", prob=0.5, spatial_axis=0)])
    dataset = LabeledImages(items, image_form(), transform=transform)
    before = dataset.images.clone()
    transform.set_random_state(seed=3)
    first = dataset[[0, 1, 2, 3]]["image"]
    transform.set_random_state(seed=3)
    assert torch.equal(first, dataset[[0, 1, 2, 3]]["image"])
    assert not torch.equal(first, before[:4])
    assert torch.equal(before, dataset.images)


def test_a_whole_batch_is_changed_at_once_and_what_is_kept_is_not(patches):
    shapes = []

    def changed(images: torch.Tensor) -> torch.Tensor:
        shapes.append(images.shape)
        return -images

    dataset = PatchTensorDataset(
        **patches, fold=0, part="train", class_name=None, form=image_form(), batch_transform=changed
    )
    kept = dataset.images.clone()
    assert torch.equal(dataset[[0, 2]]["image"], -kept[[0, 2]])
    assert torch.equal(dataset[1]["image"], -kept[1])
    assert torch.equal(dataset.images, kept)
    assert [len(shape) for shape in shapes] == [4, 4]


def test_images_kept_as_integers_are_handed_out_as_floats_within_half_a_step(patches):
    settings = {**patches, "fold": 0, "part": "train", "class_name": None, "form": image_form()}
    exact, rounded = (PatchTensorDataset(**settings, as_integers=kept) for kept in (False, True))
    assert rounded._stored.nbytes * 2 == exact.images.nbytes
    batch = rounded[[2, 0]]["image"]
    assert batch.dtype == torch.float32
    torch.testing.assert_close(batch, exact[[2, 0]]["image"], rtol=0, atol=1.6e-5)
    torch.testing.assert_close(rounded.images, exact.images, rtol=0, atol=1.6e-5)
    assert torch.equal(rounded.images == -1, exact.images == -1)
    blocks = list(rounded.blocks(2))
    assert len(blocks[0]) == 2
    assert torch.equal(torch.cat(blocks), rounded.images)
    for dataset, kept in ((exact, False), (rounded, True)):
        shape = dataset.images.shape[1:]
        assert bytes_of_images(**patches, fold=0, parts=["train"], class_name=None, shape=shape, as_integers=kept) == (
            dataset._stored.nbytes
        )


def test_the_dataset_holds_one_class_of_one_part(patches):
    dataset = PatchTensorDataset(**patches, fold=0, part="train", class_name="HGG", form=image_form())
    assert len(dataset) == len(dataset.subject_ids)
    assert all(name.startswith("HGG") for name in dataset.subject_ids)
    everyone = PatchTensorDataset(**patches, fold=0, part="train", class_name=None, form=image_form())
    assert len(everyone) == sum(class_counts(**patches, fold=0).values())


def test_every_batch_is_full_and_every_image_is_drawn_before_any_is_drawn_again(patches):
    dataset = PatchTensorDataset(**patches, fold=0, part="train", class_name=None, form=image_form())
    dataset.images = torch.arange(5.0).reshape(5, 1, 1, 1)
    dataset.labels = None
    drawn = [batch["image"].flatten() for batch in batches(dataset, batch_size=4, epoch_images=9)]
    assert [len(batch) for batch in drawn] == [4, 4, 4]
    order = torch.cat(drawn)
    assert order[:5].sort().values.tolist() == [0, 1, 2, 3, 4]
    assert order[5:10].sort().values.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("num_channels", "shape"), [(3, (4, 5, 1, 4)), (4, (4, 5, 6, 4)), (4, (4, 5))])
def test_patches_of_another_shape_are_refused(tmp_path, num_channels, shape):
    path = write_image(tmp_path / "patch.nii.gz", np.zeros(shape))
    with pytest.raises(ValueError, match=f"must be an image of {num_channels} channels and 2 dimensions"):
        load_patch(path, num_channels, spatial_dims=2)


@pytest.mark.parametrize("value", [3.0, np.nan], ids=["z_scores", "nan"])
def test_patches_outside_the_range_are_refused(tmp_path, value):
    path = write_image(tmp_path / "patch.nii.gz", np.full((4, 5, 1, 2), value))
    with pytest.raises(ValueError, match=r"must lie in \[-1, 1\]"):
        load_patch(path, 2)


@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda raw: raw[:60] + b"\xff" + raw[61:]])
def test_a_damaged_image_is_refused_by_name(tmp_path, damage):
    path = Path(write_image(tmp_path / "patch.nii.gz", np.random.default_rng(0).uniform(-1, 1, (16, 16, 1, 4))))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"patch\.nii\.gz must be a readable NIfTI image, got .*write"):
        load_patch(str(path), 4)
    with pytest.raises(FileNotFoundError, match="nothing.nii.gz does not exist"):
        load_patch(str(tmp_path / "nothing.nii.gz"), 4)


def test_an_image_changed_after_it_was_listed_is_refused(patches):
    path = Path(patches["patches_path"])
    listing = read_json(path)
    for row in listing["training"]:
        row["image_sha256"] = sha256_file(path.parent / row["image"])
    write_json(path, listing)
    dataset = PatchTensorDataset(**patches, fold=0, part="train", class_name="HGG", form=image_form())
    changed = Path(dataset.items[0]["image"])
    write_image(changed, np.asarray(nib.load(changed).dataobj) * 0.5)
    with pytest.raises(ValueError, match=f"{changed.name} must be the file that its list records"):
        PatchTensorDataset(**patches, fold=0, part="train", class_name="HGG", form=image_form())
