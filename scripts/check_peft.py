#!/usr/bin/env python3
"""Compare a checkpoint of a LoRA run with PEFT, in f32 on the CPU: the merged export against the base model with the
adapter, both loaded by `peft`.

The log-probabilities and entropies of base model and adapter must equal those of `rlvr score` for the export:

  rlvr score --model CHECKPOINT --input pairs.jsonl > CHECKPOINT/scores.jsonl
  python scripts/check_peft.py --base DIR --checkpoint CHECKPOINT --input pairs.jsonl

The export's tensors must equal those that PEFT merges, up to rounding, and the adapter must change the base model's
scores.

Prints one JSON line. Exit code 0: all differences are within the tolerance; 1: a larger difference, a tensor that
differs, or an adapter without effect; 2: wrong usage.
"""

import argparse
import json
import sys
from pathlib import Path

# Imported first, because it disables access to the Hugging Face hub.
from check_transformers import read_lines, score, token_ids

import peft
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

# Largest relative difference of a merged tensor: PEFT may sum in another order.
WEIGHT_TOLERANCE = 1e-6


def logprobs_and_entropies(model, tokenizer, pairs: dict) -> torch.Tensor:
    """Returns a row of log-probabilities and a row of entropies, of all pairs in order."""
    scores = [score(model, *token_ids(pair, tokenizer)) for pair in pairs.values()]
    return torch.tensor([sum((part[which] for part in scores), []) for which in (0, 1)], dtype=torch.float64)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="folder of the base model that the run started from")
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint folder of the run, with the output of `rlvr score` in scores.jsonl")
    parser.add_argument("--input", type=Path, required=True, help="the input file of `rlvr score`")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest difference allowed, in nats (default: 1e-4)")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    for path in (args.base, args.checkpoint / "adapter", args.checkpoint / "scores.jsonl", args.input):
        if not path.exists():
            parser.error(f"{path} does not exist")
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(args.threads)

    pairs, scores = read_lines(args.input), read_lines(args.checkpoint / "scores.jsonl")
    tokenizer = AutoTokenizer.from_pretrained(args.base)
    base = AutoModelForCausalLM.from_pretrained(args.base, dtype=torch.float32).eval()
    without = logprobs_and_entropies(base, tokenizer, pairs)
    model = peft.PeftModel.from_pretrained(base, args.checkpoint / "adapter").eval()
    found = logprobs_and_entropies(model, tokenizer, pairs)
    ours = torch.tensor([sum((scores[key][name] for key in pairs), []) for name in ("logprobs", "entropies")], dtype=torch.float64)
    difference = (found - ours).abs().max().item()
    change = (found - without).abs().max().item()

    merged = model.merge_and_unload().state_dict()
    exported = AutoModelForCausalLM.from_pretrained(args.checkpoint, dtype=torch.float32).state_dict()
    far = {name: (merged[name] - tensor).abs().max().item() / tensor.abs().max().item() for name, tensor in exported.items()}
    worst = max(far, key=far.get)
    ok = difference <= args.tolerance and change > 10 * args.tolerance and far[worst] <= WEIGHT_TOLERANCE and merged.keys() == exported.keys()
    line = {
        "ok": ok,
        "checkpoint": str(args.checkpoint.name),
        "max_difference": difference,
        "max_change_by_adapter": change,
        "max_weight_difference": far[worst],
        "worst_tensor": worst,
        "tokens": found.shape[1],
        "tolerance": args.tolerance,
        "peft": peft.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    print(json.dumps(line))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
