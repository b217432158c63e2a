use std::fs;
use std::path::PathBuf;

use super::*;
use crate::data::store::{shared_store, test_store};
use crate::testing::shared;

fn empty_store() -> DataStore {
    test_store(None, Path::new("/nonexistent"), "")
}

fn file(folder: &tempfile::TempDir, name: &str, content: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    path
}

#[test]
fn resolve_reads_every_file_format() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, content: &str, expected: &[(&str, &str, &str)]| {
        let path = file(&folder, name, content);
        let problems = resolve(path.to_str().unwrap(), &empty_store()).unwrap();
        let got: Vec<_> = problems.iter().map(|p| (p.id.as_str(), p.question.as_str(), p.answer.as_str())).collect();
        assert_eq!(got, expected, "{name}");
    };
    check(
        "a.jsonl",
        "\u{FEFF}{\"question\": \"q\", \"answer\": \"1\"}\n\n{\"id\": 5, \"problem\": \"p\", \"answer\": 27.0, \"other\": [1]}\r\n",
        &[("a/0", "q", "1"), ("5", "p", "27")],
    );
    check("a,b.jsonl", r#"{"question": "q", "answer": 0.5}"#, &[("a,b", "q", "0.5")]);
    check("one.json", r#"{"question": "q", "answer": -3, "subject": "s", "level": 4}"#, &[("one", "q", "-3")]);
    check(
        "two.json",
        r#"[{"question": "q", "answer": "1"}, {"question": "r", "answer": "2"}]"#,
        &[("two/0", "q", "1"), ("two/1", "r", "2")],
    );
    check("one.toml", "id = \"mine\"\nquestion = '''\nHow \\much?'''\nanswer = 12.8\n", &[("mine", "How \\much?", "12.8")]);
}

#[test]
fn resolve_parses_answers() {
    let folder = tempfile::tempdir().unwrap();
    let check = |answer: &str, expected: &str, alternatives: &[&str]| {
        let path = file(&folder, "a.jsonl", &format!("{{\"question\": \"q\", \"answer\": {answer}}}"));
        let problem = &resolve(path.to_str().unwrap(), &empty_store()).unwrap()[0];
        assert_eq!((problem.answer.as_str(), problem.alternatives.iter().map(String::as_str).collect()), (expected, alternatives.to_vec()));
    };
    check("123456789012345678901234567890", "123456789012345678901234567890", &[]);
    check("18446744073709551616", "18446744073709551616", &[]);
    check(r#""['70']""#, "70", &[]);
    check(r#"["70", 71.0]"#, "70", &["71"]);
    check(r#""48+24 = <<48+24=72>>72.\n#### 72""#, "72", &[]);
    // Rewards that need no label accept a row without an answer.
    let path = file(&folder, "b.jsonl", "{\"question\": \"q\", \"answer\": \"None\"}");
    assert_eq!(resolve_unlabeled(path.to_str().unwrap(), &empty_store()).unwrap()[0].answer, "");
    let toml = file(&folder, "c.toml", "question = \"q\"\u{2028}answer = 3.14159265358979323846\n");
    assert_eq!(resolve(toml.to_str().unwrap(), &empty_store()).unwrap()[0].answer, "3.14159265358979323846");
    let json = file(&folder, "d.json", "\u{FEFF}[{\"question\": \"q\u{2028}\", \"answer\": 1}]\u{2028}\n");
    assert_eq!(resolve(json.to_str().unwrap(), &empty_store()).unwrap()[0].question, "q\u{2028}");
}

#[test]
fn resolve_accepts_inline_problems() {
    let specification = inline("What is \"1, 2\"?", Some("-1/2"));
    let problems = resolve(&specification, &empty_store()).unwrap();
    assert_eq!(
        (problems[0].id.as_str(), problems[0].question.as_str(), problems[0].answer.as_str()),
        ("inline", "What is \"1, 2\"?", "-1/2")
    );
    assert_eq!((title(&specification).as_str(), title("pi1,pi13").as_str()), ("inline", "pi1,pi13"));
    assert_eq!(title(r#"{"id": "mine", "question": "q", "answer": 1}"#), "mine");
    for (bad, expected) in
        [(inline(" ", Some("1")), "the question is empty"), (inline("q", Some("")), "the answer is empty"), ("{".into(), "not JSON")]
    {
        let error = resolve(&bad, &empty_store()).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn resolve_joins_sources_without_repeats() {
    let folder = tempfile::tempdir().unwrap();
    let a = file(&folder, "a.json", r#"{"question": "q", "answer": "1"}"#).display().to_string();
    let b = file(&folder, "b.json", r#"{"question": "r", "answer": "2"}"#).display().to_string();
    let other = file(&folder, "c.json", r#"{"id": "a", "question": "r", "answer": "2"}"#).display().to_string();
    let ids = |specification: &str| {
        resolve(specification, &empty_store()).map(|problems| problems.into_iter().map(|problem| problem.id).collect::<Vec<_>>())
    };
    assert_eq!(ids(&format!("{b}, {a},{b}")).unwrap(), ["b", "a"]);
    let error = ids(&format!("{a},{other}")).unwrap_err().to_string();
    assert!(error.contains("two different problems with the id \"a\""), "{error}");
}

#[test]
fn resolve_locates_bad_input() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, content: &str, expected: &str| {
        let path = file(&folder, name, content);
        let error = format!("{:#}", resolve(path.to_str().unwrap(), &empty_store()).unwrap_err());
        assert!(error.contains(expected) && error.contains(name) && !error.contains('\n'), "{error}");
    };
    check("empty.jsonl", "\n \n", "has no problems");
    check("a.jsonl", "{\"question\": \"q\", \"answer\": \"1\"}\n{\"question\": \"q\"}\n", "line 2: no `answer`");
    check("b.jsonl", "{\"question\": \"q\", \"answer\": null}", "line 1: no `answer`");
    check("c.jsonl", "{\"question\": \" \", \"answer\": \"1\"}", "line 1: the question is empty");
    check("d.jsonl", "{\"question\": \"q\", \"answer\": \"\"}", "line 1: the answer is empty");
    check("e.jsonl", "\n{\"question\": ", "line 2: not JSON");
    check("f.jsonl", "[1]", "line 1: a list");
    check("g.jsonl", "{\"answer\": \"1\"}", "no `question` or `problem`");
    check("h.jsonl", "{\"question\": \"q\", \"answer\": [[1]]}", "line 1: `answer` is a list with a list in it");
    check(
        "ha.jsonl",
        "{\"question\": \"q\", \"answer\": {\"target\": 1}}",
        "line 1: `answer` is an object with the fields target; expected text",
    );
    check("hb.jsonl", "{\"question\": \"q\", \"answer\": true}", "line 1: `answer` is true (true or false)");
    check("hc.jsonl", "{\"question\": \"q\", \"answer\": \"None\"}", "line 1: `answer` is \"None\", which is not an answer");
    check("hd.jsonl", "{\"question\": \"q\", \"answer\": []}", "line 1: `answer` contains no answer");
    check("he.jsonl", "{\"question\": \"q\", \"answer\": 1, \"answer\": 2}", "line 1: not JSON: duplicate field `answer`");
    check(
        "i.jsonl",
        "{\"id\": 1, \"question\": \"q\", \"answer\": 1}\n{\"id\": 1, \"question\": \"r\", \"answer\": 1}",
        "line 2: duplicate id \"1\"",
    );
    check("j.json", "[]", "has no problems");
    check("k.toml", "question = \"q\n", "not TOML");
    check("l.parquet", "PAR1 but no more", "as Parquet");
    check("m.parquet", "", "as Parquet");
    fs::write(folder.path().join("n.jsonl"), [b'a', 0xFF]).unwrap();
    let error = from_file(&folder.path().join("n.jsonl")).unwrap_err().to_string();
    assert!(error.contains("not UTF-8"), "{error}");
    for (specification, expected) in [
        ("nothing.jsonl", "cannot read nothing.jsonl"),
        ("pie", "unknown example \"pie\"; expected pi1 to pi1209"),
        ("", "unknown example \"\""),
        ("pi1,", "unknown example \"\""),
        ("pi", "unknown example \"pi\""),
        ("pi0", "pi0 is not in the ranking"),
        ("pi1210", "pi1210 is not in the ranking"),
        ("pi16..pi1", "pi16..pi1 is not in the ranking"),
        ("pi99999999999999999999999", "unknown example"),
        ("pi1", "--data-dir DIR or RLVR_DATA_DIR"),
    ] {
        let error = format!("{:#}", resolve(specification, &empty_store()).unwrap_err());
        assert!(error.contains(expected) && !error.contains('\n'), "{specification}: {error}");
    }
}

#[test]
fn resolve_finds_pi1_without_the_ranking() {
    let Some(folder) = shared("data/train/dsr_sub.parquet") else { return };
    let own = tempfile::tempdir().unwrap();
    fs::create_dir(own.path().join("train")).unwrap();
    fs::copy(folder, own.path().join("train/dsr_sub.parquet")).unwrap();
    let store = test_store(Some(own.path().to_path_buf()), Path::new("/nonexistent"), "");
    let problems = resolve("pi1", &store).unwrap();
    assert_eq!(problems.len(), 1);
    assert_eq!((problems[0].id.as_str(), problems[0].answer.as_str()), ("pi1", "12.8"));
    assert!(problems[0].question.starts_with("The pressure \\( P \\) exerted by wind"), "{}", problems[0].question);
    assert!(problems[0].question.ends_with("is \\( 32 \\) pounds."), "{}", problems[0].question);
    assert!(resolve("pi18", &store).unwrap_err().to_string().contains("train/acc_step_500.json"));
}

#[test]
fn resolve_accepts_published_names() {
    let Some(store) = shared_store() else { return };
    let ids = |specification: &str| -> Vec<String> { resolve(specification, &store).unwrap().into_iter().map(|p| p.id).collect() };
    assert_eq!(ids("pi1,pi13"), ["pi1", "pi13"]);
    assert_eq!(ids("pi1..pi16"), (1..=16).map(|rank| format!("pi{rank}")).collect::<Vec<_>>());
    assert_eq!(ids("dsr-sub").len(), 1209);
    assert_eq!(ids("dsr-sub/124,dsr_sub/124"), ["dsr_sub/124"]);
    assert_eq!(resolve("dsr-sub/124", &store).unwrap()[0].question, resolve("pi1", &store).unwrap()[0].question);
    assert!(resolve("dsr-sub/99999", &store).unwrap_err().to_string().contains("the subset has no row 99999"));
    let all = resolve("pi1..pi1209", &store).unwrap();
    let mut questions: Vec<_> = all.iter().map(|problem| (&problem.question, &problem.answer)).collect();
    questions.sort();
    questions.dedup();
    // As published, three rows of the subset have the same text, and one has no label.
    assert_eq!((all.len(), questions.len()), (1209, 1207));
    assert_eq!(all.iter().filter(|problem| problem.answer.is_empty()).count(), 1);
    assert!(all.iter().all(|problem| !problem.question.contains("Let's think step by step and output")));
}

#[test]
fn from_file_reads_the_published_training_files() {
    let Some(folder) = shared("data/train") else { return };
    let Some(store) = shared_store() else { return };
    let pairs = |problems: Vec<Problem>| -> Vec<(String, String)> { problems.into_iter().map(|p| (p.question, p.answer)).collect() };
    for (name, examples) in [
        ("pi1_r128", "pi1"),
        ("pi2_r128", "pi2"),
        ("pi13_r128", "pi13"),
        ("pi1209_r128", "pi1209"),
        ("merge_pi1_pi13_r128", "pi1,pi13"),
        ("merge_pi1_pi2_pi13_pi1209_r128", "pi1,pi2,pi13,pi1209"),
    ] {
        let mut found = pairs(from_file(&folder.join(name).with_extension("parquet")).unwrap());
        let mut expected = pairs(resolve(examples, &store).unwrap());
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{name}");
    }
}

/// Changed or missing bytes in a published file lead to an error or to other text, never to a panic.
#[test]
fn from_file_does_not_panic_on_corrupt_parquet() {
    let Some(source) = shared("data/train/pi1_r128.parquet") else { return };
    let whole = fs::read(source).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("corrupt.parquet");
    for step in 0..400 {
        let mut bytes = whole.clone();
        let at = (step * 7919 + 13) % bytes.len();
        match step % 4 {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 0xFF,
            2 => bytes[at] = 0,
            _ => {
                let last = bytes.len() - 1 - step % 1500;
                bytes[last] ^= 1 << (step % 8);
            }
        }
        fs::write(&path, bytes).unwrap();
        let _ = from_file(&path);
    }
}

#[test]
fn heading_quotes_an_inline_question() {
    let check = |specification: &str, expected: &str| assert_eq!(heading(specification), expected);
    check("pi1,pi13", "pi1,pi13");
    check(&inline("What is\n943-205?", Some("738")), "“What is 943-205?”");
    check(&inline(&"é".repeat(80), None), &format!("“{}”", "é".repeat(80)));
    check(&inline(&"é".repeat(81), None), &format!("“{}…”", "é".repeat(80)));
}
