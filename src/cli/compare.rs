//! `rlvr compare`: compares two evaluations problem by problem.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Map, Value, json};

use super::arguments::JsonArgs;
use crate::checkpoint::manifest;
use crate::eval::Conditions;
use crate::eval::paired::{self, read_scores};
use crate::eval::store::read_conditions;
use crate::metrics::table;
use crate::usage::usage;

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// First evaluation: a folder written by rlvr eval --out, eval/STEP in a run folder, or a .jsonl file of graded responses
    #[arg(value_name = "A")]
    before: PathBuf,
    /// Second evaluation, in any of the same forms
    #[arg(value_name = "B")]
    after: PathBuf,
    /// Also accept unboxed answers, as the published evaluation does
    #[arg(long)]
    fallback: bool,
    #[command(flatten)]
    json: JsonArgs,
}

pub fn run(args: CompareArgs) -> Result<()> {
    let pairs = usage(pairs(&args.before, &args.after))?;
    let (mut rows, mut records) = (Vec::new(), Vec::new());
    for (name, [before, after]) in &pairs {
        let [before, after] = [read_scores(before, args.fallback)?, read_scores(after, args.fallback)?];
        let (comparison, unpaired) = usage(paired::compare(&before, &after).with_context(|| name.clone()))?;
        records.push(json!({"pass": name, "unpaired": unpaired, "comparison": comparison}));
        let difference = comparison.difference;
        rows.push(vec![
            name.clone(),
            comparison.problems.to_string(),
            format!("{:+.1} [{:+.1}, {:+.1}]", difference.mean * 100.0, difference.low * 100.0, difference.high * 100.0),
            comparison.won.to_string(),
            comparison.lost.to_string(),
            format!("{:.2e}", comparison.p_value),
            unpaired.to_string(),
        ]);
    }
    let header = ["pass", "problems", "B - A in points [95%]", "won by B", "lost by B", "sign test p", "unpaired"];
    let differences = differences(&args.before, &args.after)?;
    let document = || {
        let conditions: Map<String, Value> = differences.iter().map(|(name, different)| (name.clone(), json!(different))).collect();
        Ok(json!({"a": args.before, "b": args.after, "passes": records, "different_conditions": conditions}))
    };
    args.json.print(document, || print_result!("{}", table(&header, &rows)))?;
    for (name, different) in &differences {
        message!("{name} was measured under different conditions: {}", different.join("; "));
    }
    Ok(())
}

/// Pairs the files to compare, by pass: files of the same name in two folders, or two single files.
fn pairs(before: &Path, after: &Path) -> Result<BTreeMap<String, [PathBuf; 2]>> {
    for path in [before, after] {
        ensure!(
            path.exists(),
            "{} does not exist: give a folder written by rlvr eval --out, or a .jsonl file of graded responses",
            path.display()
        );
    }
    for path in [before, after] {
        let evaluations = path.join("eval");
        ensure!(
            !path.join("config.toml").exists() || !evaluations.is_dir(),
            "{} is a run folder: name one of its evaluations, such as {}",
            path.display(),
            evaluations.join("00000").display()
        );
    }
    if before.is_file() && after.is_file() {
        let name = before.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        return Ok(BTreeMap::from([(name, [before.to_owned(), after.to_owned()])]));
    }
    ensure!(
        before.is_dir() && after.is_dir(),
        "give two folders or two files, not one of each: {} and {}",
        before.display(),
        after.display()
    );
    let (of_before, mut of_after) = (passes(before)?, passes(after)?);
    let names = |passes: &BTreeMap<String, PathBuf>| passes.keys().cloned().collect::<Vec<_>>().join(", ");
    let (ours, theirs) = (names(&of_before), names(&of_after));
    let pairs: BTreeMap<String, [PathBuf; 2]> =
        of_before.into_iter().filter_map(|(name, path)| Some((name.clone(), [path, of_after.remove(&name)?]))).collect();
    if pairs.is_empty() {
        bail!("{} has {}, {} has {}: they have no pass in common", before.display(), or_none(&ours), after.display(), or_none(&theirs));
    }
    Ok(pairs)
}

fn or_none(names: &str) -> &str {
    if names.is_empty() { "no pass" } else { names }
}

/// Lists the passes in a folder: the path of each by name. Checks the folder's manifest, if it has one.
fn passes(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    manifest::check(folder)?;
    let mut passes = BTreeMap::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let is_pass = path.extension().is_some_and(|extension| extension == "jsonl");
        let name = path.file_stem().filter(|_| is_pass).map(|name| name.to_string_lossy().into_owned());
        passes.extend(name.map(|name| (name, path)));
    }
    Ok(passes)
}

/// Lists the conditions that differ between two folders, by pass, except the model and its revision.
fn differences(before: &Path, after: &Path) -> Result<Vec<(String, Vec<String>)>> {
    let of = |path: &Path| read_conditions(if path.is_dir() { path } else { path.parent().unwrap_or(path) });
    let (Some(before), Some(after)) = (of(before)?, of(after)?) else { return Ok(Vec::new()) };
    let of_pass = |(name, ours): (&String, &Conditions)| {
        let different = ours.differences(before.get(name)?);
        let different: Vec<String> =
            different.into_iter().filter(|one| !one.starts_with("model: ") && !one.starts_with("revision: ")).collect();
        (!different.is_empty()).then(|| (name.clone(), different))
    };
    Ok(after.iter().filter_map(of_pass).collect())
}
