#!/usr/bin/env python3
"""Count how often the graders disagree, and how often each is wrong, on pairs of a gold answer and a response with known correctness.

Usage: compare_graders.py PAIRS.jsonl [RLVR]
PAIRS has one line {"gold", "response", "truth"} per pair. `truth` is true if the response is correct, or null if unknown: such a pair counts only for
disagreement. RLVR is the program (default: `rlvr`). Prints Markdown tables: on how many pairs each two graders agree and disagree, and each
grader's false positives (accepted, but wrong) and false negatives (rejected, but correct).
"""
import itertools
import json
import subprocess
import sys

GRADERS = ["strict", "deepscaler", "qwen"]


def verdicts(program, grader, rows):
    """Returns whether each response is correct according to one grader."""
    lines = "".join(
        json.dumps({"id": index, "gold": row["gold"], "response": row["response"]}) + "\n" for index, row in enumerate(rows)
    )
    command = [program, "verify", "--mode", "reward", "--grader", grader]
    printed = subprocess.run(command, input=lines, check=True, capture_output=True, text=True).stdout
    found = {line["id"]: line["correct"] for line in map(json.loads, printed.splitlines())}
    return [found[index] for index in range(len(rows))]


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    program = sys.argv[2] if len(sys.argv) == 3 else "rlvr"
    with open(sys.argv[1], encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    truths = [row.get("truth") for row in rows]
    found = {grader: verdicts(program, grader, rows) for grader in GRADERS}

    print(f"{len(rows)} pairs, {truths.count(True)} correct and {truths.count(False)} wrong\n")
    print("| graders | agree | differ | only the first accepts | only the second accepts |\n|---|---|---|---|---|")
    for first, second in itertools.combinations(GRADERS, 2):
        pairs = list(zip(found[first], found[second]))
        only = [sum(pair == expected for pair in pairs) for expected in [(True, False), (False, True)]]
        print(f"| `{first}`, `{second}` | {len(rows) - sum(only)} | {sum(only)} | {only[0]} | {only[1]} |")
    print("\n| grader | accepts wrong answers | rejects correct answers |\n|---|---|---|")
    for grader in GRADERS:
        graded = list(zip(found[grader], truths))
        false_positives = sum(verdict and truth is False for verdict, truth in graded)
        false_negatives = sum(not verdict and truth is True for verdict, truth in graded)
        print(f"| `{grader}` | {false_positives} | {false_negatives} |")


if __name__ == "__main__":
    main()
