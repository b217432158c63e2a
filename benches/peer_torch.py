#!/usr/bin/env python3
"""Measure the workloads of `rlvr bench` in hand-written PyTorch, for comparison.

Rollout, update and step of a small Qwen2 model, in eager f32 on the CPU, written as an expert would
write them without a compiler or custom kernels: fused query/key/value and gate/up products,
`scaled_dot_product_attention` with grouped heads, a preallocated KV cache, one prefill of the prompt,
sampling by inverting the CDF (`torch.multinomial` needs a random number per vocabulary entry), logits of
response tokens only, fused AdamW.

  rollout            N sequences of one prompt; each batch row is computed until the longest is finished
  rollout_compacted  the same, but finished rows leave the batch. The lengths are known in advance, so
                     rows are sorted and leaving costs nothing: a bound on what eager code can reach
  update             reference model, policy forward, GRPO loss (clipped ratio, k3 KL, entropy
                     bonus, token mean), backward, gradient clipping, AdamW, on one batch, each row
                     padded on the right to the longest
  update_sorted      the same update in micro-batches of rows of similar length (`--micro-batch`): less
                     padding, and activations that fit the processor's cache
  step               rollout, then update on the sampled tokens
  step_best          rollout_compacted, then update_sorted

Response lengths are forced, so that every program does the same work. `--lengths FILE` is a JSON
list, one number per line, or recorded rollouts (lines with `completion_ids`). Without it, lengths are
sampled from a gamma distribution with mean 28, at most 80, with a fixed seed.

Run (prints one JSON line per workload; `tokens_per_s` counts response tokens without padding):

  rlvr init --like tiny --out tiny-hf
  python benches/peer_torch.py --model tiny-hf --threads 2 --lengths lengths.txt
  python benches/peer_torch.py --model tiny-hf --check     # compares the forward pass with transformers'

Axes in names: b = sequence, t = token, h = query head, k = key/value head, d = head width,
e = model width, v = vocabulary, n = response tokens of a packed batch.
"""

import argparse
import json
import random
import resource
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer


@dataclass(frozen=True)
class Shape:
    """The sizes of a Qwen2 model, from its `config.json`."""

    layers: int
    heads: int
    kv_heads: int
    head_width: int
    norm_eps: float
    rope_theta: float
    vocabulary: int

    @staticmethod
    def read(folder: Path) -> "Shape":
        config = json.loads((folder / "config.json").read_text())
        if config["model_type"] != "qwen2":
            sys.exit(f"{folder}: model_type is {config['model_type']}, but this script supports only qwen2")
        heads = config["num_attention_heads"]
        rope = config.get("rope_parameters") or config  # transformers 5 nests rope_theta
        return Shape(
            layers=config["num_hidden_layers"],
            heads=heads,
            kv_heads=config["num_key_value_heads"],
            head_width=config.get("head_dim") or config["hidden_size"] // heads,
            norm_eps=config["rms_norm_eps"],
            rope_theta=rope["rope_theta"],
            vocabulary=config["vocab_size"],
        )


class Cache:
    """Keys and values of every layer, allocated once: `[b, k, capacity, d]` each."""

    def __init__(self, shape: Shape, rows: int, capacity: int):
        size = (shape.layers, 2, rows, shape.kv_heads, capacity, shape.head_width)
        self.buffer = torch.empty(size)

    def extend(self, layer: int, start: int, keys_bktd, values_bktd):
        """Stores the keys and values of new tokens at `start`; returns views of those of all tokens up to them, for the first b rows."""
        rows, end = keys_bktd.shape[0], start + keys_bktd.shape[2]
        keys, values = self.buffer[layer, :, :rows, :, :end].unbind(0)
        keys[:, :, start:] = keys_bktd
        values[:, :, start:] = values_bktd
        return keys, values


class Qwen2:
    """A Qwen2 decoder in plain tensor operations. Weights are `[out, in]` in f32."""

    def __init__(self, shape: Shape, tensors: dict, longest: int):
        self.shape = shape
        self.embedding_ve = tensors["model.embed_tokens.weight"]
        self.head_ve = tensors.get("lm_head.weight", self.embedding_ve)
        self.final_norm_e = tensors["model.norm.weight"]
        self.layers = []
        for i in range(shape.layers):
            layer = {name.split(".", 3)[3]: t for name, t in tensors.items() if name.startswith(f"model.layers.{i}.")}
            attention = [f"self_attn.{p}_proj" for p in "qkv"]
            self.layers.append(
                {
                    "attention_norm": layer["input_layernorm.weight"],
                    "qkv": torch.cat([layer[f"{name}.weight"] for name in attention]),
                    "qkv_bias": torch.cat([layer[f"{name}.bias"] for name in attention]),
                    "o": layer["self_attn.o_proj.weight"],
                    "mlp_norm": layer["post_attention_layernorm.weight"],
                    "gate_up": torch.cat([layer["mlp.gate_proj.weight"], layer["mlp.up_proj.weight"]]),
                    "down": layer["mlp.down_proj.weight"],
                }
            )
        d = shape.head_width
        frequencies = shape.rope_theta ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
        angles = torch.outer(torch.arange(longest, dtype=torch.float64), frequencies).repeat(1, 2)
        self.cos_td, self.sin_td = angles.cos().float(), angles.sin().float()

    @staticmethod
    def load(folder: Path, longest: int) -> "Qwen2":
        tensors = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
        return Qwen2(Shape.read(folder), tensors, longest)

    def parameters(self) -> list:
        shared = [self.embedding_ve, self.final_norm_e]
        untied = [] if self.head_ve is self.embedding_ve else [self.head_ve]
        return shared + untied + [tensor for layer in self.layers for tensor in layer.values()]

    def hidden(self, ids_bt, start: int = 0, cache: Cache | None = None):
        """Returns hidden states `[b, t, e]` of tokens at positions `start..`, after the final norm."""
        shape = self.shape
        rows, tokens = ids_bt.shape
        h, k, d = shape.heads, shape.kv_heads, shape.head_width
        cos = self.cos_td[start : start + tokens, None]
        sin = self.sin_td[start : start + tokens, None]
        x = F.embedding(ids_bt, self.embedding_ve)
        for i, layer in enumerate(self.layers):
            normed = F.rms_norm(x, x.shape[-1:], layer["attention_norm"], shape.norm_eps)
            qkv = F.linear(normed, layer["qkv"], layer["qkv_bias"]).view(rows, tokens, h + 2 * k, d)
            qk, values = qkv.split((h + k, k), dim=2)
            first, second = qk.chunk(2, dim=-1)
            qk = qk * cos + torch.cat((-second, first), dim=-1) * sin
            queries, keys = qk.transpose(1, 2).split((h, k), dim=1)
            values = values.transpose(1, 2)
            if cache is not None:
                keys, values = cache.extend(i, start, keys, values)
            # All rows have the same positions, and padding is only on the right, so the causal mask is enough.
            mixed = F.scaled_dot_product_attention(queries, keys, values, is_causal=tokens > 1, enable_gqa=True)
            x = x + F.linear(mixed.transpose(1, 2).reshape(rows, tokens, h * d), layer["o"])
            normed = F.rms_norm(x, x.shape[-1:], layer["mlp_norm"], shape.norm_eps)
            gate, up = F.linear(normed, layer["gate_up"]).chunk(2, dim=-1)
            x = x + F.linear(F.silu(gate) * up, layer["down"])
        return F.rms_norm(x, x.shape[-1:], self.final_norm_e, shape.norm_eps)

    def logits(self, hidden):
        return F.linear(hidden, self.head_ve)


@torch.inference_mode()
def rollout(model: Qwen2, prompt_ids: list, lengths: list, temperature: float, compact: bool):
    """Samples responses of exactly `lengths` tokens, longest first; returns ids `[b, longest]`."""
    rows, prompt_tokens, longest = len(lengths), len(prompt_ids), lengths[0]
    cache = Cache(model.shape, rows, prompt_tokens + longest)
    prompt_cache = Cache(model.shape, 1, prompt_tokens)
    hidden = model.hidden(torch.tensor([prompt_ids]), cache=prompt_cache)
    cache.buffer[..., :prompt_tokens, :] = prompt_cache.buffer
    logits_bv = model.logits(hidden[:, -1]).expand(rows, -1)

    ids_bt = torch.zeros(rows, longest, dtype=torch.long)
    active = rows
    for t in range(longest):
        if compact:
            while lengths[active - 1] <= t:
                active -= 1
            logits_bv = logits_bv[:active]
        cumulative_bv = torch.softmax(logits_bv / temperature, dim=-1).cumsum(dim=-1)
        targets_b1 = torch.rand(active, 1) * cumulative_bv[:, -1:]
        token_b1 = torch.searchsorted(cumulative_bv, targets_b1, right=True).clamp_(max=logits_bv.shape[-1] - 1)
        ids_bt[:active, t : t + 1] = token_b1
        if t + 1 < longest:
            hidden = model.hidden(token_b1, start=prompt_tokens + t, cache=cache)
            logits_bv = model.logits(hidden[:, -1])
    return ids_bt


@dataclass
class Update:
    """A GRPO update: policy, frozen reference model, optimizer, coefficients."""

    policy: Qwen2
    reference: Qwen2
    temperature: float
    learning_rate: float
    clip: float = 0.2
    kl: float = 0.001
    entropy: float = 0.001
    max_norm: float = 1.0

    def __post_init__(self):
        self.parameters = [tensor.requires_grad_() for tensor in self.policy.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=self.learning_rate, weight_decay=0.0, fused=True)

    def __call__(self, prompt_ids: list, response_bt, lengths: list, advantages_b, micro_batch: int) -> float:
        tokens = sum(lengths)  # denominator of the token mean: every response token of the batch
        total = 0.0
        for first in range(0, len(lengths), micro_batch):
            chunk = slice(first, first + micro_batch)
            longest = max(lengths[chunk])
            loss = self.loss(prompt_ids, response_bt[chunk, :longest], lengths[chunk], advantages_b[chunk]) / tokens
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.max_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total

    def loss(self, prompt_ids: list, response_bt, lengths: list, advantages_b):
        """Returns the sum of policy loss, KL and entropy terms over the response tokens."""
        rows, longest = response_bt.shape
        ids_bt = torch.cat((torch.tensor([prompt_ids]).expand(rows, -1), response_bt), dim=1)[:, :-1]
        valid_bt = torch.arange(longest) < torch.tensor(lengths)[:, None]
        target_n1 = response_bt[valid_bt][:, None]
        advantage_n = advantages_b[:, None].expand(-1, longest)[valid_bt]

        def logprobs_nv(model: Qwen2):
            # The token before a response token predicts it; padding never reaches the head.
            hidden_ne = model.hidden(ids_bt)[:, len(prompt_ids) - 1 :][valid_bt]
            return F.log_softmax(model.logits(hidden_ne) / self.temperature, dim=-1)

        with torch.no_grad():
            reference_n = logprobs_nv(self.reference).gather(1, target_n1).squeeze(1)
        all_nv = logprobs_nv(self.policy)
        logprob_n = all_nv.gather(1, target_n1).squeeze(1)
        entropy_n = -(all_nv.exp() * all_nv).sum(dim=-1)
        # One update per rollout: the old log-probabilities are the new ones, detached.
        ratio_n = (logprob_n - logprob_n.detach()).exp()
        clipped_n = ratio_n.clamp(1 - self.clip, 1 + self.clip)
        policy_n = -torch.minimum(ratio_n * advantage_n, clipped_n * advantage_n)
        gap_n = (reference_n - logprob_n).clamp(-10, 10)
        k3_n = gap_n.exp() - gap_n - 1
        return (policy_n + self.kl * k3_n - self.entropy * entropy_n).sum()


def read_lengths(file: Path | None, count: int, longest: int) -> list:
    """Reads or samples `count` response lengths; longest first."""
    if file is None:
        draw = random.Random(17)
        lengths = [min(longest, max(1, round(draw.gammavariate(4.0, 7.0)))) for _ in range(count)]
    else:
        text = file.read_text()
        whole = text.lstrip().startswith("[")
        values = json.loads(text) if whole else [json.loads(line) for line in text.split("\n") if line.strip()]
        lengths = [len(value["completion_ids"]) if isinstance(value, dict) else int(value) for value in values]
        if len(lengths) < count:
            sys.exit(f"{file} has {len(lengths)} lengths, but --sequences requires {count}")
        lengths = lengths[:count]
        if min(lengths) < 1:
            sys.exit(f"{file} has a length of {min(lengths)}, but every response has at least one token")
    return sorted(lengths, reverse=True)


def measure(work, seconds: float, repeats: int) -> list:
    """Returns the seconds of each run, after two warm-up runs: at least `repeats` runs and `seconds` in total."""
    for _ in range(2):
        work()
    times = []
    while len(times) < repeats or sum(times) < seconds:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times


@torch.inference_mode()
def check(folder: Path, model: Qwen2, prompt_ids: list, lengths: list, temperature: float) -> bool:
    """Compares the forward pass with and without cache, and transformers' own, on the same sampled tokens; returns True if they agree."""
    from transformers import AutoModelForCausalLM

    response_bt = rollout(model, prompt_ids, lengths, temperature, compact=False)
    ids_bt = torch.cat((torch.tensor([prompt_ids]).expand(len(lengths), -1), response_bt), dim=1)
    whole = model.logits(model.hidden(ids_bt))
    cache = Cache(model.shape, *ids_bt.shape)
    steps = [model.hidden(ids_bt[:, : len(prompt_ids)], cache=cache)]
    steps += [model.hidden(ids_bt[:, t : t + 1], start=t, cache=cache) for t in range(len(prompt_ids), ids_bt.shape[1])]
    cached = model.logits(torch.cat(steps, dim=1))
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()(ids_bt).logits
    worst = 0.0
    for name, other in (("cached", cached), ("transformers", theirs)):
        difference = (whole - other).abs().max().item()
        worst = max(worst, difference)
        print(json.dumps({"check": name, "max_logit_difference": difference, "max_logit": whole.abs().max().item()}))
    return worst < 1e-3


def main() -> int:
    works = ["rollout", "rollout_compacted", "update", "update_sorted", "step", "step_best"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a Qwen2 folder in Hugging Face layout")
    parser.add_argument("--work", default=",".join(works), help="workloads to measure, separated by commas (default: all)")
    parser.add_argument("--sequences", type=int, default=128, help="responses per batch (default: 128)")
    parser.add_argument("--prompt", default="Q: What is 334+556?\nA:", help="the prompt's text, tokenized without a template")
    parser.add_argument("--lengths", type=Path, help="file with response lengths (see above)")
    parser.add_argument("--longest", type=int, default=80, help="upper limit of sampled lengths (default: 80)")
    parser.add_argument("--temperature", type=float, default=0.6)
    parser.add_argument("--micro-batch", type=int, default=16, help="rows per backward pass in update_sorted (default: 16)")
    parser.add_argument("--lr", type=float, default=1e-6, help="learning rate; small by default, so that repeats do the same work")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0, help="minimum time per workload (default: 5)")
    parser.add_argument("--repeats", type=int, default=5, help="minimum number of runs per workload (default: 5)")
    parser.add_argument("--check", action="store_true", help="compare with transformers instead of measuring")
    args = parser.parse_args()
    chosen = args.work.split(",")
    if unknown := set(chosen) - set(works):
        parser.error(f"unknown workload {', '.join(sorted(unknown))}; expected one of {', '.join(works)}")
    if args.sequences < 2 or args.micro_batch < 1:
        parser.error("--sequences must be at least 2, so that advantages differ, and --micro-batch at least 1")
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (args.model / name).exists():
            parser.error(f"{args.model / name} does not exist; `rlvr init --like tiny --out DIR` writes such a folder")

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    lengths = read_lengths(args.lengths, args.sequences, args.longest)
    prompt_ids = Tokenizer.from_file(str(args.model / "tokenizer.json")).encode(args.prompt, add_special_tokens=False).ids
    context = len(prompt_ids) + lengths[0]
    policy, reference = Qwen2.load(args.model, context), Qwen2.load(args.model, context)
    if args.check:
        return 0 if check(args.model, policy, prompt_ids, lengths, args.temperature) else 1

    grpo = Update(policy, reference, args.temperature, args.lr)
    advantages_b = torch.randn(args.sequences)
    advantages_b = (advantages_b - advantages_b.mean()) / advantages_b.std()
    response_bt = torch.randint(policy.shape.vocabulary, (args.sequences, lengths[0]))

    def sample(compact: bool):
        return rollout(policy, prompt_ids, lengths, args.temperature, compact)

    def update(ids_bt, micro_batch: int):
        return grpo(prompt_ids, ids_bt, lengths, advantages_b, micro_batch)

    run = {
        "rollout": lambda: sample(False),
        "rollout_compacted": lambda: sample(True),
        "update": lambda: update(response_bt, args.sequences),
        "update_sorted": lambda: update(response_bt, args.micro_batch),
        "step": lambda: update(sample(False), args.sequences),
        "step_best": lambda: update(sample(True), args.micro_batch),
    }
    for name in chosen:
        times = measure(run[name], args.seconds, args.repeats)
        median = statistics.median(times)
        line = {
            "work": name,
            "median_s": round(median, 6),
            "min_s": round(min(times), 6),
            "max_s": round(max(times), 6),
            "tokens_per_s": round(sum(lengths) / median, 1),
            "threads": args.threads,
            "repeats": len(times),
            "sequences": args.sequences,
            "prompt_tokens": len(prompt_ids),
            "response_tokens": sum(lengths),
            "longest": lengths[0],
            "micro_batch": args.micro_batch,
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "torch": torch.__version__,
        }
        print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
