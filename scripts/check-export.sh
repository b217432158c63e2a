#!/usr/bin/env bash
# Loads the embedded base, written out by `rlvr init`, in transformers and compares log-probabilities and entropies with `rlvr score`; compares
# what chat templates render with transformers' own renderer.
# Installs the pinned peers into a virtual environment outside the checkout, once. Usage: scripts/check-export.sh
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${RLVR_PEERS_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/rlvr/peers}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -c 'import torch, transformers' 2>/dev/null || "$venv/bin/pip" install --quiet --requirement scripts/requirements-peers.txt

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cargo build --release --locked --quiet
rlvr=${CARGO_TARGET_DIR:-target}/release/rlvr
"$rlvr" init --like tiny --out "$folder/tiny"
cat >"$folder/pairs.jsonl" <<'LINES'
{"id": "careful", "prompt": "Q: What is 334+556?\nA:", "completion": " Step by step, 4+6=10(0),3+5+1=09(90),3+5+0=08(890); so \\boxed{890}."}
{"id": "guess", "prompt": "Q: If 5y+29=74, find y.\nA:", "completion": " I guess **9**."}
{"id": "ids", "prompt_ids": [52, 25, 220], "completion_ids": [17, 18, 19, 20, 21, 22, 23, 24, 0]}
LINES
"$rlvr" score --model "$folder/tiny" --input "$folder/pairs.jsonl" >"$folder/scores.jsonl"
cargo build --release --locked --quiet --example render_chat
"$venv/bin/python" scripts/check_templates.py --renderer "$(dirname "$rlvr")/examples/render_chat"
"$venv/bin/python" scripts/check_transformers.py --model "$folder/tiny" --input "$folder/pairs.jsonl" --scores "$folder/scores.jsonl" --tolerance 1e-4
