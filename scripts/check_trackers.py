#!/usr/bin/env python3
"""Trains small runs of the embedded model and reads them back with the trackers' own programs.

Usage: scripts/check_trackers.py [--rlvr PROGRAM] [--only tensorboard,mlflow,imports]

    tensorboard  event files read with tensorboard's EventAccumulator and served by `tensorboard`, before and after the run goes back some steps
    mlflow       a run, resumed, and one whose server is killed in the middle, read back from `mlflow server` with its client
    imports      scripts/import_metrics.py into Weights & Biases (offline), Trackio (local) and MLflow

Every value is compared with metrics.jsonl. The first call installs the pinned packages outside the checkout.
"""
import argparse
import json
import math
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "scripts"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "rlvr"
VENV = pathlib.Path(os.environ.get("RLVR_TRACKERS_VENV") or CACHE / "trackers")
REQUIREMENTS = SCRIPTS / "requirements-trackers.txt"
SETTINGS = ["--set", "eval.limit=24", "--set", "eval.every=3", "--set", "checkpoint.every=2", "--set", "checkpoint.keep_last=9"]
SETTINGS += ["--set", "rollout.groups=4", "--set", "rollout.group_size=4"]
LIMIT_S = 120
# A reward program that waits at step 6 until a file exists.
GRADE = """
import json, os, sys, time
for line in sys.stdin:
    request = json.loads(line)
    while request["step"] == 6 and not os.path.exists(sys.argv[1]):
        time.sleep(0.01)
    print(len(request["response"]) % 2)
"""


def ensure_packages():
    """Runs this script again with the Python of the environment, which it creates if necessary."""
    python = VENV / "bin/python"
    if pathlib.Path(sys.prefix) == VENV:
        return
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    if subprocess.run([python, "-c", "import mlflow, tensorboard, trackio, wandb"], stderr=subprocess.DEVNULL).returncode != 0:
        subprocess.run([VENV / "bin/pip", "install", "--quiet", "--requirement", REQUIREMENTS], check=True)
    os.execv(python, [str(python), *sys.argv])


def environment(**extra):
    """Returns an environment without settings of trackers, in which they neither report usage nor use the network."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "WANDB_", "TRACKIO_"))}
    return kept | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "HF_HUB_OFFLINE": "1"} | extra


def wait_for(event, condition):
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"{event} did not happen within {LIMIT_S} s"
        time.sleep(0.05)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def is_open(port):
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


class Service:
    """A server that this script starts on a loopback port, and ends with its children."""

    def __init__(self, command, port, log):
        self.output = open(log, "ab")
        self.process = subprocess.Popen(command, env=environment(), stdout=self.output, stderr=self.output, start_new_session=True)
        wait_for(f"{command[0]} on port {port} (see {log})", lambda: self.process.poll() is not None or is_open(port))
        assert self.process.poll() is None, pathlib.Path(log).read_text()[-2000:]

    def stop(self, number=signal.SIGTERM):
        os.killpg(self.process.pid, number)
        self.process.wait()
        self.output.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop()


def train(rlvr, *arguments):
    """Trains or resumes a run, and returns its messages."""
    done = subprocess.run([rlvr, "train", *map(str, arguments)], env=environment(), capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    return done.stderr


def start(rlvr, *arguments):
    """Starts a run."""
    command = [str(part) for part in (rlvr, "train", *arguments)]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def is_running(process):
    """Returns True; fails with the messages of a process that ended too early."""
    assert process.poll() is None, process.stderr.read()
    return True


def end(process, code):
    """Waits for a run, and returns its messages."""
    try:
        _, messages = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
    assert process.returncode == code, f"exit code {process.returncode}, expected {code}: {messages}"
    return messages


def recorded(run):
    """Returns {name: {step: number}} of metrics.jsonl and the base model; null is NaN."""
    from import_metrics import metrics_of

    columns = {}
    for step, metrics in metrics_of(run):
        for name, value in metrics.items():
            columns.setdefault(name, {})[step] = value
    return columns


def ensure_equal(what, found, expected, tolerance=0.0):
    """Compares {name: {step: number}}."""
    assert set(found) == set(expected), f"{what}: the names differ: {set(found) ^ set(expected)}"
    for name, column in expected.items():
        assert set(found[name]) == set(column), f"{what}: the steps of {name} differ: {sorted(found[name])}, expected {sorted(column)}"
        for step, value in column.items():
            same = found[name][step] == value or (math.isnan(value) and math.isnan(found[name][step]))
            same = same or abs(found[name][step] - value) <= tolerance * abs(value)
            assert same, f"{what}: {name} at step {step} is {found[name][step]}, expected {value}"
    print(f"  {what}: {sum(map(len, expected.values()))} values of {len(expected)} metrics are equal")


def check_tensorboard(rlvr, folder):
    run = folder / "runs/a run"
    run.parent.mkdir()
    train(rlvr, "--steps", 6, "--out", run, *SETTINGS)
    compare_events(run, "event files")
    train(rlvr, "--resume", run, "--at", 4, "--steps", 8)
    compare_events(run, "event files after going back to step 4")
    other = folder / "runs/b"
    train(rlvr, "--steps", 2, "--out", other, "--seed", 5, *SETTINGS)
    port = free_port()
    command = [VENV / "bin/tensorboard", "--logdir", run.parent, "--port", str(port), "--host", "127.0.0.1"]
    with Service(command, port, folder / "tensorboard.log"):
        compare_served(f"http://127.0.0.1:{port}", run)


def compare_events(run, what):
    """Compares the scalars, and checks histograms, texts and the settings."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata
    from tensorboard.util import tensor_util

    events = EventAccumulator(str(run), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    scalars = {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
    counts = {tag: len(events.Scalars(tag)) for tag in scalars}
    ensure_equal(what, scalars, recorded(run), tolerance=1e-7)
    assert all(counts[tag] == len(scalars[tag]) for tag in scalars), f"{what}: a step has two values"
    steps = max(scalars["train/accuracy"])
    tensor = lambda tag: {event.step: tensor_util.make_ndarray(event.tensor_proto) for event in events.Tensors(tag)}
    assert set(events.PluginTagToContent("histograms")) == {"reward/distribution", "response_length/distribution"}
    for tag in events.PluginTagToContent("histograms"):
        found = tensor(tag)
        assert sorted(found) == list(range(1, steps + 1)), f"{what}: {tag} has steps {sorted(found)}"
        assert all(rows.shape[1] == 3 and rows[:, 2].sum() == 16 for rows in found.values()), f"{what}: {tag}: {found}"
    texts = {tag: tensor(tag) for tag in events.PluginTagToContent("text")}
    assert set(texts) == {"responses/training", "responses/tiny-greedy", "responses/tiny-t0.6x1"}, set(texts)
    for tag, found in texts.items():
        base = [] if tag == "responses/training" else [0]
        evaluated = sorted(base + [step for step in range(1, steps + 1) if step % 3 == 0] + ([steps] if steps % 3 else []))
        # A run that was extended also has the evaluation of its former last step.
        assert set(evaluated) <= set(found), f"{what}: {tag} has steps {sorted(found)}, expected {evaluated}"
        for step, text in found.items():
            (markdown,) = (text.decode() for text in text.tolist())
            assert markdown.count("#### ") == 4 and "```text" in markdown and ("right" in markdown or "wrong" in markdown), markdown
    content = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    settings = metadata.parse_session_start_info_plugin_data(content).hparams
    assert settings["rollout.groups"].number_value == 4 and settings["algo"].string_value == "grpo", settings
    assert settings["compute.batch_invariant"].WhichOneof("kind") == "bool_value"
    assert "_hparams_/session_end_info" in events.PluginTagToContent("hparams")


def compare_served(address, run):
    """Reads the same with the requests of TensorBoard's pages."""

    def fetch(path, body=None, **parameters):
        url = f"{address}/data/plugin/{path}?{urllib.parse.urlencode(parameters)}"
        headers = {"Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=LIMIT_S) as reply:
            return json.load(reply)

    def is_loaded():
        if set(fetch("scalars/tags")) != {run.name, "b"} or not fetch("hparams/experiment", {}).get("hparamInfos"):
            return False
        return fetch("scalars/scalars", run=run.name, tag="train/accuracy")[-1][1] == 8

    wait_for("loading all runs", is_loaded)
    scalars = {}
    for tag in fetch("scalars/tags")[run.name]:
        scalars[tag] = {step: float(value) for _, step, value in fetch("scalars/scalars", run=run.name, tag=tag)}
    ensure_equal("tensorboard's page", scalars, recorded(run), tolerance=1e-7)
    (_, step, rows) = fetch("histograms/histograms", run=run.name, tag="reward/distribution")[-1]
    assert step == 8 and sum(count for _, _, count in rows) == 16, rows
    text = fetch("text/text", run=run.name, tag="responses/tiny-greedy")[-1]
    assert text["step"] == 8 and "<h4>" in text["text"] and "<code" in text["text"], text
    experiment = fetch("hparams/experiment", {})
    names = {info["name"]: info for info in experiment["hparamInfos"]}
    assert "seed" in names and "optim.lr" in names, names
    request = {"startIndex": 0, "sliceSize": 10, "colParams": [], "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]}
    groups = fetch("hparams/session_groups", request)["sessionGroups"]
    seeds = {group["sessions"][0]["name"]: group["hparams"]["seed"] for group in groups}
    assert seeds == {run.name: 0.0, "b": 5.0}, seeds
    print(f"  tensorboard's page: histograms, texts, and {len(names)} settings of {len(groups)} runs")


def mlflow_server(folder, port):
    command = [VENV / "bin/mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts"]
    return Service(command, port, folder / "mlflow.log")


def check_mlflow(rlvr, folder):
    import mlflow

    port = free_port()
    address = f"http://127.0.0.1:{port}"
    server = mlflow_server(folder, port)
    client = mlflow.MlflowClient(address)
    tracked = [*SETTINGS, "--set", f"tracking.mlflow={address}", "--set", "tracking.experiment=one example"]
    try:
        run = folder / "run"
        messages = train(rlvr, "--steps", 6, "--out", run, *tracked)
        assert "not delivered" not in messages and "warning" not in messages, messages
        remote = compare_mlflow(client, run, "a run in MLflow")
        assert client.get_experiment(remote.info.experiment_id).name == "one example" and remote.info.run_name == "run"
        found = {artifact.path for artifact in client.list_artifacts(remote.info.run_id)}
        assert found == {"summary.json", "curves.svg", "config.toml"}, found
        local = pathlib.Path(client.download_artifacts(remote.info.run_id, "summary.json", str(folder)))
        assert local.read_bytes() == (run / "summary.json").read_bytes()
        train(rlvr, "--resume", run, "--steps", 8)
        again = compare_mlflow(client, run, "the resumed run in MLflow")
        assert again.info.run_id == remote.info.run_id and again.data.tags["changed.train.steps"] == "8", again.data.tags

        broken, go = folder / "broken", folder / "go"
        waiting = ["--set", "reward.name=command", "--set", f"reward.command={json.dumps([sys.executable, '-c', GRADE, str(go)])}"]
        process = start(rlvr, "--steps", 10, "--out", broken, *tracked, *waiting)
        wait_for("five steps in MLflow", lambda: is_running(process) and delivered_step(client, broken) == 5)
        server.stop(signal.SIGKILL)
        go.touch()
        messages = end(process, 0)
        assert messages.count("warning: MLflow") == 1 and "5 records were not delivered" in messages, messages
        alone = folder / "alone"
        train(rlvr, "--steps", 10, "--out", alone, *SETTINGS, *waiting)
        weights = "checkpoints/00010/model.safetensors"
        assert (broken / weights).read_bytes() == (alone / weights).read_bytes(), "the lost server changed the weights"
        wait_for("the end of the server", lambda: not is_open(port))
        server = mlflow_server(folder, port)
        train(rlvr, "--resume", broken, "--steps", 12)
        compare_mlflow(client, broken, "a run whose server was killed, resumed with a new one")
        signaled = folder / "signaled"
        process = start(rlvr, "--steps", 3000, "--out", signaled, *tracked)
        wait_for("a step in MLflow", lambda: is_running(process) and delivered_step(client, signaled) >= 1)
        process.terminate()
        end(process, 143)
        compare_mlflow(client, signaled, "a run that was stopped", status="KILLED")
    finally:
        server.__exit__()


def run_id(run):
    return json.loads((run / "mlflow.json").read_text())["run_id"]


def delivered_step(client, run):
    """Returns the last step that MLflow has of a run that is being started; 0 if none."""
    if not (run / "mlflow.json").exists():
        return 0
    return max((metric.step for metric in client.get_run(run_id(run)).data._metric_objs), default=0)


def compare_mlflow(client, run, what, status="FINISHED"):
    from import_metrics import settings_of

    remote = client.get_run(run_id(run))
    found = {}
    for name in remote.data.metrics:
        history = client.get_metric_history(remote.info.run_id, name)
        found[name] = {metric.step: metric.value for metric in history}
        assert len(history) == len(found[name]), f"{what}: {name} has two values at a step"
    ensure_equal(what, found, recorded(run))
    settings = {path for path in settings_of(run) if not path.startswith("tracking.")}
    assert set(remote.data.params) == settings, set(remote.data.params) ^ settings
    assert remote.data.params["rollout.groups"] == "4" and remote.info.status == status, (remote.data.params, remote.info.status)
    return remote


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


def main():
    checks = {"tensorboard": check_tensorboard, "mlflow": check_mlflow, "imports": check_imports}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    parser.add_argument("--rlvr", type=pathlib.Path, default=target / "release/rlvr")
    parser.add_argument("--only", default=",".join(checks))
    arguments = parser.parse_args()
    ensure_packages()
    sys.path.insert(0, str(SCRIPTS))
    rlvr = arguments.rlvr.resolve()
    if not rlvr.exists():
        parser.error(f"there is no {rlvr}: build it with cargo build --release, or name it with --rlvr")
    for name in arguments.only.split(","):
        print(name)
        with tempfile.TemporaryDirectory() as folder:
            checks[name](rlvr, pathlib.Path(folder))


if __name__ == "__main__":
    main()
