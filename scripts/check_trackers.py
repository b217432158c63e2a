#!/usr/bin/env python3
"""Trains small runs of the embedded model and reads them back with the trackers' own programs.

Usage: scripts/check_trackers.py [--rlvr PROGRAM] [--only tensorboard,mlflow,imports]

    tensorboard  event files read with tensorboard's EventAccumulator and served by `tensorboard`, before and after the run goes back some steps
    mlflow       a run, resumed, and one whose server is killed in the middle, read back from `mlflow server` with its client
    imports      scripts/import_metrics.py into Weights & Biases (offline), Trackio (local) and MLflow

Every value is compared with metrics.jsonl. The first call installs the pinned packages outside the checkout.
"""
import argparse
import os
import pathlib
import tempfile

from trackers.processes import ROOT, ensure_packages


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    parser.add_argument("--rlvr", type=pathlib.Path, default=target / "release/rlvr")
    parser.add_argument("--only", default="tensorboard,mlflow,imports")
    arguments = parser.parse_args()
    ensure_packages()
    from trackers.event_files import check_tensorboard
    from trackers.imports import check_imports
    from trackers.mlflow_runs import check_mlflow

    checks = {"tensorboard": check_tensorboard, "mlflow": check_mlflow, "imports": check_imports}
    rlvr = arguments.rlvr.resolve()
    if not rlvr.exists():
        parser.error(f"there is no {rlvr}: build it with cargo build --release, or name it with --rlvr")
    unknown = [name for name in arguments.only.split(",") if name not in checks]
    if unknown:
        parser.error(f"unknown check {unknown[0]}; expected some of {', '.join(checks)}")
    for name in arguments.only.split(","):
        print(name)
        with tempfile.TemporaryDirectory() as folder:
            checks[name](rlvr, pathlib.Path(folder))


if __name__ == "__main__":
    main()
