//! Settings in layers: complete defaults, then a TOML file, then `--set a.b=c`, all checked against a table of ranges.
//!
//! Handles tables and keys, and knows nothing about their meaning. Each module declares its settings next to the code that uses them;
//! [`Settings::rows`] returns their ranges. The defaults are complete, so they also define the known keys. The error for an unknown key
//! suggests the nearest known one and lists the rest.

pub mod document;
mod nearest;
pub mod range;
mod renamed;

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::input;
pub use nearest::nearest;
use nearest::nearest_settings;
use range::format_value;
pub use range::{Range, Row};
pub use renamed::Renamed;

/// A tree of settings with a table of their ranges.
pub trait Settings: Serialize + DeserializeOwned {
    /// Returns one row for every setting, in the order of the documentation.
    fn rows() -> Vec<Row>;

    /// Returns the settings and values that were renamed since an earlier version.
    fn renamed() -> &'static [Renamed] {
        &[]
    }

    /// Checks all values against their ranges.
    ///
    /// # Errors
    /// If a setting is outside its range; the message names the first one and its range.
    fn check(&self) -> Result<()> {
        check(&Self::rows(), &Table::try_from(self).context("a setting is too large to be written as TOML")?)
    }
}

/// Reads a settings file.
///
/// # Errors
/// If the file cannot be read or is not valid TOML.
pub fn read(path: &Path) -> Result<Table> {
    let text = input::read_text(path, input::TEXT_BYTES)?;
    input::toml(&text, |text| text.parse::<Table>()).with_context(|| format!("{} is not valid TOML", path.display()))
}

/// Parses `a.b=c` into a layer. A value that is not valid TOML becomes a string.
///
/// # Errors
/// If the text has no `=`, or a part of the name is empty.
pub fn parse_override(text: &str) -> Result<Table> {
    let Some((key, value)) = text.split_once('=') else { bail!("\"{text}\" is not an assignment: write a.b=c") };
    let value = value.trim();
    let parsed = format!("v = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
    let mut value = parsed.unwrap_or_else(|| Value::String(value.to_owned()));
    for part in key.trim().rsplit('.') {
        ensure!(!part.is_empty(), "\"{text}\" is not an assignment: write a.b=c");
        value = Value::Table(Table::from_iter([(part.to_owned(), value)]));
    }
    match value {
        Value::Table(table) => Ok(table),
        _ => bail!("\"{text}\" is not an assignment: write a.b=c"),
    }
}

/// Returns a settings file (if given) and single settings (`a.b=c`) as layers, in that order.
///
/// # Errors
/// If the file cannot be read, or an assignment cannot be parsed.
pub fn layers(file: Option<&Path>, assignments: &[String]) -> Result<Vec<Table>> {
    file.map(read).into_iter().chain(assignments.iter().map(|one| parse_override(one))).collect()
}

/// Replaces the old names of settings in a layer by the new ones. Prints a note for each, once per process.
///
/// # Errors
/// If the layer sets both the old and the new name of a setting.
pub fn with_new_names<T: Settings>(mut layer: Table) -> Result<Table> {
    renamed::update(&mut layer, T::renamed())?;
    Ok(layer)
}

/// Makes a layer of settings in one group.
pub fn group<const N: usize>(name: &str, values: [(&str, Value); N]) -> Table {
    let values = values.map(|(key, value)| (key.to_owned(), value));
    Table::from_iter([(name.to_owned(), Value::Table(Table::from_iter(values)))])
}

/// Overrides the defaults with each of `layers`, in order.
///
/// # Errors
/// If a layer has an unknown setting, a value of the wrong type or outside its range, or both the old and the new name of a setting.
pub fn resolve<T: Settings>(defaults: &T, layers: &[Table]) -> Result<T> {
    let mut table = Table::try_from(defaults).context("the defaults cannot be written as TOML")?;
    let known = Known { rows: T::rows(), paths: flatten(&table).into_iter().map(|(path, _)| path).collect() };
    for layer in layers {
        known.apply(&with_new_names::<T>(layer.clone())?, &mut table, "")?;
    }
    read_from(&table)
}

/// Reads a complete settings file, such as a run's `config.toml`. A missing setting gets its serde default, if it has one.
///
/// # Errors
/// If the file cannot be read, or a setting is unknown, missing without a default, outside its range, or set under both its old and its new
/// name.
pub fn read_recorded<T: Settings>(path: &Path) -> Result<T> {
    let (table, rows) = (read(path)?, T::rows());
    let settings = with_new_names::<T>(table).and_then(|table| {
        check(&rows, &table)?;
        let is_unknown = |(path, _): &(String, &Value)| !rows.iter().any(|row| row.matches(path));
        let known = Known { paths: rows.iter().map(|row| row.path.to_owned()).collect(), rows: Vec::new() };
        let unknown = || flatten(&table).into_iter().find(is_unknown).map(|(path, _)| known.unknown(&path));
        read_from(&table).map_err(|error| unknown().unwrap_or(error))
    });
    settings.with_context(|| format!("{} cannot be used", path.display()))
}

/// Checks the values of a table against their ranges. Settings without a row are not checked.
///
/// # Errors
/// If a setting is outside its range; the message names the first one and its range.
pub fn check(rows: &[Row], table: &Table) -> Result<()> {
    for (path, value) in flatten(table) {
        let row = rows.iter().find(|row| row.matches(&path));
        row.map_or(Ok(()), |row| row.range.check(&path, value)).map_err(anyhow::Error::msg)?;
    }
    Ok(())
}

/// Flattens a table to `(full name, value)` pairs, in table order.
pub fn flatten(table: &Table) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) => found.extend(flatten(inner).into_iter().map(|(path, value)| (format!("{key}.{path}"), value))),
            value => found.push((key.clone(), value)),
        }
    }
    found
}

fn read_from<T: DeserializeOwned>(table: &Table) -> Result<T> {
    let text = toml::to_string(table)?;
    toml::from_str(&text).map_err(|error| anyhow!("{}", error.message()).context("a setting has an invalid value"))
}

/// The known settings and their ranges.
struct Known {
    rows: Vec<Row>,
    /// The full names of all settings.
    paths: Vec<String>,
}

impl Known {
    /// Overrides values of `base` with those of `layer`; both are tables of the group `group`. Converts values to the types in `base`.
    fn apply(&self, layer: &Table, base: &mut Table, group: &str) -> Result<()> {
        for (key, value) in layer {
            let full = if group.is_empty() { key.clone() } else { format!("{group}.{key}") };
            let Some(slot) = base.get_mut(key) else { return Err(self.unknown(&first_leaf(full, value))) };
            match (slot, value) {
                (Value::Table(slot), Value::Table(value)) => self.apply(value, slot, &full)?,
                (Value::Table(slot), _) => {
                    bail!("{full} is a group of settings ({}): set one of them", slot.keys().cloned().collect::<Vec<_>>().join(", "))
                }
                (slot, value) => {
                    let value = as_type_of(slot, value);
                    match self.rows.iter().find(|row| row.matches(&full)) {
                        Some(row) => row.range.check(&full, &value).map_err(anyhow::Error::msg)?,
                        None => ensure!(
                            slot.same_type(&value),
                            "{full} is {}; expected a value of type {}",
                            format_value(&value),
                            slot.type_str()
                        ),
                    }
                    *slot = value;
                }
            }
        }
        Ok(())
    }

    /// Makes the error `unknown setting optim.ler; [optim] has lr, eps (did you mean optim.lr?)`.
    fn unknown(&self, path: &str) -> anyhow::Error {
        let group = path.rsplit_once('.').map_or("", |(group, _)| group);
        let inside = |one: &String, group: &str| {
            let rest = if group.is_empty() { one } else { one.strip_prefix(group)?.strip_prefix('.')? };
            rest.split('.').next().map(str::to_owned)
        };
        let members = |group: &str| {
            let mut members: Vec<String> = self.paths.iter().filter_map(|one| inside(one, group)).collect();
            members.dedup();
            members
        };
        let (group_name, known) = match members(group) {
            known if group.is_empty() || known.is_empty() => ("the top level".to_owned(), members("")),
            known => (format!("[{group}]"), known),
        };
        let near = nearest_settings(path, &self.paths).join(" or ");
        let near = if near.is_empty() { near } else { format!(" (did you mean {near}?)") };
        anyhow!("unknown setting {path}; {group_name} has {}{near}", known.join(", "))
    }
}

/// Returns the full name of the first setting in a value: the first leaf of a table, or `path` if the value is not a table.
fn first_leaf(path: String, value: &Value) -> String {
    match value.as_table().and_then(|table| flatten(table).into_iter().next()) {
        Some((inner, _)) => format!("{path}.{inner}"),
        None => path,
    }
}

/// Converts a value to the type of `slot` where users naturally write another type: 1 for 1.0, and a date or a whole number such as 890 for
/// a string. Does not convert floats to strings, since 0.50 would become 0.5; they must be quoted.
fn as_type_of(slot: &Value, value: &Value) -> Value {
    match (slot, value) {
        (Value::Float(_), Value::Integer(whole)) => Value::Float(*whole as f64),
        (Value::String(_), Value::Datetime(date)) => Value::String(date.to_string()),
        (Value::String(_), Value::Integer(number)) => Value::String(number.to_string()),
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::range::{at_least, row, whole};
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Named {
        name: String,
        inner: Inner,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        rate: f64,
        count: u64,
    }

    impl Settings for Named {
        fn rows() -> Vec<Row> {
            vec![row("name", Range::Text, ""), row("inner.rate", at_least(0.0), ""), row("inner.count", whole(1, 9), "")]
        }
    }

    fn resolved(sets: &[&str]) -> Result<Named> {
        let layers = sets.iter().map(|set| parse_override(set)).collect::<Result<Vec<_>>>()?;
        resolve(&Named { name: "a".into(), inner: Inner { rate: 0.5, count: 2 } }, &layers)
    }

    #[test]
    fn resolve_applies_layers_in_order_and_keeps_types() -> Result<()> {
        let found = resolved(&["inner.rate=1", "name=qwen", "inner.rate = 3e-4"])?;
        assert_eq!(found, Named { name: "qwen".into(), inner: Inner { rate: 3e-4, count: 2 } });
        assert_eq!(resolved(&["name=890"])?.name, "890");
        assert_eq!(resolved(&["name=2024-07-26"])?.name, "2024-07-26");
        Ok(())
    }

    #[test]
    fn resolve_errors_name_the_key_and_list_known_ones() {
        let check = |set: &str, expected: &str| {
            let message = format!("{:#}", resolved(&[set]).unwrap_err());
            assert!(message.contains(expected), "{set}: {message}");
        };
        check("inner.ratte=1", "unknown setting inner.ratte; [inner] has count, rate (did you mean inner.rate?)");
        check("iner.count=1", "unknown setting iner.count; the top level has inner, name (did you mean inner.count?)");
        check("count=1", "unknown setting count; the top level has inner, name (did you mean inner.count?)");
        check("loss=1", "unknown setting loss; the top level has inner, name");
        check("inner=1", "inner is a group of settings (count, rate)");
        check("inner.count=0.5", "inner.count is 0.5; it must be a whole number from 1 to 9");
        check("inner.count=-1", "inner.count is -1; it must be a whole number from 1 to 9");
        check("inner.count=\"2\"", "inner.count is \"2\"; it must be a whole number from 1 to 9");
        check("inner.count.a=1", "inner.count is { a = 1 }; it must be a whole number from 1 to 9");
        check("inner.rate=fast", "inner.rate is \"fast\"; it must be a number of at least 0");
        check("inner.rate=nan", "inner.rate is NaN; it must be a number of at least 0");
        check("inner.count", "is not an assignment: write a.b=c");
    }

    #[test]
    fn read_recorded_checks_the_same_ranges() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_recorded::<Named>(&path)
        };
        assert_eq!(read("name = \"a\"\n[inner]\nrate = 1\ncount = 2").unwrap().inner.count, 2);
        let check = |text: &str, expected: &str| {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains("config.toml cannot be used: ") && error.contains(expected), "{error}");
        };
        check("name = \"a\"\n[inner]\nrate = -1\ncount = 2", "inner.rate is -1; it must be a number of at least 0");
        check(
            "name = \"a\"\n[inner]\nrate = 1\ncont = 2",
            "unknown setting inner.cont; [inner] has rate, count (did you mean inner.count?)",
        );
        check("name = \"a\"\n[inner]\nrate = 1", "missing field `count`");
    }
}
