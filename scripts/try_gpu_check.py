"""Tests scripts/gpu-check.sh with stand-ins for its programs: which parts count as passed, failed or not run, the exit status, and the report.

    python3 scripts/try_gpu_check.py
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
PASSED = 'echo "test result: ok. 1 passed; 0 failed; 0 ignored"'
OUTCOME = "printf 'rows\\tadd\\t3x4\\tbf16\\t%s\\t1e-3\\t3e-3\\t1e-3\\t%s\\tas said\\n' {} >>\"$RLVR_OUTCOMES\""
OK, WRONG = OUTCOME.format("2e-3 ok"), OUTCOME.format("5e-1 wrong")

# Each stand-in test as shell commands, and the outcome that the check must report for it. All other tests pass.
TESTS = {
    "rows_bf16": (f"{OK}; {PASSED}", "passed"),
    "rows_f32": (f"{WRONG}; echo 'test result: FAILED. 0 passed; 1 failed'; exit 101", "failed"),
    "head_f32": (f"{WRONG}; sleep 60", "failed"),
    "long_f32": ("sleep 60", "not run"),
    "head_bf16": (PASSED, "not run"),
    "attention_f32": ("kill -SEGV $$", "failed"),
    "attention_bf16": ("echo \"thread 'x' panicked at src/x.rs:\" >&2; echo 'no such thing' >&2; exit 101", "failed"),
    "quantization_and_sampling": ('echo "test result: ok. 0 passed; 0 failed"', "not run"),
    "generate_on_a_gpu_depends_on_addresses_only": (f'printf "responses\\tthere is no GPU\\n" >>"$RLVR_DID_NOT_RUN"; {PASSED}', "not run"),
}
# The sweep of algorithms: three have a time, and one is refused.
ALGORITHM = "products\\tqkv\\t32\\t64\\t96\\t%s\\t%s\\t1\\t0\\t1\\t1\\t1\\t1\\t0\\tabc\\tyes\\n"
SWEEP = f"printf '{ALGORITHM}' product microseconds 1 9.5 2 8.0 3 refused batch-invariant 12.0 >\"$RLVR_PRODUCTS_TSV\"; {PASSED}"
SANITIZER = {"racecheck": ("echo '========= RACECHECK SUMMARY: 0 hazards displayed'", "passed"),
             "memcheck": ("echo '========= Error: Device not supported'; exit 1", "not run")}


def program(path, *lines):
    """Writes an executable shell script."""
    path.write_text("\n".join(("#!/usr/bin/env bash", *lines)) + "\n")
    path.chmod(0o755)
    return path


def branches(cases):
    """Branches of a `case` command, one per stand-in test."""
    return [f"*{name}*) {action} ;;" for name, (action, _) in cases.items()]


def measurement(work, seconds):
    line = {"work": work, "median_s": seconds, "tokens_per_s": 819200 / seconds, "utilisation": 0.4, "share_of_least": 0.5, "peak_bytes": 60 << 30}
    return line | {"began_unix_ns": 0, "ended_unix_ns": 0}


def report():
    """The report of a benchmark that ran out of time after two workloads."""
    full = {"name": "full", "measurements": [measurement("rollout", 12.0), measurement("update", 30.0)], "not_run": ["step"], "error": None}
    ceilings = {"copy_bytes_per_s": 4.3e12, "square_flops": 7.9e14, "widest_flops": 7.7e14}
    machine = {"card": "NVIDIA H200", "capability": "9.0", "driver": "580.1", "kernels_digest": "0123456789abcdef"}
    return {"machine": machine, "shape": "qwen2.5-math-1.5b", "ceilings": ceilings, "cases": [full]}


def check(folder, tests, benchmark_s):
    """Runs the check with these tests and a benchmark that takes `benchmark_s` seconds. Returns the process, the outcomes by part, the summary and OUT."""
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(report()))
    benchmark = [f"*bench.json*) cp {folder}/report.json \"$OUT/bench.json\"; sleep {benchmark_s} ;;", "*) exit 0 ;;"]
    rlvr = program(folder / "rlvr", 'case "$*" in', *benchmark, "esac")
    listed = [f"*sweep*) {SWEEP} ;;", "*--list*) printf '%s: test\\n' a::known_gpu sweep::on_a_gpu ;;", f"*) {OK}; {PASSED} ;;"]
    program(folder / "rlvr-tests", 'case "$*" in', *branches(tests), *listed, "esac")
    program(folder / "compute-sanitizer", 'case "$*" in', *branches(SANITIZER), "esac")
    program(folder / "nvidia-smi", "exit 1")
    python = program(folder / "python", '[ "$1" = -c ] && exit 1', f'exec {sys.executable} "$@"')
    out = folder / "out"
    environment = os.environ | {"TOTAL": "90", "PARALLEL": "16", "PYTHON": str(python), "PATH": f"{folder}:{os.environ['PATH']}", "OUT": str(out)}
    environment |= {"XDG_CACHE_HOME": str(folder / "cache")}
    environment.pop("EMULATED_GPU", None)
    command = [HERE / "gpu-check.sh", rlvr, folder / "rlvr-tests", out]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    rows = [line.split("\t") for line in (out / "parts.tsv").read_text().splitlines()]
    return run, {row[0]: row[1] for row in rows}, json.loads((out / "summary.json").read_text()), out


def main():
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        run, outcomes, summary, out = check(folder / "failing", TESTS, 60)
        expected = {name: outcome for name, (_, outcome) in (TESTS | SANITIZER).items()}
        expected["decoder_on_fused_kernels_on_a_gpu_matches_the_cpu"] = expected["other_tests"] = expected["products"] = "passed"
        # In the other parts, the benchmark runs out of time, no kernel times are recorded, and PyTorch is missing.
        expected |= {"start": "passed", "bench": "not run", "profile": "not run", "peer": "not run"}
        wrong = {name: (outcomes.get(name), outcome) for name, outcome in expected.items() if outcomes.get(name) != outcome}
        assert not wrong, f"found, expected: {wrong}\n{run.stdout}{run.stderr}"
        assert run.returncode == 1, run.returncode
        missing = sum(outcome == "not run" for outcome in outcomes.values())
        assert run.stdout.splitlines()[-1] == f"{missing} parts did not run", run.stdout
        table = (out / "table.md").read_text()
        assert len(summary["wrong"]) == 2 and "add" in table.split("## Did not run")[0], table
        verdicts = {target["what"] + " " + target["unit"]: target["verdict"] for target in summary["targets"]}
        assert verdicts["full rollout tokens/s"] == "goal reached", verdicts
        assert verdicts["full update of the product ceiling"] == "minimum reached", verdicts
        assert "slower than expected" in verdicts["full update s"], verdicts
        assert summary["products"][0]["best"] == "2" and summary["products"][0]["invariant_us"] == 12.0, summary["products"]
        assert not (out / "confirmed.toml").exists() and "not confirmed: failed" in table, table
        assert (out / "found.tar.xz").stat().st_size > 0

        # If nothing fails, the exit status is 0 even if some parts did not run, and the kernels are confirmed.
        run, outcomes, _, out = check(folder / "passing", {"sweep": ("sleep 60", "not run")}, 0)
        assert run.returncode == 0 and outcomes["products"] == "not run", run.stdout + run.stderr
        confirmed = (out / "confirmed.toml").read_text() if (out / "confirmed.toml").exists() else run.stdout
        assert 'card = "NVIDIA H200"' in confirmed, confirmed
        assert (folder / "passing" / "cache" / "rlvr" / "confirmed.toml").exists()
    print("the check reports the expected outcomes")


if __name__ == "__main__":
    main()
