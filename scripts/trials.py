#!/usr/bin/env python3
"""Tries to break runs of the embedded model, and counts what came of it.

Usage: scripts/trials.py [--rlvr PROGRAM] [--count N] [--seed N] [--only kills,writers,...] [--keep]

Every trial ends in one of two ways that are right: the run's records are those of a run that nobody disturbed (weights and responses to the
byte, metrics but for `perf/`), or the program refuses, with an exit code that is not 0 and a message that names the file or process at fault.
Anything else counts as a failure, and the script then exits with 1.

    kills        SIGKILL at a random moment, several times a run, then --resume to the end
    writers      two --resume of one folder at once: one works, the other is refused
    corruptions  one file of a stopped run damaged (a bit flipped, cut, emptied, removed), then --resume, and eval of the checkpoint
    signals      SIGTERM, SIGHUP and SIGINT at a random moment: exit code, seconds until the process has ended, then --resume
    streams      standard error or output whose reader has gone
    divergence   a learning rate of 1e38: the last good state is still there and trains on

--count is the number of trials of each kind (corruptions: of damaged files). Only the standard library is used.
"""
import argparse
import gzip
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
STEPS = 12
SETTINGS = [
    "--steps", str(STEPS), "--set", "eval.limit=24", "--set", "eval.every=4", "--set", "checkpoint.every=2",
    "--set", "rollout.groups=4", "--set", "rollout.group_size=4",
]  # fmt: skip
LIMIT_S = 300
# The embedded model must have saved itself in this time after SIGTERM or SIGHUP.
SAVED_WITHIN_S = 5.0


class Trials:
    def __init__(self, program, folder, count, seed):
        self.program, self.folder, self.count, self.draw = program, folder, count, random.Random(seed)
        self.failures = []
        self.counts = {}
        self.whole = folder / "whole"
        began = time.monotonic()
        self.must("train", "--out", self.whole, *SETTINGS)
        self.seconds = time.monotonic() - began

    def rlvr(self, *arguments):
        """Runs the program; gives its exit code and what it wrote to stderr."""
        done = subprocess.run([self.program, *map(str, arguments)], capture_output=True, text=True, timeout=LIMIT_S, errors="replace")
        return done.returncode, done.stderr

    def must(self, *arguments):
        code, told = self.rlvr(*arguments)
        if code != 0:
            sys.exit(f"rlvr {' '.join(map(str, arguments))} ended with {code}:\n{told}")

    def start(self, *arguments, **streams):
        """Starts the program in a process group of its own, without output unless streams say otherwise."""
        streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | streams
        return subprocess.Popen([self.program, *map(str, arguments)], start_new_session=True, **streams)

    def count_as(self, trial, outcome):
        self.counts.setdefault(trial, {}).setdefault(outcome, 0)
        self.counts[trial][outcome] += 1

    def check(self, trial, outcome, problem):
        """Counts a trial by its outcome, or as a failure where there is a problem."""
        self.count_as(trial, "FAILED" if problem else outcome)
        if problem:
            problem = " ".join(problem.split())
            self.failures.append(f"{trial}: {problem}")
            print(f"  FAILED {trial}: {problem[:500]}", flush=True)

    def copy(self, source, name):
        target = self.folder / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
        return target

    def differs(self, run):
        """What of a run's records is not as in the run that nobody disturbed; empty where all is."""
        names = [f"checkpoints/{STEPS:05}/model.safetensors"]
        names += [str(path.relative_to(self.whole)) for path in sorted(self.whole.glob("eval/*/*.jsonl"))]
        for name in names:
            if not (run / name).exists():
                return f"{name} is missing"
            if (run / name).read_bytes() != (self.whole / name).read_bytes():
                return f"{name} differs"
        for path in sorted(self.whole.glob("rollouts/*.gz")):
            theirs = run / path.relative_to(self.whole)
            if not theirs.exists() or gzip.decompress(theirs.read_bytes()) != gzip.decompress(path.read_bytes()):
                return f"{path.relative_to(self.whole)} differs"
        if metrics(run) != metrics(self.whole):
            return "metrics.jsonl differs"
        if summary(run) != summary(self.whole):
            return "summary.json differs"
        return ""

    # The trials.

    def kills(self):
        for number in range(self.count):
            run = self.folder / "killed"
            shutil.rmtree(run, ignore_errors=True)
            kills = 0
            while True:
                has_settings = (run / "config.toml").exists()
                if not has_settings:
                    # Killed before its settings were written: there is nothing to resume.
                    shutil.rmtree(run, ignore_errors=True)
                arguments = ["train", "--resume", run] if has_settings else ["train", "--out", run, *SETTINGS]
                child = self.start(*arguments, stderr=subprocess.PIPE, text=True)
                if kills < 4:
                    time.sleep(self.draw.uniform(0, self.seconds * 0.6))
                    child.kill()
                    kills += 1
                _, told = child.communicate(timeout=LIMIT_S)
                if child.returncode == -signal.SIGKILL:
                    continue
                # A run that was done before it could be killed says so.
                done = child.returncode == 0 or "steps; --steps extends it" in told
                self.check("kills", "resumed to the same bits", self.differs(run) if done else f"kill {number}: {told.strip()}")
                break
            self.count_as("kills", "(SIGKILLs)")
            self.counts["kills"]["(SIGKILLs)"] += kills - 1

    def writers(self):
        stopped = self.stopped()
        for _ in range(self.count):
            run = self.copy(stopped, "writers")
            children = []
            for _ in range(2):
                children.append(self.start("train", "--resume", run, stderr=subprocess.PIPE, text=True))
                time.sleep(self.draw.uniform(0, 0.2))
            told = [child.communicate(timeout=LIMIT_S)[1] for child in children]
            codes = sorted(child.returncode for child in children)
            problem = self.differs(run) if codes == [0, 2] else f"exit codes {codes}: {told}"
            refused = told[0] if children[0].returncode == 2 else told[1]
            if not problem and not re.search(r"\b\d{2,}\b", refused):
                problem = f"the refusal names no process: {refused}"
            self.check("writers", "one worked, one was refused", problem)

    def corruptions(self):
        stopped = self.stopped()
        newest = sorted(path.parent for path in stopped.glob("checkpoints/*/state"))[-1]
        files = [path.relative_to(stopped) for folder in (newest, stopped / "eval") for path in sorted(folder.rglob("*")) if path.is_file()]
        files += [pathlib.Path("metrics.jsonl")]
        damages = [(path, how) for path in files for how in ("flip", "cut", "empty", "remove")]
        self.draw.shuffle(damages)
        for path, how in damages[: self.count]:
            run = self.copy(stopped, "corrupt")
            damage(run / path, how, self.draw)
            if is_part_of_model(path, newest.relative_to(stopped)):
                code, told = self.rlvr("eval", "--model", run / newest.relative_to(stopped), "--benchmarks", "tiny", "--limit", "4")
                problem = "" if code != 0 and path.name in told else f"{how} {path}: eval ended with {code}: {told.strip()[-300:]}"
                self.check("corruptions, eval", "refused by name", problem)
            code, told = self.rlvr("train", "--resume", run)
            if code == 0:
                self.check("corruptions, resume", "resumed to the same bits", (differs := self.differs(run)) and f"{how} {path}: {differs}")
            else:
                problem = "" if path.name in told or str(path.parent) in told else f"{how} {path}: {told.strip()[-300:]}"
                self.check("corruptions, resume", "refused by name", problem)

    def signals(self):
        codes = {signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGINT: 130}
        slowest = 0.0
        for number in range(self.count):
            which = list(codes)[number % 3]
            run = self.folder / "signalled"
            shutil.rmtree(run, ignore_errors=True)
            child = self.start("train", "--out", run, *SETTINGS)
            while not (run / "config.toml").exists():
                time.sleep(0.002)
            time.sleep(self.draw.uniform(0, self.seconds * 0.8))
            if child.poll() is not None:
                self.count_as("signals", "(done before the signal)")
                continue
            sent = time.monotonic()
            child.send_signal(which)
            child.wait(timeout=LIMIT_S)
            took = time.monotonic() - sent
            problem = ""
            if child.returncode == 0:
                self.count_as("signals", "(done before the signal)")
                continue
            if child.returncode != codes[which]:
                # A signal before the handlers are there ends the process; nothing was begun.
                problem = "" if child.returncode == -which and not metrics(run) else f"{which.name} ended with {child.returncode}"
            elif which != signal.SIGINT:
                slowest = max(slowest, took)
                problem = "" if took <= SAVED_WITHIN_S else f"{which.name} took {took:.1f} s"
            if not problem:
                code, told = self.rlvr("train", "--resume", run)
                problem = self.differs(run) if code == 0 else f"after {which.name}, --resume: {told.strip()[-300:]}"
            self.check("signals", f"{which.name}: resumed to the same bits", problem)
        print(f"  slowest stop after SIGTERM or SIGHUP: {slowest:.2f} s")

    def streams(self):
        for number in range(max(1, min(self.count, 4))):
            run = self.folder / "streams"
            shutil.rmtree(run, ignore_errors=True)
            closed = ["stderr", "stdout"][number % 2]
            child = self.start("train", "-v", "--out", run, *SETTINGS, **{closed: subprocess.PIPE})
            getattr(child, closed).close()
            child.wait(timeout=LIMIT_S)
            problem = self.differs(run) if child.returncode == 0 else f"{closed} closed: exit code {child.returncode}"
            self.check("streams", f"{closed} closed: ran to the end", problem)

    def divergence(self):
        run = self.folder / "diverged"
        shutil.rmtree(run, ignore_errors=True)
        self.must("train", "--out", run, "--steps", "4", *SETTINGS[2:])
        config = run / "config.toml"
        settings = config.read_text()
        config.write_text(re.sub(r"(^\[optim\]\n(?:[^\[].*\n)*?lr = ).*", r"\g<1>1e38", settings, count=1, flags=re.MULTILINE))
        code, told = self.rlvr("train", "--resume", run, "--steps", str(STEPS))
        named = re.search(r"--at (\d+)", told)
        self.check("divergence", "stopped, naming where to go back to", "" if code == 1 and named else f"exit code {code}: {told[-400:]}")
        config.write_text(settings)
        step = named.group(1) if named else "4"
        code, told = self.rlvr("train", "--resume", run, "--at", step, "--steps", str(STEPS))
        self.check("divergence", "trained on from the last good state", "" if code == 0 else told[-400:])

    def stopped(self):
        """A run that was interrupted in its middle."""
        run = self.folder / "stopped"
        if not run.exists():
            child = self.start("train", "--out", run, *SETTINGS)
            while len(metrics(run)) < STEPS // 2:
                time.sleep(0.01)
            child.send_signal(signal.SIGINT)
            child.wait(timeout=LIMIT_S)
        return run


def metrics(run):
    """The lines of a run without what was timed; a line that is being written is left out."""
    path = run / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    lines = [json.loads(line) for line in text.split("\n")[:-1]]
    return [{key: value for key, value in line.items() if not key.startswith("perf/")} for line in lines]


def summary(run):
    values = json.loads((run / "summary.json").read_text())
    values.pop("elapsed_s")
    return values


def is_part_of_model(path, checkpoint):
    """Whether `rlvr eval` of the checkpoint reads the file."""
    return path.parent == checkpoint and path.name != "manifest.json" and path.suffix in (".json", ".safetensors", ".jinja")


def damage(path, how, draw):
    if how == "remove":
        path.unlink()
        return
    content = bytearray(path.read_bytes())
    if how == "flip" and content:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    elif how == "cut":
        content = content[: len(content) // 2]
    elif how == "empty":
        content = b""
    path.write_bytes(content)


def main():
    kinds = ["kills", "writers", "corruptions", "signals", "streams", "divergence"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
    parser.add_argument("--rlvr", default=f"{target}/release/rlvr")
    parser.add_argument("--count", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(kinds))
    parser.add_argument("--keep", action="store_true", help="leave the folder of the trials")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    unknown = [kind for kind in chosen if kind not in kinds]
    if unknown:
        parser.error(f"unknown trials {', '.join(unknown)}; known are {', '.join(kinds)}")
    folder = pathlib.Path(tempfile.mkdtemp())
    try:
        trials = Trials(str(pathlib.Path(arguments.rlvr).resolve()), folder, arguments.count, arguments.seed)
        for kind in chosen:
            print(kind, flush=True)
            getattr(trials, kind)()
        for trial, outcomes in trials.counts.items():
            print(f"{trial}: " + ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()))
    finally:
        if arguments.keep:
            print(f"left in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if trials.failures else 0)


if __name__ == "__main__":
    main()
