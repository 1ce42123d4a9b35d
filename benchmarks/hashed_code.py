"""Hashes the code when it is imported, which keeps the hashes for as long as no file changes.

For a process that studies are forked from: each of them would read all modules anew.
"""

from __future__ import annotations

from scripts.running.identity import ROOT, code_identity

code_identity(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "scripts").rglob("*.py"))
