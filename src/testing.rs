//! Tests that need something outside the repository: files that are too large or not ours, a C++ compiler, a GPU. [`available`] decides
//! whether such a test runs, fails, or counts as not run. The integration tests include this file, too (`tests/it/main.rs`).

use std::io::Write;
use std::path::{Path, PathBuf};

/// Returns a test's requirement if it was found. If it is missing and the environment has `variable=1`, fails the test. Otherwise returns
/// `None`, and the caller returns without testing anything. The test's name, a tab and the missing requirement are then printed on stderr
/// and appended as a line to the file in `RLVR_DID_NOT_RUN`, if set.
pub(crate) fn available<T>(found: Result<T, String>, variable: &str) -> Option<T> {
    let missing = match found {
        Ok(found) => return Some(found),
        Err(missing) => missing,
    };
    let is_required = std::env::var(variable).is_ok_and(|value| value == "1");
    assert!(!is_required, "{missing}, and {variable}=1 requires it");
    // libtest names the thread of a test after the test.
    let line = format!("{}\t{missing}\n", std::thread::current().name().unwrap_or("a test"));
    // libtest hides the output of `eprint!` if a test passes.
    std::io::stderr().write_all(format!("DID NOT RUN: {line}").as_bytes()).expect("stderr can be written");
    if let Some(path) = std::env::var_os("RLVR_DID_NOT_RUN") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the file in RLVR_DID_NOT_RUN can be written");
    }
    None
}

/// Returns a path in the shared folder: `RLVR_SHARED_DIR`, or `../shared` relative to the checkout. `RLVR_REQUIRE_SHARED=1` requires it.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let root = match std::env::var_os("RLVR_SHARED_DIR") {
        Some(root) => PathBuf::from(root),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
    };
    let path = root.join(path);
    let missing = format!("{} is missing (set RLVR_SHARED_DIR to the folder that contains it)", path.display());
    available(path.exists().then_some(path).ok_or(missing), "RLVR_REQUIRE_SHARED")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    #[ignore = "stands for a test whose file is missing; the test below runs it"]
    fn a_test_whose_file_is_missing() {
        assert_eq!(shared("no/such/file"), None);
    }

    #[test]
    fn available_fails_a_required_test_and_counts_others_as_not_run() {
        let folder = tempfile::tempdir().unwrap();
        let record = folder.path().join("did-not-run");
        // Run in another process, because all tests of this one share its environment.
        let passes = |required: &str| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--ignored", "--exact", "testing::tests::a_test_whose_file_is_missing"]);
            command.env("RLVR_SHARED_DIR", "/nonexistent").env("RLVR_DID_NOT_RUN", &record).env("RLVR_REQUIRE_SHARED", required);
            let output = command.output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(text.contains("running 1 test"), "{text}");
            assert!(required == "0" || text.contains("/nonexistent/no/such/file is missing"), "{text}");
            output.status.success()
        };
        assert!(!passes("1") && !record.exists());
        assert!(passes("0") && passes("0"));
        let line = "testing::tests::a_test_whose_file_is_missing\t/nonexistent/no/such/file is missing";
        let lines = std::fs::read_to_string(&record).unwrap();
        assert!(lines.lines().count() == 2 && lines.lines().all(|found| found.starts_with(line)), "{lines}");
    }
}
