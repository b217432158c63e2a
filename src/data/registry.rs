//! The catalog of pinned files, training files and benchmarks, for `rlvr data list`, `pull` and `check`.

use anyhow::{Result, bail, ensure};

use super::benchmark::{BENCHMARKS, PAPER, Source};
use super::pinned::{ACCURACY_HISTORY, DSR_SUB, Pinned};
use super::store::DataStore;
use super::{example, ranking};
use crate::config::nearest;

/// A pinned file and its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// `dsr-sub`, `history`, or the benchmark's name.
    pub name: &'static str,
    /// The expected number of rows: problems, or accuracy histories in `history`.
    pub rows: usize,
    /// The file.
    pub file: Pinned,
}

/// Returns every pinned file, training files first.
pub fn all() -> Vec<NamedFile> {
    let training = [("dsr-sub", DSR_SUB), ("history", ACCURACY_HISTORY)];
    let training = training.map(|(name, file)| NamedFile { name, rows: example::RANKED_EXAMPLES, file });
    let benchmarks = BENCHMARKS.iter().filter_map(|benchmark| match benchmark.source {
        Source::Pinned { file, rows, .. } => Some(NamedFile { name: benchmark.name, rows, file }),
        Source::Own { .. } => None,
    });
    training.into_iter().chain(benchmarks).collect()
}

/// Returns the pinned files with the given names or benchmark tags, separated by commas; `all` selects every file. Each file appears once.
///
/// # Errors
/// If a name is unknown. The message lists the known ones.
pub fn select(names: &str) -> Result<Vec<NamedFile>> {
    let all = all();
    let mut selected: Vec<NamedFile> = Vec::new();
    for name in names.split(',').map(str::trim) {
        let is_tagged = |named: &NamedFile| BENCHMARKS.iter().any(|benchmark| benchmark.name == named.name && benchmark.matches_name(name));
        let belongs = |named: &&NamedFile| name == "all" || named.name == name || is_tagged(named);
        let found: Vec<NamedFile> = all.iter().filter(belongs).copied().collect();
        if found.is_empty() {
            let near = nearest(name, all.iter().map(|named| named.name)).map_or(String::new(), |near| format!(" (did you mean {near}?)"));
            bail!("unknown data file {name:?}; expected one of {}{near}", known());
        }
        selected.extend(found.into_iter().filter(|new| !selected.contains(new)).collect::<Vec<_>>());
    }
    Ok(selected)
}

/// Returns the names that [`select`] accepts, separated by commas.
pub fn known() -> String {
    let names: Vec<&str> = all().iter().map(|named| named.name).collect();
    format!("{}, {PAPER}, all", names.join(", "))
}

impl NamedFile {
    /// Parses the file, downloading it if needed, and returns its number of rows.
    ///
    /// # Errors
    /// If the file is missing and cannot be downloaded, a row is malformed, or the number of rows is wrong.
    pub fn read(&self, store: &DataStore) -> Result<usize> {
        let rows = match BENCHMARKS.iter().find(|benchmark| benchmark.name == self.name) {
            Some(benchmark) => benchmark.load(store)?.len(),
            None if self.file == DSR_SUB => example::resolve(self.name, store)?.len(),
            None => ranking::read_history(&store.path(&self.file)?)?.len(),
        };
        ensure!(rows == self.rows, "{}: expected {} rows, found {rows}", self.file.local, self.rows);
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lists_files_with_checksums_and_unique_paths() {
        let files: Vec<Pinned> = all().iter().map(|named| named.file).collect();
        for file in &files {
            assert!(file.sha256.len() == 64 && file.sha256.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')), "{file:?}");
            assert_eq!(files.iter().filter(|other| other.local == file.local).count(), 1, "{file:?}");
        }
        assert_eq!(
            ACCURACY_HISTORY.url("https://host/"),
            "https://host/ypwang61/One-Shot-RLVR/21ed529ec90002597c92aee957af1dd8166bb66c/data/acc_step_500.json"
        );
    }

    #[test]
    fn named_file_read_accepts_the_published_files() {
        let Some(store) = crate::data::store::shared_store() else { return };
        for named in all() {
            store.path(&named.file).unwrap();
            assert_eq!(named.read(&store).unwrap(), named.rows, "{}", named.name);
        }
    }

    #[test]
    fn select_accepts_names_tags_and_all() {
        let names = |names: &str| select(names).map(|found| found.iter().map(|named| named.name).collect::<Vec<_>>());
        assert_eq!(names("history, math500,history").unwrap(), ["history", "math500"]);
        assert_eq!((names("paper").unwrap().len(), names("all").unwrap().len()), (6, all().len()));
        assert!(names("maths").unwrap_err().to_string().contains("expected one of dsr-sub, history, math500"));
    }
}
