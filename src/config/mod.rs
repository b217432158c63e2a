//! Settings: a complete set of defaults, a TOML file over it, `--set a.b=c` over that, and the whole held to a table of ranges.
//!
//! Knows tables and keys, not what they mean: each room declares its own settings beside the code that they steer, and [`Settings::rows`] says
//! what each may be. Because the defaults are complete, they are the list of known keys, and what they do not have is an error that suggests
//! the nearest one and lists the rest.

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
use range::shown;
pub use range::{Range, Row};
pub use renamed::Renamed;

/// A tree of settings with the table that says what each may be.
pub trait Settings: Serialize + DeserializeOwned {
    /// A row for every setting, in the order of the documentation.
    fn rows() -> Vec<Row>;

    /// Settings and values that had another name before.
    fn renamed() -> &'static [Renamed] {
        &[]
    }

    /// Refuses values outside their ranges, by name.
    ///
    /// # Errors
    /// The first setting that is outside its range, with the range.
    fn check(&self) -> Result<()> {
        check(&Self::rows(), &Table::try_from(self).context("a setting is too large to be written as TOML")?)
    }
}

/// Reads a settings file.
pub fn read(path: &Path) -> Result<Table> {
    let text = input::read_text(path, input::TEXT_BYTES).with_context(|| format!("cannot read the configuration {}", path.display()))?;
    input::toml(&text, |text| text.parse::<Table>()).with_context(|| format!("{} is not valid TOML", path.display()))
}

/// One `a.b=c`: the value is TOML, or a plain string where it is not.
pub fn assignment(text: &str) -> Result<Table> {
    let Some((key, value)) = text.split_once('=') else { bail!("\"{text}\" is no setting; write it as a.b=c") };
    let value = value.trim();
    let parsed = format!("v = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
    let mut value = parsed.unwrap_or_else(|| Value::String(value.to_owned()));
    for part in key.trim().rsplit('.') {
        ensure!(!part.is_empty(), "\"{text}\" is no setting; write it as a.b=c");
        value = Value::Table(Table::from_iter([(part.to_owned(), value)]));
    }
    match value {
        Value::Table(table) => Ok(table),
        _ => bail!("\"{text}\" is no setting; write it as a.b=c"),
    }
}

/// A settings file, where one is given, and single settings (`a.b=c`) over it, as layers.
///
/// # Errors
/// When the file cannot be read, or an assignment is none.
pub fn layers(file: Option<&Path>, assignments: &[String]) -> Result<Vec<Table>> {
    file.map(read).into_iter().chain(assignments.iter().map(|one| assignment(one))).collect()
}

/// A layer with the old names of settings replaced by the new ones, which prints a note for each.
///
/// # Errors
/// If the layer has a setting under both its names.
pub fn with_new_names<T: Settings>(mut layer: Table) -> Result<Table> {
    renamed::update(&mut layer, T::renamed())?;
    Ok(layer)
}

/// Settings of one group as a layer.
pub fn group<const N: usize>(name: &str, values: [(&str, Value); N]) -> Table {
    let values = values.map(|(key, value)| (key.to_owned(), value));
    Table::from_iter([(name.to_owned(), Value::Table(Table::from_iter(values)))])
}

/// The defaults with `layers` laid over them, one after the other.
///
/// # Errors
/// When a layer has an unknown setting, a value of another type, or one outside its range.
pub fn resolve<T: Settings>(defaults: &T, layers: &[Table]) -> Result<T> {
    let mut table = Table::try_from(defaults).context("the defaults cannot be written as TOML")?;
    let known = Known { rows: T::rows(), paths: leaves(&table).into_iter().map(|(path, _)| path).collect() };
    for layer in layers {
        known.lay(&with_new_names::<T>(layer.clone())?, &mut table, "")?;
    }
    read_from(&table)
}

/// The settings of a complete file, such as a run's `config.toml`. A setting that the file lacks takes its default, where it has one.
///
/// # Errors
/// When the file cannot be read, or a setting is unknown, missing, or outside its range.
pub fn read_complete<T: Settings>(path: &Path) -> Result<T> {
    let (table, rows) = (read(path)?, T::rows());
    let settings = with_new_names::<T>(table).and_then(|table| {
        check(&rows, &table)?;
        let is_unknown = |(path, _): &(String, &Value)| !rows.iter().any(|row| row.is_of(path));
        let known = Known { paths: rows.iter().map(|row| row.path.to_owned()).collect(), rows: Vec::new() };
        let unknown = || leaves(&table).into_iter().find(is_unknown).map(|(path, _)| known.unknown(&path));
        read_from(&table).map_err(|error| unknown().unwrap_or(error))
    });
    settings.with_context(|| format!("{} cannot be used", path.display()))
}

/// Refuses values outside their ranges. A setting without a row is checked by its type alone.
///
/// # Errors
/// The first setting that is outside its range, with the range.
pub fn check(rows: &[Row], table: &Table) -> Result<()> {
    for (path, value) in leaves(table) {
        let row = rows.iter().find(|row| row.is_of(&path));
        row.map_or(Ok(()), |row| row.range.check(&path, value)).map_err(anyhow::Error::msg)?;
    }
    Ok(())
}

/// Every setting of a table by its full name, with its value.
pub fn leaves(table: &Table) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) => found.extend(leaves(inner).into_iter().map(|(path, value)| (format!("{key}.{path}"), value))),
            value => found.push((key.clone(), value)),
        }
    }
    found
}

fn read_from<T: DeserializeOwned>(table: &Table) -> Result<T> {
    let text = toml::to_string(table)?;
    toml::from_str(&text).map_err(|error| anyhow!("{}", error.message()).context("a setting has a value that it cannot have"))
}

/// What a layer is held to.
struct Known {
    rows: Vec<Row>,
    /// All settings by their full names.
    paths: Vec<String>,
}

impl Known {
    /// Lays `layer` over `base`, both of the group called `group`; a value takes the type that it has there.
    fn lay(&self, layer: &Table, base: &mut Table, group: &str) -> Result<()> {
        for (key, value) in layer {
            let full = if group.is_empty() { key.clone() } else { format!("{group}.{key}") };
            let Some(slot) = base.get_mut(key) else { return Err(self.unknown(&first_leaf(full, value))) };
            match (slot, value) {
                (Value::Table(slot), Value::Table(value)) => self.lay(value, slot, &full)?,
                (Value::Table(slot), _) => {
                    bail!("{full} is a group of settings ({}); set one of them", slot.keys().cloned().collect::<Vec<_>>().join(", "))
                }
                (slot, value) => {
                    let value = as_type_of(slot, value);
                    match self.rows.iter().find(|row| row.is_of(&full)) {
                        Some(row) => row.range.check(&full, &value).map_err(anyhow::Error::msg)?,
                        None => ensure!(slot.same_type(&value), "{full} is {}; it must be a {}", shown(&value), slot.type_str()),
                    }
                    *slot = value;
                }
            }
        }
        Ok(())
    }

    /// `unknown setting optim.ler; known in [optim] are lr, eps (did you mean optim.lr?)`.
    fn unknown(&self, path: &str) -> anyhow::Error {
        let group = path.rsplit_once('.').map_or("", |(group, _)| group);
        let inside = |one: &String, group: &str| {
            let rest = if group.is_empty() { one } else { one.strip_prefix(group)?.strip_prefix('.')? };
            rest.split('.').next().map(str::to_owned)
        };
        let beside = |group: &str| {
            let mut beside: Vec<String> = self.paths.iter().filter_map(|one| inside(one, group)).collect();
            beside.dedup();
            beside
        };
        let (place, beside) = match beside(group) {
            _ if group.is_empty() => ("at the top".to_owned(), beside("")),
            empty if empty.is_empty() => ("at the top".to_owned(), beside("")),
            beside => (format!("in [{group}]"), beside),
        };
        let near = nearest_settings(path, &self.paths).join(" or ");
        let near = if near.is_empty() { near } else { format!(" (did you mean {near}?)") };
        anyhow!("unknown setting {path}; known {place} are {}{near}", beside.join(", "))
    }
}

/// The first setting that a value gives: of a table, the first in it.
fn first_leaf(path: String, value: &Value) -> String {
    match value.as_table().and_then(|table| leaves(table).into_iter().next()) {
        Some((inner, _)) => format!("{path}.{inner}"),
        None => path,
    }
}

/// A value as the type of another one, where people would write it so: 1 for 1.0, a date or a label such as 890 for text. 0.50 as text would
/// lose its spelling and has to be quoted.
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
        let layers = sets.iter().map(|set| assignment(set)).collect::<Result<Vec<_>>>()?;
        resolve(&Named { name: "a".into(), inner: Inner { rate: 0.5, count: 2 } }, &layers)
    }

    #[test]
    fn later_layers_win_and_types_are_kept() -> Result<()> {
        let found = resolved(&["inner.rate=1", "name=qwen", "inner.rate = 3e-4"])?;
        assert_eq!(found, Named { name: "qwen".into(), inner: Inner { rate: 3e-4, count: 2 } });
        assert_eq!(resolved(&["name=890"])?.name, "890");
        assert_eq!(resolved(&["name=2024-07-26"])?.name, "2024-07-26");
        Ok(())
    }

    #[test]
    fn mistakes_name_the_key_and_list_the_known_ones() {
        let check = |set: &str, expected: &str| {
            let message = format!("{:#}", resolved(&[set]).unwrap_err());
            assert!(message.contains(expected), "{set}: {message}");
        };
        check("inner.ratte=1", "unknown setting inner.ratte; known in [inner] are count, rate (did you mean inner.rate?)");
        check("iner.count=1", "unknown setting iner.count; known at the top are inner, name (did you mean inner.count?)");
        check("count=1", "unknown setting count; known at the top are inner, name (did you mean inner.count?)");
        check("loss=1", "unknown setting loss; known at the top are inner, name");
        check("inner=1", "inner is a group of settings (count, rate)");
        check("inner.count=0.5", "inner.count is 0.5; it must be a whole number from 1 to 9");
        check("inner.count=-1", "inner.count is -1; it must be a whole number from 1 to 9");
        check("inner.count=\"2\"", "inner.count is \"2\"; it must be a whole number from 1 to 9");
        check("inner.count.a=1", "inner.count is { a = 1 }; it must be a whole number from 1 to 9");
        check("inner.rate=fast", "inner.rate is \"fast\"; it must be a number of at least 0");
        check("inner.rate=nan", "inner.rate is NaN; it must be a number of at least 0");
        check("inner.count", "write it as a.b=c");
    }

    #[test]
    fn a_complete_file_is_held_to_the_same_ranges() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_complete::<Named>(&path)
        };
        assert_eq!(read("name = \"a\"\n[inner]\nrate = 1\ncount = 2").unwrap().inner.count, 2);
        let check = |text: &str, expected: &str| {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains("config.toml cannot be used: ") && error.contains(expected), "{error}");
        };
        check("name = \"a\"\n[inner]\nrate = -1\ncount = 2", "inner.rate is -1; it must be a number of at least 0");
        check(
            "name = \"a\"\n[inner]\nrate = 1\ncont = 2",
            "unknown setting inner.cont; known in [inner] are rate, count (did you mean inner.count?)",
        );
        check("name = \"a\"\n[inner]\nrate = 1", "missing field `count`");
    }
}
