#!/usr/bin/env python3
"""Trains the arms of configs/tiny/effects.toml, and fails if a required effect is missing.

Usage: scripts/reproduce_effects.py [--rlvr PROGRAM] [--out FOLDER] [--jobs 2] [--break ARM] [--judge study.json]

--break ARM gives that arm a reward that no answer earns. The script must then fail, which tests the script. --judge checks the table of an
earlier run. Uses only the standard library.

Each threshold is at most half of the smallest effect among seeds 0 to 3, measured on 500 validation problems after 100 steps. The script itself uses
the test problems. Accuracies in percent, one per seed (the base model has 0.4 greedy and 9.2 sampled, and boxes 47.4 of its sampled answers):

                         greedy                 sampled                boxed, sampled
    one example          67.4 67.0 67.6 66.6    51.0 50.6 51.0 51.4    83.6 84.0 84.2 83.8
    many examples (256)  99.8 99.8 99.8 99.8    71.2 71.4 73.4 71.4    85.8 85.6 87.4 85.8
    ppo                  68.2 69.4 68.0 68.2    53.6 53.8 53.8 54.2    85.2 84.0 86.4 86.0
    format (256)          1.2  2.4  2.6  1.2    12.2 14.2 13.2 17.0    92.2 93.0 93.0 93.4
    unguessable label    18.2 17.6 17.2 18.4     8.8  8.8  9.0  8.6    38.0 37.6 37.4 37.8

"Outcome above format above unguessable label" is true of sampled answers that are boxed and correct, so the script checks these. For format against
the unguessable label it also checks the share of boxed answers. The order is different for greedy answers, and if unboxed answers count (sampled: format
13.4 15.2 14.2 18.2, unguessable label 22.0 22.0 21.8 22.0). Entropy and KL alone make this base model work step by step more often, while a reward for
boxes makes it guess in boxes. The paper has 65.0 against 64.4 on MATH500. The script prints this reversal among the further effects.
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
    """Returns the passes of each arm by its label."""
    return {arm["label"]: arm["passes"] for arm in table["arms"]}


def required_effects(arm):
    """Returns the required effects as (claim, figures, whether it is true). Accuracies are between 0 and 1, and means over the study's seeds."""
    def mean(label, name, what="last"):
        return arm[label][name][what]["mean"]

    def lift(label):
        base, last = mean(label, GREEDY, "base"), mean(label, GREEDY)
        return f"held-out greedy {100 * base:.1f} to {100 * last:.1f}", last - base

    claims = []
    for label, points in (("one example", 30), ("many examples", 50), ("ppo", 30)):
        figures, gain = lift(label)
        claims.append((f"{label} raises accuracy by at least {points} points", figures, gain >= points / 100))
    order = ["one example", "format", "unguessable label"]
    sampled = [mean(label, SAMPLED) for label in order]
    figures = " > ".join(f"{label} {100 * value:.1f}" for label, value in zip(order, sampled))
    claims.append(("outcome at least 15 points above format, sampled", figures, sampled[0] >= sampled[1] + 0.15))
    claims.append(("format at least 1 point above an unguessable label, sampled", figures, sampled[1] >= sampled[2] + 0.01))
    boxed = [mean(label, SAMPLED, "boxed") for label in order[1:]]
    figures = f"boxed sampled answers: {100 * boxed[0]:.1f} against {100 * boxed[1]:.1f}"
    claims.append(("a reward for format boxes at least 20 points more answers than an unguessable label", figures, boxed[0] >= boxed[1] + 0.2))
    return claims


# Further effects in the paper: (effect, arm that is better in the paper, arm that is worse, the paper's MATH500 figures, table).
FURTHER = [
    ("format is above an unguessable label, greedy", "format", "unguessable label", "65.0 against 64.4", "T14, T5"),
    ("entropy alone raises accuracy", "entropy alone", "KL alone", "63.4 against 39.0", "T5"),
    ("entropy improves on all other terms together", "one example", "no entropy", "74.8 against 70.8", "T5"),
    ("the policy loss alone achieves most of the gain", "policy loss alone", "entropy alone", "71.8 against 63.4", "T5"),
    ("the policy loss alone is below all terms together", "one example", "policy loss alone", "74.8 against 71.8", "T5"),
    ("entropy with KL raises accuracy without anything to learn from", "unguessable label", "KL alone", "64.4 against 39.0", "T5"),
    (
        "a guessable wrong label is worse than an unguessable one",
        "remainder, unguessable label",
        "remainder, guessable label",
        "64.4 against 57.0",
        "T5",
    ),
    ("a higher temperature helps a little", "temperature 1.0", "one example", "about +0.8 in the mean of six benchmarks", "text"),
    ("a random reward raises accuracy", "random reward", "KL alone", "no row; reported for Qwen2.5-Math by others", "none"),
]
# Smaller differences in accuracy are noise with 500 problems.
NOISE = 0.03


def further_effects(arm):
    """Yields a line per further effect: shown, not shown or reversed."""
    for effect, more, less, paper, table in FURTHER:
        if not {more, less} <= arm.keys():
            raise SystemExit(f"the study's table lacks the arm {more!r} or {less!r}")
        ours = [arm[label][GREEDY]["last"]["mean"] for label in (more, less)]
        difference = ours[0] - ours[1]
        verdict = "shown" if difference > NOISE else "reversed" if difference < -NOISE else "not shown"
        yield f"{verdict}: {effect}: {more} {100 * ours[0]:.1f}, {less} {100 * ours[1]:.1f} (paper: {paper}, {table})"


def check_effects(table):
    """Prints every effect; returns True if all required effects are present."""
    arm = arms(table)
    claims = required_effects(arm)
    for claim, figures, is_true in claims:
        print(f"{'true' if is_true else 'FALSE'}: {claim}: {figures}")
    for line in further_effects(arm):
        print(line)
    return all(is_true for _, _, is_true in claims)


def test_check_effects():
    """Checks that a table with all effects passes, and that a table without one of them fails."""
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
    without_effect = {
        "one example": arm(0.2, 0.5, 0.8), "many examples": arm(0.4, 0.7, 0.8), "ppo": arm(0.01, 0.5, 0.8),
        "format": arm(0.01, 0.4, 0.9), "unguessable label": arm(0.2, 0.13, 0.4),
    }
    assert all(is_true for _, _, is_true in required_effects(good)), required_effects(good)
    for label, figures in without_effect.items():
        assert not all(is_true for _, _, is_true in required_effects(good | {label: figures})), f"the check accepts {label} without its effect"
    assert not all(is_true for _, _, is_true in required_effects(good | {"format": arm(0.01, 0.13, 0.5)})), "the check accepts format without boxes"


def broken(label):
    """Returns the study with one arm that cannot learn: its label is an answer that never occurs."""
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
    parser.add_argument("--break", dest="broken", metavar="ARM", help="give this arm a reward that no answer earns")
    parser.add_argument("--judge", type=pathlib.Path, metavar="study.json", help="check the table of an earlier run")
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
