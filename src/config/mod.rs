//! Settings: a complete set of defaults, a TOML file over it, `--set a.b=c` over that, and the whole validated by its type.
//!
//! Knows tables and keys, not what they mean: each room declares its own settings beside the code that they steer. Because the defaults are
//! complete, they are the list of known keys, and what they do not have is an error that lists them.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// Reads a settings file.
pub fn read(path: &Path) -> Result<Table> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the configuration {}", path.display()))?;
    text.parse().with_context(|| format!("{} is not valid TOML", path.display()))
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

/// The defaults with `layers` laid over them, one after the other.
pub fn resolve<T: Serialize + DeserializeOwned>(defaults: &T, layers: &[Table]) -> Result<T> {
    let mut table = Table::try_from(defaults).context("the defaults cannot be written as TOML")?;
    for layer in layers {
        merge(&mut table, layer, "")?;
    }
    let text = toml::to_string(&table)?;
    toml::from_str(&text).map_err(|error| anyhow::anyhow!("{}", error.message()).context("a setting has a value that it cannot have"))
}

fn merge(base: &mut Table, layer: &Table, path: &str) -> Result<()> {
    for (key, value) in layer {
        let known = base.keys().cloned().collect::<Vec<_>>().join(", ");
        let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let Some(slot) = base.get_mut(key) else {
            let place = if path.is_empty() { "at the top".to_owned() } else { format!("in [{path}]") };
            bail!("unknown setting {full}; known {place} are {known}");
        };
        match (slot, value) {
            (Value::Table(slot), Value::Table(value)) => merge(slot, value, &full)?,
            (Value::Table(slot), _) => {
                bail!("{full} is a group of settings ({}); set one of them", slot.keys().cloned().collect::<Vec<_>>().join(", "))
            }
            (slot, value) => {
                let number = |value: &Value| matches!(value, Value::Integer(_) | Value::Float(_));
                // A date, or a label such as 890, is text where text is asked for; 0.50 would lose its spelling and has to be quoted.
                let text = slot.is_str() && (value.is_datetime() || value.is_integer());
                let same = slot.same_type(value) || text || (number(slot) && number(value));
                ensure!(same, "{full} is {value}, which is {}; it must be {}", kind(value), kind(slot));
                // 0.5 for a count would otherwise be refused without its name.
                let whole = !matches!((&*slot, value), (Value::Integer(_), Value::Float(_)));
                ensure!(whole, "{full} is {value}; it must be a whole number");
                *slot = match (&*slot, value) {
                    (Value::Float(_), Value::Integer(whole)) => Value::Float(*whole as f64),
                    (Value::String(_), Value::Datetime(date)) => Value::String(date.to_string()),
                    (Value::String(_), Value::Integer(number)) => Value::String(number.to_string()),
                    _ => value.clone(),
                };
            }
        }
    }
    Ok(())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Array(_) => "a list",
        Value::Table(_) => "a group of settings",
        Value::Datetime(_) => "a date",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        name: String,
        inner: Inner,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        rate: f64,
        count: u64,
    }

    fn resolved(sets: &[&str]) -> Result<Settings> {
        let layers = sets.iter().map(|set| assignment(set)).collect::<Result<Vec<_>>>()?;
        resolve(&Settings { name: "a".into(), inner: Inner { rate: 0.5, count: 2 } }, &layers)
    }

    #[test]
    fn later_layers_win_and_types_are_kept() -> Result<()> {
        let found = resolved(&["inner.rate=1", "name=qwen", "inner.rate = 3e-4"])?;
        assert_eq!(found, Settings { name: "qwen".into(), inner: Inner { rate: 3e-4, count: 2 } });
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
        check("inner.ratte=1", "unknown setting inner.ratte; known in [inner] are count, rate");
        check("loss=1", "unknown setting loss; known at the top are inner, name");
        check("inner=1", "inner is a group of settings (count, rate)");
        check("inner.count=0.5", "inner.count is 0.5; it must be a whole number");
        check("inner.rate=fast", "inner.rate is \"fast\", which is text; it must be a number");
        check("inner.count=-1", "a setting has a value that it cannot have");
        check("inner.count", "write it as a.b=c");
    }
}
