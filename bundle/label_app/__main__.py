"""Started by `python -m bundle label`, in the environment of MONAI Label."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path

HOST = "127.0.0.1"
# Emptied at each start, for they hold images of patients; so named that no folder of somebody else is.
UPLOADS, SESSIONS = ".monai_label_uploads", ".monai_label_sessions"


def main() -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m bundle.label_app", description=__doc__)
    parser.add_argument("--studies", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--max-upload-mb", type=int, required=True)
    options = parser.parse_args()
    try:
        return _serve(options)
    except ImportError as error:
        # The app is that of this repository, and `scripts` that of the package.
        if (error.name or "").split(".")[0] != "scripts":
            raise
        print(
            f"ImportError: {options.bundle} was made by an earlier version ({error}); make it again with `python -m"
            " bundle pack`",
            file=sys.stderr,
        )
        return 2


def _serve(options: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        view = prepare(options.studies, options.bundle, options.work)
    except (ValueError, FileNotFoundError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2

    # Only now: MONAI Label reads the environment when it is imported.
    import uvicorn

    from bundle.label_app.server import create_server

    server = create_server(options.studies, options.bundle, options.max_upload_mb << 20)
    logging.getLogger(__name__).info("studies of %s, labels in %s", options.studies, view / "labels")
    uvicorn.run(server, host=HOST, port=options.port, log_level="info")  # type: ignore[arg-type]
    return 0


def prepare(studies: Path, bundle: Path, work: Path) -> Path:
    """Lay out the folder for links, labels and uploads, and tell MONAI Label by environment variables.

    The process that trains is told the same way.

    Args:
        studies: folder of the studies.
        bundle: root of the bundle.
        work: folder to write to.

    Returns:
        Folder of links that MONAI Label takes for the studies; it keeps its list and the labels there.

    Raises:
        FileNotFoundError: if there is no study.
        ValueError: if two studies would have one name.
    """
    from monai.bundle import ConfigParser

    from bundle.label_app.studies import find_studies, link_studies, no_study

    config = ConfigParser(ConfigParser.load_config_file(str(bundle / "configs" / "inference.json")))
    view, uploads, sessions = work / "studies", work / UPLOADS, work / SESSIONS
    modalities = config.get_parsed_content("modalities")
    served = find_studies(studies, modalities, skip=work)
    if not served:
        raise FileNotFoundError(no_study(studies, modalities, skip=work))
    link_studies(served, view)
    for folder in (uploads, sessions):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
    os.environ.update(
        MONAI_LABEL_APP_DIR=str(Path(__file__).parent),
        MONAI_LABEL_STUDIES=str(view),
        MONAI_LABEL_APP_CONF=json.dumps({"bundle": str(bundle)}),
        MONAI_LABEL_DATASTORE_FILE_EXT='["*.nii.gz", "*.nii"]',
        MONAI_LABEL_DATASTORE_AUTO_RELOAD="false",
        MONAI_LABEL_SESSION_PATH=str(sessions),
        MONAI_LABEL_TRACKING_ENABLED="false",
        TMPDIR=str(uploads),
    )
    tempfile.tempdir = str(uploads)
    os.chdir(work)
    return view


if __name__ == "__main__":
    sys.exit(main())
