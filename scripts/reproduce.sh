#!/usr/bin/env bash
# Runs the README's first command, and fails if one of the README's claims about it is false:
# - held-out greedy accuracy at the last step is at least 30 points above the base model's, and higher for every subject except the trained
#   one;
# - training accuracy saturates in the first half of the run;
# - `rlvr eval` of the last checkpoint returns the run's scores.
# Also prints the post-saturation gain, whatever its sign. Usage: scripts/reproduce.sh [FOLDER]  (default: a temporary folder)
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-$(mktemp -d)}
[ $# -gt 0 ] || trap 'rm -rf "$folder"' EXIT

cargo build --release --locked --quiet
rlvr=${CARGO_TARGET_DIR:-target}/release/rlvr
began=$(date +%s)
"$rlvr" train --out "$folder/run"
echo "rlvr train took $(($(date +%s) - began)) s"
last=$(find "$folder/run/checkpoints" -maxdepth 1 -name '0*' | sort | tail -n 1)
"$rlvr" eval --model "$last" --benchmarks tiny --out "$folder/again" >/dev/null

python3 - "$folder" <<'PYTHON'
import json, sys

folder = sys.argv[1]
summary = json.load(open(f"{folder}/run/summary.json"))
again = json.load(open(f"{folder}/again/scores.json"))
base, last = summary["base"], summary["last"]
failures = []

def check(claim, is_true):
    print(("true: " if is_true else "FALSE: ") + claim)
    failures.extend([] if is_true else [claim])

check(f"greedy accuracy rises by at least 30 points, from {base['greedy']:.3f} to {last['greedy']:.3f}", last["greedy"] >= base["greedy"] + 0.30)
untrained = [s for s in base["by_subject"] if s != "addition"]
check("greedy accuracy rises for every subject that was not trained on", all(last["by_subject"][s] > base["by_subject"][s] for s in untrained))
check("training accuracy saturates in the first half of the run", summary["saturation_step"] is not None and summary["saturation_step"] <= summary["steps"] / 2)
check("rlvr eval of the last checkpoint returns the same scores", again == last["passes"])
gain = summary["post_saturation_gain"]
print("post-saturation gain, sampled:", gain and "{:+.1f} points [{:+.1f}, {:+.1f}]".format(*(100 * gain[k] for k in ("mean", "low", "high"))))
sys.exit(1 if failures else 0)
PYTHON
