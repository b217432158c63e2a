"""MLflow: a run, resumed, and one whose server is killed in the middle, read back from `mlflow server` with its client."""
import json
import pathlib
import signal
import sys

from import_metrics import settings_of

from trackers.processes import SETTINGS, end, free_port, is_open, is_running, mlflow_server, start, train, wait_for
from trackers.records import ensure_equal, recorded

# A reward program that waits at step 6 until a file exists.
GRADE = """
import json, os, sys, time
for line in sys.stdin:
    request = json.loads(line)
    while request["step"] == 6 and not os.path.exists(sys.argv[1]):
        time.sleep(0.01)
    print(len(request["response"]) % 2)
"""


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
