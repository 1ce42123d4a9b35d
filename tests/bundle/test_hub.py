"""Packages pushed to and pulled from a hub, which is a folder here, or a client that only notes what it is asked."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
import yaml
from monai.bundle import download

from bundle.__main__ import main
from bundle.hub import is_on_hub, pull, push
from scripts.running.files import read_json, sha256_file, write_json


class Client:
    """Stands for huggingface_hub: `upload_folder` fills a folder, `snapshot_download` copies from it."""

    def __init__(self, store: Path) -> None:
        self.store, self.asked = store, []

    def HfApi(self, token=None):  # noqa: N802, the client's own name
        return self

    def create_repo(self, repo_id, private, exist_ok):
        self.asked.append(("create", repo_id, private, exist_ok))

    def upload_folder(self, repo_id, folder_path, delete_patterns, commit_message):
        self.asked.append(("upload", repo_id, delete_patterns))
        shutil.rmtree(self.store, ignore_errors=True)
        shutil.copytree(folder_path, self.store)

    def create_tag(self, repo_id, tag, exist_ok):
        self.asked.append(("tag", repo_id, tag))

    def repo_exists(self, repo_id):
        return self.store.exists()

    def list_repo_files(self, repo_id):
        return [path.relative_to(self.store).as_posix() for path in self.store.rglob("*") if path.is_file()]

    def list_repo_refs(self, repo_id):
        return SimpleNamespace(tags=[SimpleNamespace(name=words[2]) for words in self.asked if words[0] == "tag"])

    def snapshot_download(self, repo_id, revision, local_dir, token=None):
        self.asked.append(("download", repo_id, revision))
        shutil.copytree(self.store, local_dir, dirs_exist_ok=True)
        (Path(local_dir) / ".cache" / "huggingface").mkdir(parents=True)
        (Path(local_dir) / ".gitattributes").write_text("*.pt filter=lfs\n")


@pytest.fixture
def client(tmp_path, monkeypatch) -> Client:
    client = Client(tmp_path / "store")
    for name in ("HfApi", "snapshot_download"):
        monkeypatch.setattr(huggingface_hub, name, getattr(client, name))
    return client


@pytest.fixture
def copied(packed, tmp_path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "dist" / packed.name))


def test_what_is_pushed_to_a_folder_comes_back_file_by_file(packed, tmp_path, capsys):
    assert main(["push", str(packed), str(tmp_path / "mirror")]) == 0
    assert "models/model.pt" in capsys.readouterr().out
    assert main(["pull", str(tmp_path / "mirror"), "--output", str(tmp_path / "pulled")]) == 0
    root = tmp_path / "pulled" / packed.name
    assert capsys.readouterr().out.strip() == str(root)
    there = {path.relative_to(packed): sha256_file(path) for path in packed.rglob("*") if path.is_file()}
    there = {name: digest for name, digest in there.items() if "__pycache__" not in name.parts}
    assert {name: sha256_file(root / name) for name in there} == there
    assert {path.name for path in root.iterdir()} - {path.name for path in packed.iterdir()} == {"README.md"}
    assert not [path for path in (tmp_path / "pulled").iterdir() if path.name != packed.name]


def test_a_dry_run_asks_nobody_and_leaves_personal_files_out(copied, client, capsys):
    (copied / "notes.txt").write_text("private")
    assert main(["push", str(copied), "me/glioma", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "README.md" in said
    assert "would go in me/glioma" in said
    assert "notes.txt" not in said
    assert client.asked == []


def test_the_hub_gets_a_private_repository_and_gives_it_back(packed, client, tmp_path):
    push(packed, "me/glioma")
    version = read_json(packed / "configs" / "metadata.json")["version"]
    sent = [("create", "me/glioma", True, True), ("upload", "me/glioma", "*"), ("tag", "me/glioma", version)]
    assert client.asked == sent
    root = pull("me/glioma", tmp_path / "pulled", revision="v1")
    assert client.asked[-1] == ("download", "me/glioma", "v1")
    assert sha256_file(root / "models" / "model.pt") == sha256_file(packed / "models" / "model.pt")
    assert not [path for path in root.iterdir() if path.name.startswith(".")]


def test_the_card_has_monais_header_and_the_figures_of_the_study(packed, client):
    push(packed, "me/glioma")
    _, header, card = (client.store / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert yaml.safe_load(header)["library_name"] == "monai"
    assert card.strip() == (packed / "docs" / "README.md").read_text(encoding="utf-8").strip()


def test_monais_download_finds_the_package(packed, client, tmp_path):
    push(packed, "me/glioma")
    download(packed.name, bundle_dir=str(tmp_path), source="huggingface_hub", repo="me/glioma", version="main")
    assert sha256_file(tmp_path / packed.name / "models" / "model.pt") == sha256_file(packed / "models" / "model.pt")


def test_weights_of_another_record_are_not_pulled_and_what_is_there_stays(packed, client, tmp_path):
    push(packed, "me/glioma")
    first = pull("me/glioma", tmp_path)
    record = client.store / "models" / "provenance.json"
    write_json(record, {**read_json(record), "weights_sha256": "0" * 64})
    with pytest.raises(ValueError, match="must be about model.pt"):
        pull("me/glioma", tmp_path)
    assert (first / "models" / "model.pt").is_file()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_file_that_runs_code_when_it_is_read_is_refused(copied, client):
    (copied / "models" / "extra.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(ValueError, match=r"extra\.pkl must not be in a package"):
        push(copied, "me/glioma")
    assert client.asked == []


def test_a_link_is_refused(copied, tmp_path):
    (copied / "docs" / "link.md").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="must be a file of the package, got a link"):
        push(copied, str(tmp_path / "mirror"))


def test_a_name_that_leads_out_of_the_folder_is_refused(packed, client, tmp_path):
    push(packed, "me/glioma")
    metadata = client.store / "configs" / "metadata.json"
    write_json(metadata, {**read_json(metadata), "name": "../outside"})
    with pytest.raises(ValueError, match="name in configs/metadata.json must be"):
        pull("me/glioma", tmp_path / "pulled")
    assert not (tmp_path / "outside").exists()


def test_a_folder_of_something_else_is_not_replaced(packed, tmp_path):
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "thesis.txt").write_text("years")
    with pytest.raises(ValueError, match=r"must be new or a package of .*, got one with thesis\.txt"):
        push(packed, str(tmp_path / "mirror"))
    assert (tmp_path / "mirror" / "thesis.txt").read_text() == "years"


def test_neither_the_package_nor_a_folder_around_or_inside_it_becomes_a_mirror(copied):
    for folder in (copied, copied.parent, copied / "mirror"):
        with pytest.raises(ValueError, match="must lie beside the package"):
            push(copied, str(folder))
    assert (copied / "models" / "model.pt").is_file()


def test_a_repository_of_something_else_is_not_emptied(packed, client):
    client.store.mkdir()
    (client.store / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"me/other must be new or hold a package, got pytorch_model\.bin"):
        push(packed, "me/other")
    assert client.asked == []


def test_a_version_is_pushed_once(packed, client):
    push(packed, "me/glioma")
    with pytest.raises(ValueError, match="has the version .* already; give the new one a --tag"):
        push(packed, "me/glioma")
    push(packed, "me/glioma", tag="second")
    assert client.asked[-1] == ("tag", "me/glioma", "second")


def test_weights_that_were_kept_stay_here_and_are_not_lost(copied, client, tmp_path):
    kept = copied / "models" / "kept" / "0123456789ab"
    kept.mkdir(parents=True)
    for name in ("model.pt", "provenance.json"):
        shutil.copy(copied / "models" / name, kept / name)
    assert not [name for name in push(copied, "me/glioma") if "kept" in name]
    with pytest.raises(ValueError, match=r"holds weights that were trained on labels \(models/kept\)"):
        pull("me/glioma", copied.parent)
    assert (kept / "model.pt").is_file()


def test_weights_that_were_not_packed_are_refused(copied, client):
    weights = copied / "models" / "model.pt"
    torch.save({name: tensor + 1 for name, tensor in torch.load(weights, weights_only=True).items()}, weights)
    record = copied / "models" / "provenance.json"
    write_json(record, {**read_json(record), "weights_sha256": sha256_file(weights)})
    with pytest.raises(ValueError, match=r"models/model\.pt must have the hash in large_files\.yml"):
        push(copied, "me/glioma")


def test_a_half_package_is_refused_by_the_file_it_lacks(copied, client):
    (copied / "docs" / "README.md").unlink()
    with pytest.raises(FileNotFoundError, match=r"docs/README.md does not exist"):
        push(copied, "me/glioma")


@pytest.mark.parametrize(("text", "expected"), [("me/glioma", True), ("./me/glioma", False), ("/srv/glioma", False)])
def test_a_folder_is_told_from_a_name_of_the_hub(text, expected):
    assert is_on_hub(text) is expected


@pytest.mark.parametrize("text", ["glioma", "a/b/c", "me/../you", "https://huggingface.co/me/glioma"])
def test_what_is_neither_is_refused(text):
    with pytest.raises(ValueError, match="repository must be OWNER/NAME"):
        is_on_hub(text)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist; give OWNER/NAME"):
        pull(str(tmp_path / "nothing"), tmp_path)
