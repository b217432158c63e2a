//! `rlvr compare`: compares two evaluations problem by problem.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Map, Value, json};

use super::arguments::JsonArgs;
use crate::checkpoint::manifest;
use crate::eval::score::per_problem;
use crate::eval::statistics::{self, Comparison};
use crate::eval::store::read_conditions;
use crate::eval::{Answer, Conditions};
use crate::metrics::{jsonl, table};
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

/// `(problem id, mean over its samples)`, in file order.
type Scores = Vec<(String, f64)>;

pub fn run(args: CompareArgs) -> Result<()> {
    let pairs = usage(pairs(&args.before, &args.after))?;
    let (mut rows, mut records) = (Vec::new(), Vec::new());
    for (name, [before, after]) in &pairs {
        let [before, after] = [scores(before, args.fallback)?, scores(after, args.fallback)?];
        let (comparison, unpaired) = usage(compare(&before, &after).with_context(|| name.clone()))?;
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

/// Reads the mean score of each problem.
fn scores(path: &Path, fallback: bool) -> Result<Scores> {
    let answers: Vec<Answer> = jsonl::read(path)?;
    let samples = answers.iter().map(|answer| answer.sample + 1).max().unwrap_or(1);
    let is_complete =
        answers.len().is_multiple_of(samples) && answers.iter().enumerate().all(|(index, answer)| answer.sample == index % samples);
    ensure!(is_complete, "{} is incomplete: not every problem has {samples} samples", path.display());
    let means = per_problem(&answers, samples, |answer| if fallback { answer.correct_with_fallback } else { answer.correct });
    Ok(answers.iter().step_by(samples).map(|answer| answer.id.clone()).zip(means).collect())
}

/// Compares the problems that both evaluations have. Also returns the number of problems that only one of them has.
fn compare(before: &Scores, after: &Scores) -> Result<(Comparison, usize)> {
    let of_after: HashMap<&String, f64> = after.iter().map(|(id, score)| (id, *score)).collect();
    let (before_scores, after_scores): (Vec<f64>, Vec<f64>) =
        before.iter().filter_map(|(id, score)| Some((*score, *of_after.get(id)?))).unzip();
    ensure!(!before_scores.is_empty(), "the evaluations have no problem in common");
    let unpaired = before.len() + after.len() - 2 * before_scores.len();
    Ok((statistics::compare(&before_scores, &after_scores)?, unpaired))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compare_pairs_problems_by_id() {
        let scores = |pairs: &[(&str, f64)]| pairs.iter().map(|(id, score)| ((*id).to_owned(), *score)).collect::<Scores>();
        let before = scores(&[("a", 0.0), ("b", 1.0), ("c", 1.0)]);
        let (found, unpaired) = compare(&before, &scores(&[("c", 1.0), ("a", 1.0), ("d", 0.0)])).unwrap();
        assert_eq!((found.problems, found.won, found.lost, unpaired), (2, 1, 0, 2));
        let error = compare(&before, &scores(&[("d", 0.0)])).unwrap_err().to_string();
        assert!(error.contains("no problem in common"), "{error}");
    }
}
