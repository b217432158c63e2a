#!/usr/bin/env python3
"""Make the golden files of tests/golden-critic: PyTorch's results for PPO's critic on the checkpoints and rollouts of tests/golden.

The inputs are one step of recorded rollouts, a value head and old values. The outputs are advantages by generalized advantage estimation (GAE),
returns, the clipped value loss, its gradients with respect to all of the critic's tensors, and the policy's gradients with whitened advantages.
Everything is written out in plain PyTorch, one unpadded sequence at a time, in f32 on the CPU, after arXiv 1506.02438 (GAE as a sum over later
deltas), arXiv 1707.06347 (the clip) and the conventions of verl (value loss clipped around the old values, mean over tokens; whitening with the
unbiased variance and 1e-8).

  python scripts/golden/make_critic.py                # rewrites tests/golden-critic
  python scripts/golden/make_critic.py --check        # makes them again in a temporary folder and compares

Versions: scripts/requirements-peers.txt. Runs in a few seconds.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from committed import run

ROOT = Path(__file__).resolve().parents[2] / "tests"
NAMES = ("qwen2-tied", "qwen2-untied", "llama")
FIRST_STEP = 8  # number of rollouts in the first recorded step
CLIP, POLICY_CLIP = 0.5, 0.2
# "ppo" is the preset with larger coefficients: KL (k1) in each token's reward, and an entropy bonus in the policy loss.
CASES = {
    "gae": {"gamma": 0.95, "lambda": 0.9, "kl": 0.0, "entropy": 0.0},
    "ppo": {"gamma": 1.0, "lambda": 1.0, "kl": 0.1, "entropy": 0.02},
}


def values_of(critic, head: dict, prompt: list, completion: list):
    """Returns the value of the state before each completion token, from the hidden state of the previous token."""
    hidden_tw = critic.model(torch.tensor([prompt + completion])).last_hidden_state[0]
    return hidden_tw[len(prompt) - 1 : -1] @ head["weight"][0] + head["bias"][0]


def advantages_of(rewards: list, values: list, gamma: float, lam: float) -> list:
    """Returns advantages by their definition: the sum of all later temporal differences, discounted by gamma * lambda per token."""
    following = values[1:] + [0.0]
    deltas = [r + gamma * after - v for r, after, v in zip(rewards, following, values, strict=True)]
    return [sum((gamma * lam) ** k * delta for k, delta in enumerate(deltas[t:])) for t in range(len(deltas))]


def logprobs_and_entropies(policy, prompt: list, completion: list):
    logits_tv = policy(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
    logprobs_tv = torch.log_softmax(logits_tv, dim=-1)
    chosen_t = logprobs_tv.gather(1, torch.tensor(completion)[:, None])[:, 0]
    return chosen_t, -(logprobs_tv.exp() * logprobs_tv).sum(-1)


def token_rewards(row: dict, reference, kl: float) -> list:
    """Returns each token's reward: minus its KL penalty, plus the response's reward on the last token."""
    with torch.no_grad():
        of_reference, _ = logprobs_and_entropies(reference, row["prompt_ids"], row["completion_ids"])
    rewards = [-kl * (old - other) for old, other in zip(row["logprobs"], of_reference.tolist(), strict=True)]
    rewards[-1] += row["reward"]
    return rewards


def load(name: str, part: str = "policy"):
    return AutoModelForCausalLM.from_pretrained(ROOT / "golden" / name / part, attn_implementation="eager", dtype=torch.float32).eval()


def make(out: Path) -> None:
    out.mkdir(parents=True)
    (out / "cases.json").write_text(json.dumps({"clip": CLIP, "cases": CASES}, indent=2) + "\n")
    for number, name in enumerate(NAMES):
        lines = (ROOT / "golden" / name / "rollouts.jsonl").read_text().splitlines()[:FIRST_STEP]
        rows = [json.loads(line) for line in lines]
        policy, critic, reference = load(name), load(name), load(name, "reference")
        generator = torch.Generator().manual_seed(200 + number)
        width = critic.config.hidden_size
        head = {"weight": 0.12 * torch.randn(1, width, generator=generator), "bias": torch.tensor([0.25])}
        folder = out / name
        folder.mkdir()
        with torch.no_grad():
            now = [values_of(critic, head, row["prompt_ids"], row["completion_ids"]) for row in rows]
        # Old values near the current ones, so that the clip acts on both sides of the returns.
        old = [values + 0.8 * torch.randn(len(values), generator=generator) for values in now]
        save_file(head | {"old_values": torch.cat(old), "values": torch.cat(now)}, folder / "inputs.safetensors")

        for case, settings in CASES.items():
            pairs = [(token_rewards(row, reference, settings["kl"]), values.tolist()) for row, values in zip(rows, old, strict=True)]
            advantages = [torch.tensor(advantages_of(*pair, settings["gamma"], settings["lambda"])) for pair in pairs]
            returns = [advantage + values for advantage, values in zip(advantages, old, strict=True)]

            weight, bias = (head[key].clone().requires_grad_() for key in ("weight", "bias"))
            critic.zero_grad()
            terms, sides = [], set()
            for row, before, goal in zip(rows, old, returns, strict=True):
                values = values_of(critic, {"weight": weight, "bias": bias}, row["prompt_ids"], row["completion_ids"])
                bounded = torch.maximum(torch.minimum(values, before + CLIP), before - CLIP)
                free, held = (values - goal) ** 2, (bounded - goal) ** 2
                terms.append(torch.maximum(free, held))
                sides |= {(bool(h > f), bool(v > b)) for f, h, v, b in zip(free, held, values, before, strict=True)}
            assert len(sides) == 4, f"{name}, {case}: the clip acts on {sides}"
            loss = 0.5 * torch.cat(terms).mean()
            loss.backward()
            gradients = {key: parameter.grad for key, parameter in critic.model.named_parameters(prefix="model")}
            gradients |= {"value.weight": weight.grad, "value.bias": bias.grad}
            assert all(gradient.abs().max() > 0 for gradient in gradients.values()), f"{name}, {case}: a gradient is 0"
            save_file({key: gradient.clone() for key, gradient in gradients.items()}, folder / f"{case}-critic.safetensors")

            flat = torch.cat(advantages)
            whitened = (flat - flat.mean()) * torch.rsqrt(flat.var(unbiased=True) + 1e-8)
            policy.zero_grad()
            surrogates = []
            for row, own in zip(rows, whitened.split([len(advantage) for advantage in advantages]), strict=True):
                logprobs, entropies = logprobs_and_entropies(policy, row["prompt_ids"], row["completion_ids"])
                ratio = (logprobs - torch.tensor(row["logprobs"])).exp()
                surrogate = -torch.minimum(ratio * own, ratio.clamp(1 - POLICY_CLIP, 1 + POLICY_CLIP) * own)
                surrogates.append(surrogate - settings["entropy"] * entropies)
            torch.cat(surrogates).mean().backward()
            save_file({key: parameter.grad.clone() for key, parameter in policy.named_parameters()}, folder / f"{case}-policy.safetensors")
            estimates = {"advantages": flat, "returns": torch.cat(returns), "whitened": whitened, "loss": loss.detach()[None]}
            save_file(estimates, folder / f"{case}-estimates.safetensors")


if __name__ == "__main__":
    sys.exit(run(__doc__, make, ROOT / "golden-critic"))
