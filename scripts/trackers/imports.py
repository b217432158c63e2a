"""scripts/import_metrics.py into Weights & Biases (offline), Trackio (local) and MLflow."""
import json
import subprocess
import sys

from trackers.processes import LIMIT_S, SCRIPTS, SETTINGS, environment, free_port, mlflow_server, train
from trackers.records import ensure_equal, recorded


def check_imports(rlvr, folder):
    run = folder / "run"
    train(rlvr, "--steps", 4, "--out", run, *SETTINGS)
    port = free_port()
    with mlflow_server(folder, port):
        for target in ["wandb", "trackio", "mlflow"]:
            extra = environment(
                WANDB_MODE="offline", WANDB_DIR=str(folder), TRACKIO_DIR=str(folder / "trackio"), MLFLOW_TRACKING_URI=f"http://127.0.0.1:{port}"
            )
            command = [sys.executable, SCRIPTS / "import_metrics.py", "--to", target, "--project", "imported", run]
            done = subprocess.run(command, env=extra, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S)
            assert done.returncode == 0, f"{target}: {done.stdout}{done.stderr}"
        import mlflow

        client = mlflow.MlflowClient(f"http://127.0.0.1:{port}")
        (remote,) = client.search_runs([client.get_experiment_by_name("imported").experiment_id])
        histories = {name: client.get_metric_history(remote.info.run_id, name) for name in remote.data.metrics}
        found = {name: {metric.step: metric.value for metric in history} for name, history in histories.items()}
        ensure_equal("import into MLflow", found, recorded(run))
    compare_wandb(folder, run)
    compare_trackio(folder, run)


def compare_wandb(folder, run):
    """Reads the file that `wandb sync` uploads."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    found, config = {}, {}
    for data in log_records(path.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(data)
        for update in record.run.config.update:
            config[update.key] = json.loads(update.value_json)
        if record.WhichOneof("record_type") == "history":
            items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            step = record.history.step.num
            for name, value in items.items():
                if not name.startswith("_"):
                    found.setdefault(name, {})[step] = float(value)
    ensure_equal("import into Weights & Biases", found, recorded(run))
    assert config["rollout.groups"] == 4, config


def log_records(content):
    """Yields the records of a file in LevelDB's log format, whose first seven bytes name the program: blocks of 32 KiB with parts of records, each
    `crc u32 | length u16 | type u8 | data`, where types 1 to 4 are a whole record, and the first, middle and last part of one."""
    place, parts = 7, []
    while place < len(content):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        parts.append(content[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):
            yield b"".join(parts)
            parts = []
        assert kind in (1, 2, 3, 4), f"part of type {kind} at {place}"


def compare_trackio(folder, run):
    code = "import json; from trackio.sqlite_storage import SQLiteStorage as S; print(json.dumps(S.get_logs('imported', 'run')))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment(TRACKIO_DIR=str(folder / "trackio")), capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    found = {}
    for line in json.loads(done.stdout.splitlines()[-1]):
        for name, value in line.items():
            if name not in ("step", "timestamp"):
                found.setdefault(name, {})[line["step"]] = float(value)
    ensure_equal("import into Trackio", found, recorded(run))
