//! `rlvr train --help-settings`: prints every setting with its range, default and meaning. `docs/settings.md` is its output.

use anyhow::Result;
use toml::Table;

use crate::config::{Settings, document};
use crate::study;
use crate::tiny::pretrain::PretrainSettings;
use crate::train::RunSettings;

const HEAD: &str = "\
# Settings

<!-- Made by `rlvr train --help-settings > docs/settings.md`; a test compares the two. Edit the rows in src/train/settings/table.rs,
src/tiny/ranges.rs and src/study/file.rs instead of this file. -->

Every setting can be given in a TOML file (`rlvr train --config FILE`) or on the command line (`--set rollout.groups=16`); later ones win. A value
outside its range is refused before any weight is read, by name and with what it may be: in a file, in `--set`, in a flag, in a study, and in the
`config.toml` of a run that is resumed. An unknown name suggests the nearest known one. `nan` and `inf` are never allowed.

Numbers have to lie in their range as 32-bit floats too, because that is what most of them are computed with.
";

const RUN: &str = "
## A run: `rlvr train`

*Embedded* is what `rlvr train` does without arguments, *published* what it does on any other model. Examples that are not the paper's are graded by
`strict`. A preset (`algo`) changes some of these defaults; `rlvr train --algo NAME --dry-run` prints the result.
";

const PRETRAIN: &str = "
## Pre-training: `rlvr pretrain`
";

const STUDY: &str = "
## A study: `rlvr study FILE`

The settings in `base` and in each `set` are those of a run, held to the same ranges.
";

/// Returns the whole page as Markdown.
pub fn page() -> Result<String> {
    let [embedded, published] = [RunSettings::demonstration(), RunSettings::published()].map(Table::try_from);
    let run = document::markdown(&RunSettings::rows(), &[("embedded", embedded?), ("published", published?)]);
    let pretrain = document::markdown(&PretrainSettings::rows(), &[("default", Table::try_from(PretrainSettings::default())?)]);
    let study = document::markdown(study::ROWS, &[]);
    Ok([HEAD, RUN, &run, PRETRAIN, &pretrain, STUDY, &study].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `RLVR_WRITE_DOCS=1 cargo test settings_page` writes the page instead of comparing it.
    #[test]
    fn settings_page_equals_the_table() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
        let page = page().unwrap();
        if std::env::var_os("RLVR_WRITE_DOCS").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        let differs = page.lines().zip(found.lines()).find(|(expected, found)| expected != found);
        assert!(
            page == found,
            "docs/settings.md differs from the tables of settings, first at {differs:?}: regenerate it with RLVR_WRITE_DOCS=1"
        );
    }
}
