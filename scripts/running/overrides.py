"""What replaces a value of a config: its name must be there, and its kind that of what it replaces, at every depth."""

from __future__ import annotations

import copy
import inspect
import pydoc
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from scripts.running.configs import Invocation, components
from scripts.running.errors import some_names
from scripts.running.files import file_state, require_utf8

# Keys that take values of another kind than their default, too, as the comment beside them says.
ALSO_ALLOWED: dict[str, tuple[str, ...]] = {
    "autoencoder_epoch_images": ("null",),
    "classifier_focal_alpha": ("list",),
    "classifiers": ("mapping",),
    "generator_class": ("null",),
    "generator_condition": ("null",),
    "generator_epoch_images": ("null",),
    "generator_gaussian_fade": ("null",),
    "leave_out": ("mapping",),
    "max_brain_ml": ("null",),
    "num_inference_steps": ("null",),
    "num_threads": ("null",),
    "patch_spacing_mm": ("null",),
    "phantom_site": ("list",),
    "segmentation_mask_codes": ("mapping",),
    "segmentation_spacing_mm": ("null",),
    "snap_tolerance": ("null",),
    "task_dicom_modality": ("null",),
    "task_organ": ("null",),
    "task_target": ("null",),
}
# What a key that is null by default takes, by the end or beginning of its name.
KINDS_OF_NULL = (
    (re.compile(r"(_path|_dir)$"), "text"),
    (re.compile(r"(_paths|_dirs)$"), "list"),
    (re.compile(r"(^|_)num_|_images$"), "whole number"),
    (re.compile(r"_(fraction|mm|ml|scale|prevalence)$"), "number"),
)
MISSING = object()
NUMBERS = ("number", "whole number")
WORDS = {
    "switch": "True or False",
    "whole number": "a whole number",
    "number": "a number",
    "text": "text",
    "list": "a list",
    "mapping": "a mapping",
    "component": "a component, {_target_: ...}",
    "null": "null",
}
# As YAML and people write switches; a command line passes them on as text, and any text is true.
SWITCH_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
OF_COMPONENTS = {"_target_", "_disabled_", "_mode_", "_requires_", "_desc_"}


@dataclass(frozen=True)
class Source:
    """Where a value comes from.

    Args:
        name: of the config file; empty for the command line.
    """

    name: str = ""

    def key(self, key: str) -> str:
        """Name a key as the user wrote it."""
        return f"{key} of {self.name}" if self.name else f"--{key}"

    def written(self, value: Any) -> str:
        """Write a value as it belongs there."""
        if isinstance(value, bool) or value is None:
            return str(value).lower().replace("none", "null") if self.name else str(value)
        return repr(value) if self.name or not isinstance(value, (list, str)) else f'"{value!r}"'


@dataclass
class Layers:
    """A config as its layers lie one over the other, with what each of them said.

    Args:
        merged: what they say together.
        before: id -> values that lower layers gave it.
    """

    merged: dict[str, Any] = field(default_factory=dict)
    before: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, key: str, value: Any) -> None:
        """Lay a value over what is there, as MONAI does."""
        parts, value = _steps(key), copy.deepcopy(value)
        before = part_of(self.merged, parts)
        if before is not MISSING:
            self.before.setdefault("#".join(parts), []).append(before)
        parent = part_of(self.merged, parts[:-1])
        if key.startswith("+") and isinstance(before, Mapping) and isinstance(value, Mapping):
            value = {**before, **value}
        elif key.startswith("+") and isinstance(before, list) and isinstance(value, list):
            value = [*before, *value]
        if isinstance(parent, list):
            parent[int(parts[-1])] = value
        elif isinstance(parent, dict):
            parent[parts[-1]] = value

    def defaults(self, name: str) -> list[Any]:
        """Return what lower layers said, a reference replaced by what it leads to."""
        values = [*self.before.get("#".join(_steps(name)), []), part_of(self.merged, _steps(name))]
        return [self._followed(value) for value in values if value is not MISSING]

    def _followed(self, value: Any) -> Any:
        seen = set()
        while isinstance(value, str) and re.fullmatch(r"@[\w#:]+", value) and value not in seen:
            seen.add(value)
            leads_to = part_of(self.merged, _steps(value.removeprefix("@")))
            value = value if leads_to is MISSING else leads_to
        return value


def part_of(config: Any, parts: Sequence[str]) -> Any:
    """Return a part of an unresolved config, or `MISSING`; MONAI's parser first takes seconds to find similar names."""
    for part in parts:
        if isinstance(config, Mapping) and part in config:
            config = config[part]
        elif isinstance(config, list) and part.isdecimal() and int(part) < len(config):
            config = config[int(part)]
        else:
            return MISSING
    return config


def check_overrides(invocation: Invocation, known: Iterable[str] = (), source: Source = Source()) -> None:
    """Refuse overrides and overlays that name what is not there, or give a value of another kind.

    MONAI adds a misspelt key without a word, and a text where a switch or number belongs ends hours later.

    Args:
        invocation: config files, each checked against those before it, and overrides, against all files.
        known: further names that overrides and overlays may have, of keys that are not in these files.
        source: of the overrides.

    Raises:
        ValueError: naming the key, what it must be, and the way out.
    """
    layers, is_referred_to, others = Layers(), _references(invocation), set(known)
    for index, path in enumerate(invocation.config_files):
        is_of_bundle = index == 0 or config_folder(invocation) in Path(path).resolve().parents
        of_bundle = set() if is_of_bundle else others | known_keys(config_folder(invocation))
        for key, value in load_file(path).items():
            if not is_of_bundle and _is_new(layers, key, is_referred_to):
                refuse_unknown_key(key, of_bundle, Source(Path(path).name))
            if index:
                _check(layers, key, value, Source(Path(path).name), is_referred_to)
            layers.add(key, value)
    known_here = {*layers.merged, *others}
    for key, value in invocation.overrides.items():
        if _is_new(layers, key, is_referred_to):
            refuse_unknown_key(key, known_here, source, invocation.config_files)
        _check(layers, key, value, source, is_referred_to)
        layers.add(key, value)


def is_part(config: Mapping[str, Any], name: str) -> bool:
    """Tell whether an id is in an unresolved config, or is an argument that the component above it takes."""
    parts = _steps(name)
    return part_of(config, parts) is not MISSING or _is_argument(part_of(config, parts[:-1]), parts[-1])


def config_folder(invocation: Invocation) -> Path:
    """Return the folder of the first config file, below which the others of the bundle lie."""
    return Path(invocation.config_files[0]).resolve().parent


def known_keys(folder: Path) -> frozenset[str]:
    """Return the top-level keys of all configs in a folder and below it; those of `runs` only name them again."""
    files = [path for path in sorted(folder.rglob("*.yaml")) if path.parent.name != "runs"]
    return frozenset(_steps(key)[0] for path in files for key in load_file(str(path)))


def refuse_unknown_key(key: str, known: Iterable[str], source: Source, files: Sequence[str] = ()) -> None:
    """Refuse a key whose first part is none of the known ones.

    Raises:
        ValueError: with the nearest of them.
    """
    name, names = _steps(key)[0], sorted(known)
    if name not in names:
        of = f" of {some_names([Path(path).name for path in files])}" if files else " of the configs"
        own = f"; a key of your own must be read by another one, as '@{name}'" if source.name else ""
        raise ValueError(f"{source.key(key)} must name a key{of}, got {name!r}{_nearest(name, names, own)}")


def _is_new(layers: Layers, key: str, is_referred_to: set[str]) -> bool:
    return _steps(key)[0] not in layers.merged and "#".join(_steps(key)) not in is_referred_to


def _check(layers: Layers, key: str, value: Any, source: Source, is_referred_to: set[str]) -> None:
    name = key.removeprefix("+")
    for place, text in _texts(name, value):
        if "#" in text and not _is_expression(text):
            raise ValueError(
                f"{source.key(place)} must have no #, which MONAI reads as a step into the config, got {text!r};"
                " rename the file or folder, or give a link to it"
            )
    if _steps(name)[0] in layers.merged and "#".join(_steps(name)) not in is_referred_to:
        _refuse_unknown_part(layers.merged, _steps(name), source.key(name))
    if not _is_expression(value):
        _check_kind(layers.defaults(name), name, value, source)


def _refuse_unknown_part(config: Mapping[str, Any], parts: Sequence[str], key: str) -> None:
    """Refuse an id below the top level that is neither there nor an argument of the component that it is given to."""
    depth = next((depth for depth in range(1, len(parts) + 1) if part_of(config, parts[:depth]) is MISSING), None)
    if depth is None or _is_argument(parent := part_of(config, parts[: depth - 1]), name := parts[depth - 1]):
        return
    names = [str(part) for part, _ in _parts(parent)]
    names += _arguments(parent) if isinstance(parent, Mapping) else []
    raise ValueError(f"{key} must name a part of {'#'.join(parts[: depth - 1])}, got {name!r}{_nearest(name, names)}")


def _nearest(name: str, names: Sequence[str], otherwise: str = "") -> str:
    near = get_close_matches(name, names, n=3) or (names if len(names) <= 10 else [])
    return f"; did you mean {', '.join(dict.fromkeys(near))}?" if near else otherwise


def _is_argument(component: Any, name: str) -> bool:
    arguments = _arguments(component) if isinstance(component, Mapping) else []
    return name in arguments or "**" in arguments


def _arguments(component: Mapping[str, Any]) -> list[str]:
    """Return what the `_target_` of a component takes; "**" among them if it is anything."""
    target = component.get("_target_")
    if not isinstance(target, str) or _is_expression(target):
        return []
    constructor = _locate(target)
    try:
        parameters = inspect.signature(constructor).parameters if callable(constructor) else {}
    except ValueError:
        return ["**"]
    taken = ["**" if item.kind is item.VAR_KEYWORD else name for name, item in parameters.items()]
    return [*taken, *OF_COMPONENTS]


@lru_cache
def _locate(target: str) -> Any:
    if "." in target:
        return pydoc.locate(target)
    module = components().get_component_module_name(target)
    return pydoc.locate(f"{module if isinstance(module, str) else (module or [''])[0]}.{target}")


def _check_kind(defaults: Sequence[Any], name: str, value: Any, source: Source) -> None:
    kinds = dict.fromkeys(kind for default in defaults for kind in _kinds(default, name))
    if not kinds:
        return
    kinds.update(dict.fromkeys(ALSO_ALLOWED.get(name, ())))
    if "anything" in kinds:
        if isinstance(value, str) and value.lower() in SWITCH_WORDS and "text" not in kinds and value not in defaults:
            raise ValueError(_fault(["switch"], name, value, source, defaults))
        return
    kind = _kind(value)
    also = {"whole number": "number", "mapping": "component"}
    if not {kind, also.get(kind)} & set(kinds):
        raise ValueError(_fault(list(kinds), name, value, source, defaults))
    if _is_component(value):
        return  # whose arguments are those of another target
    for part, item in _parts(value):
        below = [part_like for default in defaults for part_like in _parts_like(default, part)]
        if not _is_expression(item):
            _check_kind(below, f"{name}#{part}", item, source)


def _kinds(default: Any, name: str) -> Iterator[str]:
    *above, key = _steps(name)
    if default is None:
        yield "null"
        yield next((kind for pattern, kind in KINDS_OF_NULL if pattern.search(key)), "anything")
    elif _is_expression(default):
        yield "anything"
    elif _is_component(default):
        yield from ("component", "null")
    elif above and default == {}:
        yield from ("mapping", "null")
    elif above and not key.isdecimal() and _kind(default) == "whole number":
        yield "number"  # of a table, in which 560 ms may as well be 560.5
    else:
        yield _kind(default)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "switch"
    kinds = ((int, "whole number"), (float, "number"), (str, "text"), (Mapping, "mapping"), ((list, tuple), "list"))
    return next((kind for types, kind in kinds if isinstance(value, types)), type(value).__name__)


def _fault(kinds: Sequence[str], name: str, value: Any, source: Source, defaults: Sequence[Any]) -> str:
    words = {**WORDS, "text": "a path"} if re.search(r"_(path|dir)$", name) else WORDS
    wanted = " or ".join(words[kind] for kind in kinds if kind != "null" or len(kinds) > 1)
    written = (
        f"the text {value!r}" if isinstance(value, str) else source.written(value) if value is None else repr(value)
    )
    return f"{source.key(name)} must be {wanted}, got {written}{_way_out(kinds, name, value, source, defaults)}"


def _way_out(kinds: Sequence[str], name: str, value: Any, source: Source, defaults: Sequence[Any]) -> str:
    if "switch" in kinds and isinstance(value, str) and value.lower() in SWITCH_WORDS:
        return f"; write {source.written(SWITCH_WORDS[value.lower()])}"
    if isinstance(value, str) and set(NUMBERS) & set(kinds):
        return _number_of(value, is_whole="number" not in kinds)
    if "list" in kinds and not isinstance(value, (Mapping, type(None))):
        # By 96 somebody meant [96, 96]; of other lists, one of a single item.
        alike = [default for default in defaults if isinstance(default, list) and _kind([*default, ""][0]) in NUMBERS]
        return f"; write {source.written([value] * (len(alike[-1]) if alike and _kind(value) in NUMBERS else 1))}"
    if "whole number" in kinds and isinstance(value, float) and value.is_integer():
        return f"; write {int(value)}"
    if "text" in kinds and isinstance(value, (bool, int, float)):
        word = " (YAML reads no, yes, on and off as such)" if isinstance(value, bool) and source.name else ""
        return f"; put it in quotes{word}" if source.name else f"; write --{name} '\"{value}\"'"
    if value is None and "text" in kinds:
        return f"; pass --{name}"
    return ""


def _number_of(text: str, is_whole: bool) -> str:
    try:
        number = float(text)
    except ValueError:
        return f"; write {text.replace(',', '.')}" if re.fullmatch(r"-?\d+,\d+", text) else ""
    if re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", text) and not is_whole:
        mantissa, exponent = re.split("[eE]", text)
        return f"; YAML reads {text} as text, write {mantissa}.0e{exponent}"
    return f"; write {int(number) if number.is_integer() else text}, without quotes"


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, (list, tuple)):
        yield from enumerate(value)


def _parts_like(default: Any, part: Any) -> list[Any]:
    """Return the part of a default that says of which kind the same part of another value must be."""
    if isinstance(default, Mapping):
        return [default[part]] if part in default else []
    if isinstance(default, (list, tuple)) and isinstance(part, int):
        return list(default[part : part + 1] or default[-1:])
    return []


def _texts(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield name, value
    for part, item in _parts(value):
        yield from _texts(f"{name}#{part}", item)


def _is_component(value: Any) -> bool:
    return isinstance(value, Mapping) and "_target_" in value


def _is_expression(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("$", "@", "%"))


def _references(invocation: Invocation) -> set[str]:
    """Collect the ids that overlays and overrides refer to: a key that another one reads is not misspelt."""
    layers = [*(load_file(path) for path in invocation.config_files[1:]), invocation.overrides]
    return {"#".join(_steps(name)) for layer in layers for name in re.findall(r"[@%]([\w#:]+)", str(dict(layer)))}


def _steps(name: str) -> list[str]:
    return re.split("#|::", str(name).removeprefix("+"))


def load_file(path: str) -> Mapping[str, Any]:
    """Return what one config file says, not merged; read once while the file stays the same."""
    return _load_state(path, file_state(path))


@lru_cache(maxsize=256)
def _load_state(path: str, state: tuple[int, int]) -> Mapping[str, Any]:
    require_utf8(path)
    return {str(key): value for key, value in (ConfigParser.load_config_file(path) or {}).items()}
