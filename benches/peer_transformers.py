#!/usr/bin/env python3
"""Measure scoring and sampling as a user of transformers would run them, for comparison with `rlvr score` and `rlvr sample`.

  score     the hidden states of one batch of equally long rows in f32, then the log-probability and entropy of each response token, with
            logits computed row by row (2,048 tokens of a 1.5B model have 1.2 GB of logits)
  generate  `model.generate` at temperature 1 from one prompt; every response has the full length

  python benches/peer_transformers.py --model DIR --work score --prompt-tokens 128 --sequences 4 --length 384

Prints one JSON line with the median, minimum and maximum time, the load time, and the process's peak memory.
"""

import argparse
import json
import os
import random
import resource
import statistics
import time

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from transformers import AutoModelForCausalLM


def score(model, ids_bt, prompt_tokens):
    """Returns the log-probability and entropy of each response token, row by row."""
    hidden_btw = model.model(ids_bt).last_hidden_state
    scores = []
    for hidden_tw, ids_t in zip(hidden_btw, ids_bt, strict=True):
        logprobs_tv = torch.log_softmax(model.lm_head(hidden_tw[prompt_tokens - 1 : -1]), dim=-1)
        chosen_t = logprobs_tv.gather(1, ids_t[prompt_tokens:, None])
        scores.append((chosen_t, -(logprobs_tv.exp() * logprobs_tv).sum(-1)))
    return scores


def generate(model, ids_bt, length):
    """Samples responses of exactly `length` tokens."""
    found = model.generate(
        ids_bt,
        attention_mask=torch.ones_like(ids_bt),
        min_new_tokens=length,
        max_new_tokens=length,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        pad_token_id=0,
    )
    assert found.shape[1] == ids_bt.shape[1] + length


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--work", choices=["score", "generate"], required=True)
    parser.add_argument("--prompt-tokens", type=int, required=True)
    parser.add_argument("--sequences", type=int, required=True)
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    transformers.logging.disable_progress_bar()
    began = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    load_s = time.perf_counter() - began

    generator = random.Random(0)
    row = lambda length: [generator.randrange(3, 400) for _ in range(length)]
    prompt = row(args.prompt_tokens)
    if args.work == "score":
        ids_bt = torch.tensor([prompt + row(args.length) for _ in range(args.sequences)])
        work = lambda: score(model, ids_bt, args.prompt_tokens)
    else:
        ids_bt = torch.tensor([prompt] * args.sequences)
        work = lambda: generate(model, ids_bt, args.length)
    times = []
    with torch.inference_mode():
        work()
        began = time.perf_counter()
        while len(times) < 3 or time.perf_counter() - began < args.seconds:
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
    print(json.dumps({
        "work": args.work,
        "median_s": statistics.median(times),
        "min_s": min(times),
        "max_s": max(times),
        "load_s": load_s,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }))


if __name__ == "__main__":
    main()
