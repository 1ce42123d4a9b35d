"""How hard the simulated cohorts are: logistic regression on means and on volume beside a small network."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.networks.nets import resnet10
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scripts.phantom.lesions import MASK_CODES
from scripts.phantom.patients import SimulatedSubject, make_subject
from scripts.running.progress import progress

FIELD_OF_VIEW_MM = 96.0
MIN_ENHANCING_ML = 0.5


@dataclass
class Patches:
    """What the classifiers see of one site.

    Args:
        images: patches in [-1, 1], shape (N, C, H, W), float32, background -1.
        labels: 0 LGG, 1 HGG, shape (N,).
        features: name of a logistic regression -> its features, shape (N, F).
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    features: dict[str, NDArray[np.float64]]


def make_patches(site: str, num_subjects: int, matrix_size: Sequence[int], seed: int) -> Patches:
    """Simulate a site in memory and cut the lesion-centered patch of every subject.

    Args:
        site: name of the site.
        num_subjects: how many.
        matrix_size: voxels in x, y, z; the patch has 96 mm at that spacing.
        seed: seed of the cohort.

    Returns:
        Patches, labels and simple features.
    """
    indices = progress(range(num_subjects), num_subjects, f"simulated patients of site {site}")
    rows = [_row(make_subject(site, seed, index, matrix_size)) for index in indices]
    names = rows[0][2].keys()
    features = {name: np.stack([row[2][name] for row in rows]) for name in names}
    return Patches(np.stack([row[0] for row in rows]), np.array([row[1] for row in rows]), features)


def _row(subject: SimulatedSubject) -> tuple[NDArray[np.float32], int, dict[str, NDArray[np.float64]]]:
    spacing = np.abs(np.diag(subject.affine)[:3])
    voxel_ml = float(spacing.prod()) / 1000
    region = chosen_region(subject.mask, voxel_ml)
    level = int(region.sum(axis=(0, 1)).argmax())
    center = [int(round(float(axis.mean()))) for axis in np.nonzero(region[:, :, level])]
    size = [int(round(FIELD_OF_VIEW_MM / mm)) for mm in spacing[:2]]
    volumes = np.stack([scale_intensity(image) for image in subject.images.values()])
    image = crop(volumes[..., level], center, size)
    lesion = subject.mask[..., level] > 0
    features = {
        "four patch means": image.mean(axis=(1, 2), dtype=np.float64),
        "four lesion means": volumes[..., level][:, lesion].mean(axis=1, dtype=np.float64),
        "lesion volume": np.log([(subject.mask > 0).sum() * voxel_ml]),
        "region volume": np.log([region.sum() * voxel_ml]),
    }
    return image, int(subject.grade == "HGG"), features


def chosen_region(mask: NDArray[np.int16], voxel_ml: float) -> NDArray[np.bool_]:
    """Enhancing tumor if there are 0.5 ml of it, else the core, else the whole lesion."""
    enhancing = mask == MASK_CODES["enhancing"]
    core = enhancing | (mask == MASK_CODES["necrotic"])
    if enhancing.sum() * voxel_ml >= MIN_ENHANCING_ML:
        return enhancing
    return core if core.any() else mask > 0


def scale_intensity(image: NDArray[np.int16]) -> NDArray[np.float32]:
    """Bring the 0.5 and 99.5 percentiles inside the brain to -1 and 1, the background to -1."""
    brain = image > 0
    low, high = np.percentile(image[brain], [0.5, 99.5])
    scaled = np.clip((image - low) / (high - low), 0, 1) * 2 - 1
    return np.where(brain, scaled, -1).astype(np.float32)


def crop(image: NDArray[np.float32], center: Sequence[int], size: Sequence[int]) -> NDArray[np.float32]:
    """Cut `size` pixels around `center` out of (C, H, W), padded with background."""
    padded = np.pad(image, [(0, 0), *[(n, n) for n in size]], constant_values=-1)
    first = [c + n - n // 2 for c, n in zip(center, size, strict=True)]
    return padded[:, first[0] : first[0] + size[0], first[1] : first[1] + size[1]]


def logistic_balanced_accuracy(features: NDArray[np.float64], labels: NDArray[np.int64], seed: int = 0) -> float:
    """Balanced accuracy of logistic regression in five folds, out of fold, mean of five shuffles."""
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    scores = []
    for shuffle in range(5):
        folds = StratifiedKFold(5, shuffle=True, random_state=seed + shuffle)
        scores.append(balanced_accuracy_score(labels, cross_val_predict(model, features, labels, cv=folds)))
    return float(np.mean(scores))


def train_network(images: torch.Tensor, labels: torch.Tensor, epochs: int, seed: int) -> torch.nn.Module:
    """Train ResNet-10 on patches with random flips and rotations by 90 degrees; the last epoch is kept."""
    torch.manual_seed(seed)
    network = resnet10(spatial_dims=2, n_input_channels=images.shape[1], num_classes=2, conv1_t_stride=2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01)
    batches_per_epoch = max(len(images) // 16, 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=epochs * batches_per_epoch)
    weight = len(labels) / (2 * torch.bincount(labels, minlength=2).float())
    network.train()
    for _ in range(epochs):
        # Batches of equal size: a last batch of one image would stop batch normalization.
        for batch in torch.randperm(len(images)).tensor_split(batches_per_epoch):
            loss = torch.nn.functional.cross_entropy(network(_augment(images[batch])), labels[batch], weight=weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def _augment(images: torch.Tensor) -> torch.Tensor:
    """Turn each image by a random multiple of 90 degrees, mirror half of them."""
    turns = torch.randint(0, 4, (len(images),)).tolist()
    turned = torch.stack([torch.rot90(image, turn, (1, 2)) for image, turn in zip(images, turns, strict=True)])
    return torch.where((torch.rand(len(images)) < 0.5)[:, None, None, None], turned.flip(3), turned)


@torch.inference_mode()
def hgg_probabilities(network: torch.nn.Module, images: torch.Tensor) -> NDArray[np.float32]:
    """Probability of HGG, shape (N,)."""
    return network(images).softmax(dim=1)[:, 1].numpy()


def network_balanced_accuracies(
    train: Patches, other: Patches, folds: int, epochs: int, seed: int
) -> tuple[float, float]:
    """Balanced accuracy out of fold inside a site, and of the folds' mean on the other site.

    Args:
        train: the site trained on.
        other: the site that is only looked at.
        folds: number of folds.
        epochs: passes over the training part.
        seed: seed of folds and networks.

    Returns:
        Inside, outside.
    """
    images, labels = torch.from_numpy(train.images), torch.from_numpy(train.labels)
    inside, outside = np.zeros(len(labels)), np.zeros(len(other.labels))
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed).split(train.images, train.labels)
    for fold, (train_index, test_index) in enumerate(splits):
        network = train_network(images[train_index], labels[train_index], epochs, seed + fold)
        inside[test_index] = hgg_probabilities(network, images[test_index])
        outside += hgg_probabilities(network, torch.from_numpy(other.images)) / folds
    scores = [balanced_accuracy_score(p.labels, s > 0.5) for p, s in ((train, inside), (other, outside))]
    return float(scores[0]), float(scores[1])


def measure(
    num_subjects: int, matrix_size: Sequence[int], seed: int, folds: int = 5, epochs: int = 40
) -> dict[str, dict[str, float]]:
    """All figures for both sites; site -> name -> balanced accuracy."""
    sites = {site: make_patches(site, num_subjects, matrix_size, seed) for site in ("A", "B")}
    results = {}
    for site, other in (("A", "B"), ("B", "A")):
        patches = sites[site]
        scores = {name: logistic_balanced_accuracy(f, patches.labels, seed) for name, f in patches.features.items()}
        scores["network inside"], scores["network other site"] = network_balanced_accuracies(
            patches, sites[other], folds, epochs, seed
        )
        results[site] = scores
    return results


def main() -> None:
    """Print one line per seed and site."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num_subjects", type=int, default=100)
    parser.add_argument("--matrix_size", type=json.loads, default=[80, 80, 52])
    parser.add_argument("--seeds", type=json.loads, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=40)
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        results = measure(arguments.num_subjects, arguments.matrix_size, seed, epochs=arguments.epochs)
        for site, scores in results.items():
            figures = " · ".join(f"{name} {score:.2f}" for name, score in scores.items())
            print(f"seed {seed}, trained on {site}: {figures}", flush=True)


if __name__ == "__main__":
    main()
