//! What tests need that the repository does not hold: files that are too large or not ours, a C++ compiler, a GPU. One function decides whether
//! such a test runs, fails, or is counted as one that did not run. The integration tests include this file, too (`tests/it/main.rs`).

use std::io::Write;
use std::path::{Path, PathBuf};

/// What a test needs, when it was found. When it is missing and the environment has `variable=1`, the test fails. Otherwise the caller returns
/// without having tested anything: a line on stderr says so, and the same line goes into the file that `RLVR_DID_NOT_RUN` names, if it is set.
/// The line has the test's name, a tab, and what is missing.
pub(crate) fn available<T>(found: Result<T, String>, variable: &str) -> Option<T> {
    let missing = match found {
        Ok(found) => return Some(found),
        Err(missing) => missing,
    };
    let is_required = std::env::var(variable).is_ok_and(|value| value == "1");
    assert!(!is_required, "{missing}, and {variable}=1 requires it");
    // libtest names the thread of a test after the test.
    let line = format!("{}\t{missing}\n", std::thread::current().name().unwrap_or("a test"));
    // Not by `eprint`, which libtest hides where a test passes.
    std::io::stderr().write_all(format!("DID NOT RUN: {line}").as_bytes()).expect("stderr can be written");
    if let Some(path) = std::env::var_os("RLVR_DID_NOT_RUN") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the file that RLVR_DID_NOT_RUN names can be written");
    }
    None
}

/// A path below the shared folder: `RLVR_SHARED_DIR`, else `../shared` beside the checkout. `RLVR_REQUIRE_SHARED=1` requires it.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let root = match std::env::var_os("RLVR_SHARED_DIR") {
        Some(root) => PathBuf::from(root),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
    };
    let path = root.join(path);
    let missing = format!("{} is not there (set RLVR_SHARED_DIR to the folder that has it)", path.display());
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
    fn a_test_whose_file_is_missing_fails_where_it_is_required_and_is_counted_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let record = folder.path().join("did-not-run");
        // In another process: this one's environment is the one of all its tests.
        let is_passed = |required: &str| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--ignored", "--exact", "testing::tests::a_test_whose_file_is_missing"]);
            command.env("RLVR_SHARED_DIR", "/nonexistent").env("RLVR_DID_NOT_RUN", &record).env("RLVR_REQUIRE_SHARED", required);
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(said.contains("running 1 test"), "{said}");
            assert!(required == "0" || said.contains("/nonexistent/no/such/file is not there"), "{said}");
            output.status.success()
        };
        assert!(!is_passed("1") && !record.exists());
        assert!(is_passed("0") && is_passed("0"));
        let line = "testing::tests::a_test_whose_file_is_missing\t/nonexistent/no/such/file is not there";
        let lines = std::fs::read_to_string(&record).unwrap();
        assert!(lines.lines().count() == 2 && lines.lines().all(|found| found.starts_with(line)), "{lines}");
    }
}
