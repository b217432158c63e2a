#!/usr/bin/env python3
"""Make the golden files of tests/golden: small random checkpoints, and PyTorch's results for them.

The checkpoints use transformers' own model classes. Every weight, norm and bias is random, and large enough that a wrong rotary table or a missing
bias changes the results by far more than any tolerance. The objective is written out in plain PyTorch, one unpadded sequence at a time, in f32 on the
CPU. It follows arXiv 2402.03300 (GRPO), Schulman's KL estimators with k3 clamped as in the published code, and torch.optim.AdamW. PRESETS spells out
the settings of every other algorithm from its paper, while the program under test gets only the algorithm's name and the changes of a case:
2503.20783 (Dr. GRPO), 2402.14740 (RLOO), 2501.03262 (REINFORCE++), 2503.14476 (DAPO), 2507.18071 (GSPO), 2506.13585 (CISPO). PPO needs a critic and
has separate golden files (make_critic.py).

  python scripts/golden/make.py                # rewrites tests/golden
  python scripts/golden/make.py --check        # makes them again in a temporary folder and compares

Versions: scripts/requirements-peers.txt. Runs in about ten seconds.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config

from committed import run

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
TOKENS, ROWS = 48, 50  # two rows of the embedding have no token
STEPS, GROUPS, GROUP_SIZE = 10, 2, 4

SHAPE = {
    "vocab_size": ROWS,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 96,
    "bos_token_id": None,
    "eos_token_id": [0, 1],
    "dtype": "float32",
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,  # of the four wavelengths, one is unchanged, one interpolated, and two are scaled
}
CONFIGS = {
    "qwen2-tied": Qwen2Config(**SHAPE, hidden_size=24, tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
    "qwen2-untied": Qwen2Config(**SHAPE, hidden_size=24, tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 500.0}),
    "llama": LlamaConfig(**SHAPE, hidden_size=16, head_dim=8, tie_word_embeddings=True, rms_norm_eps=1e-5, rope_parameters=LLAMA3),
}
# Only scored, not trained: another kind of RoPE scaling.
SCORED = {
    "qwen2-linear": Qwen2Config(**SHAPE, hidden_size=24, tie_word_embeddings=True, rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}),
}
# Saved with the config.json keys of transformers 4, which most published checkpoints have.
OLD_KEYS = {"qwen2-untied", "llama"}

DEFAULT = {
    "rollout.temperature": 1.0,
    "loss.policy": 1.0,
    "loss.clip_low": 0.2,
    "loss.clip_high": 0.2,
    "loss.kl": 0.04,
    "loss.entropy": 0.02,
    "advantage.scale": "group",
    "loss.aggregation": "token-mean",
}
CASES = {
    "token-mean": {},
    "temperature": {"rollout.temperature": 0.6},
    "seq-mean-token-mean": {"loss.aggregation": "seq-mean-token-mean"},
    "seq-mean-token-sum": {"loss.aggregation": "seq-mean-token-sum"},
    "seq-mean-token-sum-norm": {"loss.aggregation": "seq-mean-token-sum-norm(50)", "advantage.scale": "none"},
    "microbatch-token-mean": {"loss.aggregation": "microbatch-token-mean(2)", "loss.clip_high": 0.28, "loss.policy": 0.7},
}
# Values of the settings that a case does not list.
OTHERS = {
    "advantage.baseline": "group",
    "advantage.gamma": 1.0,
    "loss.ratio": "token",
    "loss.surrogate": "clip",
    "loss.kl_estimator": "k3",
    "reward.kl": 0.0,
    "reward.kl_estimator": "k1",
}
BARE = {"loss.policy": 1.0, "loss.clip_low": 0.2, "loss.clip_high": 0.2, "loss.kl": 0.0, "loss.entropy": 0.0, "loss.aggregation": "token-mean"}
GROUP = {"advantage.baseline": "group", "advantage.scale": "group"}
PRESETS = {
    "dr_grpo": BARE | GROUP | {"advantage.scale": "none", "loss.aggregation": "seq-mean-token-sum-norm(50)"},
    "rloo": BARE | {"advantage.baseline": "leave-one-out", "advantage.scale": "none", "reward.kl": 0.001, "loss.aggregation": "seq-mean-token-sum"},
    "reinforce++": BARE | {"advantage.baseline": "none", "advantage.scale": "batch", "reward.kl": 0.001},
    "dapo": BARE | GROUP | {"loss.clip_high": 0.28},
    "gspo": BARE | GROUP | {"loss.ratio": "sequence", "loss.clip_low": 3e-4, "loss.clip_high": 4e-4, "loss.aggregation": "seq-mean-token-mean"},
    "cispo": BARE | GROUP | {"loss.surrogate": "cispo", "loss.clip_low": 1.0},
}
# Settings for the program under test; "algo" implies the preset's settings.
PRESET_CASES = {
    "dr_grpo": {"algo": "dr_grpo", "rollout.max_new_tokens": 50},
    "rloo": {"algo": "rloo", "reward.kl": 0.1},
    "rloo-k3": {"algo": "rloo", "reward.kl": 0.1, "reward.kl_estimator": "k3"},
    "reinforce++": {"algo": "reinforce++", "reward.kl": 0.1},
    "reinforce++-discounted": {"algo": "reinforce++", "reward.kl": 0.1, "reward.kl_estimator": "k2", "advantage.gamma": 0.9},
    "dapo": {"algo": "dapo"},
    "gspo": {"algo": "gspo"},
    "gspo-wide": {"algo": "gspo", "loss.clip_low": 0.05, "loss.clip_high": 0.06},
    "cispo": {"algo": "cispo"},
    "kl-k1": {"algo": "dapo", "loss.kl": 0.1, "loss.kl_estimator": "k1"},
    "kl-k2": {"algo": "dapo", "loss.kl": 0.1, "loss.kl_estimator": "k2"},
    "entropy-only": {"algo": "dapo", "loss.policy": 0.0, "loss.entropy": 0.5},
}
OPTIMIZER = {"optim.lr": 1e-3, "optim.weight_decay": 0.1, "optim.clip_norm": 1.0}


def random_model(config, seed: int, perturbed=None):
    """Returns a model with random parameters, or with the parameters of `perturbed` plus noise."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape)
        if perturbed is not None:
            parameter.data = perturbed.get_parameter(name).data + 0.03 * noise
        elif "norm" in name:
            parameter.data = 1 + 0.3 * noise
        else:
            parameter.data = noise * (0.5 if name.endswith("bias") or "embed" in name else 0.25)
    return model


def save_model(model, folder: Path, old_keys: bool) -> None:
    model.save_pretrained(folder)
    words = {f"t{i}": i for i in range(TOKENS)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="t2"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="t0", unk_token="t2")
    fast.chat_template = "{{ messages[0]['content'] }}"
    fast.save_pretrained(folder)
    if old_keys:
        path = folder / "config.json"
        config = json.loads(path.read_text())
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
        config["torch_dtype"] = config.pop("dtype")
        path.write_text(json.dumps(config, indent=2) + "\n")


def logprobs_and_entropies(model, prompt: list, completion: list, temperature: float):
    """Returns the log-probability and entropy of each completion token, in nats."""
    logits_tv = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1] / temperature
    logprobs_tv = torch.log_softmax(logits_tv, dim=-1)
    chosen_t = logprobs_tv.gather(1, torch.tensor(completion)[:, None])[:, 0]
    return chosen_t, -(logprobs_tv.exp() * logprobs_tv).sum(-1)


@torch.no_grad()
def record_rollouts(model, seed: int) -> list:
    """Returns random rollouts. Their log-probabilities are close to the policy's, so that ratios fall on both sides of the clip."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for step in range(1, STEPS + 1):
        for group in range(GROUPS):
            prompt = torch.randint(2, TOKENS, ((5, 19)[group],), generator=generator).tolist()
            for sample in range(GROUP_SIZE):
                # Lengths from 2 to 45; the very first response has a single token.
                length = 1 if (step, group, sample) == (1, 0, 0) else int(torch.randint(2, 46, (1,), generator=generator))
                completion = torch.randint(2, TOKENS, (length,), generator=generator).tolist()
                logprobs, _ = logprobs_and_entropies(model, prompt, completion, 1.0)
                old = logprobs + 0.3 * torch.randn(length, generator=generator)
                rows.append({
                    "step": step,
                    "group": group,
                    "sample": sample,
                    "prompt_ids": prompt,
                    "completion_ids": completion,
                    "logprobs": [round(x, 4) for x in old.tolist()],
                    "reward": float(sample == group or sample == 3),
                    "finish": "stop",
                })
    return rows


def sequence_weights(name: str, lengths: list) -> list:
    """Returns the weight in the loss of each token of a sequence, by sequence."""
    kind, _, argument = name.partition("(")
    argument = int(argument.rstrip(")") or 0)
    count = len(lengths)
    if kind == "token-mean":
        return [1 / sum(lengths)] * count
    if kind == "seq-mean-token-mean":
        return [1 / (count * n) for n in lengths]
    if kind == "seq-mean-token-sum":
        return [1 / count] * count
    if kind == "seq-mean-token-sum-norm":
        return [1 / (count * argument)] * count
    weights = []
    for start in range(0, count, argument):
        chunk = lengths[start : start + argument]
        weights += [len(chunk) / (count * sum(chunk))] * len(chunk)
    return weights


def kl_estimate(kind: str, logprobs, reference):
    """Returns the KL estimate of each token (Schulman 2020)."""
    if kind == "k1":
        return logprobs - reference
    if kind == "k2":
        return (logprobs - reference) ** 2 / 2
    difference = (reference - logprobs).clamp(-20, 20)
    return (difference.exp() - difference - 1).clamp(-10, 10)


def token_advantages(rows: list, references: list, settings: dict) -> list:
    """Returns the advantage of each token of each response; `references` has the reference model's log-probabilities."""
    kl_rewards = [
        -settings["reward.kl"] * kl_estimate(settings["reward.kl_estimator"], torch.tensor(row["logprobs"]), reference)
        for row, reference in zip(rows, references, strict=True)
    ]
    if settings["advantage.baseline"] == "none":
        advantages = []
        for row, tokens in zip(rows, kl_rewards, strict=True):
            rewards = tokens.clone()
            rewards[-1] += row["reward"]
            powers = settings["advantage.gamma"] ** torch.arange(len(rewards), dtype=torch.float64)
            advantages.append(torch.stack([(powers[: len(rewards) - t] * rewards[t:]).sum() for t in range(len(rewards))]).float())
    else:
        rewards = torch.tensor([row["reward"] + tokens.sum().item() for row, tokens in zip(rows, kl_rewards, strict=True)]).view(GROUPS, GROUP_SIZE)
        if settings["advantage.baseline"] == "leave-one-out":
            baseline = (rewards.sum(1, keepdim=True) - rewards) / (GROUP_SIZE - 1)
        else:
            baseline = rewards.mean(1, keepdim=True)
        values = rewards - baseline
        if settings["advantage.scale"] == "group":
            values = values / (rewards.std(1, keepdim=True) + 1e-6)
        advantages = [value.expand(len(row["logprobs"])) for row, value in zip(rows, values.flatten(), strict=True)]
    if settings["advantage.scale"] == "batch":
        every = torch.cat(advantages)
        advantages = [(values - every.mean()) / (every.var() + 1e-8).sqrt() for values in advantages]
    return advantages


def loss_of_step(policy, reference, rows: list, settings: dict, sides: set):
    """Returns the loss of one step's rollouts; adds to `sides` on which side of the clip the ratios are."""
    settings = OTHERS | settings
    tokens = [(row["prompt_ids"], row["completion_ids"], settings["rollout.temperature"]) for row in rows]
    with torch.no_grad():
        references = [logprobs_and_entropies(reference, *each)[0] for each in tokens]
    every = token_advantages(rows, references, settings)
    weights = sequence_weights(settings["loss.aggregation"], [len(row["completion_ids"]) for row in rows])
    low, high = 1 - settings["loss.clip_low"], 1 + settings["loss.clip_high"]
    loss = 0.0
    for row, each, reference_logprobs, advantages, weight in zip(rows, tokens, references, every, weights, strict=True):
        logprobs, entropies = logprobs_and_entropies(policy, *each)
        log_ratio = logprobs - torch.tensor(row["logprobs"])
        # GSPO has one ratio per response, whose logarithm is the mean of the tokens' log-ratios.
        ratio = (log_ratio.mean().expand_as(log_ratio) if settings["loss.ratio"] == "sequence" else log_ratio).exp()
        if settings["loss.surrogate"] == "cispo":
            surrogate = -ratio.clamp(low, high).detach() * advantages * logprobs
        else:
            surrogate = -torch.minimum(ratio * advantages, ratio.clamp(low, high) * advantages)
        kl = kl_estimate(settings["loss.kl_estimator"], logprobs, reference_logprobs)
        loss = loss + weight * (settings["loss.policy"] * surrogate + settings["loss.kl"] * kl - settings["loss.entropy"] * entropies).sum()
        for r, advantage in zip(ratio.tolist(), advantages.tolist(), strict=True):
            sides.add(("below" if r < low else "above" if r > high else "inside", "raise" if advantage > 0 else "lower"))
    return loss


def gradients_of(model) -> dict:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def make(out: Path) -> None:
    requested = {name: DEFAULT | changes for name, changes in CASES.items()}
    requested |= {name: {"rollout.temperature": 1.0} | changes for name, changes in PRESET_CASES.items()}
    cases = {name: PRESETS.get(case.get("algo"), {}) | case for name, case in requested.items()}
    out.mkdir(parents=True)
    (out / "cases.json").write_text(json.dumps({"gradients": requested, "ten-steps": DEFAULT | OPTIMIZER}, indent=2) + "\n")
    for number, (name, config) in enumerate((CONFIGS | SCORED).items()):
        folder = out / name
        policy = random_model(config, number)
        save_model(policy, folder / "policy", name in OLD_KEYS)
        rows = record_rollouts(policy, 100 + number)
        rows = rows if name in CONFIGS else rows[: GROUPS * GROUP_SIZE]
        (folder / "rollouts.jsonl").write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))
        first = rows[: GROUPS * GROUP_SIZE]
        with torch.no_grad():
            scores = [logprobs_and_entropies(policy, row["prompt_ids"], row["completion_ids"], 1.0) for row in first]
        scores = [{"logprobs": logprobs.tolist(), "entropies": entropies.tolist()} for logprobs, entropies in scores]
        (folder / "scores.json").write_text(json.dumps(scores) + "\n")
        if name in SCORED:
            continue

        reference = random_model(config, number, perturbed=policy)
        save_model(reference, folder / "reference", name in OLD_KEYS)
        for case, settings in cases.items():
            policy.zero_grad()
            sides = set()
            loss_of_step(policy, reference, first, settings, sides).backward()
            # These cases reach fewer combinations: GSPO has only one ratio per response, and no ratio is below CISPO's lower limit, 0.
            reached = {"gspo": 4, "gspo-wide": 4, "cispo": 4}.get(case, 6)
            assert len(sides) >= reached, f"{name}, {case}: the ratios reach only {sides}"
            gradients = gradients_of(policy)
            assert all(gradient.abs().max() > 0 for gradient in gradients.values()), f"{name}, {case}: a gradient is 0"
            save_file(gradients, folder / f"{case}.safetensors")

        before = {key: parameter.detach().clone() for key, parameter in policy.named_parameters()}
        optimizer = torch.optim.AdamW(policy.parameters(), lr=OPTIMIZER["optim.lr"], weight_decay=OPTIMIZER["optim.weight_decay"])
        for step in range(STEPS):
            optimizer.zero_grad()
            batch = rows[step * GROUPS * GROUP_SIZE :][: GROUPS * GROUP_SIZE]
            loss_of_step(policy, reference, batch, DEFAULT, set()).backward()
            norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), OPTIMIZER["optim.clip_norm"])
            assert step > 0 or norm > OPTIMIZER["optim.clip_norm"], f"{name}: the first gradient is not clipped ({norm})"
            optimizer.step()
        updates = {key: parameter.detach() - before[key] for key, parameter in policy.named_parameters()}
        save_file(updates, folder / "ten-steps.safetensors")


if __name__ == "__main__":
    sys.exit(run(__doc__, make, GOLDEN))
