#!/usr/bin/env bash
# Runs a program built by scripts/cuda-build.sh on an emulated GPU: a library replaces the driver and cuBLAS and runs the kernels thread by
# thread on the CPU (src/kernels/cuda/emulated_driver.cpp). Fast enough only for tests with a few tokens.
#   scripts/cuda-emulated.sh COMMAND [ARGUMENT]...
#   scripts/cuda-emulated.sh target/.../rlvr train --device cuda --kernels fused --dtype f32 --steps 2 --set rollout.groups=2
# Environment variables, with their defaults in parentheses:
#   EMULATED_GPUS            number of GPUs (1)
#   EMULATED_GPU_MIB         memory of each GPU in MiB (4096)
#   EMULATED_GPU_OTHERS_MIB  memory that other processes use, in MiB (0)
#   EMULATED_GPU_CAPABILITY  compute capability (9.0)
#   EMULATED_GPU_DRIVER      CUDA version that the driver supports (13000, which means 13.0)
#   EMULATED_GPU_LOST_AFTER  number of launches after which the GPU is lost (never); every call then fails with the next code
#   EMULATED_GPU_LOST_CODE   error code of a lost GPU (719)
#   EMULATED_GPU_CLOCK       number of the fastest algorithm in emulated_blas.h; without it, products take no time on the clock
#   EMULATED_GPU_COUNTS      file to write the numbers of launches, products, allocations and graphs to
#   EMULATED_GPU_LOG         file to append a line to for each launch: "rlvr" or "candle", a tab, and the kernel's name
# CUPTI is emulated too if its headers are installed (scripts/cuda-activity.sh downloads them).
set -euo pipefail
sources=$(cd "$(dirname "$0")/.." && pwd)/src/kernels/cuda
libraries=$(mktemp -d)
trap 'rm -rf "$libraries"' EXIT
c++ -O2 -std=c++17 -shared -fPIC -w -x c++ -include "$sources/emulator.h" "$sources/kernels.cu" "$sources/emulated_driver.cpp" \
  -o "$libraries/libcuda.so.1" -Wl,-soname,libcuda.so.1
# The first library contains all symbols, so the others are empty.
for library in cublas.so.13 cublasLt.so.13 curand.so.10 nvrtc.so.13 cudart.so.13; do
  cc -shared -o "$libraries/lib$library" -Wl,-soname,"lib$library" -x c /dev/null
done
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rlvr
cupti=${CUPTI_HOME:-$cache/cupti/nvidia/cu13}
if [ -e "$cupti/include/cupti.h" ]; then
  cuda=${CUDA_HOME:-$(echo "$cache"/cuda/lib/python3*/site-packages/nvidia/cu13)}
  c++ -O2 -std=c++17 -Wall -Wextra -Werror -shared -fPIC -isystem "$cupti/include" -isystem "$cuda/include" "$sources/emulated_cupti.cpp" \
    -o "$libraries/libcupti.so.13" -Wl,-soname,libcupti.so.13 -L"$libraries" -l:libcuda.so.1
fi
export EMULATED_GPU=$libraries # tells scripts that the GPU is not real
EMULATED_GPU_LOG=${EMULATED_GPU_LOG-$libraries/launches.tsv} LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} "$@"
