//! Tests files that end in mid-line, resumed files, numbers that are not finite, and corrupt files.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    step: u64,
    #[serde(deserialize_with = "null_as_nan")]
    loss: f64,
}

fn line(step: u64) -> Line {
    Line { step, loss: step as f64 / 2.0 }
}

/// Makes a temporary folder and a file in it with this content.
fn file_with(content: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    fs::write(&path, content).unwrap();
    (folder, path)
}

#[test]
fn read_returns_written_records() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let mut lines = JsonLines::create(&path).unwrap();
    for step in 0..3 {
        lines.write(&line(step)).unwrap();
        assert_eq!(read::<Line>(&path).unwrap().len() as u64, step + 1);
    }
    assert_eq!(read::<Line>(&path).unwrap(), [line(0), line(1), line(2)]);
    let message = format!("{:#}", JsonLines::create(&path).unwrap_err());
    assert!(message.contains("metrics.jsonl"), "{message}");
}

#[test]
fn null_as_nan_reads_numbers_that_are_not_finite() {
    let (_folder, path) = file_with("");
    let mut lines = JsonLines::resume(&path, 0).unwrap();
    for loss in [f64::NAN, f64::INFINITY] {
        lines.write(&Line { step: 0, loss }).unwrap();
    }
    let back = read::<Line>(&path).unwrap();
    assert_eq!(back.len(), 2);
    assert!(back.iter().all(|line| line.loss.is_nan()));
}

#[test]
fn resume_keeps_steps_up_to_the_checkpoint() {
    let check = |content: &str, last_step: u64, remaining: &str| {
        let (folder, path) = file_with(content);
        let mut lines = JsonLines::resume(&path, last_step).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), remaining);
        lines.write(&line(9)).unwrap();
        let expected = format!("{remaining}{{\"step\":9,\"loss\":4.5}}\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    };
    let three = "{\"step\":1}\n{\"step\": 2, \"x\": 1.50}\n{\"step\":3}\n";
    check(three, 0, "");
    check(three, 2, "{\"step\":1}\n{\"step\": 2, \"x\": 1.50}\n");
    check(three, 7, three);
    check("", 3, "");
    // Torn in the middle of a value and of a key, and a complete record without a line end.
    check("{\"step\":1}\n{\"step\":2,\"lo", 7, "{\"step\":1}\n");
    check("{\"step\":1}\n{\"st", 7, "{\"step\":1}\n");
    check("{\"step\":1}\n{\"step\":2}", 7, "{\"step\":1}\n{\"step\":2}\n");
    // Several lines per step, as in rollout files.
    check("{\"step\":1}\n{\"step\":1}\n{\"step\":2}\n", 1, "{\"step\":1}\n{\"step\":1}\n");
}

#[test]
fn resume_drops_a_torn_character() {
    let (_folder, path) = file_with("");
    fs::write(&path, b"{\"step\":1}\n{\"step\":2,\"text\":\"\xc3").unwrap();
    JsonLines::resume(&path, 7).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"step\":1}\n");
}

#[test]
fn resume_creates_a_missing_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    JsonLines::resume(&path, 4).unwrap().write(&line(5)).unwrap();
    assert_eq!(read::<Line>(&path).unwrap(), [line(5)]);
}

#[test]
fn read_names_a_corrupt_line_and_resume_drops_it() {
    for (content, part) in [
        ("{\"step\":1,\"loss\":1}\nnonsense\n{\"step\":2,\"loss\":1}\n", "line 2: expected ident at column 2"),
        ("{\"step\":1,\"loss\":1}\n\n{\"loss\":1}\n", "line 3: missing field `step`"),
        ("{\"step\":1,\"loss\":1}\n{\"step\":-1}\n", "line 2: invalid value"),
    ] {
        let (folder, path) = file_with(content);
        let message = format!("{:#}", read::<Line>(&path).unwrap_err());
        assert!(message.contains(part), "{message}");
        assert!(message.contains("metrics.jsonl"), "{message}");
        JsonLines::resume(&path, 1).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"step\":1,\"loss\":1}\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
    let (_folder, path) = file_with("{\"step\":1,\"loss\":1}\n{\"step\":2}\n");
    let message = format!("{:#}", read::<Line>(&path).unwrap_err());
    assert!(message.contains("line 2: missing field `loss`"), "{message}");
    assert!(read::<Line>(Path::new("no/such.jsonl")).is_err());
}

#[test]
fn read_skips_a_line_being_written() {
    let (_folder, path) = file_with("{\"step\":1,\"loss\":1}\n{\"step\":2,\"lo");
    assert_eq!(read::<Line>(&path).unwrap().len(), 1);
}

/// Users' files may start with a byte order mark and have any line ends.
#[test]
fn read_input_accepts_any_line_ends_and_names_bad_fields() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Inner {
        inner: Vec<u8>,
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.jsonl");
    let read = |content: &str| {
        std::fs::write(&path, content).unwrap();
        read_input::<Inner>(&path)
    };
    let records = read("\u{FEFF}{\"inner\": [1]}\u{2028}\r\n\r\n{\"inner\": []}\u{2029}").unwrap();
    let records: Vec<(&str, usize)> =
        records.iter().map(|(location, record)| (&location[location.len() - 6..], record.inner.len())).collect();
    assert_eq!(records, [("line 1", 1), ("line 3", 0)]);
    let check = |content: &str, expected: &str| {
        let error = read(content).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("\n{\"inner\": [1, 256]}", "in.jsonl, line 2: `inner[1]`: invalid value: integer `256`, expected u8");
    check("{\"inner\": [1", "in.jsonl, line 1: `inner`: EOF");
    check("{}", "in.jsonl, line 1: missing field `inner`");
    check("{\"inner\": []} {}", "in.jsonl, line 1: trailing characters at column");
    check("\u{FEFF}\n\u{2028}\n", "has no lines");
}

#[test]
fn last_returns_the_last_complete_record() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.jsonl");
    let check = |text: &str, expected: Option<u64>| {
        fs::write(&path, text).unwrap();
        assert_eq!(last::<u64>(&path), expected, "{} bytes", text.len());
    };
    assert_eq!(last::<u64>(&path), None);
    check("", None);
    check("1", None);
    check("1\n", Some(1));
    check("1\n2\n3", Some(2));
    check("1\n2\n\"three\"\n", None);
    check(&format!("{}7\n8", "1\n".repeat(100_000)), Some(7));
}
