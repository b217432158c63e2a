#!/usr/bin/env bash
# Tests and benchmarks this program in at most eight minutes on a machine with an NVIDIA GPU. Needs neither Rust nor the CUDA toolkit.
#   gpu-check.sh OUT                  in an unpacked archive of scripts/gpu-pack.sh, which contains everything it needs
#   gpu-check.sh RLVR TESTS OUT       with a program and a test program built by scripts/cuda-build.sh
# OUT is the folder for the results: table.md (a short report), summary.json, parts.tsv (outcome and time of each part), the files of each
# part, and found.tar.xz with all of these. Each part is a separate process with a time limit, and the whole check takes at most TOTAL
# seconds. The exit status covers correctness only: it is 1 if a result was wrong or a part crashed. A part that ran out of time or lacks a
# dependency is reported as `not run`, which is not a failure.
# For a small trial on the emulated GPU or on the CPU:
#   TRIAL=1 scripts/cuda-emulated.sh scripts/gpu-check.sh RLVR TESTS OUT
#   TRIAL=1 DEVICE=cpu scripts/gpu-check.sh RLVR TESTS OUT
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
case $# in
  1) rlvr=$here/rlvr tests=$here/rlvr-tests out=$1 ;;
  3) rlvr=$(realpath "$1") tests=$(realpath "$2") out=$3 ;;
  *)
    sed -n '3,4s/^#  *//p' "$0" >&2
    exit 2
    ;;
esac
for program in "$rlvr" "$tests"; do
  if [ ! -x "$program" ]; then
    echo "$program is not an executable file: unpack the whole archive, or pass the paths of the program and the test program" >&2
    exit 2
  fi
done
mkdir -p "$out"
out=$(realpath "$out")
# Finds a file that the archive has next to this script and the repository has elsewhere.
locate() { if [ -e "$here/${1##*/}" ]; then echo "$here/${1##*/}"; else echo "$here/../$1"; fi; }

# Settings, which environment variables override. PARTS lists the parts to run, separated by commas (default: all). A trial uses tiny sizes.
: "${TOTAL=480}" "${DEVICE=cuda}" "${PYTHON=python3}" "${PARALLEL=4}"
if [ "$DEVICE" != cpu ]; then : "${KERNELS=fused}"; fi
if [ -n "${TRIAL:-}" ]; then
  : "${SHAPE_ARGUMENTS=--model tiny --dtype f32 --no-ceilings}" "${PEER_SHAPE=tiny}" "${SEQUENCES=4}" "${FEW_SEQUENCES=2}" "${PROMPT_TOKENS=6}" "${RESPONSE_TOKENS=6}"
  : "${SMALL_TOKENS=4}" "${LENGTHS=lognormal:4:8}" "${CACHED_TOKENS=4}" "${PASSES=2}" "${MICRO_BATCH=2}" "${PEER_LIMIT=2}"
fi
: "${SHAPE_ARGUMENTS=--shape qwen2.5-math-1.5b}" "${PEER_SHAPE=qwen2.5-math-1.5b}" "${SEQUENCES=1024}" "${FEW_SEQUENCES=32}"
: "${PROMPT_TOKENS=150}" "${RESPONSE_TOKENS=800}" "${SMALL_TOKENS=128}" "${LENGTHS=lognormal:760:3072}" "${CACHED_TOKENS=400}" "${PASSES=20}"
: "${MICRO_BATCH=16}" "${PEER_LIMIT=12}" "${ACTIVITY=$(locate target/librlvr_activity.so)}"

# The CUDA libraries that PyTorch installs. Only our programs load them from here.
if [ -n "${EMULATED_GPU:-}" ]; then
  libraries=$EMULATED_GPU
else
  libraries=$("$PYTHON" - <<'PYTHON'
import glob, importlib.util, os
torch = importlib.util.find_spec("torch")
site = os.path.dirname(os.path.dirname(torch.origin)) if torch else ""
found = sorted(glob.glob(os.path.join(site, "nvidia", "*", "lib")), key=lambda path: "cu13" not in path) if site else []
print(":".join(found + glob.glob("/usr/local/cuda/extras/CUPTI/lib64")))
PYTHON
  ) || libraries=
fi
# The program tunes matrix products on first use and caches the algorithms in the user's cache folder, which is in OUT here. The tests use a
# separate cache, because they run in parallel, which disturbs the tuning.
ours=(env "LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" "XDG_CACHE_HOME=$out/cache")
is_real=
if [ "$DEVICE" != cpu ] && [ -z "${EMULATED_GPU:-}" ]; then is_real=1; fi
# Candle's stock operations need a real GPU.
if [ -n "${EMULATED_GPU:-}" ]; then : "${SKIP_TESTS=stock_operations}"; fi
if [ "$DEVICE" != cpu ]; then export RLVR_REQUIRE_GPU=1; fi
if [ -n "$is_real" ]; then export RLVR_REQUIRE_REAL_GPU=1; fi

rm -rf "$out"/*.{out,log,tsv,json,md,memory,missing,toml} "$out"/cache{,-of-tests}
: >"$out/parts.tsv"
reserve_s=$((TOTAL / 24)) # for the table
until_s=0
stopped=
trap 'stopped=1; kill $(jobs -p) 2>/dev/null' INT TERM
# until_second SECOND: sets the deadline of the following parts, in seconds since the start of a 480-second check.
until_second() { until_s=$(($1 * TOTAL / 480)); }

is_wanted() { [[ -z "${PARTS:-}" || ",$PARTS," == *",$1,"* ]]; }
# row NAME OUTCOME SECONDS LIMIT WHY
row() {
  is_wanted "$1" || return 0
  printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" "$(tr '\t\n' '  ' <<<"$5" | cut -c1-300 | sed 's/ *$//')" >>"$out/parts.tsv"
  printf '%-28s %-8s %7s s  %s\n' "$1" "$2" "$3" "$(cut -c1-160 <<<"$5")"
}
milliseconds() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

# part NAME KIND LIMIT COMMAND...: runs one part. LIMIT is in seconds for a 480-second check. Standard output goes to NAME.out and standard
# error to NAME.log; outcome_of_KIND sets the outcome.
part() {
  local name=$1 kind=$2 limit_s=$3 status=0 began spent_s left_s child outcome why
  shift 3
  is_wanted "$name" || return 0
  limit_s=$((limit_s * TOTAL / 480))
  left_s=$(((until_s < TOTAL - reserve_s ? until_s : TOTAL - reserve_s) - SECONDS))
  [ "$limit_s" -le "$left_s" ] || limit_s=$left_s
  if [ -n "$stopped" ]; then row "$name" "not run" 0 0 "the check was interrupted" && return; fi
  if [ "$limit_s" -lt 2 ]; then row "$name" "not run" 0 0 "no time left" && return; fi
  began=$(milliseconds)
  timeout --kill-after=3 "$limit_s" "$@" >"$out/$name.out" 2>"$out/$name.log" &
  child=$!
  trap 'stopped=1; kill "$child" 2>/dev/null' INT TERM
  wait "$child"
  status=$?
  # A signal makes `wait` return before the child has ended.
  while kill -0 "$child" 2>/dev/null; do wait "$child"; done
  spent_s=$(($(milliseconds) - began))
  spent_s=$((spent_s / 1000)).$((spent_s % 1000 / 100))
  outcome=passed why=
  if [ -n "$stopped" ]; then
    outcome="not run" why="the check was interrupted"
  else
    "outcome_of_$kind" "$name" "$status" "$limit_s" "${spent_s%.*}"
  fi
  row "$name" "$outcome" "$spent_s" "$limit_s" "$why"
}
# Run a part alone, or up to PARALLEL parts at once.
serial() { part "$@" & wait $! || wait; }
parallel() {
  while [ "$(jobs -rp | wc -l)" -ge "$PARALLEL" ]; do wait -n; done
  part "$@" &
}

# outcome_of_KIND NAME STATUS LIMIT SPENT: sets `why`, and `outcome` unless the part passed.
is_over() { [ "$1" = 124 ] || { [ "$1" = 137 ] && [ "$3" -ge "$2" ]; }; }
last_words() { grep -hE -A1 'panicked at|^[Ee]rror' "$out/$1.log" "$out/$1.out" | grep -vE '^--$|^ +[0-9]+: ' | tail -n 2 | tr '\n' ' '; }
outcome_of_test() {
  local wrong ran missing
  wrong=$(awk -F'\t' '$9 == "wrong" || $9 == "error" { print $2 " of " $3 " in " $4 " is " $9 }' "$out/$1.tsv" 2>/dev/null)
  missing=$(wc -l 2>/dev/null <"$out/$1.missing" || echo 0)
  ran=$(sed -n 's/.*test result: [A-Za-z]*\. \([0-9]*\) passed; \([0-9]*\) failed.*/\1+\2/p' "$out/$1.out")
  if [ -n "$wrong" ]; then
    outcome=failed why="$(wc -l <<<"$wrong") wrong outcomes, the first: $(head -n 1 <<<"$wrong")"
  elif is_over "$2" "$3" "$4"; then
    outcome="not run" why="timed out without a result"
  elif [ "$2" -ne 0 ]; then
    outcome=failed why="exited with status $2: $(last_words "$1")"
  elif [ $((${ran:-0})) -eq 0 ]; then
    outcome="not run" why="the test program has no such test"
  elif [ "$missing" -gt 0 ]; then
    why="$missing of $((ran)) tests did not run: $(cut -f2 "$out/$1.missing" | sort -u | head -n 1)"
    [ "$missing" -lt $((ran)) ] || outcome="not run"
  fi
}
# A test of operations that reports no outcome has tested nothing, as on the emulated GPU, which is too slow for some.
outcome_of_operations() {
  outcome_of_test "$@"
  if [ "$outcome" = passed ] && [ ! -s "$out/$1.tsv" ]; then
    outcome="not run" why="reported no outcome of any operation"
  fi
}
outcome_of_sanitizer() {
  if [ "$2" -eq 86 ]; then
    outcome=failed why=$(grep -hE '^=+ (Error|Warning|Invalid|.*SUMMARY)' "$out/$1.out" | tail -n 1)
  elif is_over "$2" "$3" "$4"; then
    outcome="not run" why="timed out without a result"
  elif [ "$2" -ne 0 ] || ! grep -q SUMMARY "$out/$1.out"; then
    outcome="not run" why="the sanitizer exited with status $2: $(grep -hiE 'not supported|error|failed' "$out/$1.out" "$out/$1.log" | head -n 1)"
  fi
}
# A measurement fails if it crashes, but not if it needs more time.
outcome_of_measure() {
  if is_over "$2" "$3" "$4"; then
    outcome="not run" why="timed out; the table has the results so far"
  elif [ "$2" -ne 0 ]; then
    outcome=failed why="exited with status $2: $(last_words "$1")"
  elif tr -d ' \n' 2>/dev/null <"$out/$1.json" | grep -q '"not_run":\["'; then
    outcome="not run" why="no time left for some workloads; the table has the others"
  fi
}
# Optional parts never fail.
outcome_of_optional() {
  if is_over "$2" "$3" "$4"; then
    outcome="not run" why="timed out; the table has the results so far"
  elif [ "$2" -ne 0 ]; then
    outcome="not run" why="exited with status $2: $(last_words "$1")"
  fi
}
outcome_of_profile() {
  outcome_of_optional "$@"
  if [ "$outcome" = passed ] && ! grep -q '^kernel' "$out/$1-activity.tsv" 2>/dev/null; then
    outcome="not run" why=$(grep -h -m 1 'kernel times are not recorded' "$out/$1.log" || echo "the driver did not load the recording library")
  fi
}

# test_part serial|parallel NAME KIND LIMIT FILTER...: runs tests of the test program, which write their outcomes to NAME.tsv.
test_part() {
  local how=$1 name=$2 kind=$3 limit_s=$4
  shift 4
  "$how" "$name" "$kind" "$limit_s" "${ours[@]}" XDG_CACHE_HOME="$out/cache-of-tests" RLVR_OUTCOMES="$out/$name.tsv" RLVR_DID_NOT_RUN="$out/$name.missing" \
    RLVR_PRODUCTS_TSV="$out/algorithms.tsv" "$tests" "$@" --test-threads=1 --nocapture
}
gpu_test() { test_part parallel "${2##*::}" "$1" 60 --exact "$2"; }

echo "== machine, after $SECONDS s"
until_second 20
{
  timeout --kill-after=1 10 nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used,power.limit,clocks.max.sm,compute_mode --format=csv ||
    echo "nvidia-smi is missing, failed or timed out: the driver is unknown"
  nproc
  "${ours[@]}" ldd "$rlvr" | grep -E 'cuda|cublas|curand|nvrtc|not found'
  cat "$here/ABOUT" 2>/dev/null
} >"$out/machine.txt" 2>&1
cat "$out/machine.txt"
if grep -q '=> not found' "$out/machine.txt"; then
  echo "the libraries marked \"not found\" above are missing: set PYTHON to a Python with PyTorch for CUDA 13, or add their folders to LD_LIBRARY_PATH" >&2
  exit 2
fi
if grep -qi exclusive "$out/machine.txt"; then PARALLEL=1; fi
# shellcheck disable=SC2206 # deliberate word splitting
bench=("$rlvr" bench --device "$DEVICE" ${KERNELS:+--kernels "$KERNELS"} --repeats 1 --seconds 0 --no-breakdown)
activity() { echo "CUDA_INJECTION64_PATH=$ACTIVITY" "RLVR_ACTIVITY=$out/$1-activity.tsv"; }
# shellcheck disable=SC2046 # two words
serial start measure 20 "${ours[@]}" $(activity start) "${bench[@]}" --model tiny --dtype f32 --no-ceilings --work rollout --sequences 2 --prompt-tokens 4 --response-tokens 2 \
  --json "$out/start.json"
grep -hs 'kernel times are not recorded' "$out/start.log"

echo "== correctness, after $SECONDS s"
until_second 105
on_a_gpu=kernels::tests::on_a_gpu
operations=()
for name in long_bf16 long_f32 attention_bf16 attention_f32 head_bf16 head_f32 rows_bf16 rows_f32 quantization_and_sampling \
  rows_of_batch_invariant_products_do_not_depend_on_their_number; do
  operations+=("$on_a_gpu::$name")
done
others=("$on_a_gpu::gpu_out_of_memory_is_a_typed_error" model::tests::decoder_on_fused_kernels_on_a_gpu_matches_the_cpu
  rollout::engine::tests::generate_on_a_gpu_depends_on_addresses_only)
for name in "${operations[@]}"; do gpu_test operations "$name"; done
for name in "${others[@]}"; do gpu_test test "$name"; done
known=("${operations[@]}" "${others[@]}" "$on_a_gpu::every_kernel_once" "$on_a_gpu::stock_operations_are_exact_in_f32")
# The parts that must pass before the kernels count as confirmed.
required=()
for name in "${known[@]}"; do
  # The stock operations are candle's, and --batch-invariant is optional.
  case $name in *stock_operations* | *rows_of_batch_invariant_products*) ;; *) required+=("${name##*::}") ;; esac
done
# All other tests that need a GPU.
timeout --kill-after=1 10 "${ours[@]}" "$tests" gpu --list 2>/dev/null | sed -n 's/: test$//p' >"$out/gpu-tests.txt"
mapfile -t rest < <(grep -vxF -f <(printf '%s\n' "${known[@]}") "$out/gpu-tests.txt" |
  grep -vE "sweep${SKIP_TESTS:+|$SKIP_TESTS}")
if [ ${#rest[@]} -gt 0 ]; then
  test_part parallel other_tests test 60 --exact "${rest[@]}"
  required+=(other_tests)
fi
[ -z "$is_real" ] || test_part parallel stock_operations optional 60 --exact "$on_a_gpu::stock_operations_are_exact_in_f32"
test_part parallel every_kernel_once operations 30 --exact "$on_a_gpu::every_kernel_once"
wait

echo "== sanitizers, after $SECONDS s"
until_second 140
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
for tool in racecheck memcheck; do
  if [ -z "$sanitizer" ]; then
    row "$tool" "not run" 0 0 "compute-sanitizer is not installed"
    continue
  fi
  options=(--error-exitcode 86 --print-limit 20)
  [ "$tool" != memcheck ] || options+=(--report-api-errors no)
  serial "$tool" sanitizer 25 "${ours[@]}" XDG_CACHE_HOME="$out/cache-of-tests" RLVR_OUTCOMES="$out/$tool-outcomes.tsv" "$sanitizer" --tool "$tool" "${options[@]}" \
    "$tests" --exact "$on_a_gpu::every_kernel_once" --test-threads=1 --nocapture
done

echo "== benchmarks, after $SECONDS s"
until_second 295
# shellcheck disable=SC2206 # deliberate word splitting
bench+=($SHAPE_ARGUMENTS --prompt-tokens "$PROMPT_TOKENS")
sampler=
if [ -n "$is_real" ]; then
  nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits --loop-ms=500 >"$out/bench.memory" 2>/dev/null &
  sampler=$!
fi
# No workload starts in the last 25 seconds before the deadline.
bench_s=$((until_s - SECONDS))
part bench measure 240 "${ours[@]}" "${bench[@]}" --once-from 5 --limit $((bench_s > 60 ? bench_s - 25 : bench_s)) --json "$out/bench.json" \
  --case "name=small work=rollout,update sequences=$SEQUENCES response-tokens=$SMALL_TOKENS" \
  --case "name=invariant work=rollout,update sequences=$SEQUENCES response-tokens=$SMALL_TOKENS batch-invariant=true" \
  --case "name=full work=rollout,micro-batch,update,step sequences=$SEQUENCES response-tokens=$RESPONSE_TOKENS" \
  --case "name=lognormal work=rollout,step sequences=$SEQUENCES lengths=$LENGTHS" &
wait $!
if [ -n "$sampler" ]; then kill "$sampler" 2>/dev/null; fi

echo "== time by kernel, after $SECONDS s"
no_ceilings=(--no-ceilings)
[[ "$SHAPE_ARGUMENTS" != *--no-ceilings* ]] || no_ceilings=()
until_second 335
# shellcheck disable=SC2046 # two words
serial profile profile 60 "${ours[@]}" $(activity profile) "${bench[@]}" "${no_ceilings[@]}" --json "$out/profile.json" \
  --case "name=decode-$SEQUENCES work=decode:$PASSES sequences=$SEQUENCES response-tokens=$CACHED_TOKENS" \
  --case "name=decode-$FEW_SEQUENCES work=decode:$PASSES sequences=$FEW_SEQUENCES response-tokens=$CACHED_TOKENS" \
  --case "name=micro-batch work=micro-batch sequences=$SEQUENCES response-tokens=$RESPONSE_TOKENS"
if [ -s "$out/profile-activity.tsv" ] && [ -s "$out/profile.json" ]; then
  timeout 10 "$PYTHON" "$here/gpu_kernels.py" "$out/profile-activity.tsv" "$out/profile.json" >"$out/kernels.tsv"
fi

echo "== algorithms for matrix products, after $SECONDS s"
until_second 365
test_part serial products test 40 --exact "$(grep -m 1 sweep "$out/gpu-tests.txt" || echo sweep)"

echo "== comparison with PyTorch, after $SECONDS s"
until_second 460
peer_device=$DEVICE
[ -n "$is_real" ] || peer_device=cpu
peer=("$PYTHON")
# PyTorch must not load the emulated GPU's libraries.
[ -z "${EMULATED_GPU:-}" ] || peer=(env -u LD_LIBRARY_PATH "$PYTHON")
if "${peer[@]}" -c 'import importlib.util as u, sys; sys.exit(any(u.find_spec(name) is None for name in ("torch", "transformers")))'; then
  serial peer optional 95 "${peer[@]}" "$(locate benches/peer_torch_gpu.py)" --shape "$PEER_SHAPE" --device "$peer_device" --work rollout,update,step \
    --sequences "$SEQUENCES" --prompt-tokens "$PROMPT_TOKENS" --response-tokens "$RESPONSE_TOKENS" --micro-batch "$MICRO_BATCH" --limit "$PEER_LIMIT"
else
  row peer "not run" 0 0 "$PYTHON cannot import torch and transformers"
fi

echo "== report, after $SECONDS s"
rm -f "$out/found.tar.xz"
IS_REAL=$is_real timeout 15 "$PYTHON" "$here/gpu_table.py" "$out"
if [ -n "$is_real" ]; then
  commit=$(grep -soP '^commit: \K.*' "$here/ABOUT" || git -C "$here" rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
  "$PYTHON" "$here/gpu_confirm.py" "$out" "$commit" "${required[@]}" | tee -a "$out/table.md"
fi
packed=$(mktemp) && timeout 30 tar -cJf "$packed" -C "$out" . && mv "$packed" "$out/found.tar.xz"
failed=$(awk -F'\t' '$2 == "failed"' "$out/parts.tsv" | wc -l)
missing=$(awk -F'\t' '$2 == "not run"' "$out/parts.tsv" | wc -l)
echo "finished in $((SECONDS)) s: $out/table.md is the report, $out/found.tar.xz has all files"
if [ "$failed" -eq 0 ]; then echo "nothing failed"; else echo "$failed parts failed"; fi
echo "$missing parts did not run"
[ "$failed" -eq 0 ]
