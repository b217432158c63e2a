#!/usr/bin/env python3
"""Make the golden files of tests/golden: small random checkpoints, and what PyTorch computes with them.

Checkpoints are made by transformers with its own model classes; every weight, norm and bias is random and large enough that a
wrong rotary table or a missing bias moves the results by far more than any tolerance. The objective is written out below in plain
PyTorch, one unpadded sequence at a time, all in f32 on the CPU. It follows arXiv 2402.03300 (GRPO), Schulman's k3 estimator with
the published code's clamps, and torch.optim.AdamW.

  python scripts/golden/make.py                # rewrites tests/golden
  python scripts/golden/make.py --check        # makes them again elsewhere and compares

Versions: scripts/requirements-peers.txt. Runs in about ten seconds.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config

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
    "original_max_position_embeddings": 64,  # of the four wavelengths one is kept, one lies between, two are stretched
}
CONFIGS = {
    "qwen2-tied": Qwen2Config(**SHAPE, hidden_size=24, tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
    "qwen2-untied": Qwen2Config(**SHAPE, hidden_size=24, tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 500.0}),
    "llama": LlamaConfig(**SHAPE, hidden_size=16, head_dim=8, tie_word_embeddings=True, rms_norm_eps=1e-5, rope_parameters=LLAMA3),
}
# Scored only: the other kind of scaling.
SCORED = {
    "qwen2-linear": Qwen2Config(**SHAPE, hidden_size=24, tie_word_embeddings=True, rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}),
}
# transformers 4 spelled it so, and most published checkpoints still do.
OLD_SPELLING = {"qwen2-untied", "llama"}

DEFAULT = {
    "rollout.temperature": 1.0,
    "loss.policy": 1.0,
    "loss.clip_low": 0.2,
    "loss.clip_high": 0.2,
    "loss.kl": 0.04,
    "loss.entropy": 0.02,
    "loss.advantage_std": True,
    "loss.aggregation": "token-mean",
}
CASES = {
    "token-mean": {},
    "temperature": {"rollout.temperature": 0.6},
    "seq-mean-token-mean": {"loss.aggregation": "seq-mean-token-mean"},
    "seq-mean-token-sum": {"loss.aggregation": "seq-mean-token-sum"},
    "seq-mean-token-sum-norm": {"loss.aggregation": "seq-mean-token-sum-norm(50)", "loss.advantage_std": False},
    "microbatch-token-mean": {"loss.aggregation": "microbatch-token-mean(2)", "loss.clip_high": 0.28, "loss.policy": 0.7},
}
OPTIMIZER = {"optim.lr": 1e-3, "optim.weight_decay": 0.1, "optim.clip_norm": 1.0}


def random_model(config, seed: int, perturbed=None):
    """A model whose every parameter is random; or `perturbed`'s weights with noise."""
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


def save_model(model, folder: Path, old_spelling: bool) -> None:
    model.save_pretrained(folder)
    words = {f"t{i}": i for i in range(TOKENS)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="t2"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="t0", unk_token="t2")
    fast.chat_template = "{{ messages[0]['content'] }}"
    fast.save_pretrained(folder)
    if old_spelling:
        path = folder / "config.json"
        config = json.loads(path.read_text())
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
        config["torch_dtype"] = config.pop("dtype")
        path.write_text(json.dumps(config, indent=2) + "\n")


def logprobs_and_entropies(model, prompt: list, completion: list, temperature: float):
    """Of each completion token, in nats."""
    logits_tv = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1] / temperature
    logprobs_tv = torch.log_softmax(logits_tv, dim=-1)
    chosen_t = logprobs_tv.gather(1, torch.tensor(completion)[:, None])[:, 0]
    return chosen_t, -(logprobs_tv.exp() * logprobs_tv).sum(-1)


@torch.no_grad()
def record_rollouts(model, seed: int) -> list:
    """Random responses; the recorded log-probabilities lie around the policy's, so that ratios fall on both sides of the clip."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for step in range(1, STEPS + 1):
        for group in range(GROUPS):
            prompt = torch.randint(2, TOKENS, ((5, 19)[group],), generator=generator).tolist()
            for sample in range(GROUP_SIZE):
                # Lengths 1 to 45, the first response of all a single token.
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
    """Each token's weight in the loss, by sequence."""
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


def grpo_loss(policy, reference, rows: list, settings: dict, sides: set):
    """The loss over one step's rollouts; `sides` gathers where ratios fell."""
    rewards = torch.tensor([row["reward"] for row in rows]).view(GROUPS, GROUP_SIZE)
    advantages = rewards - rewards.mean(1, keepdim=True)
    if settings["loss.advantage_std"]:
        advantages = advantages / (rewards.std(1, keepdim=True) + 1e-6)
    weights = sequence_weights(settings["loss.aggregation"], [len(row["completion_ids"]) for row in rows])
    low, high = 1 - settings["loss.clip_low"], 1 + settings["loss.clip_high"]
    loss = 0.0
    for row, advantage, weight in zip(rows, advantages.flatten(), weights, strict=True):
        tokens = (row["prompt_ids"], row["completion_ids"], settings["rollout.temperature"])
        logprobs, entropies = logprobs_and_entropies(policy, *tokens)
        with torch.no_grad():
            reference_logprobs, _ = logprobs_and_entropies(reference, *tokens)
        ratio = (logprobs - torch.tensor(row["logprobs"])).exp()
        surrogate = -torch.minimum(ratio * advantage, ratio.clamp(low, high) * advantage)
        difference = (reference_logprobs - logprobs).clamp(-20, 20)
        kl = (difference.exp() - difference - 1).clamp(-10, 10)
        loss = loss + weight * (settings["loss.policy"] * surrogate + settings["loss.kl"] * kl - settings["loss.entropy"] * entropies).sum()
        for r in ratio.tolist():
            sides.add(("below" if r < low else "above" if r > high else "inside", "raise" if advantage > 0 else "lower"))
    return loss


def gradients_of(model) -> dict:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def make(out: Path) -> None:
    cases = {name: DEFAULT | changes for name, changes in CASES.items()}
    out.mkdir(parents=True)
    (out / "cases.json").write_text(json.dumps({"gradients": cases, "ten-steps": DEFAULT | OPTIMIZER}, indent=2) + "\n")
    for number, (name, config) in enumerate((CONFIGS | SCORED).items()):
        folder = out / name
        policy = random_model(config, number)
        save_model(policy, folder / "policy", name in OLD_SPELLING)
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
        save_model(reference, folder / "reference", name in OLD_SPELLING)
        for case, settings in cases.items():
            policy.zero_grad()
            sides = set()
            grpo_loss(policy, reference, first, settings, sides).backward()
            assert len(sides) == 6, f"{name}, {case}: ratios only {sides}"
            gradients = gradients_of(policy)
            assert all(gradient.abs().max() > 0 for gradient in gradients.values()), f"{name}, {case}: a gradient is 0"
            save_file(gradients, folder / f"{case}.safetensors")

        before = {key: parameter.detach().clone() for key, parameter in policy.named_parameters()}
        optimizer = torch.optim.AdamW(policy.parameters(), lr=OPTIMIZER["optim.lr"], weight_decay=OPTIMIZER["optim.weight_decay"])
        for step in range(STEPS):
            optimizer.zero_grad()
            batch = rows[step * GROUPS * GROUP_SIZE :][: GROUPS * GROUP_SIZE]
            grpo_loss(policy, reference, batch, DEFAULT, set()).backward()
            norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), OPTIMIZER["optim.clip_norm"])
            assert step > 0 or norm > OPTIMIZER["optim.clip_norm"], f"{name}: the first gradient is not clipped ({norm})"
            optimizer.step()
        updates = {key: parameter.detach() - before[key] for key, parameter in policy.named_parameters()}
        save_file(updates, folder / "ten-steps.safetensors")


def differences(made: Path, committed: Path) -> list:
    """What is not the same: every file of either side; tensors within 1e-5 of their norm, other files to the byte."""
    found = []
    files = {path.relative_to(root) for root in (made, committed) for path in root.rglob("*") if path.is_file()}
    for file in sorted(files):
        ours, theirs = made / file, committed / file
        if not ours.exists() or not theirs.exists():
            found.append(f"{file} is only {'committed' if theirs.exists() else 'made'}")
        elif file.suffix == ".safetensors":
            a, b = load_file(ours), load_file(theirs)
            if a.keys() != b.keys():
                found.append(f"{file} has other tensors")
                continue
            if any(a[key].shape != b[key].shape for key in b):
                found.append(f"{file} has other shapes")
                continue
            worst = max(float((a[key] - b[key]).norm() / b[key].norm()) for key in b)
            if not worst <= 1e-5:
                found.append(f"{file} differs by {worst:.1e} of a tensor's norm")
        elif file.name == "scores.json":
            pairs = zip(json.loads(ours.read_text()), json.loads(theirs.read_text()), strict=True)
            worst = max(abs(x - y) for a, b in pairs for key in b for x, y in zip(a[key], b[key], strict=True))
            if not worst <= 1e-5:
                found.append(f"{file} differs by {worst:.1e}")
        elif ours.read_bytes() != theirs.read_bytes():
            found.append(f"{file} differs")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the committed files instead of writing them")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "golden"
        make(made)
        if args.check:
            found = differences(made, GOLDEN)
            print("\n".join(found) or f"all golden files are made again by torch {torch.__version__}")
            return 1 if found else 0
        shutil.rmtree(GOLDEN, ignore_errors=True)
        shutil.copytree(made, GOLDEN)
    print(f"wrote {GOLDEN}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
