#!/usr/bin/env bash
# All that needs a GPU, in one go of under eight minutes. It takes a machine with Python, torch, torchvision, numpy and
# scipy, and installs the rest of what the library needs from wheels in a folder where they are missing:
#
#   pip download --no-deps -d wheels kornia kornia_rs einops pytest iniconfig pluggy packaging    # where there is a network
#   benchmarks/gpu_check.sh wheels                                                        # on the machine with the GPU
#
# Options after the folder go to gpu_check.py. The result is benchmarks/results/gpu-check-cuda.json and a picture.
set -euo pipefail
cd "$(dirname "$0")/.."
wheels=${1:-wheels}
shift || true
python=${PYTHON:-python3}

for package in kornia einops pytest; do
  if ! "$python" -c "import $package" 2>/dev/null; then
    "$python" -m pip install --quiet --no-index --find-links "$wheels" --no-deps "$wheels"/*.whl
    break
  fi
done
PYTHONPATH="$PWD/src:$PWD/tests${PYTHONPATH:+:$PYTHONPATH}" exec "$python" benchmarks/gpu_check.py "$@"
