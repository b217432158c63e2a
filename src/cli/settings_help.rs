//! Every setting with its range, unit, default, meaning, and the reason for the default: as text for `rlvr train --help-settings`, and as a
//! page, `docs/settings.md`.

#[cfg(test)]
mod page;

use anyhow::Result;
use toml::Table;

use crate::config::{Settings, document};
use crate::study;
use crate::tiny::pretrain::PretrainSettings;
use crate::train::RunSettings;

const TEXT_HEAD: &str = "\
Every setting, with its allowed values, its defaults, its meaning, and the
reason for the default. Set any of them in a TOML file (--config FILE) or on the
command line (--set rollout.groups=16). Defaults are those of the demonstration
with the embedded model (embedded) and of all other runs (published).
\"As published\" is the paper's main run (arXiv 2504.20571 v3), as its code runs
it. \"Not tuned\" means that nobody compared several values.

SETTINGS OF A RUN: rlvr train
";

const TEXT_PRETRAIN: &str = "
SETTINGS OF PRE-TRAINING: rlvr pretrain
";

const TEXT_STUDY: &str = "
KEYS OF A STUDY: rlvr study FILE
";

/// The width of the text, in columns.
const WIDTH: usize = 80;

/// Default values with their heading.
type Defaults = (&'static str, Table);

/// Returns the defaults of a run.
fn run_defaults() -> Result<[Defaults; 2]> {
    Ok([("embedded", Table::try_from(RunSettings::demonstration())?), ("published", Table::try_from(RunSettings::published())?)])
}

/// Returns the defaults of pre-training.
fn pretrain_defaults() -> Result<[Defaults; 1]> {
    Ok([("pre-training", Table::try_from(PretrainSettings::default())?)])
}

/// Returns all settings as text of 80 columns.
pub fn text() -> Result<String> {
    let run = document::text(&RunSettings::rows(), &run_defaults()?, WIDTH);
    let pretrain = document::text(&PretrainSettings::rows(), &pretrain_defaults()?, WIDTH);
    let study = document::text(study::ROWS, &[], WIDTH);
    Ok([TEXT_HEAD, &run, TEXT_PRETRAIN, &pretrain, TEXT_STUDY, &study].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Row;

    #[test]
    fn text_fits_80_columns_and_lists_every_setting() {
        let text = text().unwrap();
        let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 80 && line.split_whitespace().count() > 1).collect();
        assert!(wide.is_empty(), "{wide:#?}");
        let paths = RunSettings::rows().into_iter().chain(PretrainSettings::rows()).chain(study::ROWS.iter().copied()).map(|row| row.path);
        paths.for_each(|path| assert!(text.contains(&format!("\n{path}\n    values: ")), "{path}"));
        let has_reason = |row: &Row| row.reason.ends_with('.') && row.reason.len() > 5 && !row.reason.contains('\n');
        RunSettings::rows()
            .iter()
            .chain(&PretrainSettings::rows())
            .for_each(|row| assert!(has_reason(row), "{}: {:?}", row.path, row.reason));
        assert!(text.contains(
            "\nrollout.groups\n    values: whole number from 1 to 100000, in groups\n    default: 8 (embedded), 128 (published)\n"
        ));
    }
}
