#!/usr/bin/env bash
# Opens reports in a real browser, headless Chromium, and checks what a reader would notice (scripts/check_pages.py): a run, a comparison of
# two runs, a study, a broken run, and a served run. The first run installs the Python packages outside the checkout, and Chromium if apt-get
# is available. Usage: scripts/check-pages.sh [FOLDER]  (for the pages and screenshots; default: a temporary folder)
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${XDG_CACHE_HOME:-$HOME/.cache}/rlvr/pages
if ! cmp --silent scripts/requirements-pages.txt "$venv/installed.txt"; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --requirement scripts/requirements-pages.txt
  cp scripts/requirements-pages.txt "$venv/installed.txt"
fi
if ! command -v chromium >/dev/null; then
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core
fi
folder=${1:-$(mktemp -d)}
[ $# -gt 0 ] || trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder"
cargo build --release --locked --quiet
rlvr=${CARGO_TARGET_DIR:-target}/release/rlvr
quiet() { "$@" 2>"$folder/stderr" || { cat "$folder/stderr" >&2; exit 1; }; }

train=(train --steps 30 --set eval.every=10 --set eval.limit=200 --set checkpoint.every=10)
quiet "$rlvr" "${train[@]}" --out "$folder/one"
quiet "$rlvr" "${train[@]}" --seed 1 --out "$folder/two"
quiet "$rlvr" "${train[@]}" --set loss.entropy=0 --out "$folder/other"
cat >"$folder/study.toml" <<'STUDY'
title = "The entropy bonus"
seeds = [0, 1]

[base]
train.steps = 10
eval.every = 5
eval.limit = 100

[[arm]]
label = "with the bonus"

[[arm]]
label = "without"
set = { loss.entropy = 0.0 }
STUDY
quiet "$rlvr" study "$folder/study.toml" --out "$folder/study" --jobs 2
# What a killed process and a careless reader leave: a line that is cut in the middle, and missing files.
cp -r "$folder/one" "$folder/broken"
rm -r "$folder/broken/summary.json" "$folder/broken/eval/00020" "$folder/broken/launch.json" "$folder/broken/rollouts"
truncate --size=-40 "$folder/broken/metrics.jsonl"

quiet "$rlvr" report "$folder/one" -o "$folder/run.html"
quiet "$rlvr" report "$folder/one" "$folder/two" "$folder/other" -o "$folder/comparison.html"
quiet "$rlvr" report "$folder/study" -o "$folder/study.html"
quiet "$rlvr" report "$folder/broken" -o "$folder/broken.html"
"$venv/bin/python" scripts/check_pages.py --program "$rlvr" --run "$folder/one" --screenshots "$folder/screenshots" \
  "$folder/run.html" "$folder/comparison.html" "$folder/study.html" "$folder/broken.html"
