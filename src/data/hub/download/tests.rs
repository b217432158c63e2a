use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use super::*;
use crate::data::DownloadProgress;

const COMMIT: &str = "0123456789012345678901234567890123456789";

#[test]
fn model_name_parses_and_prints() {
    let check = |text: &str, owner: &str, name: &str, revision: Option<&str>| {
        let model = ModelName::parse(text).unwrap();
        assert_eq!((model.owner.as_str(), model.name.as_str(), model.revision.as_deref()), (owner, name, revision));
        assert_eq!(model.to_string(), text);
    };
    check("Qwen/Qwen2.5-Math-1.5B", "Qwen", "Qwen2.5-Math-1.5B", None);
    check("Qwen/Qwen2.5-Math-1.5B@main", "Qwen", "Qwen2.5-Math-1.5B", Some("main"));
    for bad in ["", "tiny", "a/b/c", "/b", "a/", "a/b@", "a/b@/x", "a/b@../x", "a/b@x//y", "../b", "a/..", "./b", "a b/c"] {
        let error = ModelName::parse(bad).unwrap_err().to_string();
        assert!(error.contains("--model OWNER/NAME"), "{error}");
    }
}

#[test]
fn fetch_offline_uses_only_the_cache() {
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub { endpoint: None, cache: Some(cache.path().into()), offline: true, ..Hub::from_env() };
    let no_progress: OnProgress = Arc::new(|_| {});
    let fetch = || hub.fetch(&ModelName::parse("some/model").unwrap(), &no_progress);
    let error = fetch().unwrap_err().to_string();
    assert!(
        error.contains("some/model is incomplete in the hub's cache (config.json is missing)") && error.contains("--model DIR"),
        "{error}"
    );

    // A complete cache suffices; otherwise the error names the missing file.
    let repository = cache.path().join("models--some--model");
    let folder = repository.join("snapshots").join(COMMIT);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::create_dir_all(repository.join("refs")).unwrap();
    std::fs::write(repository.join("refs/main"), COMMIT).unwrap();
    for name in REQUIRED {
        std::fs::write(folder.join(name), "{}").unwrap();
    }
    assert!(fetch().unwrap_err().to_string().contains("(model.safetensors is missing)"));
    std::fs::write(
        folder.join(WEIGHTS_INDEX),
        r#"{"weight_map": {"a": "x-1.safetensors", "b": "x-2.safetensors", "c": "x-1.safetensors"}}"#,
    )
    .unwrap();
    std::fs::write(folder.join("x-1.safetensors"), "").unwrap();
    assert!(fetch().unwrap_err().to_string().contains("(x-2.safetensors is missing)"));
    std::fs::write(folder.join("x-2.safetensors"), "").unwrap();
    assert_eq!(fetch().unwrap(), folder);
    std::fs::write(folder.join(WEIGHTS_INDEX), r#"{"weight_map": {"a": "../../secret.safetensors"}}"#).unwrap();
    assert!(fetch().unwrap_err().to_string().contains("lists \"../../secret.safetensors\""));
}

#[test]
fn fetch_names_an_unreachable_endpoint() {
    let cache = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let hub =
        Hub { endpoint: Some(format!("http://127.0.0.1:{port}")), cache: Some(cache.path().into()), offline: false, ..Hub::from_env() };
    let no_progress: OnProgress = Arc::new(|_| {});
    let error = hub.fetch(&ModelName::parse("some/model@main").unwrap(), &no_progress).unwrap_err().to_string();
    assert!(error.contains("cannot reach the hub for some/model@main") && !error.contains('\n'), "{error}");
}

/// Serves one model with one weights file like the hub: metadata by HEAD, contents by GET, 404 for missing files. Returns the server's
/// address and a list that receives the request lines.
fn serve_hub(files: &'static [(&'static str, &'static str)]) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let requested = Arc::new(Mutex::new(Vec::new()));
    let requests = Arc::clone(&requested);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while reader.read_line(&mut head).unwrap() > 2 {}
            let request = head.lines().next().unwrap_or_default().to_owned();
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let found = files.iter().find(|(name, _)| path.starts_with("/some/model/resolve/") && path.ends_with(&format!("/{name}")));
            let answer = match found {
                Some((name, content)) => format!(
                    "HTTP/1.1 200 OK\r\nETag: \"{name}\"\r\nX-Repo-Commit: {COMMIT}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
                    content.len(),
                    if request.starts_with("HEAD") { "" } else { content }
                ),
                None if ["/api/models/some/model", "/api/models/some/model/revision/main"].contains(&path.as_str()) => {
                    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}".to_owned()
                }
                None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
            };
            requests.lock().unwrap().push(request);
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (address, requested)
}

#[test]
fn fetch_downloads_a_model_once() {
    let cache = tempfile::tempdir().unwrap();
    let (endpoint, requested) = serve_hub(&[("config.json", "{}"), ("tokenizer.json", "[]"), ("model.safetensors", "weights")]);
    let hub = |offline| Hub { endpoint: Some(endpoint.clone()), cache: Some(cache.path().into()), offline, ..Hub::from_env() };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&seen);
    let on_progress: OnProgress = Arc::new(move |transfer| listener.lock().unwrap().push(transfer.clone()));
    let fetch = |hub: Hub, name: &str| hub.fetch(&ModelName::parse(name).unwrap(), &on_progress);

    let folder = fetch(hub(false), "some/model").unwrap();
    assert_eq!(std::fs::read_to_string(folder.join("model.safetensors")).unwrap(), "weights");
    assert!(!folder.join("generation_config.json").exists());
    let weights = DownloadProgress { name: "model.safetensors".into(), received_bytes: 7, total_bytes: Some(7) };
    assert!(seen.lock().unwrap().contains(&weights), "{seen:?}");

    // The second fetch sends only HEAD requests, and offline fetches send none.
    requested.lock().unwrap().clear();
    assert_eq!(fetch(hub(false), "some/model").unwrap(), folder);
    assert!(requested.lock().unwrap().iter().all(|request| request.starts_with("HEAD")), "{requested:?}");
    requested.lock().unwrap().clear();
    assert_eq!(fetch(hub(true), "some/model").unwrap(), folder);
    assert_eq!(fetch(hub(true), &format!("some/model@{COMMIT}")).unwrap(), folder);
    assert_eq!(*requested.lock().unwrap(), [""; 0]);

    let error = fetch(hub(false), "other/model").unwrap_err().to_string();
    assert!(error.contains("the hub has no model other/model"), "{error}");
    assert!(fetch(hub(false), "some/model@main").is_ok());
}

#[test]
fn fetch_without_weights_leaves_out_the_weights() {
    let cache = tempfile::tempdir().unwrap();
    let (endpoint, requested) = serve_hub(&[("config.json", "{}"), ("tokenizer.json", "[]"), ("model.safetensors", "weights")]);
    let hub = Hub { endpoint: Some(endpoint), cache: Some(cache.path().into()), offline: false, ..Hub::from_env() };
    let no_progress: OnProgress = Arc::new(|_| {});
    let name = ModelName::parse("some/model").unwrap();
    let folder = hub.fetch_without_weights(&name, &no_progress).unwrap();
    assert_eq!(std::fs::read_to_string(folder.join("tokenizer.json")).unwrap(), "[]");
    assert!(!folder.join("model.safetensors").exists());
    assert!(requested.lock().unwrap().iter().all(|request| !request.contains("safetensors")), "{requested:?}");
    assert_eq!(Hub { offline: true, ..hub.clone() }.fetch_without_weights(&name, &no_progress).unwrap(), folder);

    // The weights can be fetched later.
    assert_eq!(hub.fetch(&name, &no_progress).unwrap(), folder);
    assert_eq!(std::fs::read_to_string(folder.join("model.safetensors")).unwrap(), "weights");
}

#[test]
fn fetch_names_a_file_that_the_hub_lacks() {
    let cache = tempfile::tempdir().unwrap();
    let (endpoint, _) = serve_hub(&[("config.json", "{}"), ("tokenizer.json", "[]"), ("pytorch_model.bin", "weights")]);
    let hub = Hub { endpoint: Some(endpoint), cache: Some(cache.path().into()), offline: false, ..Hub::from_env() };
    let no_progress: OnProgress = Arc::new(|_| {});
    let error = hub.fetch(&ModelName::parse("some/model").unwrap(), &no_progress).unwrap_err().to_string();
    assert!(error.contains("some/model on the hub has no model.safetensors"), "{error}");

    let (endpoint, _) = serve_hub(&[]);
    let hub = Hub { endpoint: Some(endpoint), ..hub };
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub { cache: Some(cache.path().into()), ..hub };
    let error = hub.fetch(&ModelName::parse("some/model@never").unwrap(), &no_progress).unwrap_err().to_string();
    assert!(error.contains("some/model has no revision \"never\""), "{error}");
}
