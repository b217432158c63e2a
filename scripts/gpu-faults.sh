#!/usr/bin/env bash
# Runs the program on emulated GPUs as a user would. Checks that training launches only this program's kernels, that errors of the GPU and
# driver are explained, and that a run which loses its GPU can be resumed.
#   scripts/gpu-faults.sh RLVR       RLVR is a program built by scripts/cuda-build.sh; takes two minutes
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
rlvr=$(realpath "$1")
# Runs this script on the emulated GPU, so that the emulator is compiled only once.
[ -n "${ON_AN_EMULATED_GPU:-}" ] || exec env ON_AN_EMULATED_GPU=1 "$here/cuda-emulated.sh" "$here/gpu-faults.sh" "$rlvr"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# run NAME [VARIABLE=VALUE]... -- ARGUMENT...: runs the program, writes its output to NAME.txt and its launches to NAME.tsv, and returns its
# exit status.
run() {
  local name=$1 variables=()
  shift
  while [ "$1" != -- ]; do
    variables+=("$1")
    shift
  done
  shift
  env "${variables[@]}" EMULATED_GPU_LOG="$work/$name.tsv" "$rlvr" "$@" >"$name.txt" 2>&1
}
# says NAME TEXT: checks that NAME's output contains TEXT, ignoring line breaks.
says() {
  tr -s '\n ' '  ' <"$1.txt" | grep -qF -- "$2" && return
  echo "$1 does not say \"$2\":"
  tail -n 20 "$1.txt"
  exit 1
}
passes() {
  run "$@" && return
  echo "$1 failed:"
  tail -n 20 "$1.txt"
  exit 1
}
fails() {
  if run "$@"; then
    echo "$1 did not fail"
    exit 1
  fi
}

small=(--device cuda --kernels fused --dtype f32 --set rollout.groups=1 --set rollout.group_size=4 --set rollout.max_new_tokens=12 --set eval.limit=2
  --set eval.max_new_tokens=8 --set eval.decoding=greedy)
passes grpo -- train "${small[@]}" --steps 2 --set checkpoint.every=1 --set eval.every=1 --set train.reference_decay=0.9 --out grpo
passes lora -- train "${small[@]}" --steps 1 --lora 4 --set optim.states=8bit --set train.stream_reference=true --out lora
passes ppo -- train "${small[@]}" --steps 1 --algo ppo --set rollout.top_k=20 --set rollout.truncated=renormalise --out ppo
for name in grpo lora ppo; do
  grep -q '^rlvr' "$name.tsv"
  if grep '^candle' "$name.tsv" | sort | uniq -c; then
    echo "$name launched candle's kernels"
    exit 1
  fi
  echo "$name: $(wc -l <"$name.tsv") launches, all of this program's kernels"
done

train=(train "${small[@]}" --steps 2 --set checkpoint.every=1)
fails old-driver EMULATED_GPU_DRIVER=12080 -- "${train[@]}" --out old-driver
says old-driver "the NVIDIA driver supports CUDA 12.8, but this program needs 13.0: install driver 580 or newer"
fails old-gpu EMULATED_GPU_CAPABILITY=7.5 -- "${train[@]}" --out old-gpu
says old-gpu "has compute capability 7.5, but the kernels need 8.0"
fails in-use EMULATED_GPU_MIB=2048 EMULATED_GPU_OTHERS_MIB=1900 -- "${train[@]}" --out in-use
says in-use "other processes hold 2.0 GB of the GPU's 2.1 GB: run nvidia-smi to list them"
fails full EMULATED_GPU_MIB=2048 EMULATED_GPU_OTHERS_MIB=2040 -- "${train[@]}" --out full
says full "run nvidia-smi to list the processes that use its memory"

passes whole -- "${train[@]}" --out whole
fails lost EMULATED_GPU_LOST_AFTER=$(($(wc -l <whole.tsv) * 4 / 5)) -- "${train[@]}" --out lost
says lost "the GPU stopped working and the policy in its memory is lost; everything up to the checkpoint of step 1 is saved in lost"
says lost "continue from the checkpoint of step 1, which repeats the steps from 2 on, bit for bit:"
says lost " train --resume lost"
passes resumed -- train --resume lost
cmp whole/checkpoints/00002/model.safetensors lost/checkpoints/00002/model.safetensors
echo "lost, busy and old GPUs are reported, and a run that lost its GPU resumes to bit-identical weights"
