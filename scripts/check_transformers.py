#!/usr/bin/env python3
"""Compare `rlvr score` with transformers (4 or 5), token by token, in f32 on the CPU.

Loads exported folders with `AutoModelForCausalLM` and `AutoTokenizer`. Computes the log-probability of each
completion token and the entropy at its position (in nats, at temperature 1), one unpadded sequence at a time, and
compares them with the output of `rlvr score` for the same lines:

  rlvr score --model DIR --input pairs.jsonl > DIR/scores.jsonl
  python scripts/check_transformers.py --models DIR... --input pairs.jsonl

A line of the input is `{"id", "prompt_ids", "completion_ids"}` or `{"id", "prompt", "completion"}`. Prompt and
completion texts are tokenized separately, without special tokens. A line of the scores is
`{"id", "logprobs", "entropies", "sum"}`.

Prints one JSON line per folder with the largest differences and the position of the worst one. Exit code 0: all
differences are within the tolerance; 1: a larger difference, a missing line, a non-finite value, a wrong number of
values, or an unexpected version of transformers; 2: wrong usage.
"""

import argparse
import json
import math
import os
import sys
from pathlib import Path

# Set before transformers is imported: no network access, readable stderr.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer


def read_lines(file: Path) -> dict:
    """Returns the records of a JSON lines file by `id`, in order."""
    records = {}
    for number, text in enumerate(file.read_text(encoding="utf-8").split("\n"), start=1):
        if not text.strip():
            continue
        try:
            record = json.loads(text)
            key = record["id"]
        except (ValueError, KeyError, TypeError) as error:
            sys.exit(f"{file}:{number}: expected a JSON object with an id ({error!r})")
        if key in records:
            sys.exit(f"{file}:{number}: id {key!r} appears twice")
        records[key] = record
    return records


def token_ids(record: dict, tokenizer) -> tuple[list, list]:
    """Returns the token ids of an input line's prompt and completion."""
    if "prompt_ids" in record:
        return record["prompt_ids"], record["completion_ids"]
    return tuple(tokenizer(record[part], add_special_tokens=False)["input_ids"] for part in ("prompt", "completion"))


@torch.inference_mode()
def score(model, prompt_ids: list, completion_ids: list) -> tuple[list, list]:
    """Returns the log-probability of each completion token, and the entropy of the distribution at its position."""
    ids = torch.tensor([prompt_ids + completion_ids])
    # Position i predicts token i + 1. The softmax is in f64, so that it adds no error.
    logits_tv = model(ids).logits[0, len(prompt_ids) - 1 : -1].double()
    logprobs_tv = torch.log_softmax(logits_tv, dim=-1)
    chosen_t = logprobs_tv.gather(1, ids[0, len(prompt_ids) :, None]).squeeze(1)
    entropies_t = -(logprobs_tv.exp() * logprobs_tv).sum(dim=-1)
    return chosen_t.tolist(), entropies_t.tolist()


def check(folder: Path, pairs: dict, tolerance: float) -> dict:
    """Compares one folder's `scores.jsonl` with these pairs; returns the line to print."""
    scores = read_lines(folder / "scores.jsonl")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    problems = [f"{key!r}: scored, but not in the input" for key in scores if key not in pairs]
    worst = {"logprobs": 0.0, "entropies": 0.0, "sum": 0.0}
    worst_at, tokens = None, 0
    for key, pair in pairs.items():
        if key not in scores:
            problems.append(f"{key!r}: in the input, but not scored")
            continue
        prompt_ids, completion_ids = token_ids(pair, tokenizer)
        if not prompt_ids:
            problems.append(f"{key!r}: the prompt is empty, so the first token has no distribution")
            continue
        logprobs, entropies = score(model, prompt_ids, completion_ids)
        expected = {"logprobs": logprobs, "entropies": entropies, "sum": [math.fsum(logprobs)]}
        tokens += len(completion_ids)
        for name, ours in expected.items():
            theirs = scores[key].get(name)
            theirs = [theirs] if name == "sum" else theirs
            if theirs is None or len(theirs) != len(ours):
                problems.append(f"{key!r}: {name} has {len(theirs or [])} values, expected {len(ours)}")
                continue
            for position, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
                if other is None or not math.isfinite(other):
                    problems.append(f"{key!r}: {name}[{position}] is {other}, expected {mine}")
                elif abs(mine - other) > worst[name]:
                    worst[name] = abs(mine - other)
                    if name == "logprobs":
                        worst_at = {"id": key, "position": position, "transformers": mine, "rlvr": other}

    for problem in problems:
        print(f"{folder}: {problem}", file=sys.stderr)
    # A sum accumulates the errors of its tokens, so it is printed but not compared with the tolerance.
    within = tokens > 0 and max(worst["logprobs"], worst["entropies"]) <= tolerance
    return {
        "ok": within and not problems,
        "model": folder.name,
        "max_logprob_difference": worst["logprobs"],
        "max_entropy_difference": worst["entropies"],
        "max_sum_difference": worst["sum"],
        "tolerance": tolerance,
        "worst": worst_at,
        "sequences": len(pairs),
        "tokens": tokens,
        "problems": len(problems),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="exported folders, each with the output of `rlvr score` in scores.jsonl")
    parser.add_argument("--input", type=Path, required=True, help="the input file of `rlvr score`")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest difference allowed, in nats (default: 1e-4)")
    parser.add_argument("--expect", default="", help="prefix that the version of transformers must have")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    for path in (*(folder / "scores.jsonl" for folder in args.models), args.input):
        if not path.exists():
            parser.error(f"{path} does not exist")
    if not transformers.__version__.startswith(args.expect):
        sys.exit(f"transformers is {transformers.__version__}; its version must start with {args.expect}")

    transformers.logging.disable_progress_bar()
    torch.set_num_threads(args.threads)
    pairs = read_lines(args.input)
    lines = [check(folder, pairs, args.tolerance) for folder in args.models]
    for line in lines:
        print(json.dumps(line))
    return 0 if all(line["ok"] for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
