//! Parses a study file into arms. Settings stay tables here; `rlvr train` interprets them.
//!
//! ```toml
//! title = "Temperature and the entropy term"
//! config = "../demo.toml"                # optional: a settings file for all arms, relative to this file
//! seeds = [0, 1, 2]
//! passes = ["tiny-greedy"]               # optional: the passes in the table
//!
//! [base]                                 # optional: overrides the file, for all arms
//! train.steps = 100
//!
//! [[axis]]                               # the arms are all combinations of the axes
//! name = "temperature"
//! alternatives = [{ label = "0.6" }, { label = "1.0", set = { rollout.temperature = 1.0 } }]
//! ```
//!
//! Instead of axes, a study may list its arms as `[[arm]]`, each with a `label`, a `set` and optionally its own `config`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::config::range::{Range, Row, row};
use crate::config::{self, nearest, with_new_names};
use crate::train::RunSettings;

/// A parsed study.
#[derive(Clone, Debug, PartialEq)]
pub struct Study {
    /// Its title.
    pub title: String,
    /// The arms, in the order of runs and table rows. With axes, the last axis changes fastest.
    pub arms: Vec<Arm>,
    /// The axes whose combinations the arms are; empty if the study lists its arms.
    pub axes: Vec<AxisLabels>,
    /// The seeds to run each arm with; at least one, all distinct.
    pub seeds: Vec<u64>,
    /// The evaluation passes in the table; empty for all.
    pub passes: Vec<String>,
}

/// An axis of a study: its name and the labels of its alternatives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AxisLabels {
    /// The name, such as `temperature`.
    pub name: String,
    /// The label of each alternative, in order.
    pub labels: Vec<String>,
}

/// One arm: a variant of the settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Arm {
    /// Its name.
    pub label: String,
    /// The name of its folder: the label in lower case with hyphens.
    pub folder: String,
    /// Its settings file, if any.
    pub config: Option<PathBuf>,
    /// The settings that it overrides, each as `a.b=c`, in order.
    pub assignments: Vec<String>,
}

impl Arm {
    /// Returns the arm's settings with a seed, as layers over the defaults.
    ///
    /// # Errors
    /// If its settings file cannot be read, or an assignment cannot be parsed.
    pub fn layers(&self, seed: u64) -> Result<Vec<Table>> {
        let mut layers = config::layers(self.config.as_deref(), &self.assignments)?;
        layers.push(Table::from_iter([("seed".to_owned(), Value::Integer(seed as i64))]));
        Ok(layers)
    }

    /// Returns the equivalent arguments of `rlvr train`.
    pub fn arguments(&self, seed: u64) -> Vec<OsString> {
        let config = self.config.iter().flat_map(|path| [OsString::from("--config"), path.into()]);
        let sets = self.assignments.iter().flat_map(|one| [OsString::from("--set"), one.into()]);
        config.chain(sets).chain(["--seed".into(), seed.to_string().into()]).collect()
    }
}

/// The keys of a study file. The settings inside are those of a run and are checked separately.
#[rustfmt::skip] // a row is a line
pub const ROWS: &[Row] = &[
    row("title", Range::Text, "The title of the study."),
    row("config", Range::Text, "A settings file for all arms, relative to this file."),
    row("base", Range::Tables, "Settings that all arms share."),
    row("seeds", Range::Integers, "The seeds to run each arm with; seed 0 by default."),
    row("passes", Range::Strings, "The evaluation passes in the study's table; all passes by default."),
    row("axis", Range::Tables, "The axes, one `[[axis]]` each. The arms are all combinations of their alternatives."),
    row("arm", Range::Tables, "The arms, one `[[arm]]` each, as an alternative to axes."),
    row("axis.name", Range::Text, "The name of the axis."),
    row("axis.alternatives", Range::Tables, "The alternatives, each with the keys of an arm."),
    row("arm.label", Range::Text, "The name of the arm; also names its folder."),
    row("arm.config", Range::Text, "A settings file for this arm, relative to the study."),
    row("arm.set", Range::Tables, "Settings of this arm."),
];

/// Checks a part of the file against its rows: the file itself (`""`), an `axis` or an `arm`.
fn check_part(part: &str, table: &Table) -> Result<()> {
    let name = |row: &Row| match row.path.split_once('.') {
        Some((group, name)) => (group == part).then_some(name),
        None => part.is_empty().then_some(row.path),
    };
    let known: Vec<(&str, &Row)> = ROWS.iter().filter_map(|row| Some((name(row)?, row))).collect();
    for (key, value) in table {
        let Some((_, row)) = known.iter().find(|(name, _)| name == key) else {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            let near = nearest(key, names.iter().copied()).map_or(String::new(), |near| format!(" (did you mean {near}?)"));
            let location = if part.is_empty() { "a study".to_owned() } else { format!("[[{part}]]") };
            bail!("unknown key {key} in {location}; expected one of {}{near}", names.join(", "));
        };
        row.range.check(row.path, value).map_err(anyhow::Error::msg)?;
        let inner = match row.path {
            "axis" => "axis",
            "arm" | "axis.alternatives" => "arm",
            _ => continue,
        };
        let mut tables = value.as_array().into_iter().flatten().filter_map(Value::as_table);
        tables.try_for_each(|table| check_part(inner, table))?;
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    title: String,
    config: Option<PathBuf>,
    #[serde(default)]
    base: Table,
    #[serde(default = "default_seeds")]
    seeds: Vec<u64>,
    #[serde(default)]
    passes: Vec<String>,
    #[serde(default, rename = "axis")]
    axes: Vec<Axis>,
    #[serde(default, rename = "arm")]
    arms: Vec<Alternative>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Axis {
    name: String,
    alternatives: Vec<Alternative>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Alternative {
    label: String,
    config: Option<PathBuf>,
    #[serde(default)]
    set: Table,
}

fn default_seeds() -> Vec<u64> {
    vec![0]
}

impl Study {
    /// Reads a study file. Paths of settings files in it are relative to its folder.
    ///
    /// # Errors
    /// If the file cannot be read or parsed, has an unknown key, no arms or no seeds, lists a seed twice, or sets `seed` in an arm; or if a
    /// label cannot name a folder, two arms have the same folder, or two axes set the same setting.
    pub fn read(path: &Path) -> Result<Self> {
        let table = config::read(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse(table, folder).with_context(|| format!("{} is not a valid study", path.display()))
    }

    fn parse(table: Table, folder: &Path) -> Result<Self> {
        check_part("", &table)?;
        let file: File = table.try_into().map_err(|error: toml::de::Error| anyhow::anyhow!("{}", error.message()))?;
        ensure!(!file.seeds.is_empty(), "seeds is empty: remove it to use seed 0");
        let distinct: BTreeSet<&u64> = file.seeds.iter().collect();
        ensure!(distinct.len() == file.seeds.len(), "seeds lists a seed twice: list each seed once");
        let relative = |config: Option<PathBuf>| config.map(|config| folder.join(config));
        let (config, base) = (relative(file.config), assignments(&with_new_names::<RunSettings>(file.base)?, ""));
        let alternatives = match (file.axes.is_empty(), file.arms.is_empty()) {
            (false, false) => bail!("it has both axes and arms: write either [[axis]] or [[arm]]"),
            (true, true) => bail!("it has no arms: add [[axis]] or [[arm]]"),
            (true, false) => file.arms,
            (false, true) => grid(&file.axes)?,
        };
        let mut arms: Vec<Arm> = Vec::with_capacity(alternatives.len());
        for Alternative { label, config: own, set } in alternatives {
            let set = with_new_names::<RunSettings>(set)?;
            let folder = slug(&label);
            ensure!(!folder.is_empty(), "the label {label:?} cannot name a folder: give it at least one letter or digit");
            if let Some(other) = arms.iter().find(|arm| arm.folder == folder) {
                bail!("{:?} and {label:?} would share the folder {folder}: give one of them another label", other.label);
            }
            let assignments: Vec<String> = base.iter().cloned().chain(assignments(&set, "")).collect();
            ensure!(
                !assignments.iter().any(|one| one.starts_with("seed=")),
                "{label} sets seed: write seeds = [...] at the top of the study instead"
            );
            arms.push(Arm { label, folder, config: relative(own).or_else(|| config.clone()), assignments });
        }
        let labels =
            |axis: &Axis| AxisLabels { name: axis.name.clone(), labels: axis.alternatives.iter().map(|one| one.label.clone()).collect() };
        Ok(Self { title: file.title, arms, axes: file.axes.iter().map(labels).collect(), seeds: file.seeds, passes: file.passes })
    }
}

/// Returns all combinations of the axes' alternatives, with joined labels and settings.
fn grid(axes: &[Axis]) -> Result<Vec<Alternative>> {
    let mut grid = vec![Alternative { label: String::new(), config: None, set: Table::new() }];
    let mut taken: Vec<(String, &str)> = Vec::new();
    for axis in axes {
        ensure!(!axis.alternatives.is_empty(), "axis {} has no alternatives: add at least one", axis.name);
        let keys: BTreeSet<String> = axis.alternatives.iter().flat_map(|one| assignments(&one.set, "")).map(|one| key(&one)).collect();
        for key in keys {
            if let Some((_, other)) = taken.iter().find(|(taken, _)| *taken == key) {
                bail!("axes {other} and {} both set {key}: remove it from one of them", axis.name);
            }
            taken.push((key, &axis.name));
        }
        let combine = |point: &Alternative, one: &Alternative| {
            let label = [point.label.as_str(), one.label.as_str()].into_iter().filter(|label| !label.is_empty()).collect::<Vec<_>>();
            let mut set = point.set.clone();
            merge(&mut set, &one.set);
            Alternative { label: label.join(", "), config: one.config.clone().or_else(|| point.config.clone()), set }
        };
        grid = grid.iter().flat_map(|point| axis.alternatives.iter().map(move |one| combine(point, one))).collect();
    }
    Ok(grid)
}

/// Overrides settings of `base` with those of `overrides`, group by group.
fn merge(base: &mut Table, overrides: &Table) {
    for (key, value) in overrides {
        match (base.get_mut(key), value) {
            (Some(Value::Table(base)), Value::Table(overrides)) => merge(base, overrides),
            _ => drop(base.insert(key.clone(), value.clone())),
        }
    }
}

/// Flattens a table into assignments `a.b=c`. `path` is the prefix of its keys, such as `a.`.
fn assignments(table: &Table, path: &str) -> Vec<String> {
    let one = |(key, value): (&String, &Value)| match value {
        Value::Table(inner) => assignments(inner, &format!("{path}{key}.")),
        value => vec![format!("{path}{key}={value}")],
    };
    table.iter().flat_map(one).collect()
}

/// Returns the `a.b` of `a.b=c`.
fn key(assignment: &str) -> String {
    assignment.split('=').next().unwrap_or_default().to_owned()
}

/// Converts a label to a folder name: lower case, with hyphens; empty if it has no letter or digit.
fn slug(label: &str) -> String {
    let hyphenated: String = label.to_lowercase().chars().map(|c| if c.is_alphanumeric() || c == '.' { c } else { '-' }).collect();
    hyphenated.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-").trim_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Study> {
        Study::parse(text.parse().unwrap(), Path::new("studies"))
    }

    #[test]
    fn parse_combines_axes_into_a_grid() {
        let study = parse(
            r#"
            title = "two axes"
            config = "demo.toml"
            seeds = [0, 3]
            [base]
            train.steps = 2
            [[axis]]
            name = "temperature"
            alternatives = [{ label = "T 0.6" }, { label = "T 1.0", set = { rollout.temperature = 1.0 } }]
            [[axis]]
            name = "reward"
            alternatives = [{ label = "outcome" }, { label = "Format!", set = { reward.name = "format", rollout.max_new_tokens = 40 } }]
            "#,
        )
        .unwrap();
        let arms: Vec<(&str, &str, usize)> =
            study.arms.iter().map(|arm| (arm.label.as_str(), arm.folder.as_str(), arm.assignments.len())).collect();
        let expected = [
            ("T 0.6, outcome", "t-0.6-outcome", 1),
            ("T 0.6, Format!", "t-0.6-format", 3),
            ("T 1.0, outcome", "t-1.0-outcome", 2),
            ("T 1.0, Format!", "t-1.0-format", 4),
        ];
        assert_eq!(arms, expected);
        let last = &study.arms[3].assignments;
        assert_eq!(last, &["train.steps=2", "reward.name=\"format\"", "rollout.max_new_tokens=40", "rollout.temperature=1.0"]);
        assert_eq!((study.arms[0].config.as_deref(), study.seeds), (Some(Path::new("studies/demo.toml")), vec![0, 3]));
        let axes: Vec<(&str, Vec<&str>)> =
            study.axes.iter().map(|axis| (axis.name.as_str(), axis.labels.iter().map(String::as_str).collect())).collect();
        assert_eq!(axes, [("temperature", vec!["T 0.6", "T 1.0"]), ("reward", vec!["outcome", "Format!"])]);
    }

    /// Includes strings with quotes and backslashes.
    #[test]
    fn assignments_round_trip_through_parse_override() {
        let table: Table = r#"
            reward = { label = "12.8", command = ["a b", "c=d"] }
            prompt = { instruction = ' in \boxed{}, "please".' }
            loss = { kl = 1e-3 }
        "#
        .parse()
        .unwrap();
        let mut read = Table::new();
        assignments(&table, "").iter().for_each(|one| merge(&mut read, &config::parse_override(one).unwrap()));
        assert_eq!(read, table);
    }

    #[test]
    fn parse_errors_say_what_to_write() {
        let check = |text: &str, expected: &str| {
            let error = format!("{:#}", parse(&format!("title = \"t\"\n{text}")).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        };
        check("", "it has no arms: add [[axis]] or [[arm]]");
        check("seeds = []\n[[arm]]\nlabel = \"a\"", "seeds is empty");
        check("seeds = [1, 1]\n[[arm]]\nlabel = \"a\"", "lists a seed twice");
        check("[[arm]]\nlabel = \"a b\"\n[[arm]]\nlabel = \"A-b\"", "\"a b\" and \"A-b\" would share the folder a-b");
        check("[[arm]]\nlabel = \"...\"", "cannot name a folder");
        check("[[arm]]\nlabel = \"a\"\nset = { seed = 3 }", "a sets seed: write seeds = [...]");
        check("[[arm]]\nlabel = \"a\"\n[[axis]]\nname = \"b\"\nalternatives = []", "either [[axis]] or [[arm]]");
        check("[[arm]]\nlabel = \"a\"\nsets = {}", "unknown key sets in [[arm]]; expected one of label, config, set (did you mean set?)");
        check(
            "sedes = [1]",
            "unknown key sedes in a study; expected one of title, config, base, seeds, passes, axis, arm (did you mean seeds?)",
        );
        check("seeds = [-1]", "seeds is [-1]; it must be a list of whole numbers from 0 to");
        check("[[axis]]\nname = 3", "axis.name is 3; it must be a string in quotes");
        let axis =
            |name: &str| format!("[[axis]]\nname = \"{name}\"\nalternatives = [{{ label = \"{name}\", set = {{ loss.kl = 0 }} }}]\n");
        check(&(axis("b") + &axis("c")), "axes b and c both set loss.kl");
        check("[[axis]]\nname = \"b\"\nalternatives = []", "axis b has no alternatives");
    }
}
