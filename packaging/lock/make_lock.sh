#!/usr/bin/env bash
# Writes the lock: the exact versions of a fresh environment, used as pip constraints.
#   make_lock.sh packaging/lock/cpu.txt
set -euo pipefail
target=$1
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
"${PYTHON:-python3}" -m venv "$fresh"
"$fresh/bin/python" -m pip install -U "pip>=25.1"
"$fresh/bin/python" -m pip install torch==2.13.0
"$fresh/bin/python" -m pip install -e '.[all]' --group dev
# torch says 2.13.0+cpu: plain 2.13.0 matches the CPU and the CUDA build alike.
"$fresh/bin/python" -m pip freeze --exclude-editable | sed 's/+cpu$//' > "$target"
