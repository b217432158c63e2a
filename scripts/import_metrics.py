#!/usr/bin/env python3
"""Copies finished runs into Weights & Biases, Trackio or MLflow, from their metrics.jsonl.

Usage: scripts/import_metrics.py --to wandb|trackio|mlflow [--project NAME] RUN...

Each run folder becomes one run of the project (default: rlvr), with the settings in config.toml as its configuration and the accuracy of the base
model at step 0. Old metric names are replaced with current ones. Install the one package that you use: wandb, trackio or mlflow.

    wandb    uploads to the server that you are logged in to; with WANDB_MODE=offline it writes to ./wandb, and `wandb sync` uploads later
    trackio  writes to its local folder (TRACKIO_DIR); `trackio show --project NAME` opens the dashboard
    mlflow   writes to MLFLOW_TRACKING_URI; a run that had `tracking.mlflow` on is there already
"""
import argparse
import json
import math
import pathlib
import re
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def renamed():
    """Returns the current name of each old one, None if it was dropped, from the program's own table."""
    rows = re.findall(r'^    \("([^"]+)", (?:Some\("([^"]+)"\)|None)\),$', (ROOT / "src/metrics/renamed.rs").read_text(), re.MULTILINE)
    assert len(rows) > 5, "src/metrics/renamed.rs has another form"
    return {old: new or None for old, new in rows}


def settings_of(run):
    """Returns the settings of a run by path, such as `rollout.groups`."""

    def flatten(table, prefix=""):
        for key, value in table.items():
            if isinstance(value, dict):
                yield from flatten(value, f"{prefix}{key}.")
            else:
                yield prefix + key, value

    return dict(flatten(tomllib.loads((run / "config.toml").read_text())))


def metrics_of(run):
    """Returns [(step, {name: number})] in order of steps; null becomes NaN. Skips a last line that is still being written."""
    steps = []
    base = run / "eval/00000/scores.json"
    if base.exists():
        scores = json.loads(base.read_text())
        steps.append((0, {f"val/{name}": score["accuracy"]["mean"] for name, score in scores.items()}))
    names = renamed()
    for line in (run / "metrics.jsonl").read_text().splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        record = json.loads(line)
        step = record.pop("step")
        named = {names.get(key, key): math.nan if value is None else value for key, value in record.items()}
        named.pop(None, None)
        steps.append((step, named))
    return steps


def to_wandb(run, project):
    import wandb

    with wandb.init(project=project, name=run.name, config=settings_of(run)) as remote:
        for step, metrics in metrics_of(run):
            remote.log(metrics, step=step)


def to_trackio(run, project):
    import trackio

    trackio.init(project=project, name=run.name, config=settings_of(run), embed=False, auto_log_gpu=False, auto_log_cpu=False)
    for step, metrics in metrics_of(run):
        trackio.log(metrics, step=step)
    trackio.finish()


def to_mlflow(run, project):
    import time

    import mlflow
    from mlflow.entities import Metric, Param

    mlflow.set_experiment(project)
    client = mlflow.MlflowClient()
    with mlflow.start_run(run_name=run.name) as remote:
        params = [Param(path, str(value)) for path, value in settings_of(run).items()]
        now = int(time.time() * 1000)
        metrics = [Metric(re.sub(r"[^\w\-. /]", "_", key), value, now, step) for step, values in metrics_of(run) for key, value in values.items()]
        for start in range(0, len(params), 100):
            client.log_batch(remote.info.run_id, params=params[start : start + 100])
        for start in range(0, len(metrics), 1000):
            client.log_batch(remote.info.run_id, metrics=metrics[start : start + 1000])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    targets = {"wandb": to_wandb, "trackio": to_trackio, "mlflow": to_mlflow}
    parser.add_argument("--to", required=True, choices=targets)
    parser.add_argument("--project", default="rlvr")
    parser.add_argument("runs", nargs="+", type=pathlib.Path, metavar="RUN")
    arguments = parser.parse_args()
    for run in arguments.runs:
        if not (run / "metrics.jsonl").exists():
            parser.error(f"{run} is not a run folder: it has no metrics.jsonl")
        targets[arguments.to](run.resolve(), arguments.project)


if __name__ == "__main__":
    main()
