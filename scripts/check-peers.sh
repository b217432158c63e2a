#!/usr/bin/env bash
# Compares this program with PyTorch, transformers and PEFT:
# - golden files: makes them again and compares them with the committed ones;
# - chat templates: renders them with both programs;
# - checkpoint folders: loads them with transformers 5 and 4, whose log-probabilities and entropies must equal those of `rlvr score`. The
#   folders are a run's checkpoints and random models of every kind that the program exports, in one file and in shards;
# - LoRA adapters: loads them with PEFT onto the base model and compares the result with the merged export.
# The first run installs the pinned packages outside the checkout; both versions of transformers share one torch.
# Usage: scripts/check-peers.sh
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rlvr
venv=${RLVR_PEERS_VENV:-$cache/peers}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -c 'import torch, transformers, peft' 2>/dev/null || "$venv/bin/pip" install --quiet --requirement scripts/requirements-peers.txt
older=$cache/transformers4
if ! cmp --silent scripts/requirements-transformers4.txt "$older/installed.txt"; then
  rm -rf "$older"
  "$venv/bin/pip" install --quiet --no-deps --target "$older" --requirement scripts/requirements-transformers4.txt
  cp scripts/requirements-transformers4.txt "$older/installed.txt"
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cargo build --release --locked --quiet
rlvr=${CARGO_TARGET_DIR:-target}/release/rlvr
small=(--set hidden_size=64 --set intermediate_size=160 --set num_hidden_layers=3 --set num_attention_heads=4 --set num_key_value_heads=2
  --set vocab_size=600 --set max_position_embeddings=1024 --set initializer_range=0.2)
# The original context length is short, so that RoPE scaling affects the positions of the pairs below.
scaling='"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32, "rope_type": "llama3"'
models=()
for shards in whole:5000000000 sharded:150000; do
  name=${shards%:*} bytes=${shards#*:}
  "$rlvr" train --out "$folder/run-$name" --steps 2 --set eval.benchmarks= --set optim.lr=0.001 --set checkpoint.max_shard_bytes="$bytes"
  mv "$folder/run-$name/checkpoints/00002" "$folder/trained-$name"
  init() {
    "$rlvr" init --out "$folder/$1-$name" --max-shard-bytes "$bytes" "${small[@]}" "${@:2}"
    models+=("$folder/$1-$name")
  }
  models+=("$folder/trained-$name")
  init qwen2-tied --like qwen2.5-math-1.5b
  init qwen2-untied --like qwen2.5-math-7b --dtype f32
  init llama3 --like llama-3.2-3b-instruct --set head_dim=32 --set "rope_scaling={$scaling}"
  init llama3-new-keys --like llama-3.2-3b-instruct --set head_dim=16 --set tie_word_embeddings=false --set dtype=float16 --dtype f16 \
    --set rope_theta=null --set rope_scaling=null --set "rope_parameters={\"rope_theta\": 300000.0, $scaling}"
done 2>"$folder/stderr" || { cat "$folder/stderr" >&2; exit 1; }

ids=$(seq -s, 1 200)
cat >"$folder/pairs.jsonl" <<LINES
{"id": "careful", "prompt": "Q: What is 334+556?\nA:", "completion": " Step by step, 4+6=10(0),3+5+1=09(90),3+5+0=08(890); so \\\\boxed{890}."}
{"id": "guess", "prompt": "Q: If 5y+29=74, find y.\nA:", "completion": " I guess **9**."}
{"id": "ids", "prompt_ids": [52, 25, 220], "completion_ids": [17, 18, 19, 20, 21, 22, 23, 24, 0]}
{"id": "long", "prompt_ids": [5], "completion_ids": [$ids]}
LINES
HF_HUB_OFFLINE=1 "$venv/bin/python" scripts/golden/make.py --check
HF_HUB_OFFLINE=1 "$venv/bin/python" scripts/golden/make_critic.py --check
cargo build --release --locked --quiet --example render_chat
"$venv/bin/python" scripts/check_templates.py --renderer "$(dirname "$rlvr")/examples/render_chat"
for model in "${models[@]}"; do
  "$rlvr" score --model "$model" --input "$folder/pairs.jsonl" >"$model/scores.jsonl"
done
check=("$venv/bin/python" scripts/check_transformers.py --input "$folder/pairs.jsonl" --tolerance 1e-4 --models "${models[@]}")
"${check[@]}" --expect 5.
PYTHONPATH=$older "${check[@]}" --expect 4.

"$rlvr" init --like tiny --out "$folder/base-tiny" 2>"$folder/stderr" || { cat "$folder/stderr" >&2; exit 1; }
for base in "$folder/base-tiny" "$folder/llama3-whole"; do
  run=$folder/lora-$(basename "$base")
  "$rlvr" train --model "$base" --example tiny/addition/334+556 --lora 4 --steps 2 --out "$run" --set eval.benchmarks= --set optim.lr=0.01 \
    --set rollout.groups=2 --set rollout.max_new_tokens=24 2>"$folder/stderr" || { cat "$folder/stderr" >&2; exit 1; }
  "$rlvr" score --model "$run/checkpoints/00002" --input "$folder/pairs.jsonl" >"$run/checkpoints/00002/scores.jsonl"
  "$venv/bin/python" scripts/check_peft.py --base "$base" --checkpoint "$run/checkpoints/00002" --input "$folder/pairs.jsonl"
done
