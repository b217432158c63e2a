#!/usr/bin/env python3
"""Make the results table of the embedded model: three base models with three sampling seeds each, and further arms.

  rlvr pretrain --seed 0 --out b0; rlvr pretrain --seed 1 --out b1; rlvr pretrain --seed 2 --out b2
  python3 scripts/demonstration.py --rlvr target/release/rlvr --bases b0 b1 b2 --out demonstration

Every run is `rlvr train --model BASE` with the settings of configs/demo.toml and the changes named in its row. It is evaluated on the 2,000 test
problems or, with --validation, on the 1,000 validation problems, which are for choosing settings. Finished runs are not repeated, so you can stop and
restart the script. Prints Markdown. Uses only the standard library.

The post-saturation gain is the mean accuracy over the last third of the evaluations after saturation minus the mean over the first two of them. Its
interval uses Student's t over runs; its variance is that over runs plus that over problems, because all runs share the problems.
"""

import argparse
import json
import math
import re
import statistics
import subprocess
import sys
from pathlib import Path

SEEDS = [0, 1, 2]
# 97.5% quantile of Student's t, by degrees of freedom.
T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306}
EXAMPLE = "tiny/addition/334+556"
DEMO = Path(__file__).resolve().parents[1] / "configs" / "demo.toml"
# The answer styles, and the words that they start with.
OPENINGS = {"careful": "Step by step,", "sketch": "We get", "guess": "I guess", "ramble": "Well, that is a question."}
# Arms on the first base model, with one seed each. The label 93127 has five digits, which no answer style ever produces.
ARMS = {
    "256 examples": ["--example", "tiny/train/256"],
    "entropy coefficient 0": ["--set", "loss.entropy=0"],
    "entropy coefficient x 10": ["--set", "loss.entropy=0.01"],
    "example of subtraction": ["--example", "tiny/subtraction/834-556"],
    "example of linear": ["--example", "tiny/linear/5y+29=279"],
    "example of digit-sum": ["--example", "tiny/digit-sum/483275"],
    "format reward": ["--set", "reward.name=format"],
    "unguessable label": ["--set", "reward.label=93127"],
    "Adam's beta2 0.999": ["--set", "optim.beta2=0.999"],
    "constant learning rate": ["--set", "optim.schedule=constant"],
    "example of maximum": ["--example", "tiny/maximum/38,91,70"],
    "example of remainder": ["--example", "tiny/remainder/847mod6"],
}


def run(rlvr, base, seed, out, more, benchmarks):
    """Starts or resumes a run unless it is finished; returns its summary and folder."""
    summary = out / "summary.json"
    if not summary.exists() or json.loads(summary.read_text())["steps"] < 300:
        defaults = ["--config", str(DEMO)]
        resume = ["--resume", str(out)] if out.exists() else [*defaults, "--model", str(base), "--seed", str(seed), "--out", str(out), *more]
        resume += [] if out.exists() else ["--set", f"eval.benchmarks={benchmarks}"]
        done = subprocess.run([rlvr, "train", *resume], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{done.args}\n{done.stderr}")
    return json.loads(summary.read_text()), out


def correctness_by_step(folder, kind):
    """Returns a run's correctness per problem (1.0 or 0.0) by step, for the greedy or the sampled pass."""
    found = {}
    for path in sorted(folder.glob(f"eval/*/*-{kind}.jsonl")):
        found[int(path.parent.name)] = [float(json.loads(line)["correct"]) for line in path.open()]
    return found


def gains(summary, folder, kind):
    """Returns the post-saturation gain of each problem; None if the run did not saturate or has fewer than three evaluations after saturation."""
    if summary["saturation_step"] is None:
        return None
    after = [correctness for step, correctness in sorted(correctness_by_step(folder, kind).items()) if step > summary["saturation_step"]]
    if len(after) < 3:
        return None
    last = after[-(max(len(after) // 3, 1)) :]
    mean = lambda evaluations: [statistics.fmean(problem) for problem in zip(*evaluations, strict=True)]
    return [late - early for late, early in zip(mean(last), mean(after[:2]), strict=True)]


def interval(per_run):
    """Returns the mean over runs, and half the width of its 95% interval over runs and problems."""
    means = [statistics.fmean(problems) for problems in per_run]
    over_problems = [statistics.fmean(problem) for problem in zip(*per_run, strict=True)]
    variance = statistics.variance(means) / len(means) + statistics.variance(over_problems) / len(over_problems)
    return statistics.fmean(means), T[len(means) - 1] * math.sqrt(variance)


def untrained(evaluation, example):
    """Returns the mean greedy accuracy on all subjects except the example's."""
    subjects = {name: share for name, share in evaluation["by_subject"].items() if name != example.split("/")[1]}
    return statistics.fmean(subjects.values())


def percent(share):
    return "" if share is None else f"{share * 100:.1f}"


def points(summary, kind):
    """Formats the post-saturation gain, or the reason why there is none."""
    gain = summary["post_saturation_gain" + kind]
    return f"{gain['mean'] * 100:+.1f}" if gain else "not saturated" if summary["saturation_step"] is None else "saturated too late"


def probe(rlvr, base, example):
    """Returns a table row: how often each answer style, forced by its first words, reaches the example's answer (500 samples at temperature 0.6)."""
    dry = [rlvr, "train", "--config", str(DEMO), "--model", str(base), "--example", example, "--out", "never", "--dry-run"]
    printed = subprocess.run(dry, capture_output=True, text=True, check=True).stderr
    question, answer = re.search(r"question: (.*)\nanswer: (\d+)", printed).groups()
    cells = []
    for opening in OPENINGS.values():
        command = [rlvr, "sample", "--model", str(base), "--raw", "--prompt", f"Q: {question}\nA: {opening}", "-n", "500", "--temperature", "0.6"]
        lines = subprocess.run([*command, "--max-new-tokens", "80", "--json"], capture_output=True, text=True, check=True).stdout.splitlines()
        # The last number of the first line. In later lines the model makes up another question.
        numbers = [re.findall(r"\d+", json.loads(line)["text"].split("\n")[0]) for line in lines]
        cells.append(percent(statistics.fmean(bool(found) and found[-1] == answer for found in numbers)))
    return f"| {question} | " + " | ".join(cells) + " |"


def row(name, summary, example):
    """Returns a run's row of the table."""
    base, last, best = summary["base"], summary["last"], summary["best"]
    styles = next(score["ways"] for key, score in last["passes"].items() if not key.endswith("greedy"))
    cells = [name, percent(base["greedy"]), percent(last["greedy"]), percent(best["greedy"])]
    cells += [percent(untrained(base, example)), percent(untrained(last, example)), percent(base["sampled"]), percent(last["sampled"])]
    cells += [percent(styles.get("careful", 0.0)), str(summary["saturation_step"] or "never")]
    cells += [points(summary, ""), points(summary, "_greedy"), f"{summary['elapsed_s']:.0f}"]
    return "| " + " | ".join(cells) + " |"


HEADER = """| run | greedy before | last | best | untrained subjects before | last | sampled before | last | careful | saturation | gain after it, sampled | greedy | s |
|---|---|---|---|---|---|---|---|---|---|---|---|---|"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rlvr", default="target/release/rlvr")
    parser.add_argument("--bases", nargs="+", required=True, help="folders of `rlvr pretrain`; the arms use the first one")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--validation", action="store_true", help="evaluate on the validation problems instead of the test problems")
    parser.add_argument("--no-arms", action="store_true", help="skip the further arms")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    benchmarks = "tiny-validation" if args.validation else "tiny"

    print(HEADER)
    runs = []
    for number, base in enumerate(args.bases):
        for seed in SEEDS:
            summary, folder = run(args.rlvr, base, seed, args.out / f"base{number}-seed{seed}", [], benchmarks)
            runs.append((summary, folder))
            print(row(f"base {number}, seed {seed}", summary, EXAMPLE), flush=True)
    for kind, name in (("t0.6x1", "sampled"), ("greedy", "greedy")):
        per_run = [gain for gain in (gains(summary, folder, kind) for summary, folder in runs) if gain]
        mean, half = interval(per_run)
        print(f"\nPost-saturation gain, {name}: {mean * 100:+.1f} points, 95% interval {(mean - half) * 100:+.1f} to {(mean + half) * 100:+.1f},", end=" ")
        print(f"positive in {sum(statistics.fmean(gain) > 0 for gain in per_run)} of {len(runs)} runs.")
    decline = max(summary["best"]["greedy"] - summary["last"]["greedy"] for summary, _ in runs)
    print(f"Largest drop in greedy accuracy from the best to the last evaluation: {decline * 100:.1f} points.")
    if args.no_arms:
        return
    print(f"\n{HEADER}")
    for number, (name, more) in enumerate(ARMS.items()):
        example = more[1] if more[0] == "--example" else EXAMPLE
        summary, _ = run(args.rlvr, args.bases[0], 0, args.out / f"arm{number}", more, benchmarks)
        print(row(name, summary, example), flush=True)
    print("\nShare of correct answers of the first base model by forced answer style, in percent:\n")
    print("| example | " + " | ".join(OPENINGS) + " |\n|---|" + "---|" * len(OPENINGS))
    for example in dict.fromkeys([EXAMPLE, *(more[1] for more in ARMS.values() if more[0] == "--example" and "train" not in more[1])]):
        print(probe(args.rlvr, args.bases[0], example), flush=True)


if __name__ == "__main__":
    main()
