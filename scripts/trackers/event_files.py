"""TensorBoard: event files read with its EventAccumulator and served by `tensorboard`."""
import json
import urllib.parse
import urllib.request

from trackers.processes import LIMIT_S, SETTINGS, VENV, Service, free_port, train, wait_for
from trackers.records import ensure_equal, recorded


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
