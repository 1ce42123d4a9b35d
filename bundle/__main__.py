"""Commands of this bundle: flatten, pack, verify, export, push, pull, adopt; dicom, grade, label; audit."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from bundle.request_errors import RequestError

FAILED, AUDIT_FAILED = 2, 3  # exit status where a request cannot be met; 2 of an audit says that it cannot tell


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 1 where a check fails, 2 where a request cannot be met.

    Of `audit` these are verdicts: there 3 is the status of a request that cannot be met, and of a crash.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    failed = AUDIT_FAILED if words[:1] == ["audit"] else FAILED
    options = command_line(failed).parse_args(words)
    command: Callable[[argparse.Namespace], int] = options.run
    try:
        return command(options)
    except (ValueError, FileNotFoundError, ImportError, RequestError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return failed
    except Exception:
        if failed == FAILED:
            raise
        # Python would end with 1, which says that images are known.
        traceback.print_exc()
        return failed


class CommandLine(argparse.ArgumentParser):
    """A parser whose errors end with a status of one's own."""

    failed = FAILED

    def error(self, message: str) -> NoReturn:
        """Print how the command is used, and exit."""
        self.print_usage(sys.stderr)
        self.exit(self.failed, f"{self.prog}: error: {message}\n")


def command_line(failed: int = FAILED) -> argparse.ArgumentParser:
    """Return the parser of every command.

    Args:
        failed: exit status where a command is not understood.
    """
    parser = CommandLine(prog="python -m bundle", description=__doc__)
    parser.failed = failed
    commands = parser.add_subparsers(dest="command", required=True)

    flatten = commands.add_parser(
        "flatten", help="write configs/train.json and inference.json from the YAML, and the versions in metadata.json"
    )
    flatten.add_argument("--check", action="store_true", help="write nothing; exit 1 if one of them is stale")
    flatten.set_defaults(run=_flatten)

    pack = commands.add_parser("pack", help="write a package in the format of the MONAI model zoo")
    pack.add_argument("--study", required=True, help="folder of a finished study, such as runs/demo")
    pack.add_argument("--setup", required=True, help="setup of the classifiers, such as real or ddpm_mi")
    pack.add_argument("--cohort", help="cohort trained on, where the study has several")
    pack.add_argument("--method", help="method of the generators; by default that of the setup or the only one")
    pack.add_argument("--fold", type=int, default=0, help="fold of the generators (default: 0)")
    pack.add_argument("--output", default="dist", help="folder that gets the package (default: dist)")
    pack.add_argument("--name", help="name of the package: letters, digits, _ (default: task_package of the study)")
    pack.add_argument("--url-base", help="address of the folder from which the weights will be had")
    pack.add_argument("--data-license", help="text with the terms of the data; needed for weights of patients")
    _add_allow_placeholder(pack)
    pack.set_defaults(run=_pack)

    verify = commands.add_parser("verify", help="try every rule of the model zoo on a package, offline")
    verify.add_argument("folder", help="root of the package")
    _add_allow_placeholder(verify)
    verify.set_defaults(run=_verify)

    export = commands.add_parser("export", help="write the networks of a package as TorchScript or ONNX")
    export.add_argument("folder", help="root of the package")
    export.add_argument("--format", required=True, choices=("torchscript", "onnx"), help="format of the files")
    export.set_defaults(run=_export)

    _add_hub(commands)
    adopt = commands.add_parser("adopt", help="join federated weights and the records of their sites")
    adopt.add_argument("--weights", required=True, help="global model of the federation, as FL_global_model.pt")
    adopt.add_argument(
        "--records", required=True, nargs="+", help="provenance.json of each site, with its model.pt beside it"
    )
    adopt.add_argument("--out", required=True, help="folder for model.pt and provenance.json")
    adopt.set_defaults(run=_adopt)

    _add_audit(commands)
    _add_dicom(commands)
    _add_grade(commands)

    example = commands.add_parser("example", help="write real pictures for a first study, without a download")
    example.add_argument("name", choices=("digits", "histology"), help="handwritten digits, or tiles of stained tissue")
    example.add_argument("folder", help="gets the pictures")
    example.set_defaults(run=_example)

    label = commands.add_parser("label", help="serve a bundle and a folder of studies to MONAI Label's clients")
    label.add_argument("--studies", required=True, help="folder of the patients' files; nothing outside it is read")
    label.add_argument("--bundle", help="root of the bundle (default: this one)")
    label.add_argument("--port", type=int, default=8000, help="port on 127.0.0.1 (default: 8000)")
    label.add_argument("--work", help="folder for labels and uploads (default: monai_label in the studies)")
    label.add_argument("--max-upload-mb", type=int, default=1024, help="size of one request, MiB (default: 1024)")
    label.set_defaults(run=_label)
    return parser


def _add_hub(commands: argparse._SubParsersAction[CommandLine]) -> None:
    push = commands.add_parser("push", help="put a package on the Hugging Face Hub, or in a folder")
    push.add_argument("folder", help="root of the package")
    push.add_argument("repository", help="OWNER/NAME of the hub, or a folder such as ./mirror/NAME")
    push.add_argument("--dry-run", action="store_true", help="only list what would go there")
    push.add_argument("--public", action="store_true", help="let everybody see a repository that this makes")
    push.add_argument("--tag", help="name of this version there (default: the version of the package)")
    push.set_defaults(run=_push)
    pull = commands.add_parser("pull", help="get a package from the Hugging Face Hub, or from such a folder")
    pull.add_argument("repository", help="OWNER/NAME of the hub, or a folder; of people whom you trust: it is code")
    pull.add_argument("--output", default="dist", help="folder that gets the package (default: dist)")
    pull.add_argument("--revision", help="branch, tag or commit")
    pull.set_defaults(run=_pull)


def _add_audit(commands: argparse._SubParsersAction[CommandLine]) -> None:
    audit = commands.add_parser(
        "audit",
        help="say whether synthetic images copy training images: any folders of NIfTI, PNG or arrays",
        epilog="Exit status: 0 no sign of memorization, 1 images are known, 2 unusable, collapsed or too few to tell,"
        " 3 an error.",
    )
    audit.failed = AUDIT_FAILED
    audit.add_argument("synthetic", help="folder of the synthetic images, or one file of many")
    audit.add_argument("training", help="likewise, the images that their generator was trained on")
    audit.add_argument("--held_out", help="likewise, real images that it was not trained on; without, never status 0")
    audit.add_argument("--output_dir", default="audit", help="folder for audit.html and audit.json (default: audit)")
    audit.add_argument("--overwrite", action="store_true", help="make another audit in that folder anew")
    numbers: dict[str, Any] = {"nargs": 2, "type": float, "metavar": ("LOW", "HIGH")}
    audit.add_argument("--value_range", **numbers, help="intensities of background and brightest (default: of all)")
    audit.add_argument("--image_axes", help="axes of a file: N images, C channels, H, W, D, such as NHWC")
    audit.add_argument("--channel_endings", nargs="+", help="ends of file names, where each channel has a file")
    audit.add_argument("--patient_pattern", help="regular expression that finds the patient in a file name")
    audit.add_argument(
        "--max_shift", "--audit_max_shift", type=int, help="pixels that a copy may be moved (default: a sixth side)"
    )
    audit.set_defaults(run=_audit)


def _add_dicom(commands: argparse._SubParsersAction[CommandLine]) -> None:
    dicom = commands.add_parser("dicom", help="write the four modalities of a DICOM study as NIfTI")
    dicom.add_argument("study", help="folder of one examination of one patient, with folders below it")
    dicom.add_argument("--out", required=True, help="folder for t1n, t1c, t2w, t2f and study.json")
    _add_dicom_options(dicom)
    dicom.add_argument("--overwrite", action="store_true", help="replace a study that is there")
    dicom.set_defaults(run=_dicom)


def _add_dicom_options(command: argparse.ArgumentParser) -> None:
    own = command.add_argument_group("DICOM studies")
    own.add_argument("--series", nargs="+", help="series by number or UID, as t1c=7 t2w=3 (default: by rules)")
    own.add_argument("--brain_mask", help="file with the brain on the grid of t1c, of images of whole heads")
    own.add_argument("--skull_strip", action="store_true", help="find the brain by HD-BET (extra skull-strip)")


def _add_grade(commands: argparse._SubParsersAction[CommandLine]) -> None:
    grade = commands.add_parser(
        "grade", help="grade patients with a package", epilog="Exit status: 0 all are graded, 2 some are not."
    )
    grade.add_argument(
        "patients", nargs="+", help="folder of a patient's files or DICOM study, a file of it or a picture; of each"
    )
    grade.add_argument("--out", required=True, help="folder for the answers, one folder per patient, and answers.csv")
    grade.add_argument("--bundle", help="root of the package (default: the only one in dist)")
    grade.add_argument("--click", help="voxel inside the lesion, as 120,100,70, counted from 0; of a single patient")
    grade.add_argument("--mask", help="tumor mask, likewise (default: PATIENT_seg or PATIENT_mask beside the files)")
    grade.add_argument("--mask_codes", help="convention of the masks, such as brats_2023, where two can be meant")
    grade.add_argument("--channel_order", nargs="+", help="modality of each channel of 4D files")
    grade.add_argument("--explanation", default="gradcam", help="gradcam, occlusion, or none (default: gradcam)")
    grade.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    grade.add_argument("--overwrite", action="store_true", help="replace answers of other files, options or weights")
    _add_dicom_options(grade)
    grade.add_argument("--dicom_report", action="store_true", help="write the answer as DICOM SR, SEG and SC, too")
    grade.set_defaults(run=_grade)


def _voxel(text: str) -> list[int]:
    numbers = text.strip("[] ").split(",")
    try:
        return [int(number) for number in numbers]
    except ValueError:
        raise ValueError(f"--click must be three whole numbers with commas, as 120,100,70, got {text!r}") from None


def _add_allow_placeholder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-placeholder", action="store_true", help="accept that large_files.yml has no real address"
    )


# Imported where they are used: MONAI takes seconds, and --help should not.
def _flatten(options: argparse.Namespace) -> int:
    from bundle.flatten import stale, write_flat
    from bundle.reference import PAGE, is_stale, write_page

    if options.check:
        names = [*stale(), *([PAGE] if is_stale() else [])]
        print(f"stale: {', '.join(names)}; run python -m bundle flatten" if names else "generated files are up to date")
        return 1 if names else 0
    for path in [*write_flat(), write_page()]:
        print(path)
    return 0


def _pack(options: argparse.Namespace) -> int:
    from bundle.pack import pack
    from bundle.trained import Trained

    trained = Trained.find(options.study, options.setup, options.cohort, options.method, options.fold)
    print(
        pack(trained, options.output, options.url_base, options.allow_placeholder, options.data_license, options.name)
    )
    return 0


def _verify(options: argparse.Namespace) -> int:
    from bundle.verify import report

    return 0 if report(options.folder, options.allow_placeholder) else 1


def _export(options: argparse.Namespace) -> int:
    from bundle.exports import export

    for path, difference in export(options.folder, options.format).items():
        print(f"{path}   largest difference {difference:.1e}")
    return 0


def _push(options: argparse.Namespace) -> int:
    from bundle.hub import describe, push

    files = push(options.folder, options.repository, options.dry_run, not options.public, options.tag)
    print(describe(files, options.repository, options.dry_run))
    return 0


def _pull(options: argparse.Namespace) -> int:
    from bundle.hub import pull

    print(pull(options.repository, options.output, options.revision))
    return 0


def _adopt(options: argparse.Namespace) -> int:
    from bundle.adopt import adopt

    print(adopt(options.weights, options.records, options.out))
    return 0


def _audit(options: argparse.Namespace) -> int:
    from bundle.audit import audit_folders

    keys = ("output_dir", "overwrite", "value_range", "image_axes", "channel_endings", "patient_pattern")
    paths = {"synthetic_path": options.synthetic, "training_path": options.training, "held_out_path": options.held_out}
    others = {**{key: getattr(options, key) for key in keys}, "audit_max_shift": options.max_shift}
    return audit_folders({key: value for key, value in {**paths, **others}.items() if value is not None})


def _grade(options: argparse.Namespace) -> int:
    from bundle.grading import describe, grade

    of_dicom = ("series", "brain_mask", "skull_strip", "dicom_report")
    names = ("mask", "mask_codes", "channel_order", "explanation", "device", "overwrite", *of_dicom)
    click = None if options.click is None else _voxel(options.click)
    others = {name: getattr(options, name) for name in names}
    rows = grade(options.patients, options.out, options.bundle, click, **others)
    print(describe(rows))
    return FAILED if any("error" in row for row in rows) else 0


def _dicom(options: argparse.Namespace) -> int:
    from bundle.dicom.files import require_packages

    require_packages()
    from bundle.dicom.convert import convert, plan

    conversion = plan(options.study, options.series, options.brain_mask, options.skull_strip)
    print(conversion.describe())
    convert(conversion, options.out, options.overwrite)
    print(options.out)
    return 0


def _example(options: argparse.Namespace) -> int:
    from bundle.example_pictures import write_example

    print(write_example(options.name, options.folder))
    return 0


def _label(options: argparse.Namespace) -> int:
    from bundle.label import serve

    serve(options.studies, options.bundle, options.port, options.work, options.max_upload_mb)
    return 0


if __name__ == "__main__":
    sys.exit(main())
