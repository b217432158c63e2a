#!/usr/bin/env bash
# Stands for `rlvr` when the documentation's commands are tested. Runs the program with less work than the command asks for.
set -euo pipefail
arguments=("$@")
has() {
  local argument
  for argument in "${arguments[@]}"; do
    [[ $argument == "$1" || $argument == "$1="* ]] && return 0
  done
  return 1
}
# Lowers the value of option $1 to at most $2.
limit() {
  local at
  for ((at = 1; at < ${#arguments[@]}; at++)); do
    if [[ ${arguments[at - 1]} == "$1" ]] && ((arguments[at] > $2)); then arguments[at]=$2; fi
  done
}
if has --help || has --version || has --help-settings || has --dry-run; then
  exec "$RLVR_PROGRAM" "$@"
fi
# A server runs until it is stopped.
if has --watch; then
  timeout --signal=INT 5 "$RLVR_PROGRAM" "$@" || [[ $? == 124 || $? == 130 ]]
  exit
fi
case ${1:-} in
  train)
    # The embedded model improves within 15 steps, so its runs have a best checkpoint.
    if has --resume; then
      limit --steps 16
      limit --at 10
    elif has --config || has --model; then
      limit --steps 2
      has --steps || arguments+=(--steps 2)
      arguments+=(--set rollout.groups=2 --set rollout.group_size=2 --set eval.limit=2)
    elif ! has --replay; then
      limit --steps 15
      has --steps || arguments+=(--steps 15)
      arguments+=(--set rollout.groups=4 --set eval.limit=20 --set checkpoint.every=5)
    fi
    ;;
  eval | probe | elicit) has --limit || arguments+=(--limit 2) ;;
  pretrain) has --steps || arguments+=(--steps 2) ;;
  bench)
    arguments+=(--seconds 0 --repeats 1)
    has --sequences || arguments+=(--sequences 4)
    ;;
  init)
    if ! has tiny; then
      arguments+=(--set hidden_size=64 --set intermediate_size=160 --set num_hidden_layers=2 --set num_attention_heads=4)
      arguments+=(--set num_key_value_heads=2 --set vocab_size=600)
    fi
    ;;
  study)
    # The same arms with two steps and one seed.
    file=$(dirname "$2")/small-$(basename "$2")
    sed -E 's/\bsteps *= *[0-9]+/steps = 2/; s/\blimit *= *[0-9]+/limit = 2/; s/^seeds *=.*/seeds = [0]/' "$2" >"$file"
    grep -q '^\[base\]' "$file" || printf '\n[base]\ntrain.steps = 2\neval.limit = 2\n' >>"$file"
    arguments[1]=$file
    ;;
  # Whether a run fits depends on the machine, and both answers are valid.
  plan) "$RLVR_PROGRAM" "$@" || [[ $? == 1 ]]; exit ;;
esac
exec "$RLVR_PROGRAM" "${arguments[@]}"
