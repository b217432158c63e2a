#!/usr/bin/env python3
"""Injects faults into runs of the embedded model and counts the outcomes.

Usage: scripts/trials.py [--rlvr PROGRAM] [--count N] [--seed N] [--only kills,writers,...] [--keep]

Every trial must end in one of two ways. Either the run's records equal those of an undisturbed run (weights and responses byte for byte, metrics
except `perf/`), or the program exits with a nonzero code and a message that names the file or process at fault. Anything else is a failure, and the
script then exits with 1.

    kills        SIGKILL at random moments, several times per run, then --resume to the end
    writers      two processes resume the same run folder: one continues, the other is refused
    corruptions  one file of a stopped run is corrupt (a flipped bit, truncated, empty) or missing, then --resume, and eval of the checkpoint
    signals      SIGTERM, SIGHUP or SIGINT at a random moment: checks the exit code and the seconds until the exit, then --resume
    streams      standard error or output is a closed pipe
    divergence   a learning rate of 1e38: the last good state is still there, and training continues from it

--count is the number of trials of each kind; `corruptions` uses it as the number of files, `streams` runs at most 4. Uses only the standard library.
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
# After SIGTERM or SIGHUP, a run of the embedded model must save its state and exit within this time.
SAVED_WITHIN_S = 5.0


class Trials:
    def __init__(self, program, folder, count, seed):
        self.program, self.folder, self.count, self.random = program, folder, count, random.Random(seed)
        self.failures = []
        self.counts = {}
        self.whole = folder / "whole"
        began = time.monotonic()
        self.run_or_exit("train", "--out", self.whole, *SETTINGS)
        self.seconds = time.monotonic() - began

    def rlvr(self, *arguments):
        """Runs the program; returns its exit code and stderr."""
        done = subprocess.run([self.program, *map(str, arguments)], capture_output=True, text=True, timeout=LIMIT_S, errors="replace")
        return done.returncode, done.stderr

    def run_or_exit(self, *arguments):
        """Runs the program, and ends this script if it fails."""
        code, stderr = self.rlvr(*arguments)
        if code != 0:
            sys.exit(f"rlvr {' '.join(map(str, arguments))} exited with {code}:\n{stderr}")

    def start(self, *arguments, **streams):
        """Starts the program in its own session. Discards its output unless `streams` overrides that."""
        streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | streams
        return subprocess.Popen([self.program, *map(str, arguments)], start_new_session=True, **streams)

    def count_as(self, trial, outcome):
        self.counts.setdefault(trial, {}).setdefault(outcome, 0)
        self.counts[trial][outcome] += 1

    def check(self, trial, outcome, problem):
        """Counts a trial by its outcome, or as failed if `problem` is not empty."""
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
        """Returns how a run's records differ from those of the undisturbed run; empty if they do not."""
        names = [f"checkpoints/{STEPS:05}/model.safetensors"]
        names += [str(path.relative_to(self.whole)) for path in sorted(self.whole.glob("eval/*/*.jsonl"))]
        for name in names:
            if not (run / name).exists():
                return f"{name} is missing"
            if (run / name).read_bytes() != (self.whole / name).read_bytes():
                return f"{name} differs"
        for path in sorted(self.whole.glob("rollouts/*.gz")):
            other = run / path.relative_to(self.whole)
            if not other.exists() or gzip.decompress(other.read_bytes()) != gzip.decompress(path.read_bytes()):
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
                    # Killed before its settings were written, so there is nothing to resume.
                    shutil.rmtree(run, ignore_errors=True)
                arguments = ["train", "--resume", run] if has_settings else ["train", "--out", run, *SETTINGS]
                child = self.start(*arguments, stderr=subprocess.PIPE, text=True)
                if kills < 4:
                    time.sleep(self.random.uniform(0, self.seconds * 0.6))
                    child.kill()
                    kills += 1
                _, stderr = child.communicate(timeout=LIMIT_S)
                if child.returncode == -signal.SIGKILL:
                    continue
                # A run that finished before it could be killed refuses to resume.
                done = child.returncode == 0 or "steps; --steps extends it" in stderr
                self.check("kills", "resumed to identical records", self.differs(run) if done else f"kill {number}: {stderr.strip()}")
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
                time.sleep(self.random.uniform(0, 0.2))
            stderr = [child.communicate(timeout=LIMIT_S)[1] for child in children]
            codes = sorted(child.returncode for child in children)
            problem = self.differs(run) if codes == [0, 2] else f"exit codes {codes}: {stderr}"
            refused = stderr[0] if children[0].returncode == 2 else stderr[1]
            if not problem and not re.search(r"\b\d{2,}\b", refused):
                problem = f"the message does not name the process that has the run folder: {refused}"
            self.check("writers", "one continued, the other was refused", problem)

    def corruptions(self):
        stopped = self.stopped()
        newest = sorted(path.parent for path in stopped.glob("checkpoints/*/state"))[-1]
        files = [path.relative_to(stopped) for folder in (newest, stopped / "eval") for path in sorted(folder.rglob("*")) if path.is_file()]
        files += [pathlib.Path("metrics.jsonl")]
        cases = [(path, how) for path in files for how in ("flip", "cut", "empty", "remove")]
        self.random.shuffle(cases)
        for path, how in cases[: self.count]:
            run = self.copy(stopped, "corrupt")
            corrupt(run / path, how, self.random)
            if is_part_of_model(path, newest.relative_to(stopped)):
                code, stderr = self.rlvr("eval", "--model", run / newest.relative_to(stopped), "--benchmarks", "tiny", "--limit", "4")
                problem = "" if code != 0 and path.name in stderr else f"{how} {path}: eval exited with {code}: {stderr.strip()[-300:]}"
                self.check("corruptions, eval", "refused, naming the file", problem)
            code, stderr = self.rlvr("train", "--resume", run)
            if code == 0:
                self.check("corruptions, resume", "resumed to identical records", (differs := self.differs(run)) and f"{how} {path}: {differs}")
            else:
                problem = "" if path.name in stderr or str(path.parent) in stderr else f"{how} {path}: {stderr.strip()[-300:]}"
                self.check("corruptions, resume", "refused, naming the file", problem)

    def signals(self):
        codes = {signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGINT: 130}
        slowest = 0.0
        for number in range(self.count):
            which = list(codes)[number % 3]
            run = self.folder / "signaled"
            shutil.rmtree(run, ignore_errors=True)
            child = self.start("train", "--out", run, *SETTINGS)
            while not (run / "config.toml").exists():
                time.sleep(0.002)
            time.sleep(self.random.uniform(0, self.seconds * 0.8))
            if child.poll() is not None:
                self.count_as("signals", "(finished before the signal)")
                continue
            sent = time.monotonic()
            child.send_signal(which)
            child.wait(timeout=LIMIT_S)
            took = time.monotonic() - sent
            problem = ""
            if child.returncode == 0:
                self.count_as("signals", "(finished before the signal)")
                continue
            if child.returncode != codes[which]:
                # A signal before the handlers are installed kills the process, which has not started training.
                problem = "" if child.returncode == -which and not metrics(run) else f"{which.name}: exit code {child.returncode}, expected {codes[which]}"
            elif which != signal.SIGINT:
                slowest = max(slowest, took)
                problem = "" if took <= SAVED_WITHIN_S else f"{which.name}: saving took {took:.1f} s, more than {SAVED_WITHIN_S:.0f} s"
            if not problem:
                code, stderr = self.rlvr("train", "--resume", run)
                problem = self.differs(run) if code == 0 else f"after {which.name}, --resume: {stderr.strip()[-300:]}"
            self.check("signals", f"{which.name}: resumed to identical records", problem)
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
        self.run_or_exit("train", "--out", run, "--steps", "4", *SETTINGS[2:])
        config = run / "config.toml"
        settings = config.read_text()
        config.write_text(re.sub(r"(^\[optim\]\n(?:[^\[].*\n)*?lr = ).*", r"\g<1>1e38", settings, count=1, flags=re.MULTILINE))
        code, stderr = self.rlvr("train", "--resume", run, "--steps", str(STEPS))
        named = re.search(r"--at (\d+)", stderr)
        self.check("divergence", "stopped, naming the step to return to", "" if code == 1 and named else f"exit code {code}: {stderr[-400:]}")
        config.write_text(settings)
        step = named.group(1) if named else "4"
        code, stderr = self.rlvr("train", "--resume", run, "--at", step, "--steps", str(STEPS))
        self.check("divergence", "continued from the last good state", "" if code == 0 else stderr[-400:])

    def stopped(self):
        """Returns the folder of a run that was interrupted halfway."""
        run = self.folder / "stopped"
        if not run.exists():
            child = self.start("train", "--out", run, *SETTINGS)
            while len(metrics(run)) < STEPS // 2:
                time.sleep(0.01)
            child.send_signal(signal.SIGINT)
            child.wait(timeout=LIMIT_S)
        return run


def metrics(run):
    """Returns the metrics of a run without times. Omits a line that is still being written."""
    path = run / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    lines = [json.loads(line) for line in text.split("\n")[:-1]]
    return [{key: value for key, value in line.items() if not key.startswith("perf/")} for line in lines]


def summary(run):
    """Returns the summary of a run without its elapsed time."""
    values = json.loads((run / "summary.json").read_text())
    values.pop("elapsed_s")
    return values


def is_part_of_model(path, checkpoint):
    """Returns whether `rlvr eval` of the checkpoint reads the file."""
    return path.parent == checkpoint and path.name != "manifest.json" and path.suffix in (".json", ".safetensors", ".jinja")


def corrupt(path, how, generator):
    if how == "remove":
        path.unlink()
        return
    content = bytearray(path.read_bytes())
    if how == "flip" and content:
        content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
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
    parser.add_argument("--keep", action="store_true", help="keep the folder of the trials, and print its path")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    unknown = [kind for kind in chosen if kind not in kinds]
    if unknown:
        parser.error(f"unknown kind of trial {', '.join(unknown)}; expected one of {', '.join(kinds)}")
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
            print(f"the trials' folder is {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if trials.failures else 0)


if __name__ == "__main__":
    main()
