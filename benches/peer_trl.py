#!/usr/bin/env python3
"""Measure the training step of `rlvr bench` with TRL's GRPOTrainer, which many users would run instead.

One example, 8 groups of 8 rollouts per step, one update per step, f32 on the CPU. The reward compares
the last `\\boxed{}` with the answer. Advantages are normalized by the group's standard deviation; the loss
is a mean over tokens (`dapo`) with KL to the initial model and an entropy bonus. Options that would only
cost time are off: gradient checkpointing, bf16, progress bars, logging, saving, data-loader workers,
dropout. Responses come from transformers' `generate` with a KV cache.

Run:

  rlvr init --like tiny --out tiny-hf
  python benches/peer_trl.py --model tiny-hf --threads 2 --steps 20

Prints one JSON line: the median seconds per step (from the end of one step to the end of the next, without
the first `--warm-up` steps), split into `generate` and the rest (reward, reference model, loss, backward
pass, optimizer), and statistics of the responses. TRL samples until the end token, so compare only runs
with about the same `mean_completion_tokens`. `--lr 0` leaves the model, and therefore the lengths,
unchanged.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path


def boxed(response: str) -> str | None:
    """Returns the content of the last `\\boxed{...}`; None if there is none or it is not closed."""
    start = response.rfind("\\boxed{")
    if start < 0:
        return None
    content = start + len("\\boxed{")
    depth = 1
    for end in range(content, len(response)):
        depth += {"{": 1, "}": -1}.get(response[end], 0)
        if depth == 0:
            return response[content:end].strip()
    return None


def box_reward(completions, answer, **_):
    """Returns 1 for each response whose box contains the gold answer, else 0. TRL passes the data set's columns by name."""
    texts = [c if isinstance(c, str) else c[0]["content"] for c in completions]
    return [float(boxed(text) == gold) for text, gold in zip(texts, answer, strict=True)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a folder in Hugging Face layout")
    parser.add_argument("--prompt", default="Q: What is 334+556?\nA:", help="the prompt's text, or the user's message with --chat")
    parser.add_argument("--chat", action="store_true", help="apply the folder's chat template to the prompt")
    parser.add_argument("--answer", default="890")
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=80)
    parser.add_argument("--temperature", type=float, default=0.6)
    parser.add_argument("--kl", type=float, default=0.001)
    parser.add_argument("--entropy", type=float, default=0.001)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--steps", type=int, default=10, help="measured steps (default: 10)")
    parser.add_argument("--warm-up", type=int, default=2, help="steps to run before measuring (default: 2)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not (args.model / "config.json").exists():
        parser.error(f"{args.model} is not a model folder; `rlvr init --like tiny --out DIR` writes one")
    if args.warm_up < 1:
        parser.error("--warm-up must be at least 1, because a step is timed from the end of the previous one")

    # The libraries read these when they are imported: no network access, and no thread pools except torch's.
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch
    import transformers
    import trl
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(args.threads)

    rollouts = args.groups * args.group_size
    with tempfile.TemporaryDirectory() as folder:
        config = trl.GRPOConfig(
            output_dir=folder,
            seed=args.seed,
            use_cpu=True,
            bf16=False,  # TRL's default is True
            fp16=False,
            gradient_checkpointing=False,  # TRL's default is True
            max_steps=args.warm_up + args.steps,
            per_device_train_batch_size=rollouts,  # in completions, not prompts: one batch per step
            steps_per_generation=1,
            gradient_accumulation_steps=1,
            num_iterations=1,
            num_generations=args.group_size,
            max_completion_length=args.max_new_tokens,
            temperature=args.temperature,
            top_p=1.0,
            top_k=0,
            beta=args.kl,
            entropy_coef=args.entropy,
            loss_type="dapo",
            scale_rewards="group",
            learning_rate=args.lr,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=1.0,
            dataloader_pin_memory=False,
            dataloader_num_workers=0,
            report_to="none",
            logging_strategy="no",
            save_strategy="no",
            disable_tqdm=True,
        )
        model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
        tokenizer = transformers.AutoTokenizer.from_pretrained(args.model, padding_side="left")
        prompt = [{"role": "user", "content": args.prompt}] if args.chat else args.prompt
        # One row per group: each copy of the example is a separate group.
        data = Dataset.from_list([{"prompt": prompt, "answer": args.answer}] * args.groups)

        ends, generating, lengths, rewards = [], [0.0], [], []

        def reward_and_record(completions, completion_ids, **columns):
            values = box_reward(completions, **columns)
            lengths.append([len(ids) for ids in completion_ids])
            rewards.append(statistics.fmean(values))
            return values

        class Clock(transformers.TrainerCallback):
            def on_step_end(self, *_, **__):
                ends.append(time.perf_counter())
                generating.append(0.0)

        trainer = trl.GRPOTrainer(
            model=model,
            processing_class=tokenizer,
            reward_funcs=reward_and_record,
            args=config,
            train_dataset=data,
            callbacks=[Clock()],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        generate = trainer.model.generate

        def timed_generate(*positional, **named):
            start = time.perf_counter()
            out = generate(*positional, **named)
            generating[-1] += time.perf_counter() - start
            return out

        trainer.model.generate = timed_generate
        trainer.train()

    first = args.warm_up
    step_s = [ends[i] - ends[i - 1] for i in range(first, len(ends))]
    generate_s = generating[first : len(ends)]
    measured = lengths[first:]
    tokens = [sum(step) for step in measured]
    median = statistics.median(step_s)
    line = {
        "work": "trl_step",
        "median_s": round(median, 4),
        "min_s": round(min(step_s), 4),
        "max_s": round(max(step_s), 4),
        "generate_s": round(statistics.median(generate_s), 4),
        "rest_s": round(statistics.median(s - g for s, g in zip(step_s, generate_s, strict=True)), 4),
        "tokens_per_s": round(sum(tokens) / sum(step_s), 1),
        "steps": len(step_s),
        "rollouts": rollouts,
        "prompt_tokens": len(tokenizer(args.prompt)["input_ids"]) if not args.chat else None,
        "mean_completion_tokens": round(statistics.fmean(tokens) / rollouts, 2),
        "longest": max(max(step) for step in measured),
        "mean_reward_first": rewards[0],
        "mean_reward_last": rewards[-1],
        "threads": args.threads,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "trl": trl.__version__,
    }
    print(json.dumps(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
