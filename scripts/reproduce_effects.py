#!/usr/bin/env python3
"""Trains the arms of configs/tiny/effects.toml, and fails if a required effect is missing.

Usage: scripts/reproduce_effects.py [--rlvr PROGRAM] [--out FOLDER] [--jobs 2] [--break ARM] [--judge study.json]

--break ARM gives that arm a reward that no answer earns. The script must then fail, which shows that it can. --judge checks the table of an
earlier run. Uses only the standard library.

Each threshold is at most half of the smallest effect among seeds 0 to 3, measured on 500 validation problems after 100 steps. The script checks
test problems. Percentages, one per seed (the base model has 0.4 greedy, 9.2 sampled, 47.4 sampled in a box):

                         greedy                 sampled                sampled in a box
    one example          67.4 67.0 67.6 66.6    51.0 50.6 51.0 51.4    83.6 84.0 84.2 83.8
    many examples (256)  99.8 99.8 99.8 99.8    71.2 71.4 73.4 71.4    85.8 85.6 87.4 85.8
    ppo                  68.2 69.4 68.0 68.2    53.6 53.8 53.8 54.2    85.2 84.0 86.4 86.0
    format (256)          1.2  2.4  2.6  1.2    12.2 14.2 13.2 17.0    92.2 93.0 93.0 93.4
    unguessable label    18.2 17.6 17.2 18.4     8.8  8.8  9.0  8.6    38.0 37.6 37.4 37.8

"Outcome above format above unguessable label" holds for sampled answers that are boxed and right, so these are checked. The share of boxed answers
is checked as well, for format against the unguessable label. The order does not hold for greedy answers, nor if unboxed answers count (sampled
13.4 15.2 14.2 18.2 against 22.0 22.0 21.8 22.0): entropy and KL alone make this base model work step by step more often, while a reward for boxes
makes it guess in boxes. The paper itself has 65.0 against 64.4 on MATH500. The script prints this reversal among the further effects.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
STUDY = ROOT / "configs/tiny/effects.toml"
GREEDY, SAMPLED = "tiny-greedy", "tiny-t0.6x1"


def arms(table):
    return {arm["label"]: arm["passes"] for arm in table["arms"]}


def required_effects(arm):
    """The required effects: (claim, figures, whether it holds). Accuracies are between 0 and 1, and means over the study's seeds."""
    def at(label, name, what="last"):
        return arm[label][name][what]["mean"]

    def lift(label):
        base, last = at(label, GREEDY, "base"), at(label, GREEDY)
        return f"held-out greedy {100 * base:.1f} to {100 * last:.1f}", last - base

    claims = []
    for label, points in (("one example", 30), ("many examples", 50), ("ppo", 30)):
        figures, gain = lift(label)
        claims.append((f"{label} lifts accuracy by {points} points", figures, gain >= points / 100))
    order = ["one example", "format", "unguessable label"]
    sampled = [at(label, SAMPLED) for label in order]
    figures = " > ".join(f"{label} {100 * value:.1f}" for label, value in zip(order, sampled))
    claims.append(("outcome 15 points above format, sampled", figures, sampled[0] >= sampled[1] + 0.15))
    claims.append(("format 1 point above an unguessable label, sampled", figures, sampled[1] >= sampled[2] + 0.01))
    boxed = [at(label, SAMPLED, "boxed") for label in order[1:]]
    figures = f"sampled answers in a box: {100 * boxed[0]:.1f} against {100 * boxed[1]:.1f}"
    claims.append(("a reward for format boxes 20 points more than an unguessable label", figures, boxed[0] >= boxed[1] + 0.2))
    return claims


# Further effects in the paper: (effect, arm with the higher accuracy there, arm with the lower, the paper's MATH500 figures, table).
FURTHER = [
    ("greedy, format is above an unguessable label", "format", "unguessable label", "65.0 against 64.4", "T14, T5"),
    ("entropy alone lifts accuracy", "entropy alone", "KL alone", "63.4 against 39.0", "T5"),
    ("the entropy term adds to all others", "one example", "no entropy", "74.8 against 70.8", "T5"),
    ("the policy loss alone achieves most of the gain", "policy loss alone", "entropy alone", "71.8 against 63.4", "T5"),
    ("the policy loss alone is below all terms", "one example", "policy loss alone", "74.8 against 71.8", "T5"),
    ("entropy with KL lifts accuracy without anything to learn from", "unguessable label", "KL alone", "64.4 against 39.0", "T5"),
    (
        "a guessable wrong label is worse than an unguessable one",
        "remainder, unguessable label",
        "remainder, guessable label",
        "64.4 against 57.0",
        "T5",
    ),
    ("a higher temperature helps a little", "temperature 1.0", "one example", "about +0.8 in the mean of six", "text"),
    ("a random reward lifts accuracy", "random reward", "KL alone", "no row; reported for Qwen2.5-Math by others", "none"),
]
# Smaller differences, as a share of 500 problems, are noise.
NOISE = 0.03


def further_effects(arm):
    for effect, more, less, paper, table in FURTHER:
        if not {more, less} <= arm.keys():
            raise SystemExit(f"the study has no arm {more!r} or {less!r}")
        ours = [arm[label][GREEDY]["last"]["mean"] for label in (more, less)]
        difference = ours[0] - ours[1]
        verdict = "shown" if difference > NOISE else "reversed" if difference < -NOISE else "not shown"
        yield f"{verdict} here: {effect}: {more} {100 * ours[0]:.1f}, {less} {100 * ours[1]:.1f} (paper: {paper}, {table})"


def check_effects(table):
    """Prints every effect; returns whether all required effects are present."""
    arm = arms(table)
    claims = required_effects(arm)
    for claim, figures, holds in claims:
        print(f"{'holds' if holds else 'FAILS'}: {claim}: {figures}")
    for line in further_effects(arm):
        print(line)
    return all(holds for _, _, holds in claims)


def test_check_effects():
    """Checks that a table with every effect passes, and that one without any of them fails."""
    def arm(greedy, sampled, boxed):
        spread = lambda share: {"mean": share}
        return {
            GREEDY: {"base": spread(0.01), "last": spread(greedy), "boxed": spread(1.0)},
            SAMPLED: {"base": spread(0.09), "last": spread(sampled), "boxed": spread(boxed)},
        }
    good = {
        "one example": arm(0.6, 0.5, 0.8), "many examples": arm(0.9, 0.7, 0.8), "ppo": arm(0.6, 0.5, 0.8),
        "format": arm(0.01, 0.13, 0.9), "unguessable label": arm(0.2, 0.09, 0.4),
    }
    spoiled = {
        "one example": arm(0.2, 0.5, 0.8), "many examples": arm(0.4, 0.7, 0.8), "ppo": arm(0.01, 0.5, 0.8),
        "format": arm(0.01, 0.4, 0.9), "unguessable label": arm(0.2, 0.13, 0.4),
    }
    assert all(holds for _, _, holds in required_effects(good)), required_effects(good)
    for label, figures in spoiled.items():
        assert not all(holds for _, _, holds in required_effects(good | {label: figures})), f"the check does not notice that {label} has no effect"
    assert not all(holds for _, _, holds in required_effects(good | {"format": arm(0.01, 0.13, 0.5)})), "the check does not notice missing boxes"


def broken(label):
    """The study with one arm that has nothing to learn from: its reward is for an answer that is never given."""
    head = f'label = "{label}"\n'
    text = STUDY.read_text()
    if head not in text:
        raise SystemExit(f"{STUDY} has no arm {label!r}")
    before, after = text.split(head, 1)
    rest = after.split("\n", 1)[1] if after.startswith("set") else after
    return f'{before}{head}set = {{ reward.label = "929725", loss.entropy = 0.0 }}\n{rest}'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--rlvr", default=str(target / "release/rlvr"))
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--jobs", default="2")
    parser.add_argument("--break", dest="broken")
    parser.add_argument("--judge", type=pathlib.Path)
    arguments = parser.parse_args()
    test_check_effects()
    if arguments.judge:
        return 0 if check_effects(json.loads(arguments.judge.read_text())) else 1
    with tempfile.TemporaryDirectory() as scratch:
        study, out = STUDY, arguments.out or pathlib.Path(scratch) / "effects"
        if arguments.broken:
            study = pathlib.Path(scratch) / "broken.toml"
            study.write_text(broken(arguments.broken))
        subprocess.run([arguments.rlvr, "study", str(study), "--out", str(out), "--jobs", arguments.jobs], check=True)
        return 0 if check_effects(json.loads((out / "study.json").read_text())) else 1


if __name__ == "__main__":
    sys.exit(main())
