#!/usr/bin/env bash
# Tests the ranks that NCCL connects, on emulated GPUs and with a stand-in for NCCL (src/dist/nccl/stand_in.c). Each rank is a process that
# has the variables of torchrun. TESTS is the program of the library's tests (cuda-build.sh test --lib --no-run), and RLVR the program itself
# (cuda-build.sh build), with which whole runs are tested (check_gpu_processes.py).
#   scripts/check_nccl.sh TESTS RLVR
set -euo pipefail
[ $# -eq 2 ] || { sed -n '5p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
if [ -z "${EMULATED_GPU:-}" ]; then
  EMULATED_GPUS=4 exec "$here/cuda-emulated.sh" "$0" "$@"
fi
tests=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export RLVR_NCCL_LIBRARY=$folder/libnccl.so.2
cc -O2 -Wall -Wextra -Werror -shared -fPIC "$here/../src/dist/nccl/stand_in.c" -o "$RLVR_NCCL_LIBRARY" -Wl,-soname,libnccl.so.2

# Starts the ranks 0 to STARTED - 1 of WORLD with a test, and checks the exit code of each rank: ranks TEST WORLD STARTED CODE...
port=$((20000 + $$ % 20000))
ranks() {
  local test=$1 world=$2 started=$3 rank pids=() codes=()
  shift 3
  port=$((port + 1))
  rm -f "$folder"/*.txt
  for ((rank = 0; rank < started; rank++)); do
    RANK=$rank LOCAL_RANK=$rank WORLD_SIZE=$world MASTER_ADDR=127.0.0.1 MASTER_PORT=$port \
      timeout 120 "$tests" --ignored --exact --nocapture "dist::nccl::trial::$test" >"$folder/$rank.txt" 2>&1 &
    pids+=($!)
  done
  for rank in "${!pids[@]}"; do
    local code=0
    wait "${pids[$rank]}" || code=$?
    codes+=("$code")
    grep -q '^running 1 test' "$folder/$rank.txt" || codes+=("without a test")
  done
  if [ "${codes[*]}" != "$*" ]; then
    echo "$test with $started of $world ranks ended with ${codes[*]}, expected $*" >&2
    tail -n 20 "$folder"/*.txt >&2
    exit 1
  fi
  echo "$test with $started of $world ranks: ended with ${codes[*]} as expected"
}

# Checks what a rank has printed: says RANK TEXT
says() {
  tr '\n' ' ' <"$folder/$1.txt" | grep -qF "$2" || { echo "rank $1 does not say: $2" >&2; cat "$folder/$1.txt" >&2; exit 1; }
}

ranks ranks_exchange_broadcast_and_gather 2 2 0 0
ranks ranks_exchange_broadcast_and_gather 4 4 0 0 0 0
ranks ranks_exchange_broadcast_and_gather 1 1 0
ranks ranks_meet_through_a_communicator 1 1 0

# A rank is killed by signal 6 (code 134). Usually NCCL returns an error to the others, which then pass the test.
export RLVR_NCCL_TIMEOUT=2
NCCL_STAND_IN_LOST=error ranks a_rank_ends 2 2 0 134
# NCCL can also wait for ever, with and without a report. Then the watchdog ends the others.
NCCL_STAND_IN_LOST=late ranks a_rank_ends 4 4 1 134 1 1
says 3 'rank 3 of 4: NCCL reports "remote process exited or there was a network error" while it sends 1 bytes to all ranks and receives theirs'
NCCL_STAND_IN_LOST=silent ranks a_rank_ends 2 2 1 134
says 0 'rank 0 of 2: NCCL made no progress for 2 s while it sends 1 bytes to all ranks and receives theirs; another rank has probably failed'
# A rank that is never started.
ranks ranks_exchange_broadcast_and_gather 2 1 1
says 0 "rank 0 of 2: NCCL made no progress for 2 s while it waits for the other ranks to join at 127.0.0.1:$((port + 1000))"
RLVR_NCCL_TIMEOUT=60 "$here/check_gpu_processes.py" "$2"
echo "NCCL: all checks passed"
