use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Mutex;

use super::*;

const BODY: &[u8] = b"{\"question\": \"1+1\"}\n";
/// `sha256` is the checksum of `BODY`, from `sha256sum`.
const FILE: Pinned = Pinned {
    repository: "some/one",
    commit: "0123",
    path: "a/b.jsonl",
    local: "test/b.jsonl",
    sha256: "20910e86d28c0299394dbaf406f57c3d1dc89ecbbeaa4a7cf6571e364e473777",
};

/// Serves one of `answers` unchanged per connection, in order, then stops listening. Returns the server's address and a list that receives
/// the request lines.
fn serve(answers: Vec<Vec<u8>>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let requested = Arc::new(Mutex::new(Vec::new()));
    let requests = Arc::clone(&requested);
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap() == 0 {
                    break;
                }
                head.push(byte[0]);
            }
            requests.lock().unwrap().push(String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned());
            stream.write_all(&answer).unwrap();
        }
    });
    (address, requested)
}

fn answer(status: &str, length: usize, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n").as_bytes(), body].concat()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { files_below(&path) } else { vec![path] }
        })
        .collect()
}

#[test]
fn path_downloads_a_file_once() {
    let cache = tempfile::tempdir().unwrap();
    let (address, requested) = serve(vec![answer("200 OK", BODY.len(), BODY)]);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&seen);
    let store = test_store(None, cache.path(), &address)
        .on_progress(Arc::new(move |transfer| listener.lock().unwrap().push((transfer.received_bytes, transfer.total_bytes))));
    let path = store.path(&FILE).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), BODY);
    assert_eq!(store.path(&FILE).unwrap(), path);
    assert_eq!(*requested.lock().unwrap(), ["GET /some/one/0123/a/b.jsonl HTTP/1.1"]);
    assert_eq!(files_below(cache.path()), [path]);
    let total = BODY.len() as u64;
    assert_eq!(seen.lock().unwrap().last(), Some(&(total, Some(total))));
}

#[test]
fn path_leaves_no_files_after_a_failed_download() {
    let check = |answers: Vec<Vec<u8>>, expected: &str| {
        let cache = tempfile::tempdir().unwrap();
        let (address, _) = serve(answers);
        let error = test_store(None, cache.path(), &address).path(&FILE).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("--data-dir DIR or RLVR_DATA_DIR") && !error.contains('\n'), "{error}");
        assert_eq!(files_below(cache.path()), Vec::<PathBuf>::new());
    };
    check(vec![answer("200 OK", 5, b"wrong")], "the download was discarded");
    check(vec![answer("200 OK", BODY.len(), &BODY[..7])], "was interrupted after 7 bytes");
    check(vec![b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"que\r\n".to_vec()], "was interrupted after 5 bytes");
    check(vec![b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"que".to_vec()], "the download was discarded");
    check(vec![answer("404 Not Found", 0, b"")], "404 Not Found");
    check(vec![], "cannot download test/b.jsonl");
    check(vec![Vec::new()], "cannot download test/b.jsonl");
}

#[test]
fn path_replaces_a_corrupt_cached_file_and_refuses_a_corrupt_user_file() {
    let cache = tempfile::tempdir().unwrap();
    let cached = cache.path().join("data").join(FILE.local);
    std::fs::create_dir_all(cached.parent().unwrap()).unwrap();
    std::fs::write(&cached, "half").unwrap();
    let (address, _) = serve(vec![answer("200 OK", BODY.len(), BODY)]);
    test_store(None, cache.path(), &address).path(&FILE).unwrap();
    assert_eq!(std::fs::read(&cached).unwrap(), BODY);

    let folder = cache.path().join("data");
    let own = || test_store(Some(folder.clone()), Path::new("/nonexistent"), "");
    assert_eq!(own().path(&FILE).unwrap(), cached);
    std::fs::write(&cached, "edited").unwrap();
    let error = own().path(&FILE).unwrap_err().to_string();
    assert!(error.contains("is not the published file") && error.contains("b.jsonl"), "{error}");
}

#[test]
fn path_and_open_explain_offline_mode_and_missing_folders() {
    let cache = tempfile::tempdir().unwrap();
    let error = test_store(None, cache.path(), "").path(&FILE).unwrap_err().to_string();
    assert!(error.contains("HF_HUB_OFFLINE") && error.contains("--data-dir DIR or RLVR_DATA_DIR"), "{error}");
    let error = DataStore::open(Some(&cache.path().join("none"))).err().unwrap().to_string();
    assert!(error.contains("does not exist"), "{error}");
}
