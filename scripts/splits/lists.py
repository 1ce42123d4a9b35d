"""The JSON lists that one stage hands to the next, and that people edit or write by hand: each read with its schema."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scripts.running.files import file_state, read_json, sha256_text
from scripts.splits.patients import SUBJECT_ID, SUBJECT_ID_RULE

logger = logging.getLogger(__name__)

Schema = dict[str, Any]

DIGEST = "content_sha256"  # of a list that is not to be edited: the hash of all else in it
FOLD_PARTS = ("train", "inner", "validation")  # of a fold; the locked test belongs to none

TEXT: Schema = {"type": "string", "minLength": 1, "description": "a text that is not empty"}
TEXT_OR_NOTHING: Schema = {"type": ["string", "null"], "description": "a text or null"}
FLAG: Schema = {"type": "boolean", "description": "true or false"}
FILE: Schema = {"type": "string", "minLength": 1, "description": "the path of a file"}
HASH: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "a sha256 of 64 hexadecimal digits"}
VOLUME: Schema = {"type": ["number", "null"], "minimum": 0, "description": "a number from 0 or null"}
FOLD: Schema = {"type": ["integer", "null"], "minimum": 0, "description": "a whole number from 0 or null"}
SUBJECT: Schema = {"type": "string", "pattern": f"^{SUBJECT_ID.pattern}$", "description": f"a name {SUBJECT_ID_RULE}"}
LABEL: Schema = {
    "type": ["integer", "null"],
    "minimum": 0,
    "description": "the whole number of a class in `labels`, or null without a grade",
}
NAMES: Schema = {
    "type": "object",
    "patternProperties": {"^[0-9]+$": TEXT},
    "additionalProperties": False,
    "description": 'names by numbers, such as {"0": "LGG"}',
}


def _object(description: str, required: Iterable[str] = (), **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required), "description": description}


def _list(items: Schema, description: str, least: int = 0) -> Schema:
    return {"type": "array", "items": items, "minItems": least, "description": description}


SUBJECTS = _list(SUBJECT, "a list of subject ids")
HASHES = _list(HASH, "a list of hashes")
SCAN = _object(
    "a subject",
    ["subject_id"],
    subject_id=SUBJECT,
    patient_id=TEXT_OR_NOTHING,
    grade=TEXT_OR_NOTHING,
    site=TEXT_OR_NOTHING,
    split_hint={
        "enum": ["training", "validation", "test", None],
        "description": "training, validation, test or null",
    },
    images={"type": ["object", "null"], "additionalProperties": FILE, "description": "paths by modality, or null"},
    image=TEXT_OR_NOTHING,
    mask=TEXT_OR_NOTHING,
    brain_mask=TEXT_OR_NOTHING,
    orientation=TEXT_OR_NOTHING,
)
IMAGE = _object("an image", ["image"], image=FILE, label=LABEL, image_sha256=HASH)
PATCH = _object(
    "a patch",
    ["image", "label", "subject_id"],
    image=FILE,
    label=LABEL,
    subject_id=SUBJECT,
    patient_id=TEXT_OR_NOTHING,
    site=TEXT_OR_NOTHING,
    lesion_volume_ml=VOLUME,
    image_sha256=HASH,
)
FACTS = {
    "simulated": FLAG,
    "modality": NAMES,
    "labels": NAMES,
    "spatial_dims": {"enum": [2, 3], "description": "2 or 3"},
}
SET_PROVENANCE: Schema = {
    **_object(
        "the provenance of the set",
        ["cohort", "method", "fold", "subjects"],
        cohort=TEXT,
        method=TEXT,
        fold=FOLD,
        subjects=HASHES,
        selection_subjects=HASHES,
        weights_sha256=HASH,
    ),
    "type": ["object", "null"],
}
SOURCES = ("real", "synthetic")
CONFIDENCE_LEVELS = 5  # of a reader's answer, from 1, guessing, to 5, certain
SOURCE_OR_NOTHING: Schema = {"enum": [*SOURCES, None], "description": f"{' or '.join(SOURCES)}, or null"}
SURENESS: Schema = {
    "type": ["integer", "null"],
    "minimum": 1,
    "maximum": CONFIDENCE_LEVELS,
    "description": f"a whole number from 1 to {CONFIDENCE_LEVELS}, or null",
}
SHOWN = _object(
    "a picture",
    ["picture", "source", "method", "class_name"],
    picture=TEXT,
    source={"enum": list(SOURCES), "description": " or ".join(SOURCES)},
    method=TEXT_OR_NOTHING,
    class_name=TEXT,
)
ANSWER = _object(
    "an answer",
    ["picture"],
    picture=TEXT,
    source=SOURCE_OR_NOTHING,
    source_confidence=SURENESS,
    class_name=TEXT_OR_NOTHING,
    class_confidence=SURENESS,
)
FOLD_OF_SPLITS = _object("a fold", FOLD_PARTS, **dict.fromkeys(FOLD_PARTS, SUBJECTS))
SCHEMAS = {
    "cohort": _object(
        "a cohort",
        ["name", "simulated", "subjects"],
        name=TEXT,
        simulated=FLAG,
        subjects=_list(SCAN, "a list of subjects"),
    ),
    "patches": _object(
        "a list of patches",
        ["name", *FACTS, "training"],
        name=TEXT,
        **FACTS,
        training=_list(PATCH, "a list of patches"),
    ),
    "synthetic": _object(
        "a list of synthetic images",
        [*FACTS, "training"],
        **FACTS,
        provenance=SET_PROVENANCE,
        **{DIGEST: HASH},
        training=_list({**IMAGE, "required": ["image", "label"]}, "a list of images"),
    ),
    "images": _object("a list of images", ["modality", "training"], **FACTS, training=_list(IMAGE, "a list of images")),
    "splits": _object(
        "splits",
        ["test", "folds"],
        test=SUBJECTS,
        folds=_list(FOLD_OF_SPLITS, "a list of at least one fold", least=1),
        ungraded=SUBJECTS,
        selection={"enum": ["inner", "validation"], "description": "inner or validation"},
    ),
    "reader_key": _object(
        "the key of a reader's test",
        ["study", "simulated", "asks_class", "classes", "pictures"],
        study=TEXT,
        simulated=FLAG,
        asks_class=FLAG,
        classes=_list(TEXT, "a list of names", least=1),
        **{DIGEST: HASH},
        pictures=_list(SHOWN, "a list of pictures", least=1),
    ),
    "reader_answers": _object(
        "the answers of a reader",
        ["study", "reader", "answers"],
        study=TEXT,
        reader=TEXT,
        answers=_list(ANSWER, "a list of answers"),
    ),
    "provenance": _object(
        "the provenance of weights",
        ["cohorts", "subjects", "simulated", "weights_sha256"],
        cohorts=_list(TEXT, "a list of names"),
        subjects=HASHES,
        selection_subjects=HASHES,
        synthetic=HASHES,
        simulated=FLAG,
        fold=FOLD,
        weights_sha256=HASH,
    ),
}
# Stage that makes a list of this kind again.
MADE_BY = {
    "cohort": "configs/cohort.yaml",
    "patches": "configs/patches.yaml",
    "synthetic": "configs/generate.yaml, or configs/import_synthetic.yaml for images of another program",
    "images": "its stage",
    "splits": "configs/splits.yaml",
    "reader_key": "configs/reader_study.yaml",
    "reader_answers": "the answer sheet of configs/reader_study.yaml",
    "provenance": "its training",
}

_checked: set[tuple[str, tuple[int, int], str]] = set()


def read_list(path: str | Path | None, kind: str) -> dict[str, Any]:
    """Read one of the lists that stages hand on, and check it by its schema.

    Args:
        path: the file; None, a path that was not given, is refused.
        kind: key of `SCHEMAS`.

    Returns:
        Its content.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming file, key, constraint, value and the way out; other faults are counted. Likewise if the list
            was edited since its stage wrote it, where it carries a hash of its content.
    """
    if not path:
        raise ValueError(f"{kind}_path must be a {kind}.json, got {path!r}; pass --{kind}_path")
    content = read_json(path)
    key = (os.path.abspath(path), file_state(path), kind)
    if key not in _checked:
        require_schema(content, kind, path)
        _refuse_edited(content, kind, path)
        _checked.add(key)
    read: dict[str, Any] = content
    return read


def with_digest(content: Mapping[str, Any]) -> dict[str, Any]:
    """Add the hash by which `read_list` sees that a list was edited: of labels, provenance and, by theirs, images.

    It is no signature: who takes it out, or computes it again, is not found.

    Args:
        content: of the list, as JSON holds it; a hash of before is replaced.

    Returns:
        The content with `DIGEST`.
    """
    return {**content, DIGEST: content_digest(content)}


def content_digest(content: Mapping[str, Any]) -> str:
    """Hash the content of a list without its `DIGEST`, whatever the order of keys and the white space of its file.

    >>> content_digest({"a": 1, "b": [2]}) == content_digest({"b": (2,), "a": 1, DIGEST: "0"})
    True
    """
    plain = json.loads(json.dumps({key: value for key, value in content.items() if key != DIGEST}))
    return sha256_text(json.dumps(plain, sort_keys=True))


def image_path(list_path: str | Path, row: Mapping[str, Any]) -> str:
    """Return the absolute path of the image of a row, which a list names relative to its own folder, or absolute.

    Of a link to a list, as a store of files leaves one for each, the folder is that of the link.
    """
    return str(Path(list_path).absolute().parent / row["image"])


def require_schema(content: Any, kind: str, where: str | Path) -> None:
    """Check the content of a list by its schema.

    Args:
        content: of the file.
        kind: key of `SCHEMAS`.
        where: the file, for the message.

    Raises:
        ValueError: as `read_list`.
    """
    faults = [*_faults(content, kind)] or [*_unnamed_labels(content)]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise ValueError(f"{where}: {faults[0]}{more}; correct it, or make the file again with {MADE_BY[kind]}")


def _refuse_edited(content: Mapping[str, Any], kind: str, where: str | Path) -> None:
    if DIGEST not in content:
        if kind == "synthetic":
            logger.warning("%s carries no %s: whether it was edited since it was made cannot be told", where, DIGEST)
    elif content[DIGEST] != content_digest(content):
        raise ValueError(
            f"{where} must be as its stage wrote it ({DIGEST} {content[DIGEST][:12]}...), got one that was edited"
            f" ({content_digest(content)[:12]}...); make it again with {MADE_BY[kind]}, or take {DIGEST} out of it if"
            " the change is meant"
        )


def _faults(content: Any, kind: str) -> Iterable[str]:
    from jsonschema import Draft7Validator  # a quarter of a second, for those who read a list

    for error in Draft7Validator(SCHEMAS[kind]).iter_errors(content):
        place = [*error.absolute_path]
        if error.validator == "required":
            missing = next(name for name in error.validator_value if name not in error.instance)
            description = error.schema["properties"][missing]["description"]
            yield f"{_name_of([*place, missing])} must be {description}, got none"
        elif error.validator == "additionalProperties":
            names = [name for name in error.instance if not name.isdigit()]
            yield f"{_name_of(place)} must be {error.schema['description']}, got {_short(names)}"
        else:
            yield f"{_name_of(place)} must be {error.schema['description']}, got {_short(error.instance)}"


def _unnamed_labels(content: Mapping[str, Any]) -> Iterable[str]:
    names = content.get("labels", {})
    known = ", ".join(f"{number} is {name}" for number, name in names.items()) or "which names none"
    for index, row in enumerate(content.get("training", ())):
        label = row.get("label")
        if label is not None and str(label) not in names:
            yield f"training[{index}].label must be {LABEL['description']} ({known}), got {label!r}"


def _name_of(place: Iterable[str | int]) -> str:
    """Spell the way to a value: training[3].label; the file's content itself is called so."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    return text.removeprefix(".") or "the content"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
