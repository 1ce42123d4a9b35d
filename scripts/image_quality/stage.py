"""The stage that measures a synthetic set against real images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scripts.image_quality.comparison import Measure, feature_measures, measure_sets, pixel_measures, random_splits
from scripts.image_quality.feature_networks import FeatureNetwork, NetworkChoice
from scripts.image_quality.gate import Gate, label_area
from scripts.image_quality.spectrum import Spectra, compare_spectra
from scripts.image_quality.tissue_volumes import compare_tissue_volumes
from scripts.patches.image_sets import (
    ALL,
    ImageSet,
    choose_parts,
    input_files,
    join,
    read_parts,
    read_set,
    refuse_seen,
    require_made_alike,
    set_provenance,
)
from scripts.provenance.image_form import ImageForm, has_background
from scripts.provenance.record import hash_subject
from scripts.running.files import listed_twice, read_json, sha256_file, write_json
from scripts.running.progress import progress
from scripts.splits.lists import read_list

FILE_NAME = "measures.json"


@dataclass(frozen=True)
class Effort:
    """How much a measure may cost.

    Args:
        max_images: images of a set used at most; of more, a seeded draw. Memory grows with its square.
        num_splits: random halves of the real images, for the floor.
        num_permutations: of the permutation test.
        num_pairs: pairs of images of a set, for MS-SSIM.
        seed: of all draws.

    Raises:
        ValueError: if a number is not positive.
    """

    max_images: int = 2500
    num_splits: int = 10
    num_permutations: int = 1000
    num_pairs: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "seed" and value < 1:
                raise ValueError(f"measure_{name} must be at least 1, got {value!r}")


class ImageMeasurement:
    """Measure a synthetic set against real images, class by class where both tell their classes.

    Args:
        synthetic_path: decathlon list, or a folder of NIfTI.
        real_path: likewise.
        splits_path: divides the subjects of `real_path`, then a list; None compares with all its images.
        fold: number of the fold, where there are splits.
        real_parts: parts of the fold to compare with; None is the one held out from the generators of the fold.
        form: of the images of both sets.
        networks: feature networks.
        effort: numbers of images, draws and pairs.
        output_dir: gets `measures.json`.
        label_paths: lists of the other classes of the same generator, which the label AUC needs.
        gate: what the set must reach to be called finished.

    Raises:
        ValueError: if `label_paths` holds a folder, whose images have no class, or a set is given twice.
    """

    def __init__(
        self,
        synthetic_path: str,
        real_path: str,
        splits_path: str | None,
        fold: int,
        real_parts: Sequence[str] | None,
        form: ImageForm,
        networks: NetworkChoice,
        effort: Effort,
        output_dir: str,
        label_paths: Sequence[str] = (),
        gate: Gate | None = None,
    ) -> None:
        self.synthetic_path, self.real_path, self.splits_path = synthetic_path, real_path, splits_path
        self.fold, self.real_parts = fold, real_parts
        self.form = form
        self.networks, self.effort = networks, effort
        self.output_dir = Path(output_dir)
        self.label_paths = list(label_paths)
        self.gate = gate or Gate()
        _check_label_paths(self.label_paths, synthetic_path)

    def inputs(self) -> list[str | None]:
        """List every file that the measures depend on, for the record of the stage."""
        return [
            *input_files(self.synthetic_path),
            *self.label_paths,
            *input_files(self.real_path),
            self.splits_path,
            *self.networks.inputs(),
        ]

    def run(self) -> Path:
        """Measure, and write `measures.json`.

        Returns:
            Its path.

        Raises:
            ValueError: if the sets do not fit each other, by what their images are made of, range, cohort, fold or
                generator.
            LeakageError: if the generator has seen subjects of a part that is held out.
        """
        synthetic = read_set(self.synthetic_path, self.form)
        real, training, source = self._read_real()
        made_alike = require_made_alike(synthetic, real)
        other_classes = self._read_other_classes(real)
        networks, left_out = self.networks.load(training.images)
        classifier = next((network for network in networks if network.tells_classes), None)
        label_auc = self._label_auc(classifier, join([synthetic, *other_classes]), real)
        names = sorted(set(synthetic.class_names)) if set(real.class_names) != {ALL} else [ALL]
        classes = {
            name: self.measure_class(synthetic.of_class(name), real.of_class(name), networks)
            for name in progress(names, description="measures")
        }
        for result in classes.values():
            result["gate"] = self.gate.judge(label_auc, result["measures"], classifier.name if classifier else None)
        content = {
            **source,
            "simulated": self._simulated(),
            "made_alike": made_alike,
            "seed": self.effort.seed,
            "networks": [_describe(network, real) for network in networks],
            "left_out": left_out,
            "gate": asdict(self.gate),
            "label_auc": label_auc,
            "classes": classes,
        }
        write_json(self.output_dir / FILE_NAME, content)
        return self.output_dir / FILE_NAME

    def measure_class(self, synthetic: ImageSet, real: ImageSet, networks: Sequence[FeatureNetwork]) -> dict[str, Any]:
        """Compute all measures of the images of one class.

        Returns:
            Numbers of images there are, `measures`, rows of `measure_sets`, `spectrum`, see `compare_spectra`, and
            `tissue_volumes`, see `compare_tissue_volumes`.
        """
        chosen_synthetic, chosen_real = (self._at_most(item) for item in (synthetic, real))
        images = torch.cat([chosen_synthetic.images, chosen_real.images])
        numbered = enumerate((*chosen_synthetic.patients, *chosen_real.patients))
        patients = [name or f"image {index}" for index, name in numbered]
        splits, _ = random_splits(len(chosen_synthetic), patients, self.effort.num_splits, self.effort.seed)
        measures: list[Measure] = []
        for network in networks:
            views = network.extract(images, self.networks.batch_size, self.networks.device)
            measures += feature_measures(network, views, patients)
        pixels = images.to(self.networks.device)
        spectra = Spectra.of(pixels)
        measures += pixel_measures(pixels, spectra, self.effort.num_pairs, self.effort.seed, patients)
        rows = [
            measure_sets(
                measure,
                len(chosen_synthetic),
                len(chosen_real),
                splits,
                self.effort.num_permutations,
                self.effort.seed,
            )
            for measure in progress(measures, description="floors and tests")
        ]
        spacing_mm = _common_spacing_mm(real)
        return {
            "num_synthetic": len(synthetic),
            "num_real": len(real),
            "measures": rows,
            "spectrum": compare_spectra(spectra, len(chosen_synthetic), patients, spacing_mm, seed=self.effort.seed),
            "tissue_volumes": None  # of slices, which show a part of it
            if self.form.spatial_dims != 3
            else compare_tissue_volumes(
                images,
                len(chosen_synthetic),
                list(self.form.modalities),
                patients,
                spacing_mm,
                has_background(real.facts or {}),
            ),
        }

    def _read_real(self) -> tuple[ImageSet, ImageSet, dict[str, Any]]:
        """Real images to compare with, those to fit an encoder to, and where they are from."""
        if self.splits_path is None:
            real = read_set(self.real_path, self.form)
            return real, real, {"cohort": None, "method": None, "fold": None, "real_parts": None}
        parts = choose_parts(self.splits_path, self.real_parts)
        real, training = (
            read_parts(self.real_path, self.splits_path, self.fold, names, self.form) for names in (parts, ["train"])
        )
        provenance = self._guarded_provenance(self.synthetic_path, real)
        source = {name: provenance.get(name) for name in ("cohort", "method")}
        digest = sha256_file(self.synthetic_path)
        return real, training, {**source, "fold": self.fold, "real_parts": parts, "synthetic_sha256": digest}

    def _read_other_classes(self, real: ImageSet) -> list[ImageSet]:
        """Read the sets of `label_paths`, each guarded as that of `synthetic_path` is."""
        sets = []
        for path in self.label_paths:
            if self.splits_path is not None:
                self._guarded_provenance(path, real)
            _refuse_other_generator(path, self.synthetic_path)
            sets.append(read_set(path, self.form))
            require_made_alike(sets[-1], real)
        return sets

    def _guarded_provenance(self, path: str, real: ImageSet) -> Mapping[str, Any]:
        """Read the provenance of a set of this cohort and fold whose generator has not seen the held-out images."""
        assert self.splits_path is not None
        provenance = set_provenance(path, self.fold, str(read_list(self.real_path, "patches")["name"]))
        refuse_seen(provenance, path, real, choose_parts(self.splits_path, self.real_parts), self.fold)
        return provenance

    def _label_auc(self, classifier: FeatureNetwork | None, synthetic: ImageSet, real: ImageSet) -> dict[str, Any]:
        choice = self.networks
        return label_area(classifier, synthetic, real, self.form.class_names, choice.batch_size, choice.device)

    def _at_most(self, images: ImageSet) -> ImageSet:
        if len(images) <= self.effort.max_images:
            return images
        random = np.random.default_rng(self.effort.seed)
        return images.take(np.sort(random.permutation(len(images))[: self.effort.max_images]).tolist())

    def _simulated(self) -> bool | None:
        lists = [path for path in (self.synthetic_path, self.real_path) if path.endswith(".json")]
        simulated = [read_json(path).get("simulated") for path in lists]
        # Where one does not say it, nobody knows that all are of patients.
        return True if True in simulated else None if None in simulated or not simulated else False


def _common_spacing_mm(images: ImageSet) -> float | None:
    """Length of a cell that all images share; None where patches have their own, or nothing says it, as of a folder."""
    spacing_mm = (images.facts or {}).get("spacing_mm")
    return None if spacing_mm is None else float(spacing_mm)


def _describe(network: FeatureNetwork, real: ImageSet) -> dict[str, Any]:
    known = [name for name in real.subject_ids if name is not None and hash_subject(name) in network.known_subjects]
    return {
        "name": network.name,
        "weights_sha256": network.weights_sha256,
        "encoder_sha256": network.encoder_sha256,
        "num_known_real": len(known),
    }


def _check_label_paths(label_paths: Sequence[str], synthetic_path: str) -> None:
    for path in label_paths:
        if not path.endswith(".json"):
            raise ValueError(f"label_paths must be synthetic.json lists, got {path}: images of a folder have no class")
    twice = listed_twice([synthetic_path, *label_paths])
    if twice:
        raise ValueError(
            f"label_paths must list each set once, and not that of synthetic_path, got {twice} twice;"
            " give the sets of the other classes"
        )


def _refuse_other_generator(path: str, synthetic_path: str) -> None:
    if not synthetic_path.endswith(".json"):
        return  # the images of a folder are of nobody known
    other, own = (read_list(name, "synthetic").get("provenance") or {} for name in (path, synthetic_path))
    for key in ("cohort", "method", "fold"):
        if own and other.get(key) != own.get(key):
            raise ValueError(
                f"label_paths must be of the {key} {own.get(key)!r} of synthetic_path, got {other.get(key)!r} in"
                f" {path}; give the sets of the same generator"
            )
