#!/usr/bin/env bash
# benchmarks/gpu_check.sh — what this repository does on a GPU, in 12 minutes: tests, rates beside stock MONAI and diffusers, one fold.
#     bash benchmarks/gpu_check.sh runs/gpu_check
# The same command continues a check that was stopped. On a CPU, to try it in minutes, with numbers that mean nothing:
#     DEVICE=cpu SIZE=16 NETWORK=tiny BACKBONE=resnet10 BATCH=2 STEPS=1 SUBJECTS=14 MATRIX=40 bash benchmarks/gpu_check.sh runs/tiny_check
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || python=python3
sizes=()
for name in DEVICE SIZE NETWORK BACKBONE BATCH STEPS SUBJECTS MATRIX THREADS SECONDS_IN_ALL TESTS; do
  if [ -n "${!name:-}" ]; then
    sizes+=("--$(tr "A-Z_" "a-z-" <<<"$name")" "${!name}")
  fi
done
exec "$python" -m benchmarks.gpu_check ${sizes[@]+"${sizes[@]}"} "$@"
