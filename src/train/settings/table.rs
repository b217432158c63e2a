//! The table of a run's settings: one row per setting, with its range, unit, meaning, and the reason for its default. Checks, error
//! messages, `rlvr train --help-settings` and `docs/settings.md` use these rows.
//!
//! A new setting needs a row in one of the files in `table/`; `cargo test --lib every_setting_has_a_row` lists settings without one. Then
//! regenerate the page with `RLVR_WRITE_DOCS=1 cargo test --lib settings_page`. Checks that involve several settings are in `validity`.

mod inputs;
mod objective;
mod rollout;
mod training;

use super::RunSettings;
use super::renamed::RENAMED;
use crate::config::range::{Range, Row, between, concat_rows, whole};
use crate::config::{self, Renamed};
use crate::optim;

/// Upper limit of steps, tokens and other counts without a narrower limit.
pub const MAX_COUNT: i64 = 1_000_000_000;
/// Upper limit of groups, and of responses in a group.
pub const MAX_RESPONSES: i64 = 100_000;
/// Upper limit of tokens in a response.
pub const MAX_TOKENS: i64 = 10_000_000;

const SEED: Range = whole(0, i64::MAX);
const COUNT: Range = whole(0, MAX_COUNT);
const SHARE: Range = between(0.0, 1.0);
const GRADER: Range = Range::OneOf(&["strict", "deepscaler", "qwen"]);

impl config::Settings for RunSettings {
    fn rows() -> Vec<Row> {
        ROWS.to_vec()
    }

    fn renamed() -> &'static [Renamed] {
        RENAMED
    }
}

/// All settings, in the order of `config.toml`.
pub const ROWS: &[Row] =
    &concat_rows::<{ BEFORE_OPTIM.len() + optim::ROWS.len() + training::ROWS.len() }>(&[&BEFORE_OPTIM, &optim::ROWS, training::ROWS]);

/// The settings before `optim.*`.
const BEFORE_OPTIM: [Row; inputs::ROWS.len() + rollout::ROWS.len() + objective::ROWS.len()] =
    concat_rows(&[inputs::ROWS, rollout::ROWS, objective::ROWS]);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use toml::{Table, Value};

    use super::*;

    fn defaults() -> [Table; 2] {
        [RunSettings::demonstration(), RunSettings::published()].map(|settings| Table::try_from(settings).unwrap())
    }

    #[test]
    fn every_setting_has_a_row() {
        let rows: BTreeSet<&str> = ROWS.iter().map(|row| row.path).collect();
        assert_eq!(rows.len(), ROWS.len(), "two rows have the same path");
        for table in defaults() {
            let settings: BTreeSet<String> = config::flatten(&table).into_iter().map(|(path, _)| path).collect();
            let missing: Vec<&String> = settings.iter().filter(|path| !rows.contains(path.as_str())).collect();
            assert!(missing.is_empty(), "add a row for {missing:?} to src/train/settings/table/ (optim.*: to ROWS in src/optim/mod.rs)");
            let unused: Vec<&&str> = rows.iter().filter(|path| !settings.contains(**path)).collect();
            assert!(unused.is_empty(), "these rows belong to no setting: {unused:?}");
        }
    }

    /// Returns the default settings with one changed, parsed without checking its range.
    fn read(path: &str, value: Value) -> Result<RunSettings, String> {
        let mut table = defaults()[0].clone();
        let mut group = &mut table;
        let (groups, name) = path.rsplit_once('.').unwrap_or(("", path));
        for part in groups.split('.').filter(|part| !part.is_empty()) {
            group = group.get_mut(part).unwrap().as_table_mut().unwrap();
        }
        group.insert(name.to_owned(), value);
        toml::from_str(&toml::to_string(&table).unwrap()).map_err(|error| error.message().to_owned())
    }

    /// A row lists exactly the names that the setting's type accepts.
    #[test]
    fn rows_list_every_alternative() {
        // The algorithm's type is a string, and its row refers to the registry.
        for row in ROWS.iter().filter(|row| row.path != "algo") {
            let Range::OneOf(names) = row.range else { continue };
            for name in names {
                read(row.path, Value::String((*name).to_owned())).unwrap_or_else(|error| panic!("{} {name}: {error}", row.path));
            }
            let error = read(row.path, Value::String("?".into())).unwrap_err();
            let known: BTreeSet<&str> = error.split_once("expected").unwrap().1.split('`').skip(1).step_by(2).collect();
            assert_eq!(known, names.iter().copied().collect(), "{}: {error}", row.path);
        }
    }

    #[test]
    fn rows_have_complete_sentences() {
        for row in ROWS {
            assert!(row.about.ends_with('.') && row.about.len() > 10 && !row.about.contains('\n'), "{}: {}", row.path, row.about);
        }
    }
}
