"""The stage that explains single answers of an evaluation: maps, shares of the modalities, and a sanity check."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scripts.classifier.networks import FoldEnsemble
from scripts.explanations.attributions import Attribution, Attributor
from scripts.explanations.cases import KINDS, Case, choose_cases, rows_of_role
from scripts.explanations.pictures import METHOD_TITLES, draw_attributions
from scripts.explanations.sanity_checks import describe_correlations, map_correlation, randomize
from scripts.patches.intensities import foreground
from scripts.patches.pictures import save_picture
from scripts.patches.tensors import load_images
from scripts.provenance.image_form import ImageForm, image_facts, recorded_images, require_same_images
from scripts.provenance.record import read_provenance
from scripts.running.files import read_csv, read_json, write_json
from scripts.running.progress import progress
from scripts.splits.lists import read_list
from scripts.splits.parts import load_part

TOLERANCE = 0.01  # of a probability: other devices round otherwise, other weights differ by more
DPI = 140


class Explanations:
    """Explanations of some answers of one evaluation.

    Args:
        weights_path: the evaluation's `model.pt`, with `provenance.json` beside it.
        predictions_path: `predictions.csv` of the same evaluation.
        patches_paths: `patches.json` of every cohort that the predictions name.
        network: those weights in their `FoldEnsemble`, on the device, in evaluation mode.
        attributor: methods and their settings.
        form: of the images.
        output_dir: gets `explanations.json` and one PNG per case.
        roles: the first that the predictions hold is explained.
        num_cases: of each kind; see `choose_cases`.
        num_randomized: networks of random weights that each map is compared with.
        seed: of these networks.
        device: where the network is.
    """

    def __init__(
        self,
        weights_path: str,
        predictions_path: str,
        patches_paths: Sequence[str],
        network: FoldEnsemble,
        attributor: Attributor,
        form: ImageForm,
        output_dir: str,
        roles: Sequence[str] = ("external", "out_of_fold"),
        num_cases: int = 1,
        num_randomized: int = 3,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        if num_randomized < 1:
            raise ValueError(f"explain_num_randomized must be at least 1, got {num_randomized!r}")
        self.provenance = read_provenance(weights_path)
        self.role, rows = rows_of_role(read_csv(predictions_path), roles)
        self.direction, self.setup = rows[0]["direction"], rows[0]["setup"]
        self.cases = choose_cases(rows, form.classes, num_cases)
        listings = {path: read_list(path, "patches") for path in patches_paths}
        self.patches = {str(listing["name"]): path for path, listing in listings.items()}
        self.network, self.attributor = network, attributor
        self.form, self.modalities, self.names = form, list(form.modalities), form.class_names
        self.output_dir = Path(output_dir)
        self.num_randomized, self.seed, self.device = num_randomized, seed, torch.device(device)
        self._refuse_other_setup()
        trained_on = recorded_images(self.provenance, weights_path)
        for path, listing in listings.items():
            require_same_images(trained_on, image_facts(listing, path), path, weights_path)

    def run(self) -> None:
        """Explain the cases that are not explained yet, then write `explanations.json`."""
        cases = [self.result_of(case) for case in progress(self.cases, len(self.cases), "explanations")]
        content = {
            "direction": self.direction,
            "setup": self.setup,
            "role": self.role,
            "simulated": bool(self.provenance["simulated"]),
            "modalities": self.modalities,
            "classes": self.names,
            "settings": {**asdict(self.attributor), "num_randomized": self.num_randomized},
            "versions": {name: importlib.metadata.version(name) for name in ("captum", "scikit-image", "monai")},
            "no_shares": self.attributor.no_shares,
            "kinds_without_case": [kind for kind in KINDS if not any(case.kind == kind for case in self.cases)],
            "sanity": {method: _pooled(cases, method) for method in self.attributor.methods},
            "cases": cases,
        }
        write_json(self.output_dir / "explanations.json", content)

    def result_of(self, case: Case) -> dict[str, Any]:
        """Explain a case, or read what a run that was stopped has explained already."""
        checkpoint = self.output_dir / "checkpoints" / f"{case.name}.json"
        if not checkpoint.is_file():
            write_json(checkpoint, self.explain_case(case))
        return dict(read_json(checkpoint))

    def explain_case(self, case: Case) -> dict[str, Any]:
        """Explain one case and write its picture.

        Returns:
            The case with, for each method, `shares`, `fit` and `sanity`.

        Raises:
            ValueError: if the weights do not give the stored prediction for the patches.
        """
        network = self._network_of(case)
        image = self._image_of(case, network)
        attributions = self.attributor(network, image, case.answer)
        compared = [
            self.attributor(randomize(network, self.seed + draw), image, case.answer)
            for draw in range(self.num_randomized)
        ]
        self._draw(case, image, attributions)
        return {
            **{name: getattr(case, name) for name in ("kind", "rank", "cohort", "subject_id", "fold")},
            "label": self.names[case.label],
            "answer": self.names[case.answer],
            "probabilities": dict(zip(self.names, case.probabilities, strict=True)),
            "picture": f"{case.name}.png",
            "methods": {
                name: self._describe(attribution, [other[name] for other in compared], image)
                for name, attribution in attributions.items()
            },
        }

    def _describe(self, attribution: Attribution, compared: Sequence[Attribution], image: Tensor) -> dict[str, Any]:
        shown = foreground(image).cpu().numpy()
        pairs = [(attribution.values, other.values) for other in compared]
        sanity = {
            "signed": [map_correlation(*pair, shown) for pair in pairs],
            "absolute": [map_correlation(np.abs(a), np.abs(b), shown) for a, b in pairs],
        }
        shares = None if attribution.shares is None else dict(zip(self.modalities, attribution.shares, strict=True))
        return {"shares": shares, "fit": attribution.fit, "sanity": sanity}

    def _network_of(self, case: Case) -> nn.Module:
        if case.fold < 0:
            return self.network
        if case.fold >= len(self.network.members):
            raise ValueError(
                f"fold of {case.subject_id} must be below {len(self.network.members)}, the members of the weights,"
                f" got {case.fold}; give weights_path and predictions_path of one evaluation"
            )
        return self.network.members[case.fold]

    def _image_of(self, case: Case, network: nn.Module) -> Tensor:
        """Load the subject's patch; of several the one whose answer is nearest to the subject's."""
        if case.cohort not in self.patches:
            raise ValueError(
                f"explain_patches_paths must hold the patches of cohort {case.cohort!r}, got {sorted(self.patches)}"
            )
        items = load_part(self.patches[case.cohort], None, None, "all")
        own = [item for item in items if item["subject_id"] == case.subject_id]
        if not own:
            raise ValueError(f"{self.patches[case.cohort]} must hold subject {case.subject_id}, got no patch of it")
        images = load_images(own, self.form.num_channels, self.form.spatial_dims).to(self.device)
        with torch.no_grad():
            probabilities = network(images).double().softmax(dim=1).cpu()
        stored = torch.tensor(case.probabilities, dtype=torch.float64)
        if not torch.allclose(probabilities.mean(dim=0), stored, rtol=0, atol=TOLERANCE):
            raise ValueError(
                f"weights and patches must give the stored prediction of {case.subject_id},"
                f" {[round(p, 3) for p in case.probabilities]}, got"
                f" {[round(float(p), 3) for p in probabilities.mean(dim=0)]}; give weights_path, predictions_path and"
                " explain_patches_paths of one evaluation, made with ensemble mean_probability and temperature_scaling"
                " false, as model.pt answers"
            )
        return images[int((probabilities - stored).abs().sum(dim=1).argmin())]

    def _draw(self, case: Case, image: Tensor, attributions: Mapping[str, Attribution]) -> None:
        maps = {METHOD_TITLES[name]: attribution.values for name, attribution in attributions.items()}
        shares = {METHOD_TITLES[name]: attribution.shares for name, attribution in attributions.items()}
        simulated = bool(self.provenance["simulated"])
        figure = draw_attributions(
            image.cpu().numpy(), maps, self.modalities, shares, simulated, sides=self.form.spacing_mm is not None
        )
        save_picture(figure, self.output_dir / f"{case.name}.png", DPI)

    def _refuse_other_setup(self) -> None:
        if self.provenance.get("setup") != self.setup or self.direction not in self.provenance["cohorts"]:
            raise ValueError(
                f"weights_path must be of setup {self.setup!r} and cohort {self.direction!r}, as the predictions are,"
                f" got {self.provenance.get('setup')!r} and {self.provenance['cohorts']}; give both of one evaluation"
            )


def _pooled(cases: Sequence[Mapping[str, Any]], method: str) -> dict[str, Any]:
    checks = [case["methods"][method]["sanity"] for case in cases]
    return describe_correlations(
        *([value for check in checks for value in check[kind]] for kind in ("signed", "absolute"))
    )
