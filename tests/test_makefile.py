"""What `make` deletes."""

from __future__ import annotations

import subprocess

from tests.helpers import ROOT


def test_clean_removes_builds_and_the_demo_and_leaves_studies_alone():
    command = subprocess.run(["make", "-n", "clean"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"runs/demo", "dist", "build"} <= set(command.split())
    assert not {"runs", "runs/"} & set(command.split())
