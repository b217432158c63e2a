#!/usr/bin/env python3
"""Answer benchmark problems as a user of transformers would: greedy `generate` in padded batches, each as slow as its longest response.

  python benches/peer_evaluate.py --model DIR --data-dir DATA --benchmarks math500,minerva_math --max-new-tokens 64 --batch 32 [--sorted]

Prompts are the questions in the checkpoint's chat template, as in `rlvr eval`. `--sorted` batches questions of similar lengths, which saves padding,
but which most users do not do. Responses are not graded. Prints one JSON line: problems, seconds from texts to texts (without loading the model), and
the total tokens of the responses, each up to its end token.
"""

import argparse
import json
import os
import pathlib
import time

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer


def questions(folder, benchmarks, limit):
    """Reads the questions from published files, at most `limit` per file (0: all)."""
    found = []
    for name in benchmarks.split(","):
        lines = (pathlib.Path(folder) / "test" / name / "test.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
        found += [row.get("problem") or row["question"] for row in rows[: limit or None]]
    return [question.strip() for question in found]


def answer(model, tokenizer, ends, prompts, max_new_tokens):
    """Returns the texts of one batch and their total number of tokens."""
    batch = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
    found = model.generate(**batch, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    responses = found[:, batch["input_ids"].shape[1] :].tolist()
    tokens = 0
    for ids in responses:
        end = next((position + 1 for position, token in enumerate(ids) if token in ends), len(ids))
        tokens += end
    return tokenizer.batch_decode(responses, skip_special_tokens=True), tokens


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--benchmarks", default="math500,minerva_math,olympiadbench")
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sorted", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    tokenizer = AutoTokenizer.from_pretrained(args.model, padding_side="left")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    ends = model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends])
    texts = questions(args.data_dir, args.benchmarks, args.limit)
    template = lambda question: tokenizer.apply_chat_template([{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True)
    with torch.inference_mode():
        answer(model, tokenizer, ends, [template(question) for question in texts[: args.batch]], 4)
        began = time.perf_counter()
        prompts = [template(question) for question in texts]
        if args.sorted:
            prompts.sort(key=len)
        tokens = 0
        for first in range(0, len(prompts), args.batch):
            tokens += answer(model, tokenizer, ends, prompts[first : first + args.batch], args.max_new_tokens)[1]
        elapsed_s = time.perf_counter() - began
    print(json.dumps({
        "problems": len(prompts),
        "elapsed_s": elapsed_s,
        "tokens": tokens,
        "batch": args.batch,
        "sorted": args.sorted,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }))


if __name__ == "__main__":
    main()
