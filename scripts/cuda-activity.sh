#!/usr/bin/env bash
# Builds the library that records when each kernel ran (src/kernels/cuda/activity.cpp). Needs no GPU: the headers come from Python packages.
#   scripts/cuda-activity.sh OUT.so
#   CUDA_INJECTION64_PATH=OUT.so RLVR_ACTIVITY=times.tsv rlvr bench ... && python3 scripts/gpu_kernels.py times.tsv
# CUPTI_HOME is a folder that contains include/cupti.h (default: $XDG_CACHE_HOME/rlvr/cupti, downloaded if missing), and CUDA_HOME one that
# contains include/cuda.h (default: the toolkit that scripts/cuda-build.sh installs).
set -euo pipefail
[ $# -eq 1 ] || { sed -n '3p' "$0" >&2; exit 2; }
sources=$(cd "$(dirname "$0")/.." && pwd)/src/kernels/cuda
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rlvr
cupti=${CUPTI_HOME:-$cache/cupti/nvidia/cu13}
if [ ! -e "$cupti/include/cupti.h" ]; then
  pip=("$cache/cuda/bin/pip")
  [ -x "${pip[0]}" ] || pip=(python3 -m pip)
  "${pip[@]}" install --quiet --no-deps --target "$cache/cupti" "nvidia-cuda-cupti==13.0.*"
fi
cuda=${CUDA_HOME:-$(echo "$cache"/cuda/lib/python3*/site-packages/nvidia/cu13)}
# The library can be loaded into any program, so libstdc++ is linked statically.
c++ -O2 -std=c++17 -Wall -Wextra -Werror -shared -fPIC -fvisibility=hidden -isystem "$cupti/include" -isystem "$cuda/include" \
  "$sources/activity.cpp" -o "$1" -static-libstdc++ -static-libgcc -Wl,--exclude-libs,ALL -s
