//! From a cold hub to a sampled answer, through the program: each failure is one sentence that says what to do, and leaves nothing that a later
//! run takes for a checkpoint.

mod server;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use server::{COMMIT, Fault, Server};
use tempfile::TempDir;

use crate::fixture::{command, error_of, files, printed, succeed, told, wait_for};

/// The program with the network that a test gives it.
fn rlvr(arguments: &[&str]) -> Command {
    let mut command = command(arguments);
    command.env_remove("HF_HUB_OFFLINE").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A checkpoint on a server, and an empty cache.
struct Scene {
    server: Server,
    home: TempDir,
    /// Seconds of silence; hf-hub itself tries again for up to six.
    patience: &'static str,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = folder.path().join("tiny");
        succeed(&["init", "--like", "tiny", "--out", checkpoint.to_str().unwrap()]);
        Self::of(&checkpoint)
    }

    fn of(checkpoint: &Path) -> Self {
        Self { server: Server::of_folder(checkpoint), home: tempfile::tempdir().unwrap(), patience: "20" }
    }

    fn command(&self, model: &str) -> Command {
        let mut command =
            rlvr(&["sample", "--model", model, "--raw", "--prompt", "Q: What is 12+34?\nA:", "--max-new", "4", "--temperature", "0"]);
        command.env("HF_ENDPOINT", &self.server.address).env("HF_HOME", self.home.path()).env("HF_HUB_DOWNLOAD_TIMEOUT", self.patience);
        command
    }

    fn online(&self) -> Output {
        self.command("some/model").output().unwrap()
    }

    fn offline(&self) -> Output {
        self.command("some/model").env("HF_HUB_OFFLINE", "1").output().unwrap()
    }

    /// Every file below the home, by its path from there.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        files(self.home.path())
    }
}

fn answer(output: &Output) -> String {
    error_of(output, 0);
    printed(output)
}

/// The one sentence of a failed run.
fn complaint(output: &Output) -> String {
    let text = error_of(output, 1);
    assert!(output.stdout.is_empty(), "{output:?}");
    let errors: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
    assert!(errors.len() == 1 && text.lines().count() == 1, "{text}");
    errors[0].to_owned()
}

/// A failure is one sentence; then nothing loads offline; then a healthy hub mends it.
fn check(path: &'static str, fault: Fault, expected: &[&str]) {
    let mut scene = Scene::new();
    if matches!(fault, Fault::Silent | Fault::StallsAfter(_)) {
        scene.patience = "2";
    }
    scene.server.fails(path, fault);
    let error = complaint(&scene.online());
    assert!(expected.iter().all(|part| error.contains(part)), "{error}");
    let error = complaint(&scene.offline());
    assert!(error.contains("some/model is not complete in the hub's cache"), "{error}");
    scene.server.works();
    scene.patience = "20";
    let mended = answer(&scene.online());
    assert_eq!(mended, answer(&scene.offline()));
    assert!(!mended.trim().is_empty());
}

#[test]
fn a_cold_hub_gives_an_answer_and_the_cache_gives_it_again() {
    let mut scene = Scene::new();
    let cold = answer(&scene.online());
    assert!(!scene.server.asked().is_empty());
    let local = answer(
        &rlvr(&["sample", "--model", "tiny", "--raw", "--prompt", "Q: What is 12+34?\nA:", "--max-new", "4", "--temperature", "0"])
            .output()
            .unwrap(),
    );
    assert_eq!(cold, local, "the very model that was served");

    // Again: no contents cross the wire; offline nothing does, by branch, tag or commit.
    assert_eq!(answer(&scene.online()), cold);
    let again = scene.server.asked();
    assert!(again.iter().all(|asked| asked.method == "HEAD"), "{again:?}");
    assert_eq!(answer(&scene.offline()), cold);
    assert_eq!(answer(&scene.command(&format!("some/model@{COMMIT}")).env("HF_HUB_OFFLINE", "1").output().unwrap()), cold);
    assert!(scene.server.asked().is_empty());
    assert_eq!(answer(&scene.command("some/model@v1").output().unwrap()), cold);
    assert!(scene.files().keys().any(|file| file.contains("hub/models--some--model/snapshots")), "{:?}", scene.files().keys());

    // A hub that is away, or says nothing, is no reason to stop when everything is there.
    for (fault, patience) in [(Fault::Status(503), "20"), (Fault::Silent, "2")] {
        scene.patience = patience;
        scene.server.fails("/", fault);
        let output = scene.online();
        assert_eq!(answer(&output), cold);
        assert!(told(&output).contains("going on with the copy in the hub's cache"), "{output:?}");
    }
}

#[test]
fn a_sharded_checkpoint_comes_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("tiny");
    succeed(&["init", "--like", "tiny", "--out", checkpoint.to_str().unwrap()]);
    shard(&checkpoint);
    let scene = Scene::of(&checkpoint);
    scene.server.fails("model-00002-of-00002.safetensors", Fault::CutAfter(1000));
    let error = complaint(&scene.online());
    assert!(error.contains("the transfer of model-00002-of-00002.safetensors broke off"), "{error}");
    let error = complaint(&scene.offline());
    assert!(error.contains("(model-00002-of-00002.safetensors is missing)"), "{error}");
    scene.server.works();
    scene.server.asked();
    let whole = answer(&scene.online());
    assert!(
        scene.server.asked().iter().all(|asked| asked.method == "HEAD" || !asked.path.contains("00001-of")),
        "the first shard was kept"
    );
    assert_eq!(whole, answer(&scene.offline()));

    scene.server.removes("model-00002-of-00002.safetensors");
    let scene = Scene { home: tempfile::tempdir().unwrap(), ..scene };
    let error = complaint(&scene.online());
    assert!(error.contains("some/model on the hub has no model-00002-of-00002.safetensors"), "{error}");
}

/// Deals the tensors of a folder's weights to two files with an index.
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
fn a_transfer_that_breaks_off_is_not_kept() {
    let broke = ["broke off", "run the same command again"];
    check("/contents/model.safetensors", Fault::CutAfter(50_000), &broke);
    check("/contents/model.safetensors", Fault::CutInChunks(50_000), &broke);
    check("/api/resolve-cache/config.json", Fault::CutAfter(20), &["the transfer of config.json broke off"]);
}

#[test]
fn contents_that_do_not_match_their_hash_are_not_kept() {
    let damaged = ["model.safetensors of some/model came damaged", "sha256", "was thrown away", "run the same command again"];
    check("/contents/model.safetensors", Fault::Spoiled, &damaged);
    check("/contents/model.safetensors", Fault::EndsAfter(50_000), &damaged);
    check("/contents/tokenizer.json", Fault::Spoiled, &["tokenizer.json of some/model came damaged"]);
    check("/api/resolve-cache/config.json", Fault::Spoiled, &["config.json of some/model came damaged", "git sha1"]);
    // hf-hub takes the page of an error for the file.
    check("/contents/model.safetensors", Fault::StatusOfContents(403), &damaged);
    check("/api/resolve-cache/config.json", Fault::StatusOfContents(500), &["config.json of some/model came damaged"]);
}

#[test]
fn a_hub_that_fails_is_one_sentence() {
    check("/resolve/", Fault::Status(500), &["the hub fails (500", "run the same command again later", "--model DIR"]);
    check("/resolve/", Fault::Status(503), &["the hub fails (503"]);
    check("/contents/model.safetensors", Fault::StatusOfContents(503), &["came damaged"]);
    check("/resolve/", Fault::Status(429), &["the hub asks to wait (429"]);
    check("/resolve/", Fault::Plain, &["does not answer as the hub does", "check HF_ENDPOINT"]);
}

#[test]
fn a_hub_that_says_nothing_is_given_up() {
    let silent = ["the hub said nothing for 2 s", "HF_HUB_DOWNLOAD_TIMEOUT", "--model DIR"];
    check("/resolve/", Fault::Silent, &silent);
    check("/contents/model.safetensors", Fault::Silent, &silent);
    check("/contents/model.safetensors", Fault::StallsAfter(50_000), &silent);
}

#[test]
fn what_does_not_exist_is_named() {
    let scene = Scene::new();
    let error = complaint(&scene.command("some/model@never").output().unwrap());
    assert!(error.contains("the model some/model has no revision \"never\""), "{error}");
    let error = complaint(&scene.command("other/model").output().unwrap());
    assert!(error.contains("the hub has no model other/model"), "{error}");
    scene.server.removes("tokenizer.json");
    let error = complaint(&scene.online());
    assert!(error.contains("some/model on the hub has no tokenizer.json") && error.contains("--model DIR"), "{error}");
    let error = complaint(&scene.offline());
    assert!(error.contains("not complete in the hub's cache (tokenizer.json is missing)"), "{error}");
    let nobody = scene.command("some/model").env("HF_ENDPOINT", "http://127.0.0.1:1").output().unwrap();
    let error = complaint(&nobody);
    assert!(error.contains("cannot reach the hub for some/model") && error.contains("--model DIR"), "{error}");
    let error = complaint(&scene.command("some/model").env("HF_ENDPOINT", "not an address").output().unwrap());
    assert!(error.contains("check HF_ENDPOINT"), "{error}");
}

#[test]
fn the_token_goes_to_the_hub_alone_and_into_no_log() {
    const TOKEN: &str = "hf_a-secret-that-nobody-prints";
    let scene = Scene::new();
    scene.server.wants_token(TOKEN);
    let error = complaint(&scene.online());
    assert!(error.contains("private or gated") && error.contains("set HF_TOKEN"), "{error}");
    let error = complaint(&scene.command("some/model").env("HF_TOKEN", "hf_wrong").output().unwrap());
    assert!(error.contains("the hub does not accept the token in HF_TOKEN") && !error.contains("hf_wrong"), "{error}");
    let error = complaint(&scene.command("some/model").env("HF_TOKEN", "of-somebody-else").output().unwrap());
    assert!(error.contains("the token in use may not read some/model") && !error.contains("of-somebody-else"), "{error}");
    assert!(complaint(&scene.offline()).contains("not complete"));

    scene.server.asked();
    let output = scene.command("some/model").env("HF_TOKEN", TOKEN).env("RUST_LOG", "trace").output().unwrap();
    answer(&output);
    assert!(!told(&output).contains("a-secret"), "{}", told(&output));
    let (contents, hub): (Vec<_>, Vec<_>) = scene.server.asked().into_iter().partition(|asked| asked.path.starts_with("/contents/"));
    let bearer = format!("Bearer {TOKEN}");
    assert!(!hub.is_empty() && hub.iter().all(|asked| asked.authorization.as_ref() == Some(&bearer)), "{hub:?}");
    assert!(!contents.is_empty() && contents.iter().all(|asked| asked.authorization.is_none()), "{contents:?}");
    assert!(scene.files().values().all(|file| !file.windows(8).any(|bytes| bytes == b"a-secret")));

    // The token's file below HF_HOME serves as well.
    let scene = Scene { home: tempfile::tempdir().unwrap(), ..scene };
    std::fs::write(scene.home.path().join("token"), format!("{TOKEN}\n")).unwrap();
    answer(&scene.online());
}

#[test]
fn two_processes_at_once_both_get_it_and_it_comes_once() {
    let scene = Scene::new();
    scene.server.fails("/contents/model.safetensors", Fault::Slow(Duration::from_secs(3)));
    let children: Vec<Child> = (0..2).map(|_| scene.command("some/model").spawn().unwrap()).collect();
    let outputs: Vec<Output> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    assert_eq!(answer(&outputs[0]), answer(&outputs[1]));
    let weights = scene.server.asked().into_iter().filter(|asked| asked.path == "/contents/model.safetensors" && asked.method == "GET");
    assert_eq!(weights.count(), 1);
    let waited = outputs.iter().filter(|output| told(output).contains("waiting for it"));
    assert_eq!(waited.count(), 1);
}

#[test]
fn what_a_killed_process_left_is_looked_at() {
    let scene = Scene::new();
    scene.server.fails("/contents/model.safetensors", Fault::StallsAfter(50_000));
    let mut child = scene.command("some/model").env("HF_HUB_DOWNLOAD_TIMEOUT", "50").spawn().unwrap();
    wait_for("a request", || scene.server.asked().iter().any(|asked| asked.path == "/contents/model.safetensors"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(complaint(&scene.offline()).contains("(model.safetensors is missing)"));

    // Worse: it was killed when a file had its name already, but not the right contents.
    let tokenizer = scene.files().into_keys().find(|file| file.ends_with("/tokenizer.json")).unwrap();
    std::fs::write(scene.home.path().join(tokenizer), "{}").unwrap();
    assert!(complaint(&scene.offline()).contains("(tokenizer.json is missing)"));
    scene.server.works();
    assert_eq!(answer(&scene.online()), answer(&scene.offline()));
}

#[test]
fn without_a_terminal_no_bar_is_drawn() {
    let scene = Scene::new();
    let output = scene.online();
    answer(&output);
    assert_eq!(told(&output), "");
}
