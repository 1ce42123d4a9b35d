from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path

import pytest

from scripts.image_quality.reader_study import ReaderStudy
from scripts.patches.pictures import mosaic, png_bytes
from scripts.patches.tensors import load_patch
from scripts.provenance.leakage import LeakageError
from scripts.provenance.record import hash_subjects
from scripts.running.files import read_json, write_json
from scripts.splits.lists import read_list
from tests.helpers import run_stage
from tests.patches import write_tiny_patches

SIZE = (8, 12)


def write_set(folder: Path, method: str, label: int, seed: int, cohort: str = "tiny") -> str:
    """Write a synthetic set of six images of one class, drawn like the patches."""
    drawn = write_tiny_patches(folder, SIZE, seed=seed)
    listing = read_json(drawn["patches_path"])
    entries = [{"image": row["image"], "label": label} for row in listing["training"] if row["label"] == label]
    provenance = {"cohort": cohort, "method": method, "fold": 0, "subjects": hash_subjects(["LGG_subject_0"])}
    path = folder / "synthetic.json"
    write_json(path, {**listing, "provenance": provenance, "training": entries})
    return str(path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Patches of twelve patients and four synthetic sets: two methods of two classes."""
    folder = tmp_path_factory.mktemp("reader")
    patches = write_tiny_patches(folder / "patches", SIZE)["patches_path"]
    sets = [
        write_set(folder / f"{method}_{label}", method, label, seed=10 + 2 * number + label)
        for number, method in enumerate(("ddpm", "pca_gaussian"))
        for label in (0, 1)
    ]
    return {"patches_path": patches, "synthetic_paths": sets}


def written(made, folder: Path, **settings) -> Path:
    ReaderStudy(**made, output_dir=str(folder), **{"num_pictures": 3, **settings}).run()
    return folder


@pytest.fixture(scope="module")
def study(made, tmp_path_factory):
    return written(made, tmp_path_factory.mktemp("study"))


def sheet_of(page: str) -> dict:
    """What the page of a test saves, before any answer."""
    return json.loads(re.search(r'<script type="application/json" id="sheet">(.*?)</script>', page, re.DOTALL)[1])


def test_as_many_real_as_synthetic_pictures_of_each_class_are_shown(study):
    pictures = read_list(study / "reader_key.json", "reader_key")["pictures"]
    kinds = [(picture["source"], picture["method"], picture["class_name"]) for picture in pictures]
    for name in ("LGG", "HGG"):
        assert kinds.count(("real", None, name)) == 6
        assert kinds.count(("synthetic", "ddpm", name)) == kinds.count(("synthetic", "pca_gaussian", name)) == 3
    patients = [picture["patient"] for picture in pictures if picture["source"] == "real"]
    assert len(set(patients)) == len(patients)


def test_a_picture_shows_the_four_modalities_of_the_image_that_the_key_names(study):
    for picture in read_json(study / "reader_key.json")["pictures"][:6]:
        image = load_patch(picture["image"], 4).numpy()
        expected = png_bytes(mosaic(image, num_columns=4))
        assert (study / "for_readers" / "pictures" / picture["picture"]).read_bytes() == expected


def test_what_is_handed_out_holds_nothing_of_the_key(study):
    handed_out = sorted(path.relative_to(study / "for_readers") for path in (study / "for_readers").rglob("*.*"))
    names = [f"picture_{number:03d}.png" for number in range(1, 25)]
    assert [path.as_posix() for path in handed_out] == ["answer_sheet.html", *(f"pictures/{name}" for name in names)]
    key = read_json(study / "reader_key.json")
    page = (study / "for_readers" / "answer_sheet.html").read_text(encoding="utf-8")
    words = re.sub(r'src="data:image/png;base64,[^"]*"', "", page)
    for secret in ("ddpm", "pca_gaussian", "subject_", ".nii", str(study), key["content_sha256"]):
        assert secret not in words
    # Beyond its picture, each question is the same but for its number.
    parts = re.findall(r'<section class="picture".*?</section>', words, re.DOTALL)
    assert len(parts) == 24
    plain = {re.sub(r"\d+", "#", part) for part in parts}
    assert len(plain) == 1
    asked = dict.fromkeys(["source", "source_confidence", "class_name", "class_confidence"])
    assert sheet_of(page)["answers"] == [{"picture": name, **asked} for name in names]


def test_the_page_holds_its_pictures_and_loads_nothing(study):
    page = (study / "for_readers" / "answer_sheet.html").read_text(encoding="utf-8")
    sources = re.findall(r'<img src="data:image/png;base64,([^"]*)"', page)
    files = sorted((study / "for_readers" / "pictures").iterdir())
    assert [base64.b64decode(source) for source in sources] == [path.read_bytes() for path in files]
    assert not re.search(r"https?:|fetch\(|XMLHttp|@import|url\(", re.sub(r'src="data:[^"]*"', "", page))


def test_a_seed_gives_one_order_and_another_seed_another(made, study, tmp_path):
    again, other = written(made, tmp_path / "again"), written(made, tmp_path / "other", seed=1)
    for path in [path for path in study.rglob("*") if path.is_file()]:
        assert (again / path.relative_to(study)).read_bytes() == path.read_bytes()
    own, others = (read_json(folder / "reader_key.json") for folder in (study, other))
    assert own["study"] != others["study"]
    orders = [[picture["source"] for picture in key["pictures"]] for key in (own, others)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) != orders[0]


def test_the_class_is_asked_only_where_it_is_wanted(made, tmp_path):
    folder = written(made, tmp_path, asks_class=False)
    page = (folder / "for_readers" / "answer_sheet.html").read_text(encoding="utf-8")
    assert "Which class?" not in page
    assert set(sheet_of(page)["answers"][0]) == {"picture", "source", "source_confidence"}


def test_a_test_without_enough_patients_or_images_is_refused(made, tmp_path):
    with pytest.raises(ValueError, match="got 8 wanted of 6 patients of class LGG in .*patches.json; ask for fewer"):
        written(made, tmp_path, num_pictures=4)
    with pytest.raises(ValueError, match="got 7 wanted of 6 images of ddpm, class LGG"):
        written({**made, "synthetic_paths": made["synthetic_paths"][:1]}, tmp_path, num_pictures=7)
    with pytest.raises(ValueError, match="reader_num_pictures must be at least 2, got 1"):
        written(made, tmp_path, num_pictures=1)
    assert not (tmp_path / "reader_key.json").exists()


def test_sets_that_do_not_fit_the_patches_are_refused(made, tmp_path):
    with pytest.raises(ValueError, match="must list each set once"):
        written({**made, "synthetic_paths": made["synthetic_paths"][:1] * 2}, tmp_path)
    with pytest.raises(ValueError, match="must list at least one"):
        written({**made, "synthetic_paths": []}, tmp_path)
    other = write_set(tmp_path / "other", "ddpm", 0, seed=3, cohort="another")
    with pytest.raises(ValueError, match="must be of cohort 'tiny', as .* is, got 'another'"):
        written({**made, "synthetic_paths": [other]}, tmp_path)
    unknown = Path(shutil.copytree(Path(made["synthetic_paths"][0]).parent, tmp_path / "unknown")) / "synthetic.json"
    write_json(unknown, {**read_json(unknown), "provenance": None})
    with pytest.raises(LeakageError, match="must carry the provenance"):
        written({**made, "synthetic_paths": [str(unknown)]}, tmp_path)
    scaled = read_json(made["synthetic_paths"][0])
    write_json(unknown, {**scaled, "intensity_mode": "zscore"})
    with pytest.raises(ValueError, match="must have intensity_mode 'percentile'"):
        written({**made, "synthetic_paths": [str(unknown)]}, tmp_path)


def test_a_filled_sheet_comes_back_as_results(made, study, tmp_path):
    run_stage("reader_study", **made, output_dir=str(tmp_path / "study"), reader_num_pictures=3)
    for path in [path for path in study.rglob("*") if path.is_file()]:
        assert (tmp_path / "study" / path.relative_to(study)).read_bytes() == path.read_bytes()
    sheet = sheet_of((tmp_path / "study" / "for_readers" / "answer_sheet.html").read_text(encoding="utf-8"))
    truth = {picture["picture"]: picture for picture in read_json(tmp_path / "study" / "reader_key.json")["pictures"]}
    sheet["reader"] = "Ada"
    for answer in sheet["answers"]:
        own = truth[answer["picture"]]
        answer |= {"source": own["source"], "source_confidence": 4, "class_name": own["class_name"]}
        answer["class_confidence"] = 2
    (tmp_path / "answers").mkdir()
    write_json(tmp_path / "answers" / "ada.json", sheet)
    run_stage(
        "reader_results",
        reader_key_path=str(tmp_path / "study" / "reader_key.json"),
        reader_answers_dir=str(tmp_path / "answers"),
        output_dir=str(tmp_path / "results"),
        num_bootstrap_draws=100,
    )
    (reader,) = read_json(tmp_path / "results" / "reader_results.json")["readers"]
    assert {row["tells"] for row in reader["sources"]} == {"yes"}
    assert {row["auc"]["value"] for row in reader["classes"]} == {1.0}
    assert (
        "Ada can tell pictures of ddpm from real ones: AUC 1.00" in (tmp_path / "results" / "summary.txt").read_text()
    )
