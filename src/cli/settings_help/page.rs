//! The page `docs/settings.md`, which a test writes and compares.

use anyhow::Result;

use super::{pretrain_defaults, run_defaults};
use crate::config::{Settings, document};
use crate::study;
use crate::tiny::pretrain::PretrainSettings;
use crate::train::RunSettings;

const HEAD: &str = "\
# Settings

<!-- Generated from the tables of settings; a test compares the two. Edit the rows in src/train/settings/table/, src/optim/mod.rs,
src/tiny/ranges.rs and src/study/file.rs, then write this file with RLVR_WRITE_DOCS=1 cargo test --lib settings_page. -->

Set any of these in a TOML file (`rlvr train --config FILE`) or on the command line (`--set rollout.groups=16`); later values override
earlier ones. A value outside its range is rejected before any weights load, with an error that names the setting and its range. This
applies to files, `--set`, flags, studies, and the `config.toml` of a resumed run. An error for an unknown name suggests the nearest known
one.

Numbers must be finite, and within their range as 32-bit floats too, because most computations use those. [glossary.md](glossary.md) defines
the terms. `rlvr train --help-settings` prints this page as text.

The last column gives the reason for the default. *As published* means the setting of the paper's main run (arXiv 2504.20571 v3), as its
code runs it; the code is meant where paper and code differ. *Not tuned* means that nobody compared several values.
";

const RUN: &str = "
## A run: `rlvr train`

*Embedded* lists the defaults of `rlvr train` without arguments, *published* those for any other model. Examples that are not from the paper
are graded by `strict`. A preset (`algo`) changes some defaults; `rlvr train --algo NAME --dry-run` prints the resulting settings.
";

const PRETRAIN: &str = "
## Pre-training: `rlvr pretrain`
";

const STUDY: &str = "
## A study: `rlvr study FILE`

`base` and each `set` hold settings of a run, with the same ranges.
";

const RENAMED: &str = "
## Renamed settings

These names from earlier versions still work in files and in `--set`, and print a note.

| old name | new name |
|---|---|
";

/// Returns all settings as a page of Markdown.
fn page() -> Result<String> {
    let run = document::markdown(&RunSettings::rows(), &run_defaults()?);
    let pretrain = document::markdown(&PretrainSettings::rows(), &pretrain_defaults()?);
    let study = document::markdown(study::ROWS, &[]);
    let renamed = document::renamed(&[RunSettings::renamed(), PretrainSettings::renamed()].concat());
    Ok([HEAD, RUN, &run, PRETRAIN, &pretrain, STUDY, &study, RENAMED, &renamed].concat())
}

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
