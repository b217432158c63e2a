//! Groups of runs: runs with the same settings except the seed. Names each group by the settings in which it differs from the others.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use toml::{Table, Value};

use crate::config::flatten;
use crate::config::range::format_value;
use crate::report::RunRecord;
use crate::train::RunSettings;

/// The groups of settings about observing and saving a run, which are the least interesting differences.
const OBSERVING: [&str; 4] = ["checkpoint.", "compute.", "eval.", "train.steps"];
/// The longest text of a setting's value in a group's name, in characters. Tables show it in full.
const LONGEST_VALUE: usize = 24;
/// The longest list of values in a group's name, in characters.
const LONGEST_NAME: usize = 48;
/// The longest name of a group in sentences and tables, in characters.
const LONGEST_SHORT: usize = 28;

/// Runs that are compared, in groups.
#[derive(Debug)]
pub struct Groups<'a> {
    /// The groups, in the order of their first runs.
    pub groups: Vec<Group<'a>>,
    /// The full names of the settings in which the groups differ.
    pub different: Vec<String>,
}

/// Runs with the same settings except the seed.
#[derive(Debug)]
pub struct Group<'a> {
    /// The name in legends.
    pub name: String,
    /// The name in sentences and tables: the letter alone if the name is long. An arm of a study has its label.
    pub short: String,
    /// The runs, in order of their seeds. May be empty for an arm of a study.
    pub runs: Vec<&'a RunRecord>,
    /// The value of each of [`Groups::different`]; empty where the group has no setting of this name, or no run.
    pub values: Vec<String>,
}

impl<'a> Groups<'a> {
    /// Groups runs by their settings.
    ///
    /// # Errors
    /// If settings cannot be converted to a table.
    pub fn by_settings(runs: &'a [RunRecord]) -> Result<Self> {
        let mut found: Vec<(BTreeMap<String, String>, Vec<&RunRecord>)> = Vec::new();
        for run in runs {
            let settings = settings_of(&run.settings)?;
            match found.iter_mut().find(|(of_group, _)| *of_group == settings) {
                Some((_, runs)) => runs.push(run),
                None => found.push((settings, vec![run])),
            }
        }
        let different = differences(&found.iter().map(|(settings, _)| settings).collect::<Vec<_>>());
        let groups = found.into_iter().enumerate().map(|(index, (settings, runs))| {
            let values = values_of(&settings, &different);
            let name = name(index, &different, &values);
            let short = if name.chars().count() > LONGEST_SHORT { letter(index) } else { name.clone() };
            Group { name, short, runs: by_seed(runs), values }
        });
        Ok(Self { groups: groups.collect(), different })
    }

    /// Makes one group of each arm of a study. Each arm has a label and its runs.
    ///
    /// # Errors
    /// If settings cannot be converted to a table.
    pub fn by_arm(arms: Vec<(String, Vec<&'a RunRecord>)>) -> Result<Self> {
        let settings = arms.iter().map(|(_, runs)| runs.first().map(|run| settings_of(&run.settings)).transpose());
        let settings: Vec<Option<BTreeMap<String, String>>> = settings.collect::<Result<_>>()?;
        let different = differences(&settings.iter().flatten().collect::<Vec<_>>());
        let groups = arms.into_iter().zip(&settings).map(|((name, runs), settings)| {
            let values = settings.as_ref().map_or_else(|| vec![String::new(); different.len()], |settings| values_of(settings, &different));
            Group { short: name.clone(), name, runs: by_seed(runs), values }
        });
        Ok(Self { groups: groups.collect(), different })
    }

    /// Returns the settings that all runs have in common, as `(name, value)`; empty without runs.
    ///
    /// # Errors
    /// If settings cannot be converted to a table.
    pub fn shared_settings(&self) -> Result<Vec<(String, String)>> {
        let Some(first) = self.groups.iter().flat_map(|group| &group.runs).next() else { return Ok(Vec::new()) };
        let settings = settings_of(&first.settings)?;
        Ok(settings.into_iter().filter(|(name, _)| !self.different.contains(name)).collect())
    }
}

impl Group<'_> {
    /// Returns the number of seeds.
    pub fn seeds(&self) -> usize {
        self.runs.len()
    }
}

/// When the train accuracy of a group's runs saturates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Saturation {
    /// The mean step over the runs that have saturated.
    pub mean: f64,
    /// The lowest and the highest step.
    range: (u64, u64),
    /// The number of runs that have saturated.
    saturated: usize,
    /// The number of runs.
    runs: usize,
}

impl Saturation {
    /// Collects the steps of a group; `None` if no run has saturated.
    pub fn of(group: &Group) -> Option<Self> {
        Self::of_steps(&group.runs.iter().map(|run| run.saturation_step()).collect::<Vec<_>>())
    }

    fn of_steps(runs: &[Option<u64>]) -> Option<Self> {
        let steps: Vec<u64> = runs.iter().flatten().copied().collect();
        let range = (*steps.iter().min()?, *steps.iter().max()?);
        let mean = steps.iter().sum::<u64>() as f64 / steps.len() as f64;
        Some(Self { mean, range, saturated: steps.len(), runs: runs.len() })
    }

    /// Writes the mean with the range, and how many runs have saturated unless all have: `105 (95 to 115), 2 of 3 runs`.
    pub fn text(&self) -> String {
        let (low, high) = self.range;
        let steps = if low == high { low.to_string() } else { format!("{:.0} ({low} to {high})", self.mean) };
        if self.saturated == self.runs { steps } else { format!("{steps}, {} of {} runs", self.saturated, self.runs) }
    }
}

/// Returns a run's settings by their full names, without the seed and the date on which the run started.
fn settings_of(settings: &RunSettings) -> Result<BTreeMap<String, String>> {
    let table = Table::try_from(settings).context("the settings cannot be written as TOML")?;
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        value => format_value(value),
    };
    let settings = flatten(&table).into_iter().filter(|(name, _)| name != "seed" && name != "prompt.date");
    Ok(settings.map(|(name, value)| (name, text(value))).collect())
}

/// Returns the names of the settings that are not the same in all tables, those that change the training first.
fn differences(tables: &[&BTreeMap<String, String>]) -> Vec<String> {
    let mut names: Vec<&String> = tables.iter().flat_map(|table| table.keys()).collect();
    names.sort();
    names.dedup();
    let differs = |name: &&String| tables.iter().any(|table| table.get(*name) != tables[0].get(*name));
    let mut different: Vec<String> = names.into_iter().filter(differs).cloned().collect();
    different.sort_by_key(|name| OBSERVING.iter().any(|group| name.starts_with(group)));
    different
}

fn values_of(settings: &BTreeMap<String, String>, names: &[String]) -> Vec<String> {
    names.iter().map(|name| settings.get(name).cloned().unwrap_or_default()).collect()
}

fn by_seed(mut runs: Vec<&RunRecord>) -> Vec<&RunRecord> {
    runs.sort_by_key(|run| run.settings.seed);
    runs
}

/// Returns the name of the group at an index: a letter, followed by its values of the settings that differ, shortened if they are long.
fn name(index: usize, different: &[String], values: &[String]) -> String {
    let last_part = |setting: &str| setting.rsplit('.').next().unwrap_or_default().to_owned();
    let short = |(setting, value): (&String, &String)| {
        let key = last_part(setting);
        let is_ambiguous = different.iter().filter(|other| last_part(other) == key).count() > 1;
        let key = if is_ambiguous { setting } else { &key };
        let value = if value.is_empty() { "none" } else { value };
        format!("{key} {}", shortened(value, LONGEST_VALUE))
    };
    let values: Vec<String> = different.iter().zip(values).map(short).collect();
    let letter = letter(index);
    if values.is_empty() { letter } else { format!("{letter}: {}", shortened(&values.join(", "), LONGEST_NAME)) }
}

/// Returns A, B, ... Z, A2, B2, ...
fn letter(index: usize) -> String {
    let letter = char::from(b'A' + (index % 26) as u8);
    if index < 26 { letter.to_string() } else { format!("{letter}{}", index / 26 + 1) }
}

fn shortened(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    let kept: String = text.chars().take(longest - 1).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::comparison::testing::record;

    fn check(changes: &[fn(&mut RunSettings)], expected: &[(&str, &[u64])], different: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        let record = |(index, change): (usize, &fn(&mut RunSettings))| record(&folder.path().join(index.to_string()), change, "", &[]);
        let runs: Vec<RunRecord> = changes.iter().enumerate().map(record).collect();
        let groups = Groups::by_settings(&runs).unwrap();
        for group in &groups.groups {
            let expected = if group.name.len() > 28 { &group.name[..1] } else { &group.name };
            assert_eq!(group.short, expected);
        }
        let seeds = |group: &Group| group.runs.iter().map(|run| run.settings.seed).collect::<Vec<_>>();
        let found: Vec<(&str, Vec<u64>)> = groups.groups.iter().map(|group| (group.name.as_str(), seeds(group))).collect();
        let expected: Vec<(&str, Vec<u64>)> = expected.iter().map(|(name, seeds)| (*name, seeds.to_vec())).collect();
        assert_eq!((found, groups.different.iter().map(String::as_str).collect::<Vec<_>>()), (expected, different.to_vec()));
    }

    #[test]
    fn by_settings_ignores_the_seed_and_the_date() {
        check(&[|_| {}, |run| run.seed = 2, |run| (run.seed, run.prompt.date) = (1, "2026-01-31".into())], &[("A", &[0, 1, 2])], &[]);
        check(
            &[|_| {}, |run| run.loss.entropy = 0.0, |run| run.seed = 4],
            &[("A: entropy 0.001", &[0, 4]), ("B: entropy 0", &[0])],
            &["loss.entropy"],
        );
        check(
            &[|_| {}, |run| (run.eval.every, run.checkpoint.every, run.rollout.temperature) = (7, 7, 1.0)],
            &[("A: temperature 0.6, checkpoint.every 100, eval.eve…", &[0]), ("B: temperature 1, checkpoint.every 7, eval.every 7", &[0])],
            &["rollout.temperature", "checkpoint.every", "eval.every"],
        );
    }

    #[test]
    fn saturation_says_how_many_runs_have_saturated() {
        let text = |steps: &[Option<u64>]| Saturation::of_steps(steps).map(|found| found.text());
        assert_eq!(text(&[None, None]), None);
        assert_eq!(text(&[Some(95), Some(95)]).as_deref(), Some("95"));
        assert_eq!(text(&[Some(95), None, Some(116)]).as_deref(), Some("106 (95 to 116), 2 of 3 runs"));
    }

    #[test]
    fn name_shortens_long_values() {
        let check = |different: &[&str], values: &[&str], expected: &str| {
            let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            assert_eq!(name(27, &owned(different), &owned(values)), expected);
        };
        check(&[], &[], "B2");
        check(&["a.b", "c"], &["1", ""], "B2: b 1, c none");
        check(&["eval.every", "checkpoint.every"], &["1", "2"], "B2: eval.every 1, checkpoint.every 2");
        check(&["reward.label"], &["abcdefghijklmnopqrstuvwxyz"], "B2: label abcdefghijklmnopqrstuvw…");
        let long = ["setting.number_one", "setting.number_two", "setting.number_three"];
        check(&long, &["aaaaaaaaaa", "bbbbbbbbbb", "c"], "B2: number_one aaaaaaaaaa, number_two bbbbbbbbbb, n…");
    }
}
