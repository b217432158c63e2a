"""Runs of the embedded model, and servers of trackers, as processes with a time limit."""
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SCRIPTS = ROOT / "scripts"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "rlvr"
VENV = pathlib.Path(os.environ.get("RLVR_TRACKERS_VENV") or CACHE / "trackers")
REQUIREMENTS = SCRIPTS / "requirements-trackers.txt"
SETTINGS = ["--set", "eval.limit=24", "--set", "eval.every=3", "--set", "checkpoint.every=2", "--set", "checkpoint.keep_last=9"]
SETTINGS += ["--set", "rollout.groups=4", "--set", "rollout.group_size=4"]
LIMIT_S = 120


def ensure_packages():
    """Restarts the calling script with the Python of the environment, which it creates if necessary."""
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
        try:
            wait_for(f"{command[0]} on port {port} (see {log})", lambda: self.process.poll() is not None or is_open(port))
            assert self.process.poll() is None, pathlib.Path(log).read_text()[-2000:]
        except AssertionError:
            self.__exit__()
            raise

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


def mlflow_server(folder, port, prefix=()):
    """Starts `mlflow server` with its data in a folder. `prefix` is a command that runs other commands, such as `taskset`."""
    command = [*prefix, VENV / "bin/mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts"]
    return Service(command, port, folder / "mlflow.log")
