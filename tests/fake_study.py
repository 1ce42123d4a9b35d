"""Files of a finished study, drawn at random: what the stages leave for the report, without training anything."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
import yaml

from scripts.explanations.attributions import NO_SHARES, Attributor
from scripts.explanations.cases import KINDS, choose_cases, rows_of_role
from scripts.explanations.pictures import METHOD_TITLES, draw_attributions
from scripts.explanations.sanity_checks import describe_correlations
from scripts.explanations.stage import DPI
from scripts.memorization.audit import MemorizationAudit
from scripts.memorization.suspicious_pairs import SuspiciousPair, write_pairs
from scripts.patches.image_sets import ImageSet
from scripts.patches.pictures import save_picture
from scripts.provenance.record import hash_subject
from scripts.running.files import read_csv, write_csv, write_json
from tests.helpers import list_header

MODALITIES = ("t1n", "t1c", "t2w", "t2f")
CLASSES = ("LGG", "HGG")
SETUPS = {"real": 0.9, "augmentation": 1.0, "ddpm": 1.1, "ddpm_mi": 1.4}
METHODS = ("ddpm", "ddpm_mi")
SITES = {"site_a": ("A1", "A2"), "site_b": ("B", "B")}
COLUMNS = (
    "direction",
    "setup",
    "role",
    "cohort",
    "subject_id",
    "site",
    "label",
    "fold",
    "lesion_volume_ml",
    "logit_LGG",
    "logit_HGG",
    "probability_LGG",
    "probability_HGG",
)


def write_fake_study(study_dir: Path, num_subjects: int = 40, size: tuple[int, int] = (13, 11)) -> list[str]:
    """Write two simulated cohorts with four setups below `study_dir` and return the names of the stages."""
    random = np.random.default_rng(0)
    cohorts = {name: _subjects(name, num_subjects, random) for name in ("site_a", "site_b")}
    names: list[str] = []
    for name, subjects in cohorts.items():
        names += _write_data(study_dir, name, subjects, size, random)
        names += [stage for method in METHODS for stage in _write_synthesis(study_dir, name, method, size, random)]
        names += [_write_classifier(study_dir, name, setup, random) for setup in SETUPS]
        names += [_write_evaluation(study_dir, name, setup, cohorts, random) for setup in SETUPS]
        names.append(_write_explanations(study_dir, name, "real", size))
    for stage in names:
        _write_record(study_dir / stage, stage)
    return names


def _subjects(cohort: str, count: int, random: np.random.Generator) -> list[dict[str, Any]]:
    grades = random.random(count) < 0.7
    return [
        # Site A sends its patients from two hospitals, B from one.
        {"subject_id": f"{cohort}-{index:03d}", "site": SITES[cohort][index % 2], "grade": CLASSES[int(grade)]}
        for index, grade in enumerate(grades)
    ]


def _write_data(
    root: Path, cohort: str, subjects: list[dict[str, Any]], size: tuple[int, int], random: np.random.Generator
) -> list[str]:
    left_out = [{"subject_id": f"{cohort}-900", "reason": "no grade in name_mapping.csv"}]
    common = {"name": cohort, "simulated": True}
    content = {**common, "layout": "phantom", "modalities": MODALITIES, "subjects": subjects, "left_out": left_out}
    write_json(root / cohort / "cohort" / "cohort.json", content)
    entries = []
    for subject in subjects:
        label = CLASSES.index(subject["grade"])
        _write_patch(root / cohort / "patches" / f"{subject['subject_id']}.nii.gz", _image(size, label, 0.15, random))
        region = "enhancing" if random.random() < 0.8 else "core"
        entries.append(
            {"image": f"{subject['subject_id']}.nii.gz", "label": label, **subject, "region": region, "slice": 5}
        )
    write_json(root / cohort / "patches" / "patches.json", {**_listing(cohort, size), "training": entries})
    ids = [subject["subject_id"] for subject in subjects]
    cut = len(ids) // 4
    halves = _halves(ids[cut:])
    folds = [{"train": b[6:], "inner": b[:6], "validation": a} for a, b in (halves, halves[::-1])]
    splits: dict[str, Any] = {"cohort": cohort, "seed": 0, "num_folds": 2, "test": ids[:cut], "folds": folds}
    if cohort == "site_b":
        splits["held_out_sites"] = [["Lyon", "Oslo"], ["Porto"]]
    write_json(root / cohort / "splits" / "splits.json", splits)
    return [f"{cohort}/cohort", f"{cohort}/patches", f"{cohort}/splits"]


def _halves(items: list[Any]) -> tuple[list[Any], list[Any]]:
    middle = len(items) // 2
    return items[:middle], items[middle:]


def _write_synthesis(
    root: Path, cohort: str, method: str, size: tuple[int, int], random: np.random.Generator
) -> list[str]:
    names = []
    for label, grade in enumerate(CLASSES):
        generator, synthetic, audit, measures = (
            f"{cohort}/fold0/{kind}_{grade}_{method}" for kind in ("generator", "synthetic", "audit", "measures")
        )
        rows = [
            {
                "epoch": epoch,
                "steps": 50 * epoch,
                "loss": 1 / epoch,
                "noise_loss": 1 / epoch,
                "mutual_information": 0.3 if method == "ddpm_mi" else None,
                "noise_levels": _noise_levels() if method == "ddpm_mi" else [],
                "val_noise_loss": 1.2 / epoch,
            }
            for epoch in range(1, 9)
        ]
        write_json(root / generator / "metrics.json", rows)
        write_json(root / generator / "provenance.json", {"method": method})
        entries = [{"image": f"{grade}_{k:04d}.nii.gz", "label": label, "k": k, "seed": 0} for k in range(8)]
        for entry in entries:
            _write_patch(root / synthetic / str(entry["image"]), _image(size, label, 0.4, random))
        provenance = {"cohort": cohort, "method": method, "fold": 0, "subjects": [hash_subject(f"{cohort}-030")]}
        sampler = {"scheduler": "ddim", "num_inference_steps": 20, "simulated": True}
        listing = {**_listing(cohort, size), "provenance": {**provenance, **sampler}, "training": entries}
        write_json(root / synthetic / "synthetic.json", listing)
        _write_audit(root / audit, provenance, grade, random)
        _write_measures(root / measures, provenance, grade, random)
        names += [generator, synthetic, audit, measures]
    return names


def write_empty_set(folder: Path, method: str, **provenance: Any) -> None:
    """Write the `synthetic.json` of a method without images, for tests that read its provenance alone."""
    known = {"cohort": "site_a", "method": method, "fold": 0, "subjects": [hash_subject("site_a-030")]}
    content = {**_listing("site_a", (8, 8)), "provenance": {**known, **provenance}, "training": []}
    write_json(folder / "synthetic.json", content)


def _noise_levels() -> list[dict[str, Any]]:
    level = {"noise_loss": 0.1, "mutual_information": 0.4, "gradient_ratio": 1.75}
    nothing = dict.fromkeys(level)
    return [{"from": 0.0, "to": 0.5, **level}, {"from": 0.5, "to": 1.0, **nothing}]


def _write_audit(folder: Path, provenance: dict[str, Any], grade: str, random: np.random.Generator) -> None:
    real = [random.uniform(-1, 1, (4, 8, 8)).astype(np.float32) for _ in range(12)]
    names = [f"S{index}" for index in range(12)]
    training, held_out = (
        ImageSet(torch.from_numpy(np.stack(real[part])), names[part]) for part in (slice(8), slice(8, 12))
    )
    synthetic = torch.from_numpy(random.uniform(-1, 1, (8, 4, 8, 8)).astype(np.float32))
    result = MemorizationAudit(max_shift=1, num_permutations=99)(synthetic, training, held_out)
    content = {name: provenance[name] for name in ("cohort", "method", "fold")}
    write_json(folder / "audit.json", {**content, "thresholds": {"copy_ratio": 0.5}, "classes": {grade: result}})
    pair = SuspiciousPair(synthetic[0], training.images[0], f"{grade}_0000.nii.gz", "S0", 0.95, 0.2, False)
    write_pairs(folder / "suspicious_pairs.png", [pair], max_shift=1)


def _write_measures(folder: Path, provenance: dict[str, Any], grade: str, random: np.random.Generator) -> None:
    common = {"num_synthetic": 8, "num_real": 6, "p_value": None, "low": None, "high": None, "ratio": None}
    floor = {"mean": 0.01, "sd": 0.02, "low": -0.03, "high": 0.05, "n": 3, "num_splits": 10}
    network = "resnet10 trained on the fold's real images"
    distance = {"measure": "KD", "network": network, "direction": "lower is better", "value": random.uniform(0.1, 0.2)}
    missing = {"measure": "recall", "network": network, "direction": "higher is better", "value": None, "floor": None}
    rows = [
        {**common, **distance, "p_value": 0.03, "low": 0.05, "high": 0.3, "floor": floor, "value_at_floor_n": 0.1},
        {**common, **missing, "value_at_floor_n": None, "reason": "recall needs at least 6 synthetic images"},
    ]
    rows = [{"reason": None, "range": "", **row} for row in rows]
    content = {name: provenance[name] for name in ("cohort", "method", "fold")}
    left_out = [{"network": "Inception-v3", "reason": "no weights; put the file there"}]
    finished = provenance["method"] == "ddpm_mi"
    area = {"value": 0.95 if finished else 0.7, "low": 0.6, "high": 0.99, "num_images": 16, "real": 0.9, "num_real": 12}
    reasons = [] if finished else ["label AUC 0.70 is below the gate 0.8; real images reach 0.90"]
    judged = {"verdict": "finished" if finished else "unfinished", "reasons": reasons}
    judged |= {"coverage": 0.7, "real_coverage": 0.8}
    classes = {grade: {"num_synthetic": 8, "num_real": 6, "measures": rows, "gate": judged}}
    content |= {"gate": {"label_auc": 0.8, "coverage": 0.6}, "label_auc": {**area, "reason": None}}
    content |= {"real_parts": ["validation"], "left_out": left_out, "classes": classes}
    write_json(folder / "measures.json", content)


def _write_classifier(root: Path, cohort: str, setup: str, random: np.random.Generator) -> str:
    rows = [
        {
            "epoch": epoch,
            "steps": 10 * epoch,
            "loss": 0.7 / epoch,
            "learning_rate": 3e-4,
            "selection_loss": 0.8 / epoch + random.random() / 9,
        }
        for epoch in range(1, 9)
    ]
    write_json(root / cohort / "fold0" / f"classifier_{setup}" / "metrics.json", rows)
    return f"{cohort}/fold0/classifier_{setup}"


def _write_evaluation(
    root: Path, cohort: str, setup: str, cohorts: dict[str, list[dict[str, Any]]], random: np.random.Generator
) -> str:
    other = next(name for name in cohorts if name != cohort)
    cut = len(cohorts[cohort]) // 4
    groups = [
        *(("out_of_fold", cohort, half, fold, 1.0) for fold, half in enumerate(_halves(cohorts[cohort][cut:]))),
        ("locked_test", cohort, cohorts[cohort][:cut], -1, 1.0),
        ("external", other, cohorts[other], -1, 0.6),
    ]
    folder = root / cohort / f"evaluation_{setup}"
    write_csv(folder / "predictions.csv", _answers(cohort, setup, groups, random), COLUMNS)
    halves = _halves(cohorts[cohort][cut:])
    inner = [("inner", cohort, halves[1 - fold][:6], fold, 1.0) for fold in range(2)]
    write_csv(folder / "inner_predictions.csv", _answers(cohort, setup, inner, np.random.default_rng(1)), COLUMNS)
    write_json(folder / "metrics.json", {"direction": cohort, "setup": setup, "ensemble": "mean_probability"})
    return f"{cohort}/evaluation_{setup}"


def _answers(
    cohort: str, setup: str, groups: list[tuple[str, str, Any, int, float]], random: np.random.Generator
) -> list[dict[str, Any]]:
    """Draw answers to the subjects of each group: role, cohort, subjects, fold, and how well they are told apart."""
    rows = []
    for role, tested, subjects, fold, skill in groups:
        for subject in subjects:
            label = CLASSES.index(subject["grade"])
            logit = float(SETUPS[setup] * skill * (2 * label - 1) + random.normal())
            probability = 1 / (1 + np.exp(-logit))
            volume_ml = 3.1 + 2 * label + int(subject["subject_id"][-3:]) % 9
            who = (subject["subject_id"], subject["site"], subject["grade"], fold, volume_ml)
            key = (cohort, setup, role, tested, *who)
            rows.append(dict(zip(COLUMNS, (*key, 0.0, logit, 1 - probability, probability), strict=True)))
    return rows


def _write_explanations(root: Path, cohort: str, setup: str, size: tuple[int, int]) -> str:
    """Explain three answers as the stage does, but for the maps, which are drawn at random."""
    random = np.random.default_rng(1)
    folder = root / cohort / f"explain_{setup}"
    attributor = Attributor(num_superpixels=8, num_samples=100)
    role, rows = rows_of_role(read_csv(root / cohort / f"evaluation_{setup}" / "predictions.csv"), ["external"])
    cases = []
    for case in choose_cases(rows, {name: label for label, name in enumerate(CLASSES)}, 1):
        maps = {name: random.normal(size=(1 if name == "gradcam" else 4, *size)) for name in attributor.methods}
        shares = {name: None if name == "gradcam" else random.dirichlet(np.ones(4)).tolist() for name in maps}
        titles = {METHOD_TITLES[name]: name for name in maps}
        figure = draw_attributions(
            _image(size, case.label, 0.15, random),
            {title: maps[name] for title, name in titles.items()},
            list(MODALITIES),
            {title: shares[name] for title, name in titles.items()},
            simulated=True,
        )
        save_picture(figure, folder / f"{case.name}.png", DPI)
        methods = {
            name: {
                "shares": None if shares[name] is None else dict(zip(MODALITIES, shares[name], strict=True)),
                "fit": 0.8 if name == "lime" else None,
                "sanity": {"signed": [0.1], "absolute": [0.2]},
            }
            for name in maps
        }
        cases.append(
            {
                **{name: getattr(case, name) for name in ("kind", "rank", "cohort", "subject_id", "fold")},
                "label": CLASSES[case.label],
                "answer": CLASSES[case.answer],
                "probabilities": dict(zip(CLASSES, case.probabilities, strict=True)),
                "picture": f"{case.name}.png",
                "methods": methods,
            }
        )
    content = {
        "direction": cohort,
        "setup": setup,
        "role": role,
        "simulated": True,
        "modalities": MODALITIES,
        "classes": CLASSES,
        "settings": {**asdict(attributor), "num_randomized": 1},
        "no_shares": {"gradcam": NO_SHARES},
        "kinds_without_case": [kind for kind in KINDS if not any(case["kind"] == kind for case in cases)],
        "sanity": {name: describe_correlations([0.1], [0.2]) for name in attributor.methods},
        "cases": cases,
    }
    write_json(folder / "explanations.json", content)
    return f"{cohort}/explain_{setup}"


def _write_record(folder: Path, name: str) -> None:
    identity = {"settings": _settings(folder), "inputs": [], "num_threads": 1, "seed": 0, "code": {}}
    versions = {"python": "3.11.0", "torch": "2.13.0", "monai": "1.6.1"}
    common = {"key": "", "finished": True, "seconds": 2.5, **kind_and_place(name)}
    write_json(folder / "stage.json", {**common, "identity": identity, "versions": versions})
    config = {"seed": 0, "num_threads": 1, "output_dir": "somewhere", "patch_size": [13, 11], "device": "$cpu"}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


def kind_and_place(name: str) -> dict[str, Any]:
    """Return what a plan writes into the record of the stage of this name, such as "site_a/fold0/audit_LGG_ddpm"."""
    cohort, *folds, folder = name.split("/")
    kind, _, rest = folder.partition("_")
    class_name, _, method = rest.partition("_")
    fold = {"fold": int(folds[0].removeprefix("fold"))} if folds else {}
    if kind in ("generator", "synthetic", "audit", "measures"):
        names = {"class_name": class_name, "method": method}
    else:
        names = {"setup": rest} if rest else {}
    return {"kind": kind, "belongs_to": {"cohort": cohort, **fold, **names}}


def _settings(folder: Path) -> dict[str, Any]:
    """What a stage of this name reads of its config, some of it."""
    kind, *names = folder.name.split("_")
    common = {"seed": 0, "num_threads": 1, "patch_size": [13, 11], "modalities": list(MODALITIES)}
    fold = {"fold": int(folder.parent.name.removeprefix("fold"))} if folder.parent.name.startswith("fold") else {}
    if kind == "cohort":
        return {**common, "phantom_site": folder.parent.name[-1].upper()}
    if kind == "generator":
        method = "_".join(names[1:])
        own = {"mi_weight": 0.1, "mi_num_bins": 23} if method == "ddpm_mi" else {}
        loss = {"_target_": "scripts.mutual_information.loss.MIRegularizedNoiseLoss", "mi_weight": "@mi_weight"}
        train = {"loss_function": loss if own else "@denoising_loss"}
        named = {"generator_class": names[0], "method": method, "generator_max_epochs": 8}
        return {
            **common,
            **fold,
            **named,
            **own,
            "denoising_loss": {"_target_": "torch.nn.SmoothL1Loss"},
            "train": train,
        }
    if kind == "classifier":
        setup = "_".join(names)
        method = setup if setup in METHODS else None
        return {**common, **fold, "setup": setup, "synthetic_method": method, "classifier_backbone": "resnet10"}
    return {**common, **fold}


def _listing(cohort: str, size: tuple[int, int]) -> dict[str, Any]:
    return {"name": cohort, **list_header(MODALITIES, {"LGG": 0, "HGG": 1}, size, spacing_mm=3.0)}


def _image(size: tuple[int, int], label: int, noise: float, random: np.random.Generator) -> np.ndarray:
    x, y = np.meshgrid(*(np.linspace(-1, 1, n) for n in size), indexing="ij")
    radius = np.hypot(x, y)
    ring = np.exp(-(((radius - 0.45) / 0.2) ** 2)) * (0.6 + 0.4 * label)
    planes = [ring * weight - 0.3 + random.normal(size=size) * noise for weight in (0.3, 1.2, 0.9, 0.7)]
    return np.where(radius < 1, np.clip(planes, -1, 1), -1).astype(np.float32)


def _write_patch(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.moveaxis(image, 0, -1)[:, :, None], np.eye(4)), path)
