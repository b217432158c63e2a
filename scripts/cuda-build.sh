#!/usr/bin/env bash
# Builds with the feature `cuda` on a machine without a GPU and without the CUDA toolkit. The compiler comes from Python packages, and empty
# libraries replace those of the driver and of CUDA at link time. The result runs on machines with the driver and the CUDA 13 libraries,
# which PyTorch installs (LD_LIBRARY_PATH=.../site-packages/nvidia/cu13/lib). With the toolkit, `cargo build --release --features cuda` is
# enough.
#   scripts/cuda-build.sh build --release        or another cargo command, such as check, clippy or test --no-run
# The toolkit (350 MB) goes to $XDG_CACHE_HOME/rlvr/cuda, and cargo's output to $CARGO_TARGET_DIR or $XDG_CACHE_HOME/rlvr/target-cuda.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rlvr
venv=$cache/cuda
packages=(nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 "nvidia-cuda-runtime==13.0.*" "nvidia-cuda-cccl==13.0.*")
if ! cmp --silent "$venv/installed.txt" <(printf '%s\n' "${packages[@]}"); then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet "${packages[@]}"
  printf '%s\n' "${packages[@]}" >"$venv/installed.txt"
fi
toolkit=$(echo "$venv"/lib/python3*/site-packages/nvidia/cu13)
[ -e "$toolkit/lib64" ] || ln -s lib "$toolkit/lib64"

# Empty libraries with the names of the real ones.
stubs=$venv/stubs
mkdir -p "$stubs"
link=(-L "native=$stubs" -C link-arg=-Wl,--no-as-needed)
for library in cuda.so.1 cublas.so.13 cublasLt.so.13 curand.so.10 nvrtc.so.13 cudart.so.13; do
  name=${library%%.*}
  [ -e "$stubs/lib$name.so" ] || cc -shared -o "$stubs/lib$name.so" -Wl,-soname,"lib$library" -x c /dev/null
  link+=(-C "link-arg=-l$name")
done
link+=(-C link-arg=-Wl,--unresolved-symbols=ignore-all)

export CUDA_HOME=$toolkit CUDA_PATH=$toolkit CUDA_ROOT=$toolkit CUDA_TOOLKIT_ROOT_DIR=$toolkit PATH="$toolkit/bin:$PATH"
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90} CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target-cuda}
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS="${link[*]}"
command=$1
shift
cargo "$command" --target x86_64-unknown-linux-gnu --features cuda "$@"
