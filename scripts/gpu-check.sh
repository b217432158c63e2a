#!/usr/bin/env bash
# Tests and measures on a machine with an NVIDIA GPU, in one call of at most ten minutes, without Rust or the CUDA toolkit: kernels and decoder
# against the CPU, `rlvr bench` at a full shape, and PyTorch with transformers beside it.
#   scripts/cuda-build.sh build --release && scripts/cuda-build.sh test --release --lib --no-run
#   scripts/gpu-check.sh RLVR TESTS OUT       the program, the test program (both may be stripped), a folder for all that is found
# Every part has its own time limit and files in OUT; a part that fails does not stop the next. Fails when any part does, a test that did not run
# for want of a GPU included. Without PyTorch the peer is said to be missing, and that is no failure.
# What is run can be set, to try the script itself on the CPU for instance:
#   DEVICE=cpu SHAPE_ARGUMENTS="--model tiny" PEER_SHAPE=tiny KERNELS= SEQUENCES=16 ... (the list is below)
set -uo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
if [ $# -ne 3 ]; then
  sed -n '5p' "$0" >&2
  exit 2
fi
rlvr=$(realpath "$1") tests=$(realpath "$2")
mkdir -p "$3"
out=$(realpath "$3")
: "${DEVICE=cuda}" "${KERNELS=fused}" "${PYTHON=python3}" "${RLVR_REQUIRE_GPU=1}"
: "${SHAPE_ARGUMENTS=--shape qwen2.5-math-1.5b}" "${PEER_SHAPE=qwen2.5-math-1.5b}"
: "${SEQUENCES=1024}" "${PROMPT_TOKENS=150}" "${RESPONSE_TOKENS=800}" "${MICRO_BATCH=16}"
: "${SMALL_SEQUENCES=64}" "${SMALL_TOKENS=128}" "${PEER_LIMIT=30}"
: "${KERNEL_TESTS=kernels::tests::on_a_gpu}" "${DECODER_TESTS=model::tests::fused_kernels_on_a_gpu}"
: "${ENGINE_TESTS=rollout::engine::tests::responses_on_a_gpu}" "${INVARIANT=--batch-invariant}"
export RLVR_REQUIRE_GPU

# The CUDA libraries that PyTorch brings, before the system's.
libraries=$("$PYTHON" - <<'PYTHON'
import glob, importlib.util, os
torch = importlib.util.find_spec("torch")
site = os.path.dirname(os.path.dirname(torch.origin)) if torch else ""
print(":".join(sorted(glob.glob(os.path.join(site, "nvidia", "*", "lib")), key=lambda path: "cu13" not in path)) if site else "")
PYTHON
) || libraries=
export LD_LIBRARY_PATH=$libraries${libraries:+:}${LD_LIBRARY_PATH:-}
{
  nvidia-smi --query-gpu=name,driver_version,memory.total,power.limit --format=csv || echo "nvidia-smi is missing: no driver is known"
  ldd "$rlvr" | grep -E 'cuda|cublas|curand|nvrtc|not found'
} 2>&1 | tee "$out/machine.txt"

failed=0
: >"$out/parts.tsv"
# part NAME SECONDS COMMAND...: its standard output in NAME.out, its errors in NAME.log, the GPU's memory in MiB twice a second in NAME.memory.
part() {
  local name=$1 limit_s=$2 sampler= status=0 began=$SECONDS
  shift 2
  if command -v nvidia-smi >/dev/null; then
    nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits --loop-ms=500 >"$out/$name.memory" 2>/dev/null &
    sampler=$!
  fi
  timeout --kill-after=5 "$limit_s" "$@" >"$out/$name.out" 2>"$out/$name.log" || status=$?
  if [ -n "$sampler" ]; then
    kill "$sampler"
    wait "$sampler"
  fi 2>/dev/null
  # A filter that no test matches tests nothing.
  if grep -q '^running 0 tests' "$out/$name.out"; then
    echo "no test was run" >>"$out/$name.log"
    status=1
  fi
  printf '%s\t%s\t%s\n' "$name" "$status" "$((SECONDS - began))" >>"$out/parts.tsv"
  if [ "$status" -ne 0 ]; then
    failed=1
    echo "$name failed with $status after $((SECONDS - began)) s:"
    tail -n 15 "$out/$name.out" "$out/$name.log"
  else
    echo "$name: $((SECONDS - began)) s"
  fi
}

part kernel-tests 70 "$tests" "$KERNEL_TESTS" --test-threads=1 --nocapture
part decoder-tests 55 "$tests" "$DECODER_TESTS" --test-threads=1 --nocapture
part engine-tests 25 "$tests" "$ENGINE_TESTS" --test-threads=1 --nocapture

engine=(--prompt-tokens "$PROMPT_TOKENS" --device "$DEVICE")
# shellcheck disable=SC2206 # words on purpose
engine+=($SHAPE_ARGUMENTS)
bench() {
  local name=$1 limit_s=$2 kernels=$3
  shift 3
  part "$name" "$limit_s" "$rlvr" bench "${engine[@]}" ${kernels:+--kernels "$kernels"} --json "$out/$name.json" "$@"
}
lengths=(--sequences "$SEQUENCES" --response-tokens "$RESPONSE_TOKENS")
small=(--sequences "$SMALL_SEQUENCES" --response-tokens "$SMALL_TOKENS")
# A work of more than five seconds is measured by its first run.
bench full 180 "$KERNELS" --work rollout,update,step "${lengths[@]}" --repeats 1 --seconds 0 --once-from 5 --no-breakdown
bench small 30 "$KERNELS" --work rollout,update,step "${small[@]}" --repeats 2 --seconds 0 --profile "$out/trace.json"
bench stock 30 "${KERNELS:+reference}" --work rollout,update,step "${small[@]}" --repeats 1 --seconds 0 --once-from 5 --no-breakdown
# What it costs that sampler and trainer agree to the bit: many sequences, few tokens.
wide=(--sequences "$SEQUENCES" --response-tokens "$SMALL_TOKENS" --work rollout,update --repeats 1 --seconds 0 --once-from 5 --no-breakdown)
bench wide 25 "$KERNELS" "${wide[@]}"
# shellcheck disable=SC2086 # one word or none
bench invariant 30 "$KERNELS" "${wide[@]}" $INVARIANT

if "$PYTHON" -c 'import torch, transformers' 2>"$out/peer.log"; then
  part peer 120 "$PYTHON" "$here/benches/peer_torch_gpu.py" --shape "$PEER_SHAPE" --device "$DEVICE" --sequences "$SEQUENCES" \
    --prompt-tokens "$PROMPT_TOKENS" --response-tokens "$RESPONSE_TOKENS" --micro-batch "$MICRO_BATCH" --limit "$PEER_LIMIT"
else
  echo "the peer is missing: $PYTHON has no torch and transformers" | tee "$out/peer.missing"
fi

"$PYTHON" "$here/scripts/gpu_table.py" "$out" | tee "$out/table.md"
[ "${PIPESTATUS[0]}" -eq 0 ] || failed=1
if [ "$failed" -eq 0 ]; then echo "all parts passed"; else echo "some parts failed: $out/parts.tsv"; fi
exit "$failed"
