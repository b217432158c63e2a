//! The responses in a report: which ones a page includes, what it says about them, and what it does with broken records.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::GzEncoder;
use rlvr::eval::Score;
use rlvr::report::responses::{ResponseLimit, StepSummaries, index_json, problem_json, rollouts_json, section, served_section, steps_json};
use rlvr::report::{DataBlock, RunRecord, Section};
use rlvr::train::{RunFolder, RunSettings};
use serde_json::{Value, json};

const PASS: &str = "own-greedy";

/// Creates the folder of a finished run with evaluations at some steps, from the lines of each.
fn run_with(root: &Path, seed: u64, evaluations: &[(u64, Vec<String>)]) -> RunRecord {
    let mut settings = RunSettings::demonstration();
    (settings.seed, settings.train.steps) = (seed, 4);
    let folder = RunFolder::create(root, &settings).unwrap();
    fs::write(folder.metrics(), "{\"step\":4,\"train/accuracy\":0}\n").unwrap();
    for (step, lines) in evaluations {
        fs::create_dir_all(folder.eval(*step)).unwrap();
        fs::write(folder.eval(*step).join(format!("{PASS}.jsonl")), lines.concat()).unwrap();
        let scores = BTreeMap::from([(PASS, Score { problems: lines.len(), samples: 1, ..Score::default() })]);
        fs::write(folder.eval(*step).join("scores.json"), serde_json::to_string(&scores).unwrap()).unwrap();
    }
    // A run folder is locked, as that of a run in progress, until the last handle is dropped.
    drop(folder);
    RunRecord::read(root).unwrap()
}

/// Returns a line of an evaluation.
fn answer(id: &str, subject: &str, response: &str, correct: bool) -> String {
    let line = json!({
        "id": id, "subject": subject, "sample": 0, "gold": "7", "response": response, "extracted": "7", "correct": correct,
        "correct_with_fallback": correct, "tokens": 3, "finish": "stop",
    });
    format!("{line}\n")
}

/// Returns the evaluations of 300 problems of five subjects, of which every seventh becomes right.
fn three_hundred() -> Vec<(u64, Vec<String>)> {
    let response = |number: usize, answer: usize| format!("Thought {}: \\boxed{{{answer}}}", number * 7919 % 1000 * number);
    let lines = |is_right: &dyn Fn(usize) -> bool| {
        let line = |number: usize| {
            let right = is_right(number);
            answer(&format!("p{number}"), &format!("subject {}", number % 5), &response(number, if right { 7 } else { 8 }), right)
        };
        (0..300).map(line).collect::<Vec<_>>()
    };
    vec![(0, lines(&|_| false)), (4, lines(&|number| number % 7 == 0))]
}

fn unpack(block: &DataBlock) -> Value {
    let markup = block.markup().into_string();
    let base64 = markup.split_once('>').unwrap().1.strip_suffix("</script>").unwrap();
    let mut text = String::new();
    DeflateDecoder::new(STANDARD.decode(base64).unwrap().as_slice()).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn block(section: &Section, id: &str) -> Value {
    unpack(section.data.iter().find(|block| block.id == id).unwrap_or_else(|| panic!("no block {id}")))
}

/// Returns the included problems with their texts, in order.
fn included(section: &Section) -> Vec<(Value, Value)> {
    let index = block(section, "responses-index");
    let problems = index["problems"].as_array().unwrap().clone();
    let texts =
        (0..problems.len().div_ceil(32)).flat_map(|number| block(section, &format!("responses-{number}")).as_array().unwrap().clone());
    let texts: Vec<Value> = texts.collect();
    assert_eq!(texts.len(), problems.len());
    problems.into_iter().zip(texts).collect()
}

#[test]
fn section_includes_changed_responses_first_within_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(&folder.path().join("run"), 3, &three_hundred());
    let mut counts = Vec::new();
    for limit in [0, 500, 2_000, 5_000, 9_000] {
        let section = section(&run, ResponseLimit::Bytes(limit));
        let bytes: usize = section.data.iter().map(DataBlock::size_bytes).sum();
        assert!(bytes <= limit, "{bytes} of {limit}");
        let found = if section.data.is_empty() { Vec::new() } else { included(&section) };
        let changed = |(problem, _): &(Value, Value)| problem["outcomes"] == json!(["wrong", "correct"]);
        let first_unchanged = found.iter().position(|one| !changed(one)).unwrap_or(found.len());
        assert!(first_unchanged == found.len() || first_unchanged == 43, "{first_unchanged} changed ones come first");
        assert!(!found[first_unchanged..].iter().any(changed), "all changed ones come first");
        let subjects: std::collections::BTreeSet<String> =
            found.iter().take(5).map(|(problem, _)| problem["subject"].to_string()).collect();
        assert_eq!(subjects.len(), found.len().min(5), "the subjects take turns");
        let body = section.body.into_string();
        assert!(body.contains(&format!("{} of 600 responses are included, in {} of 300 entries", 2 * found.len(), found.len())), "{body}");
        counts.push(found.len());
    }
    assert!(counts.is_sorted() && counts[0] == 0 && counts[4] > 43 && counts[4] < 300, "{counts:?}");
}

#[test]
fn section_is_determined_by_the_seed() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, seed: u64| run_with(&folder.path().join(name), seed, &three_hundred());
    let packed = |run: &RunRecord| section(run, ResponseLimit::Bytes(5_000)).data;
    let (first, again, other) = (run("a", 1), run("b", 1), run("c", 2));
    assert_eq!(packed(&first), packed(&again));
    assert_ne!(packed(&first), packed(&other));
}

#[test]
fn section_shows_all_responses_with_reasons() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(&folder.path().join("run"), 0, &three_hundred());
    let section = section(&run, ResponseLimit::All);
    let found = included(&section);
    assert_eq!(found.len(), 300);
    for (problem, opened) in &found {
        let is_right = problem["outcomes"][1] == "correct";
        assert_eq!((&opened["gold"], &opened["question"]), (&json!("7"), &Value::Null));
        let reasons = [&opened["responses"][0]["reason"], &opened["responses"][1]["reason"]].map(|reason| reason.as_str().unwrap());
        assert_eq!(reasons[0], "The values differ: 7 and 8 (decided by exact rational values)");
        assert_eq!(reasons[1] == "Equal: both are `7` when normalized (decided by the text)", is_right, "{reasons:?}");
    }
    let body = section.body.into_string();
    assert!(body.contains("All 600 responses are included."), "{body}");
    assert_eq!(body.matches("<details").count(), 5, "readable without script");
    assert!(body.contains("needs script"), "{body}");
}

#[test]
fn section_shows_what_broken_records_leave() {
    let folder = tempfile::tempdir().unwrap();
    let old = json!({"id": "old", "sample": 0, "gold": "7", "response": "so 7", "extracted": null, "correct": false, "correct_with_fallback": true, "tokens": 2});
    let base = vec![
        answer("same", "", "", false),
        answer("same", "", "repeated", true),
        "{\"id\": 5}\n".to_owned(),
        "{\"id\":\"lone\",\"sample\":0,\"gold\":\"7\",\"response\":\"\\ud800\",\"extracted\":null,\"correct\":false,\"correct_with_fallback\":false,\"tokens\":1}\n"
            .to_owned(),
        format!("{old}\n"),
        answer("</script><b>\u{202e}", "", "</script><img src=x onerror=alert(1)>\u{1b}[2J\u{202e}", false),
    ];
    let end = vec![answer("same", "", &"word ".repeat(200_000), false), answer("new", "", "\\boxed{7}", true), "{\"id\":\"cut".to_owned()];
    let run = run_with(&folder.path().join("run"), 0, &[(0, base), (2, vec![answer("same", "", "", false)]), (4, end)]);
    fs::remove_file(run.folder.eval(2).join(format!("{PASS}.jsonl"))).unwrap();
    let section = section(&run, ResponseLimit::default());
    let found: BTreeMap<String, (Value, Value)> =
        included(&section).into_iter().map(|one| (one.0["id"].as_str().unwrap().to_owned(), one)).collect();
    assert_eq!(found.len(), 5);
    let (problem, opened) = &found["same"];
    assert_eq!(problem["outcomes"], json!(["wrong", "wrong"]), "the repeated record is left out");
    assert_eq!(opened["responses"][0]["text"], "");
    let long = opened["responses"][1]["text"].as_str().unwrap();
    assert!(long.len() < 31_000 && long.contains("970000 characters are left out"), "{}", long.len());
    assert_eq!(found["new"].1["responses"][0], Value::Null);
    assert_eq!(found["new"].0["outcomes"], json!([null, "correct"]));
    assert_eq!((&found["old"].0["outcomes"][0], &found["old"].1["responses"][0]["finish"]), (&json!("unboxed"), &json!("")));
    assert!(found["lone"].1["responses"][0]["reason"].as_str().unwrap().contains("a record that cannot be read"));
    let foreign = &found["</script><b>\\u{202e}"].1["responses"][0]["text"];
    assert_eq!(foreign, "</script><img src=x onerror=alert(1)>\\u{1b}[2J\\u{202e}");
    let body = section.body.into_string();
    assert!(!body.contains("<img") && !body.contains('\u{202e}') && !body.contains('\u{1b}'), "foreign text is escaped");
    for sentence in ["has 1 repeated records", "has 1 lines that are not graded responses"] {
        assert!(body.contains(sentence), "{sentence}: {body}");
    }
}

#[test]
fn section_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(&folder.path().join("run"), 0, &[]);
    let empty = section(&run, ResponseLimit::default());
    let body = empty.body.into_string();
    assert!(body.contains("no graded responses") && body.contains("no recorded rollouts"), "{body}");
    let run = run_with(&folder.path().join("other"), 0, &[(0, vec![answer("a", "", "7", false)]), (4, Vec::new())]);
    fs::remove_file(run.folder.eval(4).join(format!("{PASS}.jsonl"))).unwrap();
    let body = section(&run, ResponseLimit::default()).body.into_string();
    assert!(body.contains("Not all responses can be shown") && body.contains("00004/own-greedy.jsonl"), "{body}");
}

#[test]
fn problem_json_has_all_evaluations() {
    let folder = tempfile::tempdir().unwrap();
    let at = |response: &str| vec![answer("a/\"b\"", "", response, false), answer("c", "", "other", false)];
    let run = run_with(&folder.path().join("run"), 0, &[(0, at("zero")), (1, at("one")), (4, at("four"))]);
    let index: Value = serde_json::from_str(&index_json(&run).unwrap()).unwrap();
    assert_eq!((index["total"].as_u64(), index["problems"].as_array().unwrap().len()), (Some(2), 2));
    assert_eq!(index["milestones"], json!([{"step": 0, "name": "base"}, {"step": 4, "name": "end"}]));
    let problem: Value = serde_json::from_str(&problem_json(&run, PASS, "a/\"b\"").unwrap()).unwrap();
    assert_eq!(problem["steps"], json!([0, 1, 4]));
    let texts = problem["samples"][0]["responses"].as_array().unwrap().iter().map(|response| response["text"].as_str().unwrap());
    assert_eq!(texts.collect::<Vec<_>>(), ["zero", "one", "four"]);
    let error = |pass: &str, id: &str| problem_json(&run, pass, id).unwrap_err().to_string();
    assert_eq!(error("../../etc/passwd", "c"), "the run has no pass \"../../etc/passwd\"; expected one of own-greedy");
    assert_eq!(error(PASS, "d"), "the pass own-greedy has no response to a problem with the id \"d\"");
}

/// Writes the rollouts of a step: `right` correct responses, and as many wrong ones, all with this text and a number.
fn write_rollouts(run: &RunRecord, step: u64, text: &str, right: usize) {
    let rollout = |number: usize| {
        let is_right = number < right;
        let text = format!("{text} {number} \\boxed{{{}}}", if is_right { 890 } else { 891 });
        json!({
            "step": step, "group": number % 3, "sample": number / 3, "example": "tiny/addition/334+556", "text": text,
            "reward": u8::from(is_right), "correct": is_right, "boxed": true, "finish": "stop",
        })
    };
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    (0..2 * right).for_each(|number| writeln!(encoder, "{}", rollout(number)).unwrap());
    fs::write(run.folder.rollouts(step), encoder.finish().unwrap()).unwrap();
}

#[test]
fn section_shows_rollouts_until_they_are_gibberish() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(&folder.path().join("run"), 0, &[]);
    for step in 1..=60 {
        write_rollouts(&run, step, if step < 47 { "Let us add" } else { "加法加法加法" }, 10);
    }
    fs::write(run.folder.rollouts(5), "not gzip").unwrap();
    let label = json!({"example": "tiny/addition/334+556", "answer": "890", "label": "12"});
    fs::write(run.folder.labels(), format!("{label}\n")).unwrap();
    let shown = section(&run, ResponseLimit::default());
    let index = block(&shown, "rollouts-index");
    let steps: Vec<u64> = index["steps"].as_array().unwrap().iter().map(|step| step["step"].as_u64().unwrap()).collect();
    assert_eq!(index["gibberish"], 47);
    assert!(steps.contains(&46) && steps.contains(&47) && *steps.last().unwrap() < 55 && !steps.contains(&5), "{steps:?}");
    let example = &index["examples"]["tiny/addition/334+556"];
    assert_eq!((&example["gold"], &example["label"]), (&json!("890"), &json!("12")));
    let rollouts = block(&shown, "rollouts-1");
    let rights = rollouts.as_array().unwrap().iter().filter(|one| one["correct"] == true).count();
    assert_eq!((rollouts.as_array().unwrap().len(), rights), (8, 4));
    // The recorded verdicts are against 890, so the verifier's reason against the label would be about something else.
    assert!(rollouts.as_array().unwrap().iter().all(|one| one["correct"] == false || one["reason"] == ""), "{rollouts}");
    let body = shown.body.into_string();
    assert!(body.contains("From step 47 on, most responses are unreadable") && body.contains("00005.jsonl.gz"), "{body}");
    let small = section(&run, ResponseLimit::Bytes(4_000));
    assert!(small.data.iter().map(DataBlock::size_bytes).sum::<usize>() <= 4_000);
}

#[test]
fn served_section_includes_no_responses() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(&folder.path().join("run"), 0, &three_hundred());
    write_rollouts(&run, 1, "Let us add", 3);
    let served = served_section(&run);
    let body = served.body.into_string();
    assert!(served.data.is_empty() && body.len() < 2_000 && !body.contains("Thought"), "{body}");
    assert_eq!(body.matches("data-browser").count(), 2, "{body}");
    // A section that stays the same while the run makes steps is not replaced in an open page.
    write_rollouts(&run, 2, "Let us add", 3);
    assert_eq!(served_section(&run).body.into_string(), body);
    let empty = served_section(&run_with(&folder.path().join("empty"), 0, &[])).body.into_string();
    assert!(empty.contains("no graded responses") && empty.contains("no recorded rollouts"), "{empty}");
}

#[test]
fn steps_json_has_all_recorded_steps() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(&folder.path().join("run"), 0, &[]);
    let mut summaries = StepSummaries::default();
    let mut steps = |run: &RunRecord| serde_json::from_str::<Value>(&steps_json(run, &mut summaries).unwrap()).unwrap();
    assert_eq!(steps(&run), json!({"steps": [], "chosen": [], "gibberish": null, "saturation": null}));
    for step in 1..=60 {
        write_rollouts(&run, step, if step < 47 { "Let us add" } else { "加法加法加法" }, 4);
    }
    let found = steps(&run);
    assert_eq!((found["steps"].as_array().unwrap().len(), &found["gibberish"]), (60, &json!(47)));
    let chosen = found["chosen"].as_array().unwrap();
    assert!((40..50).contains(&chosen.len()), "{}", chosen.len());
    let expected = json!({"step": 1, "responses": 8, "correct": 4, "unreadable": 0, "reward": 0.5, "tokens": null});
    assert_eq!((&chosen[0], &chosen.last().unwrap()["unreadable"]), (&expected, &json!(8)));
    // A file that has changed is read again.
    write_rollouts(&run, 1, "Let us add", 6);
    assert_eq!(steps(&run)["chosen"][0]["responses"], 12);
}

#[test]
fn rollouts_json_has_all_rollouts_of_any_recorded_step() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(&folder.path().join("run"), 0, &[]);
    (1..=60).for_each(|step| write_rollouts(&run, step, "Let us add", 10));
    let mut summaries = StepSummaries::default();
    let chosen: Value = serde_json::from_str(&steps_json(&run, &mut summaries).unwrap()).unwrap();
    let is_chosen = |step: u64| chosen["chosen"].as_array().unwrap().iter().any(|one| one["step"] == step);
    let other = (1..=60).find(|step| !is_chosen(*step)).expect("a step that is not chosen");
    let mut rollouts = |step: u64| rollouts_json(&run, &mut summaries, step).map(|text| serde_json::from_str::<Value>(&text).unwrap());
    let found = rollouts(other).unwrap();
    assert_eq!((&found["summary"]["step"], &found["summary"]["correct"]), (&json!(other), &json!(10)));
    let texts: Vec<&str> = found["rollouts"].as_array().unwrap().iter().map(|one| one["text"].as_str().unwrap()).collect();
    assert!(texts.len() == 20 && texts[0] == "Let us add 0 \\boxed{890}", "{texts:?}");
    assert_eq!((found["first"].as_array().unwrap().len(), &found["missing"]), (8, &json!([])));
    assert_eq!(found["examples"]["tiny/addition/334+556"]["gold"], "890");
    assert_eq!(found["rollouts"][0]["reason"], "Equal: both are `890` when normalized (decided by the text)");
    assert_eq!(rollouts(99).unwrap_err().to_string(), "the run has no rollouts of step 99; the nearest recorded step is 60");
    // A file that is being written is cut, or still empty.
    let path = run.folder.rollouts(7);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 12]).unwrap();
    let cut = rollouts(7).unwrap();
    assert!(!cut["rollouts"].as_array().unwrap().is_empty(), "{cut}");
    assert!(cut["missing"][0].as_str().unwrap().contains("00007.jsonl.gz"), "{cut}");
    fs::write(&path, "").unwrap();
    assert_eq!(rollouts(7).unwrap()["rollouts"], json!([]));
}
