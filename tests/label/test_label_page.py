"""The page at `/` as a radiologist uses it: in a headless Chromium, by mouse and by keyboard alone, at two widths.

It labels and trains, and comes after `test_label_app`, which begins without labels.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
from urllib.parse import urlsplit

import nibabel as nib
import numpy as np
import pytest
import requests

from bundle.grading import grade
from scripts.provenance.record import read_provenance, record_path
from scripts.provenance.served_weights import kept_weights
from tests.helpers import ROOT
from tests.label.browser import Browser, find_chromium
from tests.label.conftest import serving_ours
from tests.label.server import TRAINING_S
from tests.tiny_subjects import AFFINE

pytest.importorskip("monailabel", reason="MONAI Label lives in an environment of its own: run make test-label")

CHROMIUM = find_chromium()
in_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
pytestmark = pytest.mark.timeout(400)
WIDE, NARROW = (1280, 900), (390, 844)
PLACE = re.compile(r"voxel \[(.*?)\]")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    started = Browser(CHROMIUM, tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


def show(browser, ours, size=WIDE):
    browser.complaints.clear()
    browser.requested.clear()
    browser.open(f"{ours.url}/", *size)
    browser.wait("document.querySelectorAll('#studies option').length === 2 && document.querySelector('#kept li')")


def choose(browser, study):
    """Choose a study by mouse and keyboard: a click into the list, then up or down."""
    browser.click("#studies", down=0.05)
    browser.press("Home" if study == "case001" else "End")
    browser.wait(f"document.getElementById('studies').value === {study!r}")
    browser.wait(
        "document.querySelectorAll('#panels canvas').length === 12 && !document.getElementById('grade').disabled"
    )
    browser.wait("[...document.querySelectorAll('#panels canvas')].every((canvas) => canvas.style.aspectRatio)")


def crosshair(browser):
    text = browser.evaluate("document.getElementById('place').textContent")
    return [int(number) for number in PLACE.search(text)[1].split(",")]


def probabilities(browser):
    browser.wait("document.querySelectorAll('.bar').length")
    rows = browser.evaluate(
        "[...document.querySelectorAll('.bar')].map((row) => ({...row.dataset, text: row.innerText}))"
    )
    for row in rows:
        assert f"{float(row['probability']):.3f}" in row["text"]
    return {row["class"]: float(row["probability"]) for row in rows}


def text(browser, selector):
    return browser.evaluate(f"document.querySelector({selector!r}).innerText")


def assert_forgotten(browser):
    assert text(browser, "#verdict") == "Put the crosshair into the lesion and grade."
    assert browser.evaluate("document.getElementById('label-save').disabled && !document.querySelector('.bar')")
    assert not browser.evaluate("document.getElementById('explained').offsetHeight")


def graded_by_command(world, tmp_path, image, click):
    (row,) = grade(str(image), str(tmp_path), str(world.bundle), click=click, explanation="none", device="cpu")
    return row


@in_chromium
@pytest.mark.parametrize("study", ["case001", "case002"])
def test_a_click_gives_the_probabilities_of_the_command_line_and_the_explanation(browser, ours, world, tmp_path, study):
    show(browser, ours)
    choose(browser, study)
    # The middle of a pixel: axial slices are 40 by 33 voxels, their columns from right, their rows from anterior.
    browser.click("canvas[data-plane=axial][data-modality=t2f]", 17.5 / 40, 18.5 / 33)
    ras = [40 - 1 - 17, 33 - 1 - 18, 11]
    click = ras if study == "case001" else [17, 18, 11]  # whose t1c runs from left and posterior
    assert crosshair(browser) == click
    browser.click("#grade")
    found = probabilities(browser)
    image = world.studies / ("case001.nii.gz" if study == "case001" else "case002")
    by_command = graded_by_command(world, tmp_path, image, click)
    assert found == pytest.approx(by_command["probabilities"], abs=1e-6)
    browser.wait(
        "document.getElementById('picture').naturalWidth > 100 && document.getElementById('explained').offsetHeight"
    )
    assert "gradcam" in text(browser, "#explained-by")
    weights = ours.ask("GET", "/page/about").json()["weights"]
    assert weights["sha256"] in text(browser, "#seen")
    assert str(weights["num_subjects"]) in text(browser, "#seen")
    assert "simulated only" in text(browser, "#seen")
    # Of weights that another test has trained further nobody knows the distance.
    assert text(browser, "#distance") == (by_command["training_distance"] or {"text": ""})["text"]
    assert browser.complaints == []
    origins = {urlsplit(address).netloc for address in browser.requested if not address.startswith("blob:")}
    assert origins == {urlsplit(ours.url).netloc}


@in_chromium
def test_the_graded_region_is_drawn_where_the_patch_lies(browser, ours):
    show(browser, ours)
    choose(browser, "case001")
    browser.click("canvas[data-plane=axial][data-modality=t1c]", 17.5 / 40, 18.5 / 33)
    yellow = """(() => {
      const canvas = document.querySelector('canvas[data-plane=axial][data-modality=t1c]');
      const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
      let count = 0;
      for (let i = 0; i < pixels.length; i += 4)
        if (pixels[i] > 240 && Math.abs(pixels[i + 1] - 213) < 12 && pixels[i + 2] < 100) count += 1;
      return count;
    })()"""
    letters = browser.evaluate(yellow)
    browser.click("#grade")
    assert set(probabilities(browser)) == {"LGG", "HGG"}
    assert browser.evaluate(yellow) > 2 * letters
    box = json.loads(browser.evaluate("document.getElementById('panels').dataset.graded"))
    crop = ours.infer("grade", "image=case001", files={"params": (None, '{"click": [22, 14, 11]}')}).json()["crop"]
    # Cells of the same size as voxels are of 1 mm, and the axes of the file run as those of the patch.
    first = nib.affines.apply_affine(np.linalg.inv(AFFINE) @ crop["affine"], [-0.5, -0.5, -0.5])
    sides = np.array([*(side * crop["spacing_mm"] for side in crop["size"]), 1])
    np.testing.assert_allclose(box["low"], first, atol=1e-6)
    np.testing.assert_allclose(box["high"], first + sides, atol=1e-6)
    # On another slice nothing was graded.
    browser.evaluate("document.querySelector('canvas[data-plane=axial]').focus()")
    browser.press("PageUp")
    browser.wait(f"{yellow} < {2 * letters}")


@in_chromium
def test_the_keyboard_alone_reaches_an_answer(browser, ours, world, tmp_path):
    show(browser, ours, NARROW)

    def tab_to(condition):
        for _ in range(40):
            if browser.evaluate(f"(() => {{ const e = document.activeElement; return {condition}; }})()"):
                return
            browser.press("Tab")
        raise AssertionError(f"Tab must reach {condition}")

    tab_to("e.id === 'studies'")
    browser.press("Home")
    browser.wait(
        "document.querySelectorAll('#panels canvas').length === 12 && !document.getElementById('grade').disabled"
    )
    tab_to("e.dataset.plane === 'axial'")
    start = crosshair(browser)
    browser.press("ArrowLeft", 2)
    browser.press("ArrowDown", 2)
    browser.press("PageDown")
    browser.press("PageUp", shift=True)
    browser.press("PageDown", 4)
    click = [start[0] + 2, start[1] - 2, start[2]]
    assert crosshair(browser) == click
    browser.press("Enter")
    found = probabilities(browser)
    image = world.studies / "case001.nii.gz"
    by_command = graded_by_command(world, tmp_path, image, click)
    assert found == pytest.approx(by_command["probabilities"], abs=1e-6)


@in_chromium
def test_nothing_is_wider_than_a_telephone_and_the_notice_stays_in_sight(browser, ours):
    notice = requests.get(f"{ours.url}/page/about", timeout=60).json()["weights"]["notice"]
    for size in (WIDE, NARROW):
        show(browser, ours, size)
        choose(browser, "case001")
        browser.click("canvas[data-plane=axial]", 17.5 / 40, 18.5 / 33)
        browser.click("#grade")
        browser.wait("document.getElementById('picture').naturalWidth > 100")
        assert browser.evaluate("document.documentElement.scrollWidth") <= size[0]
        browser.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        box = browser.evaluate("document.getElementById('notice').getBoundingClientRect().toJSON()")
        assert 0 <= box["top"] < box["bottom"] <= 150
        assert "For research only" in text(browser, "#notice")
        assert notice in text(browser, "#notice")


@in_chromium
def test_a_request_that_fails_shows_what_the_server_says(browser, ours):
    show(browser, ours)
    choose(browser, "case001")
    browser.click("canvas[data-plane=axial]", 0.01, 0.01)
    browser.click("#grade")
    browser.wait("document.getElementById('message').textContent")
    assert "must lie in the brain" in text(browser, "#message")
    assert text(browser, "#verdict") == "Not graded."
    browser.evaluate("(() => { const s = document.getElementById('studies'); s.options[0].value = '<b>gone</b>'; })()")
    browser.click("#studies", down=0.05)
    browser.press("End")
    browser.press("Home")
    browser.wait("document.getElementById('message').textContent.includes('one of the studies')")
    assert "<b>gone</b>" in text(browser, "#message")
    assert browser.evaluate("document.querySelectorAll('#message b').length") == 0


@in_chromium
def test_synthetic_images_are_drawn_and_can_be_saved(browser, ours):
    show(browser, ours)
    asked = {"class": "LGG", "seed": 3, "num_inference_steps": 2}
    browser.evaluate("document.getElementById('seed').value = 3; document.getElementById('steps').value = 2")
    browser.click("#draw-start")
    browser.wait("document.querySelectorAll('#drawn canvas').length === 4")
    assert "Synthetic LGG, seed 3: an image of no patient" in text(browser, "#drawn-state")

    sent = ours.infer("generate", "", "image", files={"params": (None, json.dumps(asked))}).content
    cells = np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(sent)).dataobj)[:, :, 0]
    for channel in range(4):
        width, pixels = browser.evaluate(
            f"(() => {{ const c = document.querySelectorAll('#drawn canvas')[{channel}];"
            " return [c.width, [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]]; })()"
        )
        shown = np.reshape(pixels, (-1, width, 4))[::-1, ::-1, 0].T
        assert np.abs(shown - 127.5 * (cells[..., channel] + 1)).max() <= 1
    assert browser.evaluate("document.getElementById('download').download") == "synthetic_LGG_3.nii.gz"


@in_chromium
def test_a_label_is_saved_trained_on_and_there_is_a_way_back(browser, ours):
    show(browser, ours)
    before = ours.ask("GET", "/weights/").json()["served"]
    choose(browser, "case001")
    browser.click("canvas[data-plane=axial]", 17.5 / 40, 18.5 / 33)
    browser.click("#grade")
    probabilities(browser)
    browser.click("#label-class input[value=HGG]")
    browser.click("#label-save")
    browser.wait("document.getElementById('labeled').textContent.includes('case001 is now labeled HGG')")
    assert "case001 (labeled)" in text(browser, "#studies")
    browser.evaluate("document.getElementById('epochs').value = 1")
    browser.click("#training-start")
    browser.wait("document.getElementById('training-state').textContent.startsWith('Training since')")
    browser.wait("document.getElementById('training-state').textContent.startsWith('Trained')", TRAINING_S)
    trained = ours.ask("GET", "/weights/").json()["served"]
    assert trained["started_from"] == before["sha256"]
    assert trained["sha256"] in text(browser, "#seen")
    assert_forgotten(browser)
    browser.click("#grade")
    browser.wait("document.getElementById('explained').offsetHeight")
    browser.click("#kept li:first-child button")
    browser.wait(f"document.getElementById('seen').innerText.includes({before['sha256']!r})")
    assert ours.ask("GET", "/weights/").json()["served"]["sha256"] == before["sha256"]
    assert_forgotten(browser)
    # Somebody else goes forth again between the answer and its explanation.
    browser.evaluate(
        "(() => { const ask = window.fetch; window.fetch = async (path, options) => {"
        f" if (path.includes('output=all')) await ask('/weights/{trained['id']}', {{ method: 'POST' }});"
        " return ask(path, options); }; })()"
    )
    browser.click("#grade")
    browser.wait("document.getElementById('message').textContent.includes('weights were replaced meanwhile')")
    assert trained["sha256"] in text(browser, "#seen")
    assert_forgotten(browser)


@in_chromium
def test_weights_that_a_stop_left_beside_another_record_can_be_replaced_on_the_page(browser, ours, world, tmp_path):
    bundle = shutil.copytree(world.bundle, tmp_path / "bundle")
    served = bundle / "models" / "model.pt"
    kept = next(iter(kept_weights(served).values()))
    shutil.copyfile(record_path(kept), record_path(served))
    with serving_ours(world.studies, bundle, tmp_path, "--work", str(tmp_path / "work")) as server:
        told = server.ask("GET", "/weights/").json()
        assert (told["served"], server.ask("GET", "/page/about").json()["weights"]) == (None, None)
        assert {weights["id"] for weights in told["kept"]} > {kept.parent.name}
        assert (
            server.infer("grade", "image=case001", files={"params": (None, '{"click": [22, 14, 11]}')}).status_code
            == 503
        )
        show(browser, server)
        assert "do not belong together" in text(browser, "#notice")
        browser.click("#kept li:first-child button")
        sha256 = told["kept"][0]["sha256"]
        browser.wait(f"document.getElementById('seen').innerText.includes({sha256!r})")
        assert read_provenance(served)["weights_sha256"] == sha256
        assert "do not belong together" not in text(browser, "#notice")
        assert server.infer("grade", "image=case001", files={"params": (None, '{"click": [22, 14, 11]}')}).ok


def test_a_patient_one_of_whose_files_lies_elsewhere_is_neither_shown_nor_graded(ours, world):
    folder = shutil.copytree(world.studies / "case002", world.studies / "linked")
    try:
        file = next(folder.glob("*_t1.nii.gz"))
        file.unlink()
        file.symlink_to(next(world.secret.glob("*_t1.nii.gz")))
        image = f"image={next(folder.glob('*_t1ce.nii.gz'))}"
        told = ours.infer("grade", image, files={"params": (None, '{"click": [22, 14, 11]}')})
        assert (told.status_code, ours.ask("GET", f"/page/study?{image}").status_code) == (404, 404)
    finally:
        shutil.rmtree(folder)


def test_the_page_asks_nobody_else_and_puts_text_in_as_text(ours):
    answer = ours.ask("GET", "/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    folder = ROOT / "bundle" / "label_app" / "page"
    for path in folder.iterdir():
        content = path.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", content), (
            path
        )
        assert not re.search(r"(src|href)=\"(?!/page/)|@import|url\(", content), path
        assert re.findall(r"https?://\S+?\"", content) in ([], ['http://www.w3.org/2000/svg"']), path
        if path.name != "index.html":
            sent = ours.ask("GET", f"/page/{path.name}")
            assert sent.text == content
            assert "nosniff" in sent.headers["X-Content-Type-Options"]
    for name in ("../app.py", "app.py", "index.html", "..%2fapp.py"):
        assert ours.ask("GET", f"/page/{name}").status_code == 404


def test_slices_that_are_not_there_are_refused_by_name(ours):
    for query, status, reason in (
        ("image=nobody&modality=t1c&plane=axial&index=0", 404, "one of the studies"),
        ("image=case001&modality=t9&plane=axial&index=0", 404, "modality must be one of t1n, t1c, t2w, t2f"),
        ("image=case001&modality=t1c&plane=oblique&index=0", 404, "plane one of axial, coronal, sagittal"),
        ("image=case001&modality=t1c&plane=axial&index=22", 404, "from 0 to 21, got 22"),
        ("image=case001&modality=t1c&plane=axial&index=-1", 404, "from 0 to 21"),
        ("image=case001&modality=t1c&plane=axial&index=x", 422, "query.index"),
    ):
        response = ours.ask("GET", f"/page/slice?{query}")
        assert response.status_code == status, response.text
        assert reason in response.json()["detail"]
