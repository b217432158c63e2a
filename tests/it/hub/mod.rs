//! Tests downloads from a hub through the program, from an empty cache to a sampled response. Each failure is reported in one sentence that
//! says what to do, and leaves nothing behind that a later run would accept as a checkpoint.

mod server;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use server::{COMMIT, Fault, Server};
use tempfile::TempDir;

use crate::fixture::{command, error_of, files, stderr, stdout, succeed, wait_for};

/// Returns a command that runs the program with access to the test's server.
fn rlvr(arguments: &[&str]) -> Command {
    let mut command = command(arguments);
    command.env_remove("HF_HUB_OFFLINE").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A checkpoint on a server, and an initially empty cache.
struct Scenario {
    server: Server,
    home: TempDir,
    /// The timeout in seconds; hf-hub itself retries for up to six.
    timeout: &'static str,
}

impl Scenario {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = folder.path().join("tiny");
        succeed(&["init", "--like", "tiny", "--out", checkpoint.to_str().unwrap()]);
        Self::of(&checkpoint)
    }

    fn of(checkpoint: &Path) -> Self {
        Self { server: Server::of_folder(checkpoint), home: tempfile::tempdir().unwrap(), timeout: "20" }
    }

    fn command(&self, model: &str) -> Command {
        let mut command = rlvr(&[
            "sample",
            "--model",
            model,
            "--raw",
            "--prompt",
            "Q: What is 12+34?\nA:",
            "--max-new-tokens",
            "4",
            "--temperature",
            "0",
        ]);
        command.env("HF_ENDPOINT", &self.server.address).env("HF_HOME", self.home.path()).env("HF_HUB_DOWNLOAD_TIMEOUT", self.timeout);
        command
    }

    fn online(&self) -> Output {
        self.command("some/model").output().unwrap()
    }

    fn offline(&self) -> Output {
        self.command("some/model").env("HF_HUB_OFFLINE", "1").output().unwrap()
    }

    /// Returns every file below `HF_HOME`, by relative path.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        files(self.home.path())
    }
}

fn answer(output: &Output) -> String {
    error_of(output, 0);
    stdout(output)
}

/// Returns the error message of a failed run, which must be a single line.
fn error_line(output: &Output) -> String {
    let text = error_of(output, 1);
    assert!(output.stdout.is_empty(), "{output:?}");
    let errors: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
    assert!(errors.len() == 1 && text.lines().count() == 1, "{text}");
    errors[0].to_owned()
}

/// Checks that a fault leads to a one-line error, that nothing loads offline afterwards, and that a working hub then completes the cache.
fn check(path: &'static str, fault: Fault, expected: &[&str]) {
    let mut scene = Scenario::new();
    if matches!(fault, Fault::Silent | Fault::StallsAfter(_)) {
        scene.timeout = "2";
    }
    scene.server.fails(path, fault);
    let error = error_line(&scene.online());
    assert!(expected.iter().all(|part| error.contains(part)), "{error}");
    let error = error_line(&scene.offline());
    assert!(error.contains("some/model is incomplete in the hub's cache"), "{error}");
    scene.server.works();
    scene.timeout = "20";
    let recovered = answer(&scene.online());
    assert_eq!(recovered, answer(&scene.offline()));
    assert!(!recovered.trim().is_empty());
}

#[test]
fn hub_fetch_fills_the_cache_and_reuses_it() {
    let mut scene = Scenario::new();
    let cold = answer(&scene.online());
    assert!(!scene.server.take_requests().is_empty());
    let local = answer(
        &rlvr(&["sample", "--model", "tiny", "--raw", "--prompt", "Q: What is 12+34?\nA:", "--max-new-tokens", "4", "--temperature", "0"])
            .output()
            .unwrap(),
    );
    assert_eq!(cold, local, "the downloaded model differs from the served one");

    // The second fetch sends only HEAD requests, and offline fetches send none, whether by branch, tag or commit.
    assert_eq!(answer(&scene.online()), cold);
    let again = scene.server.take_requests();
    assert!(again.iter().all(|request| request.method == "HEAD"), "{again:?}");
    assert_eq!(answer(&scene.offline()), cold);
    assert_eq!(answer(&scene.command(&format!("some/model@{COMMIT}")).env("HF_HUB_OFFLINE", "1").output().unwrap()), cold);
    assert!(scene.server.take_requests().is_empty());
    assert_eq!(answer(&scene.command("some/model@v1").output().unwrap()), cold);
    assert!(scene.files().keys().any(|file| file.contains("hub/models--some--model/snapshots")), "{:?}", scene.files().keys());

    // With a complete cache, a failing or silent hub is not an error.
    for (fault, timeout) in [(Fault::Status(503), "20"), (Fault::Silent, "2")] {
        scene.timeout = timeout;
        scene.server.fails("/", fault);
        let output = scene.online();
        assert_eq!(answer(&output), cold);
        assert!(stderr(&output).contains("using the copy in the hub's cache"), "{output:?}");
    }
}

#[test]
fn hub_fetch_of_shards_is_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("tiny");
    succeed(&["init", "--like", "tiny", "--out", checkpoint.to_str().unwrap()]);
    shard(&checkpoint);
    let scene = Scenario::of(&checkpoint);
    scene.server.fails("model-00002-of-00002.safetensors", Fault::CutAfter(1000));
    let error = error_line(&scene.online());
    assert!(error.contains("the transfer of model-00002-of-00002.safetensors was interrupted"), "{error}");
    let error = error_line(&scene.offline());
    assert!(error.contains("(model-00002-of-00002.safetensors is missing)"), "{error}");
    scene.server.works();
    scene.server.take_requests();
    let whole = answer(&scene.online());
    assert!(
        scene.server.take_requests().iter().all(|request| request.method == "HEAD" || !request.path.contains("00001-of")),
        "the first shard was downloaded again"
    );
    assert_eq!(whole, answer(&scene.offline()));

    scene.server.removes("model-00002-of-00002.safetensors");
    let scene = Scenario { home: tempfile::tempdir().unwrap(), ..scene };
    let error = error_line(&scene.online());
    assert!(error.contains("some/model on the hub has no model-00002-of-00002.safetensors"), "{error}");
}

/// Splits the weights of a folder into two shards with an index.
fn shard(checkpoint: &Path) {
    let single = checkpoint.join("model.safetensors");
    let bytes = std::fs::read(&single).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let names = tensors.names();
    let mut map = serde_json::Map::new();
    for (number, half) in names.chunks(names.len().div_ceil(2)).enumerate() {
        let file = format!("model-0000{}-of-00002.safetensors", number + 1);
        let views = half.iter().map(|name| (*name, tensors.tensor(name).unwrap()));
        std::fs::write(checkpoint.join(&file), safetensors::serialize(views, None).unwrap()).unwrap();
        map.extend(half.iter().map(|name| ((*name).to_owned(), file.clone().into())));
    }
    std::fs::write(checkpoint.join("model.safetensors.index.json"), serde_json::json!({ "weight_map": map }).to_string()).unwrap();
    std::fs::remove_file(single).unwrap();
}

#[test]
fn hub_fetch_discards_an_interrupted_transfer() {
    let interrupted = ["was interrupted", "run the same command again"];
    check("/contents/model.safetensors", Fault::CutAfter(50_000), &interrupted);
    check("/contents/model.safetensors", Fault::CutInChunks(50_000), &interrupted);
    check("/api/resolve-cache/config.json", Fault::CutAfter(20), &["the transfer of config.json was interrupted"]);
}

#[test]
fn hub_fetch_deletes_a_corrupt_download() {
    let corrupt = ["the download of model.safetensors of some/model is corrupt", "sha256", "was deleted", "run the same command again"];
    check("/contents/model.safetensors", Fault::Corrupt, &corrupt);
    check("/contents/model.safetensors", Fault::EndsAfter(50_000), &corrupt);
    check("/contents/tokenizer.json", Fault::Corrupt, &["tokenizer.json of some/model is corrupt"]);
    check("/api/resolve-cache/config.json", Fault::Corrupt, &["config.json of some/model is corrupt", "git sha1"]);
    // hf-hub stores an error page as the file.
    check("/contents/model.safetensors", Fault::StatusOfContents(403), &corrupt);
    check("/api/resolve-cache/config.json", Fault::StatusOfContents(500), &["config.json of some/model is corrupt"]);
}

#[test]
fn hub_fetch_explains_a_failing_hub() {
    check("/resolve/", Fault::Status(500), &["the hub failed (500", "run the same command again later", "--model DIR"]);
    check("/resolve/", Fault::Status(503), &["the hub failed (503"]);
    check("/contents/model.safetensors", Fault::StatusOfContents(503), &["is corrupt"]);
    check("/resolve/", Fault::Status(429), &["(429 Too Many Requests)"]);
    check("/resolve/", Fault::Plain, &["does not come from a hub (", "check HF_ENDPOINT"]);
}

#[test]
fn hub_fetch_times_out_on_a_silent_hub() {
    let silent = ["the hub did not respond for 2 s", "HF_HUB_DOWNLOAD_TIMEOUT", "--model DIR"];
    check("/resolve/", Fault::Silent, &silent);
    check("/contents/model.safetensors", Fault::Silent, &silent);
    check("/contents/model.safetensors", Fault::StallsAfter(50_000), &silent);
}

#[test]
fn hub_fetch_reports_missing_models_revisions_and_files() {
    let scene = Scenario::new();
    let error = error_line(&scene.command("some/model@never").output().unwrap());
    assert!(error.contains("the model some/model has no revision \"never\""), "{error}");
    let error = error_line(&scene.command("other/model").output().unwrap());
    assert!(error.contains("the hub has no model other/model"), "{error}");
    scene.server.removes("tokenizer.json");
    let error = error_line(&scene.online());
    assert!(error.contains("some/model on the hub has no tokenizer.json") && error.contains("--model DIR"), "{error}");
    let error = error_line(&scene.offline());
    assert!(error.contains("incomplete in the hub's cache (tokenizer.json is missing)"), "{error}");
    let unreachable = scene.command("some/model").env("HF_ENDPOINT", "http://127.0.0.1:1").output().unwrap();
    let error = error_line(&unreachable);
    assert!(error.contains("cannot reach the hub for some/model") && error.contains("--model DIR"), "{error}");
    let error = error_line(&scene.command("some/model").env("HF_ENDPOINT", "not an address").output().unwrap());
    assert!(error.contains("check HF_ENDPOINT"), "{error}");
}

#[test]
fn hub_token_is_sent_to_the_hub_only_and_never_logged() {
    const TOKEN: &str = "hf_a-secret-that-nobody-prints";
    let scene = Scenario::new();
    scene.server.wants_token(TOKEN);
    let error = error_line(&scene.online());
    assert!(error.contains("private or gated") && error.contains("set HF_TOKEN"), "{error}");
    let error = error_line(&scene.command("some/model").env("HF_TOKEN", "hf_wrong").output().unwrap());
    assert!(error.contains("the hub rejects the token in HF_TOKEN") && !error.contains("hf_wrong"), "{error}");
    let error = error_line(&scene.command("some/model").env("HF_TOKEN", "of-somebody-else").output().unwrap());
    assert!(error.contains("the current token has no access to some/model") && !error.contains("of-somebody-else"), "{error}");
    assert!(error_line(&scene.offline()).contains("incomplete"));

    scene.server.take_requests();
    let output = scene.command("some/model").env("HF_TOKEN", TOKEN).env("RUST_LOG", "trace").output().unwrap();
    answer(&output);
    assert!(!stderr(&output).contains("a-secret"), "{}", stderr(&output));
    let (contents, hub): (Vec<_>, Vec<_>) =
        scene.server.take_requests().into_iter().partition(|request| request.path.starts_with("/contents/"));
    let bearer = format!("Bearer {TOKEN}");
    assert!(!hub.is_empty() && hub.iter().all(|request| request.authorization.as_ref() == Some(&bearer)), "{hub:?}");
    assert!(!contents.is_empty() && contents.iter().all(|request| request.authorization.is_none()), "{contents:?}");
    assert!(scene.files().values().all(|file| !file.windows(8).any(|bytes| bytes == b"a-secret")));

    // The token file below HF_HOME works as well.
    let scene = Scenario { home: tempfile::tempdir().unwrap(), ..scene };
    std::fs::write(scene.home.path().join("token"), format!("{TOKEN}\n")).unwrap();
    answer(&scene.online());
}

#[test]
fn hub_fetch_by_two_processes_downloads_once() {
    let scene = Scenario::new();
    scene.server.fails("/contents/model.safetensors", Fault::Slow(Duration::from_secs(3)));
    let children: Vec<Child> = (0..2).map(|_| scene.command("some/model").spawn().unwrap()).collect();
    let outputs: Vec<Output> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    assert_eq!(answer(&outputs[0]), answer(&outputs[1]));
    let weights =
        scene.server.take_requests().into_iter().filter(|request| request.path == "/contents/model.safetensors" && request.method == "GET");
    assert_eq!(weights.count(), 1);
    let waited = outputs.iter().filter(|output| stderr(output).contains("waiting for another process"));
    assert_eq!(waited.count(), 1);
}

#[test]
fn hub_fetch_verifies_files_of_a_killed_process() {
    let scene = Scenario::new();
    scene.server.fails("/contents/model.safetensors", Fault::StallsAfter(50_000));
    let mut child = scene.command("some/model").env("HF_HUB_DOWNLOAD_TIMEOUT", "50").spawn().unwrap();
    wait_for("a request", || scene.server.take_requests().iter().any(|request| request.path == "/contents/model.safetensors"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(error_line(&scene.offline()).contains("(model.safetensors is missing)"));

    // A file may already have its final name, but the wrong contents.
    let tokenizer = scene.files().into_keys().find(|file| file.ends_with("/tokenizer.json")).unwrap();
    std::fs::write(scene.home.path().join(tokenizer), "{}").unwrap();
    assert!(error_line(&scene.offline()).contains("(tokenizer.json is missing)"));
    scene.server.works();
    assert_eq!(answer(&scene.online()), answer(&scene.offline()));
}

#[test]
fn hub_fetch_shows_progress_only_on_a_terminal() {
    let scene = Scenario::new();
    let output = scene.online();
    answer(&output);
    assert_eq!(stderr(&output), "");
}
