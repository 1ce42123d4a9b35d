"""A reader's test: shuffled pictures of real and synthetic images, the sheet for the answers, and the key apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np

from scripts.patches.image_sets import ImageSet, read_rows, require_made_alike
from scripts.patches.pictures import data_uri, draw_image, in_colors, mosaic, png_bytes
from scripts.provenance.image_form import image_facts, names_by_number
from scripts.provenance.leakage import seen_subjects
from scripts.provenance.task import GLIOMA, Task
from scripts.running.files import atomic_path, listed_twice, sha256_text, write_json, write_text
from scripts.splits.lists import image_path, read_list, with_digest
from scripts.splits.patients import patient_of

KEY = "reader_key.json"
HANDED_OUT = "for_readers"  # folder that holds nothing of the key
SHEET = "answer_sheet.html"
MIN_PICTURES = 2  # of each method and class: one has no spread
# Names of the levels 1 to 5 of a reader's confidence.
SURE = ("guessing", "unsure", "rather sure", "sure", "certain")


class Shown(NamedTuple):
    """A picture of the test.

    Args:
        png: the file.
        truth: what the key says of it, without its name.
    """

    png: bytes
    truth: dict[str, Any]


class ReaderStudy:
    """Pictures of real and synthetic images of one cohort for people who do not know which is which.

    No two real pictures are of one patient, so that pictures are the independent cases of every interval. There are as
    many real as synthetic pictures of each class, so that guessing is right in half of them.

    Args:
        patches_path: `patches.json` of the real images.
        synthetic_paths: `synthetic.json` of sets that were made from patients of this cohort; sets of one method and
            class, such as those of the folds, are one.
        output_dir: gets `reader_key.json` and the folder `for_readers` with the pictures and the answer sheet.
        num_pictures: synthetic pictures of each method and class, and as many real ones for each.
        asks_class: whether the readers say the class, too.
        title: of the sheet.
        seed: of what is drawn and of the order.
        task: what things are called.

    Raises:
        ValueError: if a set is given twice, there is none, or `num_pictures` is below 2.
    """

    def __init__(
        self,
        patches_path: str,
        synthetic_paths: Sequence[str],
        output_dir: str,
        num_pictures: int = 10,
        asks_class: bool = True,
        title: str = "Real or synthetic?",
        seed: int = 0,
        task: Task = GLIOMA,
    ) -> None:
        if num_pictures < MIN_PICTURES:
            raise ValueError(f"reader_num_pictures must be at least {MIN_PICTURES}, got {num_pictures!r}")
        if not synthetic_paths:
            raise ValueError("synthetic_paths must list at least one synthetic.json, got none")
        if twice := listed_twice(synthetic_paths):
            raise ValueError(f"synthetic_paths must list each set once, got {twice} twice; give each set once")
        self.patches_path, self.synthetic_paths = patches_path, list(synthetic_paths)
        self.output_dir = Path(output_dir)
        self.num_pictures, self.asks_class = num_pictures, asks_class
        self.title, self.seed, self.task = title, seed, task

    def run(self) -> Path:
        """Write pictures, sheet and key.

        Returns:
            Path of the answer sheet.

        Raises:
            ValueError: if there are too few patients or synthetic images of a class, or a set does not fit the patches.
            LeakageError: naming a synthetic set without provenance.
        """
        patches = read_list(self.patches_path, "patches")
        modalities = names_by_number(patches["modality"])
        random = np.random.default_rng(self.seed)
        drawn = self._draw(patches, random)
        shown = [drawn[index] for index in random.permutation(len(drawn))]
        names = [f"picture_{number:0{max(3, len(str(len(shown))))}d}.png" for number in range(1, len(shown) + 1)]
        sources = [data_uri(picture.png) for picture in shown]
        folder = self.output_dir / HANDED_OUT
        for name, picture in zip(names, shown, strict=True):
            with atomic_path(folder / "pictures" / name) as temporary:
                temporary.write_bytes(picture.png)
        facts: dict[str, Any] = {
            # Of what the reader has, the pictures and what is asked: from a hash of the key one could search for it.
            "study": sha256_text("".join([*sources, f"class asked: {self.asks_class}"]))[:16],
            "simulated": bool(patches["simulated"]),
            "asks_class": self.asks_class,
            "classes": names_by_number(patches["labels"]),
        }
        truths = [{"picture": name, **picture.truth} for name, picture in zip(names, shown, strict=True)]
        key = {**facts, "cohort": patches["name"], "seed": self.seed, "pictures": truths}
        write_json(self.output_dir / KEY, with_digest(key))
        page = {
            **facts,
            "title": self.title,
            "task": self.task,
            "modalities": modalities,
            "colors": in_colors(modalities),
            "pictures": sources,
            "levels": list(enumerate(SURE, start=1)),
            "sheet": blank_sheet(facts["study"], names, self.asks_class),
        }
        write_text(folder / SHEET, _render(page))
        return folder / SHEET

    def _draw(self, patches: Mapping[str, Any], random: np.random.Generator) -> list[Shown]:
        """Draw the synthetic pictures of each method and class, and as many real ones of each class."""
        probe = read_rows(self.patches_path, patches, patches["training"][:1])
        shown: list[Shown] = []
        needed: dict[str, int] = {}
        modalities = names_by_number(patches["modality"])
        for (method, class_name), sets in self._sets(patches["name"]).items():
            rows = [(path, row) for path, own in sets.items() for row in own]
            drawn = _choose(rows, self.num_pictures, f"images of {method}, class {class_name}", random)
            needed[class_name] = needed.get(class_name, 0) + self.num_pictures
            for path in sets:
                own = [row for other, row in drawn if other == path]
                images = read_rows(path, read_list(path, "synthetic"), own)
                if own:
                    require_made_alike(images, probe)
                truths = [_truth("synthetic", method, class_name, path, row) for row in own]
                shown += _pictures(images, truths, modalities)
        for class_name, number in needed.items():
            patients = _one_of_each_patient(patches, class_name, random)
            chosen = _choose(patients, number, f"patients of class {class_name} in {self.patches_path}", random)
            truths = [
                {**_truth("real", None, class_name, self.patches_path, row), "patient": patient_of(row)}
                for row in chosen
            ]
            shown += _pictures(read_rows(self.patches_path, patches, chosen), truths, modalities)
        return shown

    def _sets(self, cohort: str) -> dict[tuple[str, str], dict[str, list[Mapping[str, Any]]]]:
        """Map method and class to the rows of its sets, by path."""
        sets: dict[tuple[str, str], dict[str, list[Mapping[str, Any]]]] = {}
        for path in self.synthetic_paths:
            listing = read_list(path, "synthetic")
            provenance = listing.get("provenance") or {}
            seen_subjects(provenance, path)
            image_facts(listing, path)
            if provenance["cohort"] != cohort:
                raise ValueError(
                    f"{path} must be of cohort {cohort!r}, as {self.patches_path} is, got {provenance['cohort']!r};"
                    " real images of another cohort would be told by their site"
                )
            for row in listing["training"]:
                kind = (provenance["method"], listing["labels"][str(row["label"])])
                sets.setdefault(kind, {}).setdefault(path, []).append(row)
        return sets


def blank_sheet(study: str, names: Sequence[str], asks_class: bool) -> dict[str, Any]:
    """Return what the answer sheet saves, before any answer: null stands where a reader is to say something.

    Args:
        study: name of the test.
        names: of the pictures.
        asks_class: whether the readers say the class, too.
    """
    asked = ["source", "source_confidence", *(["class_name", "class_confidence"] if asks_class else [])]
    return {"study": study, "reader": "", "answers": [{"picture": name, **dict.fromkeys(asked)} for name in names]}


def _choose(rows: Sequence[Any], number: int, what: str, random: np.random.Generator) -> list[Any]:
    if len(rows) < number:
        raise ValueError(
            f"reader_num_pictures must leave enough to draw from, got {number} wanted of {len(rows)} {what}; ask for"
            " fewer, or give more sets of this method"
        )
    return [rows[index] for index in random.permutation(len(rows))[:number]]


def _one_of_each_patient(
    patches: Mapping[str, Any], class_name: str, random: np.random.Generator
) -> list[Mapping[str, Any]]:
    """Draw one patch of each patient of a class."""
    of_patients: dict[str, list[Mapping[str, Any]]] = {}
    for row in patches["training"]:
        if row["label"] is not None and patches["labels"][str(row["label"])] == class_name:
            of_patients.setdefault(patient_of(row), []).append(row)
    return [rows[random.integers(len(rows))] for rows in of_patients.values()]


def _truth(source: str, method: str | None, class_name: str, path: str, row: Mapping[str, Any]) -> dict[str, Any]:
    return {"source": source, "method": method, "class_name": class_name, "image": image_path(path, row)}


def _pictures(images: ImageSet, truths: Sequence[dict[str, Any]], modalities: Sequence[str]) -> list[Shown]:
    """Draw images in their colors, or with their modalities in one row."""
    drawn = [
        draw_image(image, modalities) if in_colors(modalities) else mosaic(image, num_columns=len(image))
        for image in images.images.numpy()
    ]
    return [Shown(png_bytes(image), truth) for image, truth in zip(drawn, truths, strict=True)]


def _render(page: Mapping[str, Any]) -> str:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("reader_study.html.j2").render(page)
