#!/usr/bin/env python3
"""Measure rollout, update and step as a user of PyTorch and transformers would run them on a GPU, for comparison with `rlvr bench --shape`.

The models are transformers' own classes with random weights, because speed does not depend on the checkpoint. All responses have the same length.

  rollout    transformers' `generate` with a static cache, SDPA, temperature sampling and fixed lengths; torch.compile only with `--compile`,
             because compiling takes a minute
  reference  log-probabilities of the responses under a frozen copy
  update     reference model, policy forward, GRPO loss (clipped ratio, k3 KL, entropy bonus, token mean), backward with gradient checkpointing,
             clipping, AdamW: bf16 weights, f32 master weights and gradients, micro-batches of `--micro-batch` rows
  step       rollout, then update: computed from their rates, not run separately

Logits are computed in chunks and recomputed in the backward pass, so no tensor has the size `[tokens, vocabulary]`. A short run warms up each
workload. A workload that exceeds `--limit` seconds stops early, with fewer tokens per response or fewer sequences; its line then has `measured_tokens`
below `tokens`, and `complete` is false. Stopped rollouts favor PyTorch, because later tokens attend to longer contexts and cost more.

  python benches/peer_torch_gpu.py --shape qwen2.5-math-1.5b --device cuda --sequences 512 --prompt-tokens 150 --response-tokens 800
  python benches/peer_torch_gpu.py --shape tiny --device cpu --sequences 8 --prompt-tokens 10 --response-tokens 12

Prints one JSON line per workload. Axes in names: b = sequence, t = token, n = response tokens of a packed batch, e = model width, v = vocabulary.
"""

import argparse
import copy
import json
import resource
import sys
import time

import torch
import torch.nn.functional as F
import transformers
from torch.utils.checkpoint import checkpoint
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, StoppingCriteria, StoppingCriteriaList

WORKLOADS = ["rollout", "reference", "update", "step"]


def qwen2(hidden, feed_forward, layers, heads, kv_heads, vocabulary, tied):
    """Returns the configuration of a Qwen2 model."""
    sizes = {"hidden_size": hidden, "intermediate_size": feed_forward, "num_hidden_layers": layers, "vocab_size": vocabulary}
    sizes |= {"num_attention_heads": heads, "num_key_value_heads": kv_heads, "max_position_embeddings": 4096}
    return Qwen2Config(**sizes, rms_norm_eps=1e-6, rope_theta=10000.0, tie_word_embeddings=tied)


def llama(hidden, feed_forward, layers, heads, kv_heads, vocabulary):
    """Returns the configuration of a Llama 3 model, without RoPE scaling, which does not affect the speed."""
    sizes = {"hidden_size": hidden, "intermediate_size": feed_forward, "num_hidden_layers": layers, "vocab_size": vocabulary}
    sizes |= {"num_attention_heads": heads, "num_key_value_heads": kv_heads, "max_position_embeddings": 8192}
    return LlamaConfig(**sizes, rms_norm_eps=1e-5, rope_theta=500000.0, tie_word_embeddings=True)


SHAPES = {
    "qwen2.5-math-1.5b": lambda: qwen2(1536, 8960, 28, 12, 2, 151936, True),
    "qwen2.5-math-7b": lambda: qwen2(3584, 18944, 28, 28, 4, 152064, False),
    "deepseek-r1-distill-qwen-1.5b": lambda: qwen2(1536, 8960, 28, 12, 2, 151936, False),
    "llama-3.2-3b-instruct": lambda: llama(3072, 8192, 28, 24, 8, 128256),
    "tiny": lambda: qwen2(64, 160, 2, 4, 2, 600, True),
}


class Clock:
    """Time on the device, with a limit."""

    def __init__(self, device: torch.device, limit_s: float):
        self.device = device
        self.limit_s = limit_s
        self.began = self.now()

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def elapsed_s(self) -> float:
        return self.now() - self.began

    def is_over(self) -> bool:
        return self.elapsed_s() > self.limit_s


class Stop(StoppingCriteria):
    """Ends all sequences when the time is up or they have `longest` tokens."""

    def __init__(self, clock: Clock, longest: int):
        self.clock, self.longest = clock, longest

    def __call__(self, ids_bt, scores, **_):
        over = ids_bt.shape[1] >= self.longest or self.clock.is_over()
        return torch.full((ids_bt.shape[0],), over, dtype=torch.bool, device=ids_bt.device)


class Rollouts:
    """Samples with `generate`, in batches as large as memory allows."""

    def __init__(self, model, prompt_ids, args):
        self.model, self.prompt_ids, self.args = model, prompt_ids, args
        self.batch = args.sequences
        self.failures = []
        # By default, `generate` compiles the model if the cache is static and the device is a GPU.
        self.compile = args.device.type == "cuda" and args.compile

    def generate(self, rows: int, clock: Clock, new_tokens: int) -> int:
        """Samples `rows` sequences, with a cache that fits whole responses; returns the number of tokens per response."""
        prompt_bt = self.prompt_ids.expand(rows, -1)
        settings = {"max_new_tokens": self.args.response_tokens, "do_sample": True, "temperature": self.args.temperature, "top_k": 0, "top_p": 1.0}
        settings |= {"cache_implementation": "static", "disable_compile": not self.compile, "eos_token_id": None, "pad_token_id": 0}
        stop = StoppingCriteriaList([Stop(clock, self.prompt_ids.shape[1] + new_tokens)])
        mask_bt = torch.ones_like(prompt_bt)
        ids_bt = self.model.generate(prompt_bt.contiguous(), attention_mask=mask_bt, stopping_criteria=stop, **settings)
        return ids_bt.shape[1] - self.prompt_ids.shape[1]

    def warm_up(self):
        """Finds a batch size that fits in memory, and whether compiling works."""
        while True:
            try:
                self.generate(self.batch, Clock(self.args.device, float("inf")), min(8, self.args.response_tokens))
                return
            except torch.OutOfMemoryError:
                self.failures.append(f"out of memory with a batch of {self.batch}")
                if self.batch == 1:
                    raise
                self.batch = (self.batch + 1) // 2
            except Exception as error:
                if not self.compile:
                    raise
                self.failures.append(f"ran without torch.compile, which failed: {type(error).__name__}: {str(error)[:200]}")
                self.compile = False
            if self.args.device.type == "cuda":
                torch.cuda.empty_cache()

    def run(self, clock: Clock) -> int:
        """Samples all sequences, batch by batch; returns the number of sampled tokens."""
        tokens = 0
        for first in range(0, self.args.sequences, self.batch):
            rows = min(self.batch, self.args.sequences - first)
            tokens += rows * self.generate(rows, clock, self.args.response_tokens)
            if clock.is_over():
                break
        return tokens


def scored_chunk(head_ve, hidden_ne, targets_n, temperature: float):
    """Returns the log-probabilities and entropies of a chunk of response tokens, in f32."""
    logprobs_nv = F.log_softmax(F.linear(hidden_ne, head_ve).float() / temperature, dim=-1)
    chosen_n = logprobs_nv.gather(1, targets_n[:, None]).squeeze(1)
    return chosen_n, -(logprobs_nv.exp() * logprobs_nv).sum(dim=-1)


class Training:
    """GRPO updates of a policy in its dtype, with f32 master weights and gradients and a frozen reference model."""

    def __init__(self, model, prompt_ids, args):
        self.policy, self.args, self.prompt_tokens = model, args, prompt_ids.shape[1]
        self.reference = copy.deepcopy(model).eval().requires_grad_(False)
        model.train()
        model.config.use_cache = False
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.weights = list(model.parameters())
        self.masters = [weight.detach().float().clone() for weight in self.weights]
        for weight, master in zip(self.weights, self.masters):
            master.grad = torch.zeros_like(master)
            weight.register_post_accumulate_grad_hook(self.collect(master))
        self.optimizer = torch.optim.AdamW(self.masters, lr=1e-6, weight_decay=0.01, fused=True)
        shape = (args.sequences, args.response_tokens)
        responses_bt = torch.randint(model.config.vocab_size, shape, device=args.device)
        self.ids_bt = torch.cat((prompt_ids.expand(args.sequences, -1), responses_bt), dim=1)
        advantages_b = torch.randn(args.sequences, device=args.device)
        self.advantages_b = (advantages_b - advantages_b.mean()) / advantages_b.std()

    @staticmethod
    def collect(master):
        """Returns a hook that adds each new gradient to that of the master weight, in f32."""

        def hook(weight):
            master.grad.add_(weight.grad)
            weight.grad = None

        return hook

    def scores(self, model, ids_bt):
        """Returns the log-probabilities and entropies of all response tokens, one row of the batch after another."""
        # The token before a response token predicts it.
        hidden_bte = model.model(ids_bt[:, :-1], use_cache=False).last_hidden_state[:, self.prompt_tokens - 1 :]
        hidden_ne, targets_n = hidden_bte.flatten(0, 1), ids_bt[:, self.prompt_tokens :].flatten()
        head_ve, chosen, entropies = model.lm_head.weight, [], []
        for first in range(0, len(targets_n), self.args.head_rows):
            chunk = slice(first, first + self.args.head_rows)
            arguments = (head_ve, hidden_ne[chunk], targets_n[chunk], self.args.temperature)
            grad = torch.is_grad_enabled()
            chosen_n, entropy_n = checkpoint(scored_chunk, *arguments, use_reentrant=False) if grad else scored_chunk(*arguments)
            chosen.append(chosen_n)
            entropies.append(entropy_n)
        return torch.cat(chosen), torch.cat(entropies)

    def micro_batches(self, clock: Clock):
        """Yields slices of the batch until the time is up."""
        for first in range(0, self.args.sequences, self.args.micro_batch):
            yield slice(first, min(first + self.args.micro_batch, self.args.sequences))
            if clock.is_over():
                return

    @torch.no_grad()
    def score_reference(self, clock: Clock) -> int:
        tokens = 0
        for rows in self.micro_batches(clock):
            tokens += len(self.scores(self.reference, self.ids_bt[rows])[0])
        return tokens

    def update(self, clock: Clock) -> int:
        """Sums the gradients of micro-batches until the time is up, then makes an optimizer step; returns the number of trained tokens."""
        tokens, all_tokens = 0, self.args.sequences * self.args.response_tokens
        for rows in self.micro_batches(clock):
            ids_bt = self.ids_bt[rows]
            with torch.no_grad():
                reference_n, _ = self.scores(self.reference, ids_bt)
            logprob_n, entropy_n = self.scores(self.policy, ids_bt)
            advantage_n = self.advantages_b[rows].repeat_interleave(self.args.response_tokens)
            # One update per rollout: the old log-probabilities are the new ones, detached.
            ratio_n = (logprob_n - logprob_n.detach()).exp()
            policy_n = -torch.minimum(ratio_n * advantage_n, ratio_n.clamp(0.8, 1.2) * advantage_n)
            gap_n = (reference_n - logprob_n).clamp(-10, 10)
            loss = (policy_n + 0.001 * (gap_n.exp() - gap_n - 1) - 0.001 * entropy_n).sum() / all_tokens
            loss.backward()
            tokens += len(logprob_n)
        torch.nn.utils.clip_grad_norm_(self.masters, 1.0)
        self.optimizer.step()
        for master in self.masters:
            master.grad.zero_()
        with torch.no_grad():
            torch._foreach_copy_(self.weights, self.masters)
        return tokens


def peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(work: str, run, args, **fields) -> dict:
    """Runs a warmed-up workload once; returns its measurement."""
    if args.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(args.device)
    clock = Clock(args.device, args.limit)
    tokens = run(clock)
    seconds, wanted = clock.elapsed_s(), args.sequences * args.response_tokens
    line = {"work": work, "median_s": round(seconds, 4), "tokens_per_s": round(tokens / seconds, 1), "tokens": wanted}
    return line | {"measured_tokens": tokens, "complete": tokens == wanted, "peak_bytes": peak_bytes(args.device)} | fields


def failed(work: str, error: Exception) -> dict:
    return {"work": work, "error": f"{type(error).__name__}: {str(error)[:300]}"}


def lines(model, prompt_ids, works, args):
    """Yields one measurement per workload as soon as it has finished. If a workload fails, the next one still runs."""
    done = {}
    if {"rollout", "step"} & set(works):
        try:
            rollouts = Rollouts(model.eval(), prompt_ids, args)
            rollouts.warm_up()
            used = {"compile": rollouts.compile, "batch": rollouts.batch, "failures": rollouts.failures}
            done["rollout"] = measure("rollout", rollouts.run, args, cache="static", attention="sdpa", **used)
            done["rollout"]["compiled_call"] = getattr(model, "_compiled_call", None) is not None
        except Exception as error:
            done["rollout"] = failed("rollout", error)
        yield done["rollout"]
        if args.device.type == "cuda":
            torch.cuda.empty_cache()
    if {"reference", "update", "step"} & set(works):
        try:
            training = Training(model, prompt_ids, args)
            # Even if the time is up, one micro-batch runs.
            training.update(Clock(args.device, 0.0))
            used = {"micro_batch": args.micro_batch, "head_rows": args.head_rows, "attention": "sdpa"}
            for work, run in (("reference", training.score_reference), ("update", training.update)):
                if work in works or (work == "update" and "step" in works):
                    done[work] = measure(work, run, args, recompute=work == "update", **used)
                    yield done[work]
        except Exception as error:
            done["update"] = failed("update", error)
            yield done["update"]
    if "step" in works:
        rates = [done.get(work, {}).get("tokens_per_s") for work in ("rollout", "update")]
        if all(rates):
            rate, tokens = 1 / sum(1 / rate for rate in rates), args.sequences * args.response_tokens
            line = {"work": "step", "median_s": round(tokens / rate, 4), "tokens_per_s": round(rate, 1), "tokens": tokens, "summed": True}
            complete = done["rollout"]["complete"] and done["update"]["complete"]
            yield line | {"complete": complete, "peak_bytes": max(done[work]["peak_bytes"] for work in ("rollout", "update"))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="qwen2.5-math-1.5b", choices=sorted(SHAPES))
    parser.add_argument("--work", default=",".join(WORKLOADS), help="workloads to measure, separated by commas (default: all)")
    parser.add_argument("--device", default="cuda", type=torch.device)
    parser.add_argument("--sequences", type=int, default=512)
    parser.add_argument("--prompt-tokens", type=int, default=150)
    parser.add_argument("--response-tokens", type=int, default=800)
    parser.add_argument("--micro-batch", type=int, default=16, help="rows per backward pass (default: 16)")
    parser.add_argument("--head-rows", type=int, default=2048, help="rows of logits in memory at once (default: 2048)")
    parser.add_argument("--temperature", type=float, default=0.6)
    parser.add_argument("--limit", type=float, default=12.0, metavar="SECONDS", help="time limit per measurement (default: 12)")
    parser.add_argument("--compile", action="store_true", help="run rollouts with torch.compile; compiling takes a minute")
    parser.add_argument("--threads", type=int, help="number of CPU threads")
    args = parser.parse_args()
    works = args.work.split(",")
    if unknown := set(works) - set(WORKLOADS):
        parser.error(f"unknown workload {', '.join(sorted(unknown))}; expected one of {', '.join(WORKLOADS)}")
    if args.sequences < 2 or min(args.prompt_tokens, args.response_tokens, args.micro_batch, args.head_rows) < 1:
        parser.error("--sequences must be at least 2, so that advantages differ; --prompt-tokens, --response-tokens, --micro-batch and --head-rows must be at least 1")
    if args.device.type == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU: install PyTorch for CUDA, or use --device cpu, which computes in f32")
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    dtype = torch.bfloat16 if args.device.type == "cuda" else torch.float32
    config = SHAPES[args.shape]()
    family = Qwen2ForCausalLM if isinstance(config, Qwen2Config) else LlamaForCausalLM
    config._attn_implementation = "sdpa"
    torch.set_default_dtype(dtype)
    with args.device:
        model = family(config)
    torch.set_default_dtype(torch.float32)
    prompt_ids = torch.arange(args.prompt_tokens, device=args.device)[None] * 7919 % config.vocab_size
    shared = {"shape": args.shape, "device": torch.cuda.get_device_name(args.device) if args.device.type == "cuda" else "cpu"}
    shared |= {"dtype": str(dtype).removeprefix("torch."), "sequences": args.sequences, "prompt_tokens": args.prompt_tokens}
    shared |= {"response_tokens": args.response_tokens, "limit_s": args.limit}
    shared |= {"torch": torch.__version__, "transformers": transformers.__version__}
    errors = 0
    for line in lines(model, prompt_ids, works, args):
        errors += "error" in line
        print(json.dumps(line | shared), flush=True)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
