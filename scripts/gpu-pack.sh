#!/usr/bin/env bash
# Packs everything needed to test and benchmark this program on a GPU machine: the stripped program and test program, the library that
# records kernel times, the check and its report, and the comparison with PyTorch. The GPU machine needs neither Rust nor the CUDA toolkit.
#   scripts/gpu-pack.sh OUT.tar.xz
#   tar xf OUT.tar.xz && rlvr-gpu-check/gpu-check.sh FOLDER           on the GPU machine
# PROFILE=dev packs an unoptimized build, to try out this script. RLVR and TESTS are paths of programs to pack instead of building them. The
# archive must not exceed 50 MiB.
set -euo pipefail
[ $# -eq 1 ] || { sed -n '4p' "$0" >&2; exit 2; }
out=$(realpath -m "$1")
cd "$(dirname "$0")/.."
profile=${PROFILE:-release}
if [ -z "${RLVR:-}" ] || [ -z "${TESTS:-}" ]; then
  build=(--locked --profile "$profile") about="profile: $profile"
  scripts/cuda-build.sh build "${build[@]}"
  executable() { sed -n 's/.*Executable.*(\(.*\))$/\1/p'; }
  TESTS=$(scripts/cuda-build.sh test --lib --no-run "${build[@]}" 2>&1 | tee /dev/stderr | executable)
  # Cargo's output folder is not always named after the profile (`dev`: debug), so derive the path from the test program's.
  RLVR=$(dirname "$(dirname "$TESTS")")/rlvr
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packed=$folder/rlvr-gpu-check
mkdir "$packed"
strip -o "$packed/rlvr" "$RLVR"
strip -o "$packed/rlvr-tests" "$TESTS"
scripts/cuda-activity.sh "$packed/librlvr_activity.so"
cp scripts/gpu-check.sh scripts/gpu_table.py scripts/gpu_kernels.py scripts/gpu_confirm.py benches/peer_torch_gpu.py "$packed"
commit=$(git rev-parse --short=12 HEAD)
[ -z "$(git status --porcelain --untracked-files=no)" ] || commit=$commit-changed
cat >"$packed/ABOUT" <<ABOUT
commit: $commit
date: $(date -u +%F)
${about:-profile: unknown (programs built beforehand)}
run: ./gpu-check.sh FOLDER
needs: an NVIDIA driver for CUDA 13, and Python 3 with PyTorch for CUDA 13, whose libraries the program loads (or LD_LIBRARY_PATH with them)
ABOUT
# Both programs contain the same kernels, so the compression dictionary must cover both.
XZ_OPT=--lzma2=preset=6,dict=256MiB tar -cJf "$out" -C "$folder" rlvr-gpu-check
bytes=$(stat -c %s "$out")
du -b "$packed"/*
echo "$out: $((bytes / 1024)) KiB"
if [ "$bytes" -gt $((50 << 20)) ]; then
  echo "$out is $((bytes / 1024)) KiB, but the limit is 51200 KiB (50 MiB)" >&2
  exit 1
fi
