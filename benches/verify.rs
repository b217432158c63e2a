//! Measures the time per verdict on typical pairs of a gold answer and a response. Prints the median, 99th percentile, maximum and mean in
//! microseconds as one line of JSON, then criterion's measurement of one pass over all pairs.
//!
//! `cargo bench --bench verify` reads `verifier/speed500.jsonl` in the shared folder (`RLVR_SHARED_DIR`, or `../shared`).
//! `cargo bench --bench verify -- FILE` reads another JSONL file.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use criterion::{Criterion, Throughput};
use rlvr::verify::{Settings, Verifier};
use serde_json::Value;

/// Verdicts per pair. Only the fastest counts, because other programs disturb the slower ones.
const REPEATS: usize = 20;

fn main() {
    let file = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).map(PathBuf::from);
    let default_folder = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let shared = || std::env::var_os("RLVR_SHARED_DIR").map_or_else(default_folder, PathBuf::from);
    let path = file.unwrap_or_else(|| shared().join("verifier/speed500.jsonl"));
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            println!("did not run: cannot read {}: {error}; pass a JSONL file with the keys \"gold\" and \"response\"", path.display());
            return;
        }
    };
    let rows: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let verifier = Verifier::new(Settings::default());
    let mut times_us: Vec<f64> = Vec::with_capacity(rows.len());
    let mut correct = 0;
    for row in &rows {
        let field = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default();
        let (gold, response) = (field("gold"), field("response"));
        let mut fastest = f64::INFINITY;
        for repeat in 0..REPEATS {
            let start = Instant::now();
            let verdict = black_box(verifier.check(black_box(gold), black_box(response)));
            fastest = fastest.min(start.elapsed().as_secs_f64() * 1e6);
            correct += usize::from(verdict.correct && repeat == 0);
        }
        times_us.push(fastest);
    }
    if times_us.is_empty() {
        println!("did not run: no rows in {}", path.display());
        return;
    }
    times_us.sort_by(f64::total_cmp);
    let at = |share: f64| times_us.get(((times_us.len() - 1) as f64 * share).round() as usize).copied().unwrap_or(f64::NAN);
    let mean = times_us.iter().sum::<f64>() / times_us.len() as f64;
    let line = serde_json::json!({
        "pairs": times_us.len(), "correct": correct, "median_us": at(0.5), "p99_us": at(0.99), "max_us": at(1.0), "mean_us": mean,
    });
    println!("{line}");

    let pairs: Vec<(String, String)> = rows
        .iter()
        .map(|row| {
            let field = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            (field("gold"), field("response"))
        })
        .collect();
    let mut criterion = Criterion::default();
    let mut group = criterion.benchmark_group("verify");
    group.throughput(Throughput::Elements(pairs.len() as u64));
    group.bench_function("typical pairs", |bencher| {
        bencher.iter(|| pairs.iter().filter(|(gold, response)| verifier.check(black_box(gold), black_box(response)).correct).count());
    });
    group.finish();
}
