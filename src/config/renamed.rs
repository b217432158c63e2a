//! Settings whose names changed. Their old names still work in files and in `--set`. A note lists the new names, each once per process.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, ensure};
use toml::{Table, Value};

/// A setting, or a value of one, that has a new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renamed {
    /// A setting with a new name in the same group.
    Setting {
        /// The old path, such as `rollout.max_new`.
        old: &'static str,
        /// The new path, such as `rollout.max_new_tokens`.
        new: &'static str,
    },
    /// A setting with a new name for one of its text values.
    Value {
        /// The new path of the setting.
        path: &'static str,
        /// The old value.
        old: &'static str,
        /// The new value.
        new: &'static str,
    },
}

/// Replaces old names in `layer` by new ones, and prints them in a note. A name is printed once per process.
///
/// # Errors
/// If `layer` sets both the old and the new name of a setting.
pub fn update(layer: &mut Table, renamed: &[Renamed]) -> Result<()> {
    let mut found = Vec::new();
    for one in renamed {
        match *one {
            Renamed::Setting { old, new } => {
                let (group, old_key) = old.rsplit_once('.').unwrap_or(("", old));
                let Some(table) = group_of(layer, group) else { continue };
                let Some(value) = table.remove(old_key) else { continue };
                let new_key = new.rsplit_once('.').map_or(new, |(_, key)| key);
                ensure!(!table.contains_key(new_key), "{old} is the old name of {new}, and both are set: remove {old}");
                table.insert(new_key.to_owned(), value);
                found.push(format!("{old} is now {new}"));
            }
            Renamed::Value { path, old, new } => {
                let (group, key) = path.rsplit_once('.').unwrap_or(("", path));
                let Some(value) = group_of(layer, group).and_then(|table| table.get_mut(key)) else { continue };
                if value.as_str() == Some(old) {
                    *value = Value::String(new.to_owned());
                    found.push(format!("{path} = \"{old}\" is now \"{new}\""));
                }
            }
        }
    }
    print_note(found);
    Ok(())
}

/// Returns the table of a group such as `rollout.engine`, or the whole table for an empty name. `None` if there is no such group.
fn group_of<'a>(table: &'a mut Table, group: &str) -> Option<&'a mut Table> {
    group.split('.').filter(|part| !part.is_empty()).try_fold(table, |table, part| table.get_mut(part)?.as_table_mut())
}

/// Prints those changes of names that this process has not printed before, in one line.
fn print_note(changes: Vec<String>) {
    static PRINTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut printed = PRINTED.lock().unwrap_or_else(PoisonError::into_inner);
    let new: Vec<String> = changes.into_iter().filter(|change| printed.insert(change.clone())).collect();
    if !new.is_empty() {
        message!("note: old names of settings still work: {}", new.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RENAMED: &[Renamed] = &[
        Renamed::Setting { old: "rollout.max_new", new: "rollout.max_new_tokens" },
        Renamed::Setting { old: "lanes", new: "workers" },
        Renamed::Value { path: "compute.kernels", old: "reference", new: "stock" },
    ];

    #[test]
    fn update_replaces_old_names_and_refuses_both() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let mut table: Table = text.parse().unwrap();
            let found = update(&mut table, RENAMED).map(|()| table).map_err(|error| error.to_string());
            assert_eq!(found, expected.map(|text| text.parse().unwrap()).map_err(str::to_owned), "{text}");
        };
        check("rollout.max_new = 5", Ok("rollout.max_new_tokens = 5"));
        check("lanes = 2\nrollout.groups = 3", Ok("workers = 2\nrollout.groups = 3"));
        check("compute.kernels = \"reference\"", Ok("compute.kernels = \"stock\""));
        // The same name in another group, and another value, stay unchanged.
        check("eval.max_new = 5\ncompute.kernels = \"plain\"", Ok("eval.max_new = 5\ncompute.kernels = \"plain\""));
        check("rollout = 1", Ok("rollout = 1"));
        check(
            "rollout = { max_new = 5, max_new_tokens = 6 }",
            Err("rollout.max_new is the old name of rollout.max_new_tokens, and both are set: remove rollout.max_new"),
        );
    }
}
