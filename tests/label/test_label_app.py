"""MONAI Label as people use it: real servers, real HTTP, and the client library of 3D Slicer."""

from __future__ import annotations

import gzip
import io
import json
import re
import shlex
import subprocess
import tarfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bundle.label_app.__main__ import UPLOADS
from scripts.provenance.record import read_provenance
from tests.helpers import ROOT
from tests.label.conftest import NAMES, STORED_ORDER
from tests.tiny_subjects import SHAPE, make_mask, write_volume

psutil = pytest.importorskip("psutil")
MONAILabelClient = pytest.importorskip(
    "monailabel.client", reason="MONAI Label lives in an environment of its own: run make test-label"
).MONAILabelClient

CLICK = [22, 14, 11]
IN_LPS = [SHAPE[0] - 1 - CLICK[0], SHAPE[1] - 1 - CLICK[1], CLICK[2]]  # in t1c of case002, whose axes are turned
CHANNELS = ",".join(STORED_ORDER)
NAME = "brats_mri_grade_classification"
pytestmark = pytest.mark.timeout(400)


def sent(**params):
    return {"params": (None, json.dumps(params))}


def upload(path, key="file"):
    return {key: (path.name, path.read_bytes())}


def scores(response):
    assert response.status_code == 200, response.text
    return {row["label"].upper(): row["score"] for row in response.json()["prediction"]}


def open_session(server, world):
    order = ["t2f", "t1c", "t1n", "t2w"]
    files = [world.uploads / f"somebody_{NAMES[name]}.nii.gz" for name in order]
    made = server.ask("PUT", "/session/", files=[("files", (path.name, path.read_bytes())) for path in files])
    assert made.ok, made.text
    return made.json()["session_id"]


def present(server, world, model, how, **params):
    """The same patient, presented in another way."""
    whole, mask = world.uploads / "whole" / "case001.nii.gz", world.uploads / "somebody_seg.nii.gz"
    if how == "id and click":
        return server.infer(model, "image=case001", files=sent(foreground=[CLICK], **params))
    if how == "4D upload":
        return server.infer(model, files={**upload(whole), **sent(foreground=[CLICK], channel_order=CHANNELS)})
    if how == "four shuffled files":
        session = open_session(server, world)
        return server.infer(model, f"session_id={session}", files=sent(foreground=[IN_LPS]))
    return server.infer(model, "image=case001", files={**upload(mask, "label"), **sent(**params)})


@pytest.fixture(scope="module")
def expected(world):
    """Probabilities by `monai.bundle run`."""
    image, mask = str(world.uploads / "whole" / "case001.nii.gz"), str(world.uploads / "somebody_seg.nii.gz")
    by_click = world.answer(world.bundle, "click", image=image, click=CLICK)
    return {"click": by_click, "mask": world.answer(world.bundle, "mask", image=image, mask=mask)}


HOW = ["id and click", "4D upload", "four shuffled files", "uploaded mask"]


@pytest.mark.parametrize("how", HOW)
def test_our_app_gives_the_numbers_of_the_bundles_own_inference(ours, world, expected, how):
    # 3D Slicer names the segment under the key that carries the mask.
    response = present(ours, world, "grade", how, label="HGG")
    found = expected["mask" if how == "uploaded mask" else "click"]
    assert scores(response) == pytest.approx(found["probabilities"], abs=1e-5)
    answer = response.json()
    assert answer["class"] == found["class"]
    assert answer["bundle"] == found["bundle"]
    assert answer["weights"] == found["weights"]
    for key in ("source", "center_mm", "slice", "size", "region"):
        assert answer["crop"][key] == found["crop"][key]


@pytest.mark.parametrize("how", HOW)
def test_the_stock_app_gives_the_same_numbers(stock, world, expected, how):
    found = expected["mask" if how == "uploaded mask" else "click"]
    assert scores(present(stock, world, NAME, how)) == pytest.approx(found["probabilities"], abs=1e-5)


def test_four_files_among_the_studies_are_one_patient(ours, expected):
    assert scores(ours.infer("grade", "image=case002", files=sent(click=IN_LPS))) == pytest.approx(
        expected["click"]["probabilities"], abs=1e-5
    )


def test_the_server_says_what_it_offers_and_listens_on_this_machine_only(ours):
    info = ours.ask("GET", "/info/").json()
    types = {name: model["type"] for name, model in info["models"].items()}
    assert types == {"grade": "classification", "grade_viewer": "deepedit", "generate": "others"}
    assert list(info["trainers"]) == ["grade"]
    listening = [
        c.laddr.ip for c in psutil.Process(ours.process.pid).net_connections("inet") if c.laddr.port == ours.port
    ]
    assert set(listening) == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("query", "params", "status", "reason"),
    [
        ("image=nobody", {"click": CLICK}, 404, "one of the studies, got 'nobody'"),
        ("session_id=0", {"click": CLICK}, 404, "must be of a session"),
        ("image=case001", {}, 422, "mask or click must say"),
        ("image=case001", {"click": [900, 1, 1]}, 422, "must lie inside"),
        ("image=case001", {"click": "here"}, 422, ""),
        ("image=case001", {"foreground": 7}, 422, "must be a list of points"),
        ("image=case001", {"click": CLICK, "channel_order": "t1,t2"}, 422, "must name each of"),
        ("image=case001", {"click": CLICK, "mask_codes": 5, "explanation": "tea"}, 422, "must be one of"),
        ("", {"click": CLICK}, 422, "image, file or session_id"),
    ],
)
def test_bad_input_is_refused_with_the_reason(ours, query, params, status, reason):
    response = ours.infer("grade", query, files=sent(**params))
    assert response.status_code == status, response.text
    assert reason in response.json()["detail"]


def test_unknown_models_and_broken_files_are_refused_with_the_reason(ours, world):
    unknown = ours.infer("nothing", "image=case001", files=sent(click=CLICK))
    assert (unknown.status_code, "grade, grade_viewer, generate" in unknown.json()["detail"]) == (404, True)
    for params in ("{", "[" * 100_000, "9" * 5_000, '{"click": [NaN, 1, 1]}'):
        no_json = ours.infer("grade", "image=case001", files={"params": (None, params)})
        assert (no_json.status_code, "must be a JSON object" in no_json.json()["detail"]) == (422, True)
    broken = ours.infer("grade", files={"file": ("a.nii.gz", b"\x1f\x8bnothing"), **sent(click=CLICK)})
    assert broken.status_code == 422
    text = ours.infer("grade", files={"file": ("a.txt", b"hello"), **sent(click=CLICK)})
    assert (text.status_code, "must be a NIfTI file" in text.json()["detail"]) == (422, True)
    alone = ours.infer("grade", files={**upload(world.uploads / "somebody_t1.nii.gz"), **sent(click=CLICK)})
    assert (alone.status_code, "got none for t1c, t2w, t2f" in alone.json()["detail"]) == (422, True)
    nobody = ours.ask(
        "PUT", "/datastore/label?image=nobody", files=upload(world.uploads / "somebody_seg.nii.gz", "label")
    )
    assert nobody.status_code == 404


ODD = [
    *({"click": [10**17, 1, 1]}, {"click": {"x": 1}}, {"click": [[22, 14, 11]]}, {"foreground": [[[]]]}),
    *({"click": CLICK, "explanation": {"a": []}}, {"click": CLICK, "channel_order": {"a": []}}),
    {"click": CLICK, "mask_codes": {"a": []}},
]


def test_no_request_however_odd_makes_the_server_stumble(ours, world):
    """Whatever reads a request, its errors are answers."""
    for params in ODD:
        for model in ("grade", "grade_viewer"):
            response = ours.infer(
                model,
                "image=case001",
                files={**upload(world.uploads / "somebody_seg.nii.gz", "label"), **sent(**params)},
            )
            assert response.status_code in (200, 422), (params, response.text)
    for body in ("NaN", '"\\ud800"', "9" * 5_000, "[" * 100_000, '{"max_epochs": NaN}', '{"device": {}}'):
        response = ours.ask("POST", "/train/grade", data=body, headers={"Content-Type": "application/json"})
        assert response.status_code in (400, 422), (body[:20], response.text)
        assert isinstance(response.json()["detail"], str)
    assert ours.ask("GET", "/info/", headers={"Host": "["}).status_code in (400, 403)
    assert ours.ask("GET", "/info/", headers={"Origin": "http://[::1"}).status_code == 403
    assert ours.ask("PUT", "/session/?expiry=x", files={"files": ("a.nii", b"x")}).status_code == 422


def test_a_refused_session_leaves_nothing_and_no_bytes_are_a_volume(ours, world):
    scratch = world.studies / "monai_label" / UPLOADS

    def left():
        return sorted(path.name for path in scratch.iterdir())

    for name, content in (("../x.txt", b"x"), ("xx.nii.gz", b"xx"), ("x.nii", b"")):
        response = ours.ask("PUT", "/session/", files={"files": (name, content)})
        assert response.status_code == 422, response.text
        assert left() == []
    assert ours.infer("generate", files=sent(**{"class": "LGG", "sampler": "nonsense"})).status_code == 422
    assert ours.infer("grade", "image=case001", files=sent(click=[0, 0, 0], explanation="gradcam")).status_code == 422
    open_session(ours, world)
    assert left() == []


def test_options_that_nobody_reads_are_named_or_refused(ours):
    answer = ours.infer("grade", "image=case001", files=sent(click=CLICK, klick=1, explanatoin="gradcam")).json()
    assert answer["ignored"] == ["explanatoin", "klick"]
    assert ours.infer("grade_viewer", "image=case001", files=sent(HGG=[CLICK], label="HGG")).json()["ignored"] == []
    misspelt = ours.infer("generate", files=sent(classs="HGG"))
    assert (misspelt.status_code, "got classs" in misspelt.json()["detail"]) == (422, True)


def test_messages_name_fields_of_the_request_and_no_folder_of_the_server(ours, world):
    whole, alone = world.uploads / "whole" / "case001.nii.gz", world.uploads / "somebody_t1.nii.gz"
    no_click = ours.infer("grade", "image=case001").json()["detail"]
    assert 'a mask in the field label or params {"click": [i, j, k]}' in no_click
    no_order = ours.infer("grade", files={**upload(whole), **sent(click=CLICK)}).json()["detail"]
    assert no_order.startswith("channel_order must be declared for case001.nii.gz, got none")
    assert "params.channel_order" in no_order
    ours.infer("grade", files={**upload(alone), **sent(click=CLICK)})
    ours.infer("grade", "image=case001", files=sent(click=[900, 1, 1]))
    ours.ask("GET", f"/session/{open_session(ours, world)}")
    ours.ask("GET", "/datastore/image/info?image=case001")
    ours.ask("GET", "/datastore/?output=train")
    told = [text for text in ours.told if str(world.root) in text]
    assert ours.told
    assert told == []


def test_slicer_gets_a_mask_with_the_geometry_of_t1c_and_the_answer(ours, world, expected, tmp_path):
    client = MONAILabelClient(ours.url, tmpdir=str(tmp_path))
    assert "grade_viewer" in client.info()["models"]
    file, answer = client.infer("grade_viewer", "case002", {"foreground": [IN_LPS], "label": "LGG"})
    mask, image = nib.load(file), nib.load(world.studies / "case002" / "case002_t1ce.nii.gz")
    assert mask.shape == image.shape
    assert np.allclose(mask.affine, image.affine)
    assert nib.aff2axcodes(mask.affine) == ("L", "P", "S")
    assert answer["probabilities"] == pytest.approx(expected["click"]["probabilities"], abs=1e-5)
    values, label = np.asarray(mask.dataobj), answer["label_names"][answer["class"]]
    assert set(np.unique(values)) == {0, label}
    assert answer["crop"]["center_voxel"] == IN_LPS
    assert values[tuple(IN_LPS)] == label
    assert len(set(np.argwhere(values)[:, 2])) == 1


def test_slicer_works_through_a_case_as_its_plugin_does(ours, world, expected, tmp_path):
    client = MONAILabelClient(ours.url, tmpdir=str(tmp_path))
    info = client.info()
    sample = client.next_sample("first", {})
    assert sample["id"] in ("case001", "case002")
    assert ours.ask("GET", f"/datastore/image?image={sample['id']}").content == Path(sample["path"]).read_bytes()
    # Points under the name of each segment, the name of the one being edited, and every option at its first value.
    options = {k: v[0] if isinstance(v, list) else v for k, v in info["models"]["grade_viewer"]["config"].items()}
    points = {name: [] for name in info["labels"]} | {"HGG": [[1, 1, 1], CLICK]}
    _, answer = client.infer("grade_viewer", "case001", {**points, "label": "HGG", **options})
    assert answer["probabilities"] == pytest.approx(expected["click"]["probabilities"], abs=1e-5)
    session = client.create_session(str(world.uploads / "whole" / "case001.nii.gz"))["session_id"]
    _, answer = client.infer(
        "grade_viewer", "", {**points, "label": "LGG", "channel_order": CHANNELS}, session_id=session
    )
    assert answer["probabilities"] == pytest.approx(expected["click"]["probabilities"], abs=1e-5)
    client.remove_session(session)
    with pytest.raises(Exception, match="404"):
        client.infer("grade_viewer", "", points, session_id=session)
    with pytest.raises(Exception, match="mask or click must say"):
        client.infer("grade_viewer", "case001", {"LGG": [], "HGG": [], "label": "HGG"})


def test_a_label_is_kept_with_the_value_of_its_class_or_refused(ours, tmp_path):
    client = MONAILabelClient(ours.url, tmpdir=str(tmp_path))
    mask = (make_mask() > 0).astype(np.uint8)
    # 3D Slicer numbers the segments that are there: the only one, of whatever class, has the value 1.
    client.save_label(
        "case001", write_volume(tmp_path / "a.nii.gz", mask), "original", {"label_info": [{"name": "HGG"}]}
    )
    kept = ours.ask("GET", "/datastore/label?label=case001&tag=original").content
    assert set(np.unique(nib.Nifti1Image.from_bytes(gzip.decompress(kept)).dataobj)) == {0, 2}
    refused = {
        "one class": write_volume(tmp_path / "b.nii.gz", make_mask()),
        "a segment called LGG or HGG": write_volume(tmp_path / "c.nii.gz", mask * 2),
        "the voxel grid of the image": write_volume(tmp_path / "d.nii.gz", mask[:-1]),
        "NIfTI": str(tmp_path / "e.nii.gz"),
    }
    (tmp_path / "e.nii.gz").write_bytes(b"nothing")
    for reason, path in refused.items():
        params = {"label_info": [{"name": "HGG"}]} if "segment" in reason else {}
        with pytest.raises(Exception, match=f"422.*{reason}"):
            client.save_label("case001", path, "original", params)


def test_the_explanation_is_sent_as_an_image_on_request(ours, tmp_path):
    picture = ours.infer("grade", "image=case001", "image", files=sent(click=CLICK, explanation="gradcam"))
    assert (picture.status_code, picture.content[:4]) == (200, b"\x89PNG")
    file, answer = MONAILabelClient(ours.url, tmpdir=str(tmp_path)).infer(
        "grade", "case001", {"click": CLICK, "explanation": "occlusion"}
    )
    assert Path(file).read_bytes().startswith(b"\x89PNG")
    assert answer["crop"]["source"] == "click"


def test_clients_at_once_get_their_own_answers(ours):
    clicks = [[x, 14, 11] for x in (12, 18, 22, 26)] * 2

    def ask(click):
        return ours.infer("grade", "image=case001", files=sent(click=click)).json()

    alone = [ask(click) for click in clicks[:4]]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(ask, clicks))
    assert [answer["crop"]["center_voxel"] for answer in together] == clicks
    assert [answer["logits"] for answer in together] == [answer["logits"] for answer in alone] * 2
    assert len({tuple(answer["logits"]) for answer in alone}) == 4


def test_a_client_cannot_read_a_file_outside_the_studies(ours, world):
    path = world.secret / "case001.nii.gz"
    assert path.is_file()
    sneaky = [str(path), f"../../{path.parent.name}/{path.name}", f"/proc/self/root{path}"]
    for image in sneaky:
        response = ours.infer("grade", f"image={image}", files=sent(click=CLICK))
        assert response.status_code == 404, image
        # Where MONAI Label's own route would take it from.
        override = ours.infer("grade", "image=case001", files=sent(click=CLICK, image=image, label=image))
        assert override.json()["subject_id"] == "case001"
        assert scores(override) == scores(ours.infer("grade", "image=case001", files=sent(click=CLICK)))
        for method, route in (("GET", "/datastore/image?image="), ("GET", "/datastore/label?tag=final&label=")):
            assert ours.ask(method, route + image).status_code in (404, 422)
    (world.studies / "link_out.nii.gz").symlink_to(path)
    assert ours.infer("grade", f"image={world.studies}/link_out.nii.gz", files=sent(click=CLICK)).status_code == 404
    inside = ours.infer("grade", f"image={world.studies}/case001.nii.gz", files=sent(click=CLICK))
    assert inside.status_code == 200


def test_nothing_is_written_outside_and_nothing_unpacked(ours, world):
    mask = world.uploads / "somebody_seg.nii.gz"
    for query in ("image=case001&tag=../../out", "image=../case001", "image=case001&tag=other"):
        assert ours.ask("PUT", f"/datastore/label?{query}", files=upload(mask, "label")).status_code == 422
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../../escaped"), io.BytesIO())
    packed = {"files": ("a.tar.gz", stream.getvalue())}
    assert ours.ask("PUT", "/session/?uncompress=true", files=packed).status_code == 422
    assert ours.ask("PUT", "/session/", files={"files": ("sitecustomize.py", b"x")}).status_code == 422
    for session in ("..", "../studies", "%2e%2e"):
        assert ours.infer("grade", f"session_id={session}", files=sent(click=CLICK)).status_code == 422
    for method, path in (
        ("PUT", "/model/grade"),
        ("DELETE", "/model/grade"),
        ("GET", "/model/grade"),
        ("PUT", "/datastore/image?image=case001"),
        ("DELETE", "/datastore/image?id=case001"),
        ("GET", "/proxy/dicom/x"),
        ("GET", "/logs/"),
        ("POST", "/train/"),
        ("POST", "/batch/infer/grade"),
    ):
        assert ours.ask(method, path).status_code == 404, path
    assert not list(world.root.rglob("escaped"))


def test_requests_of_other_web_pages_and_too_large_ones_are_refused(ours):
    assert ours.ask("GET", "/info/", headers={"Host": "evil.example"}).status_code == 403
    assert ours.ask("GET", "/info/", headers={"Origin": "https://evil.example"}).status_code == 403
    large = {"file": ("a.nii", bytes(9 << 20)), **sent(click=CLICK)}
    assert ours.infer("grade", files=large).status_code == 413
    chunked = ours.ask("POST", "/infer/grade", data=(bytes(1 << 20) for _ in range(10)))
    assert chunked.status_code in (413, 422)
    assert "params" not in ours.infer("grade", "image=case001", files=sent(click=CLICK)).json()


def test_seeds_reproduce_generated_images_byte_for_byte(ours):
    def draw(**params):
        response = ours.infer("generate", "", "image", files=sent(**params))
        assert response.status_code == 200, response.text
        return response.content

    asked = {"class": "LGG", "seed": 5, "sampler": "ddim", "num_inference_steps": 3}
    first = draw(**asked)
    assert draw(**asked) == first
    assert draw(**{**asked, "seed": 6}) != first
    assert draw(**{**asked, "class": "HGG"}) != first
    several = draw(**asked, number=3)
    assert draw(**asked, number=3) == several
    with zipfile.ZipFile(io.BytesIO(several)) as archive:
        assert archive.namelist() == [f"LGG_{k:04d}.nii.gz" for k in range(3)] + ["synthetic.json"]
        assert archive.read("LGG_0000.nii.gz") == first
    told = ours.infer("generate", files=sent(**asked)).json()
    assert (told["class"], told["seed"], told["simulated"], told["synthetic"]) == ("LGG", 5, True, True)
    image = nib.Nifti1Image.from_bytes(gzip.decompress(first))
    assert image.shape == (16, 24, 1, 4)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"class": "none"}, "class must be one of LGG, HGG"),
        ({"class": "LGG", "number": 1000}, "from 1 to 64"),
        ({"class": "LGG", "seed": "x"}, "seed must be a whole number"),
        ({"class": "LGG", "sampler": "$__import__('os')"}, "sampler must be a name"),
        ({"class": "LGG", "sampler": "nonsense"}, "sampler must be one of"),
        ({"class": "LGG", "guidance": "much"}, "guidance must be"),
    ],
)
def test_what_cannot_be_generated_is_refused_with_the_reason(ours, params, reason):
    response = ours.infer("generate", files=sent(**params))
    assert response.status_code == 422, response.text
    assert reason in response.json()["detail"]


def test_a_stray_weights_file_changes_nothing(ours, stock, world, expected):
    for server, bundle, model in ((ours, world.bundle, "grade"), (stock, world.stock_bundle, NAME)):
        weights = torch.load(bundle / "models" / "model.pt", weights_only=True)
        other = {key: torch.zeros_like(value) for key, value in weights.items()}
        torch.save({**other, "stem_stride": weights["stem_stride"]}, bundle / "models" / "a.pt")
        found = scores(server.infer(model, "image=case001", files=sent(foreground=[CLICK])))
        assert found == pytest.approx(expected["click"]["probabilities"], abs=1e-5)


def test_training_without_labels_and_of_unknown_models_is_refused(ours):
    assert ours.ask("POST", "/train/grade", json={}).status_code == 422
    assert ours.ask("POST", "/train/grade", json={"max_epochs": -1}).status_code == 422
    assert ours.ask("POST", "/train/other", json={"bundle_path": "/tmp"}).status_code == 404


def test_a_labeled_case_trains_and_our_app_serves_the_new_weights(ours, world, expected, tmp_path):
    before = read_provenance(world.bundle / "models" / "model.pt")
    client = MONAILabelClient(ours.url, tmpdir=str(tmp_path))
    file, _ = client.infer("grade_viewer", "case002", {"foreground": [CLICK]})
    corrected = (np.asarray(nib.load(file).dataobj) > 0).astype(np.uint8)
    label = write_volume(tmp_path / "label.nii.gz", corrected, nib.load(file).affine)
    client.save_label("case002", label)
    assert client.datastore()["objects"]["case002"]["labels"]["final"]
    client.train_start("grade", {"max_epochs": 3})
    assert client.train_status()["status"] in ("SUBMITTED", "RUNNING")
    while ours.infer("grade", "image=case001", files=sent(click=CLICK)).ok:
        task = client.train_status()
        if task["status"] not in ("SUBMITTED", "RUNNING"):
            break
        time.sleep(1)
    assert task["status"] == "DONE", "\n".join(task["details"])
    record = read_provenance(world.bundle / "models" / "model.pt")
    assert (record["num_labeled_cases"], record["started_from"]) == (1, before["weights_sha256"])
    after = ours.infer("grade", "image=case001", files=sent(click=CLICK)).json()
    assert after["weights"]["sha256"] == record["weights_sha256"] != before["weights_sha256"]
    assert after["probabilities"]["LGG"] > expected["click"]["probabilities"]["LGG"]
    assert after["logits"] == pytest.approx(world.logits(world.bundle, "click"), abs=1e-5)
    # And back to the weights of before, and forth again.
    weights = ours.ask("GET", "/weights/").json()
    assert (weights["served"]["sha256"], weights["served"]["num_labeled_cases"]) == (after["weights"]["sha256"], 1)
    assert [kept["sha256"] for kept in weights["kept"]] == [before["weights_sha256"]]
    back = ours.ask("POST", f"/weights/{weights['kept'][0]['id']}").json()
    assert [kept["id"] for kept in back["kept"]] == [weights["served"]["id"]]
    earlier = ours.infer("grade", "image=case001", files=sent(click=CLICK))
    assert scores(earlier) == pytest.approx(expected["click"]["probabilities"], abs=1e-5)
    assert earlier.json()["weights"]["sha256"] == before["weights_sha256"]
    assert ours.ask("POST", f"/weights/{weights['kept'][0]['id']}").status_code == 404
    assert ours.ask("POST", f"/weights/{weights['served']['id']}").ok
    assert ours.infer("grade", "image=case001", files=sent(click=CLICK)).json()["logits"] == after["logits"]


def test_after_training_the_stock_app_serves_the_weights_on_disk(stock, world, expected, tmp_path):
    mask = make_mask()
    label = write_volume(tmp_path / "label.nii.gz", (mask > 0).astype(np.uint8))
    MONAILabelClient(stock.url, tmpdir=str(tmp_path)).save_label("case001", label)
    # 3D Slicer would name the file with the shortest name.
    task = stock.train(NAME, max_epochs=3, multi_gpu=False, device="cpu", model_filename="a.pt")
    assert task["status"] == "DONE", "\n".join(task["details"])
    found = scores(stock.infer(NAME, "image=case001", files=sent(foreground=[CLICK])))
    on_disk = torch.tensor(world.logits(world.stock_bundle, "click")).softmax(0).tolist()
    assert list(found.values()) == pytest.approx(on_disk, abs=1e-5)
    assert list(found.values()) != pytest.approx(list(expected["click"]["probabilities"].values()), abs=1e-4)
    weights = torch.load(world.stock_bundle / "models" / "model.pt", weights_only=True)
    assert all(value.any() for key, value in weights.items() if key.endswith("conv1.weight")), "not those of a.pt"
    assert read_provenance(world.stock_bundle / "models" / "model.pt")["num_labeled_cases"] == 1


def test_the_documented_requests_are_answered(ours, world, tmp_path):
    page = (ROOT / "docs" / "how-to" / "label.md").read_text(encoding="utf-8")
    requests = re.findall(r"^    (curl .*)$", page, re.MULTILINE)
    assert len(requests) >= 10
    mask = make_mask()
    write_volume(tmp_path / "seg.nii.gz", np.where(mask == 4, 3, mask).astype(np.uint8))
    (tmp_path / "case.nii.gz").write_bytes((world.uploads / "whole" / "case001.nii.gz").read_bytes())
    for modality, name in NAMES.items():
        (tmp_path / f"a_{modality}.nii.gz").write_bytes((world.uploads / f"somebody_{name}.nii.gz").read_bytes())
    for request in requests:
        ours_now = request.replace("http://127.0.0.1:8000", ours.url).replace("SIM-A-0000", "case002")
        words = shlex.split(
            ours_now.replace("[24, 35, 31]", str(CLICK)).replace('"seed"', '"num_inference_steps": 2, "seed"')
        )
        done = subprocess.run([*words, "-sS", "--fail-with-body"], cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, f"{request}\n{done.stdout[-500:]!r}"
    assert (tmp_path / "looked.png").read_bytes().startswith(b"\x89PNG")
    assert zipfile.is_zipfile(tmp_path / "images.zip")
    assert ours.ask("GET", "/train/").json()["status"] in ("SUBMITTED", "RUNNING")
    assert ours.ask("POST", "/train/grade", json={}).status_code == 429
    kept = ours.ask("GET", "/weights/").json()["kept"]
    assert ours.ask("POST", f"/weights/{kept[0]['id']}").status_code == 429
    assert ours.ask("DELETE", "/train/").ok
