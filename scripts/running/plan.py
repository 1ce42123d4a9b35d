"""The plan of a study: the graph of its stages, for one or more cohorts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from scripts.running.errors import some_names
from scripts.running.setups import (
    NETWORK,
    Setup,
    classifier_of,
    permutation_of,
    permutations_of,
    read_classifiers,
    setup_of,
    with_classifier,
)
from scripts.running.stages import PLACE

SOURCES = ("phantom", "cohort", "segment")  # configs that make a cohort.json
IMPORT = "import_synthetic"
# What the plan says of an import itself: where it is used, and for what.
OF_PLAN = ("patches_path", "splits_path", "fold", "output_dir", "generator_class", "method", "import_ratio")
FOLD_PARTS = ("train", "inner", "validation")  # of `scripts.splits`, which stands on this room
PLACES = ("cohort", "fold", "class")  # that may stand in braces in the path of imported images
NAME = re.compile(r"\w[\w.+-]*")


@dataclass(frozen=True)
class PlannedStage:
    """A stage of the graph.

    Args:
        name: its folder below the study's, such as "site_a/fold0/classifier_real".
        config: config file without folder and ending.
        overlays: config files that make this variant, likewise.
        overrides: ids and values, as on the command line.
        needs: names of the stages whose outputs it reads.
        network_overlays: overlays of the stage that trained its generator, of which it takes the network and the noise.
    """

    name: str
    config: str
    overlays: tuple[str, ...]
    overrides: Mapping[str, Any]
    needs: tuple[str, ...] = ()
    network_overlays: tuple[str, ...] = ()

    @property
    def belongs_to(self) -> Mapping[str, Any]:
        """Its cohort, fold, setup, classifier, method and class_name, as far as it has them; its record says them.

        The setup is a name of `with_classifier` where the study has several classifiers.
        """
        place: Mapping[str, Any] = self.overrides["stage_belongs_to"]
        return place


@dataclass
class Plan:
    """What a study does, and in which order.

    Args:
        study_dir: folder of all outputs.
        cohorts: cohort name -> {"config": one of `SOURCES`, and overrides of that config}.
        setups: setup name -> fields of `Setup`; none of a study of generators alone, in which every method, control and
            import draws.
        methods: method name -> list of overlays of `train_generator` ([] for the plain diffusion model).
        classes: names of the classes; a synthetic set is made for each. Without classes one set is made of all images,
            and nothing is classified.
        num_folds: folds of every cohort, >= 1; a single one holds out the locked test alone.
        condition: "label" trains one generator for all classes, told which to draw; None one for each class.
        explained_setups: setups of whose evaluations some cases are explained; of several classifiers with each, or
            with one that is named as by `with_classifier`.
        synthetic_ratio: synthetic images of each class, relative to its real ones, in setups that do not say.
        generated_ratio: synthetic images of each class that are generated, likewise.
        controls: control generators, each a method without training, with a setup of its name where another of several
            setups is of a generator of `methods` or `imported`.
        imported: name of another program's generator -> overrides of `import_synthetic`: `images_path`, in which
            {cohort}, {fold} and {class} stand for those of a set, `trained_on`, `value_range`; each a method, with a
            setup of its name where no other trains on it.
        audit_generators: whether the audit of a trained generator's images looks at its weights, too.
        classifiers: networks with each of which every setup is trained, see `read_classifiers`; with none each setup
            has one classifier, of `classifier_backbone`.
        space: "latent" trains an autoencoder for each cohort and fold, in whose latents the generators work.
    """

    study_dir: str | Path
    cohorts: Mapping[str, Mapping[str, Any]]
    setups: Mapping[str, Any]
    methods: Mapping[str, Sequence[str]]
    classes: Sequence[str]
    num_folds: int
    condition: str | None = None
    explained_setups: Sequence[str] = ()
    synthetic_ratio: float = 1.0
    generated_ratio: float = 1.0
    controls: Sequence[str] = ()
    imported: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    audit_generators: bool = True
    classifiers: Any = ()
    space: str = "pixel"

    def __post_init__(self) -> None:
        self.classifiers = read_classifiers(self.classifiers)
        self.imported = self.imported or {}
        setups = {name: Setup.of(name, setup) for name, setup in self.setups.items()}
        used = {setup.method for setup in setups.values()}
        imported = self.imported if setups else ()
        setups |= {name: Setup(method=name) for name in imported if name not in {*setups, *used}}
        # A control is for a generator to beat; and a single setup is compared with nothing.
        rivals = {*self.methods, *self.imported}
        has_rival = len(setups) > 1 and any(setup.method in rivals for setup in setups.values())
        controls = (self.controls or ()) if has_rival else ()
        self.setups = {**setups, **{name: Setup(method=name) for name in controls if name not in setups}}

    def check(self, config_dir: Path) -> None:
        """Refuse names, overlays and numbers that do not fit each other.

        Args:
            config_dir: folder of the config files.

        Raises:
            ValueError: naming the key and the way out.
        """
        if not isinstance(self.controls, (list, tuple)):
            raise ValueError(f"controls must be a list of control generators, got {self.controls!r}; [] is none")
        if not isinstance(self.imported, Mapping):
            raise ValueError(f"imported must be a mapping from names to imports, got {self.imported!r}; {{}} is none")
        for key in ("cohorts", "controls", "setups", "methods", "imported", "classifiers"):
            _check_names(key, getattr(self, key))
        for key, others, own in (
            ("controls", "methods", "method"),
            ("controls", "imported", "import"),
            ("imported", "methods", "method"),
        ):
            both = [name for name in getattr(self, key) if name in getattr(self, others)]
            if both:
                raise ValueError(f"{key} must not be named as {others} are, got {some_names(both)}; rename the {own}")
        for name, cohort in self.cohorts.items():
            _check_source(name, cohort, config_dir)
        for name, overlays in self.methods.items():
            _check_overlays(f"methods.{name}", overlays, config_dir)
        for name, settings in self.imported.items():
            _check_imported(name, settings, bool(self.classes))
            self._check_places(name, settings)
            self._require_images(name)
        self._check_without_classes()
        unused = [name for name in self.imported if name not in self.drawing_methods]
        if unused:
            raise ValueError(
                f"imported must be the methods of setups, got {some_names(unused)}, whose setup takes the images of"
                f" another; write setups.{unused[0]}: {{method: {unused[0]}}} or rename the import"
            )
        for name, setup in self.setups.items():
            self._check_setup(name, setup)
            _check_overlays(f"setups.{name}#overlays", setup.overlays, config_dir)
        known = list(dict.fromkeys([*self.setups, *self.trained_setups]))
        unknown = [name for name in self.explained_setups if name not in known]
        if unknown:
            raise ValueError(f"explained_setups must be of setups {known}, got {some_names(unknown)}")
        same = [name for name, cohort in self.cohorts.items() if list(self.cohorts.values()).count(cohort) > 1]
        if same:
            raise ValueError(f"cohorts must differ, got the same patients as {' and '.join(same)}")
        if self.num_folds < 1:
            raise ValueError(f"num_folds must be >= 1, got {self.num_folds!r}")

    def stages(self) -> list[PlannedStage]:
        """List the stages in an order in which every stage comes after those it needs.

        The data of all cohorts come first, then the sets that need no training, imported or of control generators, so
        that a fault in the last cohort or fold is found before hours of training.
        """
        data = [stage for cohort in self.cohorts for stage in self._data_stages(cohort)]
        methods = self.drawing_methods
        synthesis = [
            stage
            for cohort in self.cohorts
            for fold in range(self.num_folds)
            for method in methods
            for stage in self._synthesis_stages(cohort, fold, method)
        ]
        classifiers = [
            self._classifier_stage(cohort, fold, name)
            for cohort in self.cohorts
            for name in self.trained_setups
            for fold in range(self.num_folds)
        ]
        evaluations = [self._evaluation_stage(cohort, name) for cohort in self.cohorts for name in self.trained_setups]
        judgments = [
            stage
            for cohort in self.cohorts
            for fold in range(self.num_folds)
            for method in methods
            for name in self.class_names
            for stage in self._judging_stages(cohort, fold, method, name)
        ]
        explanations = [
            self._explanation_stage(cohort, name)
            for cohort in self.cohorts
            for name in self.trained_setups
            if {name, setup_of(name)} & set(self.explained_setups)
        ]
        are_trained = self.space == "latent" and any(name in self.methods for name in methods)
        places = itertools.product(self.cohorts, range(self.num_folds) if are_trained else ())
        autoencoders = [self._autoencoder_stage(*place) for place in places]
        untrained = [planned for planned in synthesis if planned.config in ("generate_control", IMPORT)]
        trained = [planned for planned in synthesis if planned not in untrained]
        after = [*classifiers, *judgments, *evaluations, *explanations]
        report = self._report_stage([*data, *autoencoders, *synthesis, *after])
        return [*data, *untrained, *autoencoders, *trained, *after, report]

    def kinds(self) -> list[PlannedStage]:
        """List one stage of each kind: of the same config with the same overlays, and of each control or import."""
        kinds = {
            (planned.config, planned.overlays, planned.overrides.get("control"), _imported(planned)): planned
            for planned in reversed(self.stages())
        }
        return list(kinds.values())[::-1]

    def variants(self) -> list[PlannedStage]:
        """List one stage of each kind and settings: places and folds aside, others of it are no different."""

        def variant(planned: PlannedStage) -> str:
            settings = {key: value for key, value in planned.overrides.items() if not PLACE.search(key)}
            settings.pop("fold", None)
            return repr((planned.config, planned.overlays, planned.network_overlays, settings))

        return list({variant(planned): planned for planned in reversed(self.stages())}.values())[::-1]

    def source_of(self, cohort: str) -> PlannedStage:
        """Return the stage that makes the `cohort.json` of a cohort."""
        return self._data_stages(cohort)[0]

    @property
    def class_names(self) -> list[str | None]:
        """Names of the classes of which sets are made; None alone for all images, where there are no classes."""
        return [*self.classes] or [None]

    @property
    def drawing_methods(self) -> list[str]:
        """Methods, controls and imports that the study has images of: those of its setups or, without any, all."""
        if not self.setups:
            return [*self.methods, *(self.controls or ()), *self.imported]
        return list(dict.fromkeys(setup.method for setup in self.setups.values() if setup.method is not None))

    @property
    def trained_setups(self) -> list[str]:
        """Names of what is trained and evaluated apart: every permutation of every setup, with every classifier."""
        setups = [name for setup in self.setups.items() for name in permutations_of(*setup, len(self.classes))]
        return [with_classifier(*pair) for pair in itertools.product(setups, self.classifiers or [None])]

    def _check_without_classes(self) -> None:
        if self.classes:
            return
        if self.setups or self.explained_setups:
            raise ValueError(
                f"setups and explained_setups must be {{}} and [] where classes is {{}}, got setups"
                f" {some_names(self.setups) or 'none'}: there is nothing to classify; methods, controls and imported"
                " say what draws images"
            )
        if self.condition is not None:
            raise ValueError(
                f"generator_condition must be null where classes is {{}}, got {self.condition!r}: a generator cannot be"
                " told a class"
            )

    def _require_images(self, name: str) -> None:
        for place in itertools.product(self.cohorts, map(str, range(self.num_folds)), self.class_names):
            path = self._images_of(name, *place)
            if not Path(path).exists():
                raise ValueError(
                    f"imported.{name}#images_path must be a folder or a file of each cohort, fold and class, got no"
                    f" {path}; put the images there, or leave out what they do not differ by"
                )

    def _check_places(self, name: str, settings: Mapping[str, Any]) -> None:
        """Refuse one set of images that is declared to be made from a part of several folds or cohorts at once."""
        if settings.get("trained_on") not in FOLD_PARTS:
            return
        path = settings["images_path"]
        several = [("fold", self.num_folds > 1), ("cohort", len(self.cohorts) > 1)]
        missing = [place for place, are_many in several if are_many and f"{{{place}}}" not in path]
        if missing:
            raise ValueError(
                f"imported.{name}#images_path must hold {' and '.join(f'{{{place}}}' for place in missing)}, since a"
                f" generator that was trained on {settings['trained_on']!r} is of one {missing[0]}, got"
                f" {path!r}; set trained_on to unknown if nobody knows whom it saw"
            )

    def _images_of(self, name: str, cohort: str, fold: str, class_name: str | None) -> str:
        path: str = self.imported[name]["images_path"]
        for place, value in zip(PLACES, (cohort, fold, _word(class_name)), strict=True):
            path = path.replace(f"{{{place}}}", value)
        return path

    def _check_setup(self, name: str, setup: Setup) -> None:
        if setup.method is None:
            return
        known = [*sorted(self.methods), *self.controls, *self.imported]
        if setup.method not in known:
            raise ValueError(f"setups.{name} must have a method of methods {known}, got {setup.method!r}")
        if self.imported.get(setup.method, {}).get("trained_on") == "all":
            raise ValueError(
                f"imported.{setup.method}#trained_on must leave subjects to test on where setups.{name} trains on the"
                " images, got 'all'; import images of a generator of one fold's training part, or audit these alone"
            )
        ratio = self.synthetic_ratio if setup.ratio is None else setup.ratio
        if ratio > self.generated_ratio and setup.method not in self.imported:
            raise ValueError(
                f"generated_ratio must be at least the ratio {ratio} that setups.{name} takes, got"
                f" {self.generated_ratio}; pass --generated_ratio {ratio}, or take fewer images"
            )

    def _data_stages(self, cohort: str) -> list[PlannedStage]:
        overrides = dict(self.cohorts[cohort])
        config = overrides.pop("config")
        if config == "cohort":
            # Two tables may both be called patients.csv.
            overrides.setdefault("cohort_name", cohort)
        source = PlannedStage(f"{cohort}/cohort", config, (), self._to(f"{cohort}/cohort", overrides, cohort=cohort))
        return [source, *(self._stage_after_source(source, cohort, config) for config in ("patches", "splits"))]

    def _stage_after_source(self, source: PlannedStage, cohort: str, config: str) -> PlannedStage:
        name, inputs = f"{cohort}/{config}", {"cohort_path": self._path(source.name, "cohort.json")}
        return PlannedStage(name, config, (), self._to(name, inputs, cohort=cohort), (source.name,))

    def _fold_inputs(self, cohort: str, fold: int) -> dict[str, Any]:
        return {
            "patches_path": self._path(f"{cohort}/patches", "patches.json"),
            "splits_path": self._path(f"{cohort}/splits", "splits.json"),
            "fold": fold,
        }

    def _synthesis_stages(self, cohort: str, fold: int, method: str) -> list[PlannedStage]:
        if method in self.controls:
            return [self._control_stage(cohort, fold, method, name) for name in self.class_names]
        if method in self.imported:
            return [self._import_stage(cohort, fold, method, name) for name in self.class_names]
        trained: list[str | None] = [None] if self.condition else self.class_names
        generators = {name: self._generator_stage(cohort, fold, method, name) for name in trained}
        sets = [
            self._set_stage(cohort, fold, method, name, generators[None if self.condition else name])
            for name in self.class_names
        ]
        return [*generators.values(), *sets]

    def _generator_stage(self, cohort: str, fold: int, method: str, class_name: str | None) -> PlannedStage:
        name = f"{cohort}/fold{fold}/generator_{_word(class_name)}_{method}"
        inputs = {**self._fold_inputs(cohort, fold), "generator_class": class_name, "method": method}
        needs: tuple[str, ...] = (f"{cohort}/patches", f"{cohort}/splits")
        place = {"cohort": cohort, "fold": fold, "method": method, "class_name": class_name}
        if self.space == "latent":
            autoencoder = self._autoencoder_stage(cohort, fold).name
            inputs["autoencoder_path"] = self._path(autoencoder, "model.pt")
            needs = (*needs, autoencoder)
        return PlannedStage(
            name, "train_generator", tuple(self.methods[method]), self._to(name, inputs, **place), needs
        )

    def _autoencoder_stage(self, cohort: str, fold: int) -> PlannedStage:
        name, inputs = f"{cohort}/fold{fold}/autoencoder", self._fold_inputs(cohort, fold)
        needs = (f"{cohort}/patches", f"{cohort}/splits")
        return PlannedStage(name, "train_autoencoder", (), self._to(name, inputs, cohort=cohort, fold=fold), needs)

    def _set_stage(
        self, cohort: str, fold: int, method: str, class_name: str | None, generator: PlannedStage
    ) -> PlannedStage:
        inputs = {**self._fold_inputs(cohort, fold), "generator_class": class_name}
        inputs["generator_path"] = self._path(generator.name, "model.pt")
        name = f"{cohort}/fold{fold}/synthetic_{_word(class_name)}_{method}"
        needs = (generator.name, f"{cohort}/patches", f"{cohort}/splits")
        place = {"cohort": cohort, "fold": fold, "method": method, "class_name": class_name}
        return PlannedStage(name, "generate", (), self._to(name, inputs, **place), needs, generator.overlays)

    def _control_stage(self, cohort: str, fold: int, control: str, class_name: str | None) -> PlannedStage:
        inputs = {**self._fold_inputs(cohort, fold), "generator_class": class_name, "control": control}
        name = f"{cohort}/fold{fold}/synthetic_{_word(class_name)}_{control}"
        needs = (f"{cohort}/patches", f"{cohort}/splits")
        place = {"cohort": cohort, "fold": fold, "method": control, "class_name": class_name}
        return PlannedStage(name, "generate_control", (), self._to(name, inputs, **place), needs)

    def _import_stage(self, cohort: str, fold: int, method: str, class_name: str | None) -> PlannedStage:
        inputs = {**self._fold_inputs(cohort, fold), "generator_class": class_name, "method": method}
        inputs |= {**self.imported[method], "images_path": self._images_of(method, cohort, str(fold), class_name)}
        ratios = [setup.ratio for setup in self.setups.values() if setup.method == method] or [None]
        inputs["import_ratio"] = max(self.synthetic_ratio if ratio is None else ratio for ratio in ratios)
        name = f"{cohort}/fold{fold}/synthetic_{_word(class_name)}_{method}"
        place = {"cohort": cohort, "fold": fold, "method": method, "class_name": class_name}
        return PlannedStage(
            name, IMPORT, (), self._to(name, inputs, **place), (f"{cohort}/patches", f"{cohort}/splits")
        )

    def _judging_stages(self, cohort: str, fold: int, method: str, class_name: str | None) -> list[PlannedStage]:
        """Audit a synthetic set, with the generator behind it, and measure it, also in the features of a classifier."""
        folder, paths = f"{cohort}/fold{fold}", self._fold_inputs(cohort, fold)
        # Of several classifiers the first: measures in the features of another one are not comparable with them.
        first = next(iter(self.classifiers), None)
        classifier = f"{folder}/classifier_{with_classifier('real', first)}"
        synthetic = f"{folder}/synthetic_{_word(class_name)}_{method}"
        needs = (synthetic, f"{cohort}/patches", f"{cohort}/splits")
        others = [name for name in self._synthetic_names(cohort, fold, method) if name != synthetic]
        common = {"synthetic_path": self._path(synthetic, "synthetic.json"), "splits_path": paths["splits_path"]}
        audited = {**common, "patches_path": paths["patches_path"]}
        measured = {**common, "real_path": paths["patches_path"], "fold": fold}
        measured["label_paths"] = [self._path(name, "synthetic.json") for name in others]
        audit, measures = (f"{folder}/{kind}_{_word(class_name)}_{method}" for kind in ("audit", "measures"))
        after_classifier = (classifier,) if "real" in self.setups else ()
        measured["classifier_path"] = self._path(classifier, "model.pt") if after_classifier else None
        measured |= self._network(first)
        place = {"cohort": cohort, "fold": fold, "method": method, "class_name": class_name}
        behind = []
        if self.audit_generators and method in self.methods:
            behind = [self._generator_stage(cohort, fold, method, None if self.condition else class_name)]
            audited["audit_generator_path"] = self._path(behind[0].name, "model.pt")
        return [
            PlannedStage(
                audit,
                "audit",
                (),
                self._to(audit, audited, **place),
                (*needs, *(generator.name for generator in behind)),
                tuple(overlay for generator in behind for overlay in generator.overlays),
            ),
            PlannedStage(
                measures,
                "measure_images",
                (),
                self._to(measures, measured, **place),
                (*needs, *others, *after_classifier),
            ),
        ]

    def _classifier_stage(self, cohort: str, fold: int, trained: str) -> PlannedStage:
        training = self.setups[setup_of(trained)]
        synthetic = self._synthetic_names(cohort, fold, training.method) if training.method else []
        inputs = {**self._fold_inputs(cohort, fold), "setup": trained, **training.overrides()}
        inputs["synthetic_paths"] = [self._path(name, "synthetic.json") for name in synthetic]
        number = permutation_of(trained)
        inputs |= {} if number is None else {"synthetic_permutation": number - 1}
        inputs |= self.classifiers.get(classifier_of(trained), {})
        name = f"{cohort}/fold{fold}/classifier_{trained}"
        needs = (f"{cohort}/patches", f"{cohort}/splits", *synthetic)
        place = {"cohort": cohort, "fold": fold, **_place_of(trained)}
        return PlannedStage(name, "train_classifier", tuple(training.overlays), self._to(name, inputs, **place), needs)

    def _network(self, classifier: str | None) -> dict[str, Any]:
        """Return what stages that use the weights of a classifier must know of its network."""
        return {key: value for key, value in self.classifiers.get(classifier, {}).items() if key in NETWORK}

    def _synthetic_names(self, cohort: str, fold: int, method: str) -> list[str]:
        return [f"{cohort}/fold{fold}/synthetic_{_word(name)}_{method}" for name in self.class_names]

    def _evaluation_stage(self, cohort: str, trained: str) -> PlannedStage:
        members = [f"{cohort}/fold{fold}/classifier_{trained}" for fold in range(self.num_folds)]
        others = [name for name in self.cohorts if name != cohort]
        inputs = self._fold_inputs(cohort, 0)
        del inputs["fold"]
        inputs["member_paths"] = [self._path(name, "model.pt") for name in members]
        inputs["external_patches_paths"] = [self._path(f"{other}/patches", "patches.json") for other in others]
        inputs["setup"] = trained
        inputs |= self._network(classifier_of(trained))
        needs = (*members, *(f"{name}/patches" for name in self.cohorts), f"{cohort}/splits")
        name = f"{cohort}/evaluation_{trained}"
        return PlannedStage(name, "evaluate", (), self._to(name, inputs, cohort=cohort, **_place_of(trained)), needs)

    def _explanation_stage(self, cohort: str, trained: str) -> PlannedStage:
        evaluation = f"{cohort}/evaluation_{trained}"
        patches = [f"{name}/patches" for name in (cohort, *(other for other in self.cohorts if other != cohort))]
        inputs = {
            "weights_path": self._path(evaluation, "model.pt"),
            "predictions_path": self._path(evaluation, "predictions.csv"),
            "explain_patches_paths": [self._path(name, "patches.json") for name in patches],
            **self._network(classifier_of(trained)),
        }
        name = f"{cohort}/explain_{trained}"
        place = {"cohort": cohort, **_place_of(trained)}
        return PlannedStage(name, "explain", (), self._to(name, inputs, **place), (evaluation, *patches))

    def _report_stage(self, before: Sequence[PlannedStage]) -> PlannedStage:
        return PlannedStage(
            "report",
            "report",
            (),
            self._to("report", {"study_dir": str(self.study_dir), "stage_names": [stage.name for stage in before]}),
            tuple(stage.name for stage in before),
        )

    def _to(self, name: str, overrides: Mapping[str, Any], **belongs_to: Any) -> dict[str, Any]:
        """Add the folder of a stage, and what it belongs to, which its record says to those who read the study."""
        return {**overrides, "output_dir": str(Path(self.study_dir) / name), "stage_belongs_to": belongs_to}

    def _path(self, name: str, file: str) -> str:
        return str(Path(self.study_dir) / name / file)


def _check_names(key: str, names: Mapping[Any, Any]) -> None:
    for name in names:
        if not isinstance(name, str):
            word = " (YAML reads no, yes, on and off as False and True)" if isinstance(name, bool) else ""
            raise ValueError(f"{key} must be named by text, got {name!r}{word}; put the name in quotes")
        if not NAME.fullmatch(name) or name == "report":
            raise ValueError(
                f"{key} must have names of letters, digits, _, ., + and -, which become folders, and not report, got"
                f" {name!r}; choose another"
            )


def _check_source(name: str, cohort: Any, config_dir: Path) -> None:
    example = "{config: cohort, source_path: patients.csv}"
    if not isinstance(cohort, Mapping):
        raise ValueError(f"cohorts.{name} must be a mapping such as {example}, got {cohort!r}")
    if "config" not in cohort:
        raise ValueError(
            f"cohorts.{name} must have a config ({', '.join(SOURCES)}), got {some_names(cohort) or 'nothing'};"
            f" write it as {example}"
        )
    config = cohort["config"]
    if not isinstance(config, str) or not (config_dir / f"{config}.yaml").is_file():
        near = get_close_matches(str(config), SOURCES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"cohorts.{name} must have a config of {', '.join(SOURCES)}, got {config!r}{hint}")


def _word(class_name: str | None) -> str:
    return class_name or "all"


def _check_imported(name: str, settings: Any, has_classes: bool) -> None:
    example = "{images_path: 'gan/{cohort}/fold{fold}/{class}', trained_on: train, value_range: [0, 1]}"
    if not isinstance(settings, Mapping) or not isinstance(settings.get("images_path"), str):
        raise ValueError(f"imported.{name} must be a mapping with images_path, such as {example}, got {settings!r}")
    own = [key for key in settings if key in OF_PLAN]
    if own:
        raise ValueError(f"imported.{name} must leave {some_names(own)} to the study; write it as {example}")
    unknown = [place for place in re.findall(r"{(.*?)}", settings["images_path"]) if place not in PLACES]
    if unknown:
        raise ValueError(
            f"imported.{name}#images_path must name places of {', '.join(PLACES)} in braces, got {unknown[0]!r}"
        )
    if has_classes and "{class}" not in settings["images_path"]:
        raise ValueError(
            f"imported.{name}#images_path must hold {{class}}, a folder or file for each class, got"
            f" {settings['images_path']!r}; write it as {example}"
        )


def _place_of(trained: str) -> dict[str, str]:
    classifier = classifier_of(trained)
    return {"setup": trained} if classifier is None else {"setup": trained, "classifier": classifier}


def _imported(planned: PlannedStage) -> str | None:
    return planned.overrides["method"] if planned.config == IMPORT else None


def _check_overlays(key: str, overlays: Any, config_dir: Path) -> None:
    if not isinstance(overlays, (list, tuple)):
        raise ValueError(f"{key} must be a list of config files, got {overlays!r}; write [{overlays}]")
    files = [path.relative_to(config_dir).with_suffix("").as_posix() for path in sorted(config_dir.rglob("*.yaml"))]
    for name in overlays:
        if name not in files:
            near = get_close_matches(str(name), files, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else "put the file there, as options/mine.yaml for options/mine"
            raise ValueError(
                f"{key} must name files of {config_dir}, without ending, got {name!r}, which is not there; {hint}"
            )


def group_folds(plan: Sequence[PlannedStage], size: int) -> list[tuple[PlannedStage, ...]]:
    """Cut a plan into tasks: up to `size` classifiers of one cohort and setup each, and every other stage alone.

    The order stays that of the plan, in which the folds of a setup follow one another and none needs another.
    """

    def trained_together(planned: PlannedStage) -> object:
        if planned.config != "train_classifier":
            return planned.name
        return planned.belongs_to["cohort"], planned.belongs_to["setup"]

    runs = [list(run) for _, run in itertools.groupby(plan, trained_together)]
    return [tuple(run[start : start + size]) for run in runs for start in range(0, len(run), size)]
