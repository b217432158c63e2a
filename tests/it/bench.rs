//! Runs `rlvr bench` and checks its cases, time limit and lengths.

use serde_json::Value;

use crate::fixture::{self, document, error_of, fail, rlvr, stderr, stdout, succeed, text};

/// Arguments that measure the embedded model quickly.
const QUICK: [&str; 9] = ["bench", "--seconds", "0", "--repeats", "1", "--no-breakdown", "--no-ceilings", "--response-tokens", "3"];

fn quick<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&QUICK[..], more].concat()
}

fn names(case: &Value, key: &str) -> Vec<String> {
    let name = |value: &Value| value.as_str().or(value["work"].as_str()).unwrap().to_owned();
    case[key].as_array().unwrap().iter().map(name).collect()
}

#[test]
fn bench_measures_cases_independently_and_reports_failures() {
    let folder = tempfile::tempdir().unwrap();
    let [json, lengths] = ["all.json", "lengths"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    let lognormal = format!("name=lognormal work=rollout sequences=5 lengths=lognormal:4:9 write-lengths={lengths}");
    let cases = [
        "name=small work=rollout,update,step sequences=4",
        // Longer than the model's context length.
        "name=long work=rollout,update sequences=1 response-tokens=100000",
        &lognormal,
        "name=profile work=micro-batch,decode:2,score sequences=3 batch-invariant=true",
    ];
    let words: Vec<&str> = cases.iter().flat_map(|case| ["--case", case]).collect();
    let output = rlvr(&quick(&[&["--json", &json], &words[..]].concat()));
    let error = error_of(&output, 1);
    assert!(error.contains("1 of 4 cases failed: long"), "{error}");
    let all = fixture::json(json.as_ref());
    assert!(all["ceilings"].is_null() && all.get("measurements").is_none());
    let found: Vec<(&str, Vec<String>, Vec<String>)> = all["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|case| (case["name"].as_str().unwrap(), names(case, "measurements"), names(case, "not_run")))
        .collect();
    let of = |works: &[&str]| works.iter().map(|work| (*work).to_owned()).collect::<Vec<_>>();
    let expected = [
        ("small", of(&["rollout", "update", "step"]), vec![]),
        ("long", vec![], of(&["update"])),
        ("lognormal", of(&["rollout"]), vec![]),
        ("profile", of(&["micro-batch", "decode:2", "score"]), vec![]),
    ];
    assert_eq!(found, expected);
    assert!(all["cases"][1]["error"].as_str().unwrap().contains("exceed the model's context length"), "{}", all["cases"][1]);
    assert_eq!(all["cases"][3]["batch_invariant"], true);
    for measurement in all["cases"][0]["measurements"].as_array().unwrap() {
        assert!(measurement["tokens_per_s"].as_f64().unwrap() > 0.0 && measurement["utilisation"].is_null(), "{measurement}");
        assert!(measurement["began_unix_ns"].as_u64().unwrap() < measurement["ended_unix_ns"].as_u64().unwrap());
    }
    let written: Vec<usize> = text(lengths.as_ref()).lines().map(|line| line.parse().unwrap()).collect();
    let summary = &all["cases"][2]["lengths"];
    assert_eq!((written.len(), summary["longest"].as_u64()), (5, written.iter().max().map(|longest| *longest as u64)));
    assert_eq!(stdout(&output).lines().filter(|line| line.starts_with("small ")).count(), 3, "{}", stdout(&output));
}

#[test]
fn bench_starts_no_measurement_after_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("one.json");
    let path = json.to_str().unwrap();
    let output = succeed(&quick(&["--sequences", "2", "--work", "rollout", "--json", path]));
    let one = fixture::json(&json);
    assert_eq!(
        (&one["sequences"], &one["response_tokens"], names(&one, "measurements")),
        (&2.into(), &6.into(), vec!["rollout".to_owned()])
    );
    assert!(one.get("cases").is_none() && stdout(&output).starts_with("workload"), "{}", stdout(&output));
    // Without a file, the document is on stdout instead of the table.
    let printed = document(&succeed(&quick(&["--sequences", "2", "--json", "--work", "rollout"])));
    assert_eq!((&printed["sequences"], names(&printed, "measurements")), (&2.into(), vec!["rollout".to_owned()]));
    succeed(&quick(&["--work", "rollout", "--limit", "0", "--json", path]));
    let late = fixture::json(&json);
    assert_eq!((names(&late, "measurements").len(), names(&late, "not_run")), (0, vec!["rollout".to_owned()]));
    let output = succeed(&quick(&["--limit", "0", "--case", "name=a", "--json", path]));
    assert!(stderr(&output).contains("a: no time left for rollout, update, step"), "{}", stderr(&output));
}

#[test]
fn bench_refuses_wrong_lengths_and_cases_as_usage_errors() {
    let refused = |words: &[&str], expected: &str| {
        let error = fail(&[&["bench", "--no-ceilings"], words].concat(), 2);
        assert!(error.contains(expected), "{words:?}: {error}");
    };
    refused(&["--lengths", "lognormal:3072:760"], "choose a mean above 22.8 and below 760, as in lognormal:760:3072");
    refused(&["--lengths", "lognormal:a:b"], "write the mean and the longest length in tokens");
    refused(&["--lengths", "/nonexistent"], "cannot read /nonexistent");
    refused(&["--case", "work=rollout"], "the case has no name: add name=NAME");
    refused(&["--work", "sleep"], "unknown workload \"sleep\"; expected one of score");
}
