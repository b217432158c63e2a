//! Files of others that this program reads but does not ship: each by repository, commit, path and checksum, so that a score can say exactly
//! what it was measured on. It owns these facts; it must never know what is inside the files.

use std::path::Path;

use anyhow::{Result, bail, ensure};

use super::{Library, benchmark, example, fetch};

/// Where GitHub serves files as they are, by repository, commit and path.
pub(super) const GITHUB: &str = "https://raw.githubusercontent.com";

/// One file at one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// `owner/name` on GitHub.
    pub repository: &'static str,
    /// The full commit hash.
    pub commit: &'static str,
    /// The path in the repository.
    pub path: &'static str,
    /// The path below a data folder.
    pub local: &'static str,
    /// The checksum of its contents, in lower-case hexadecimal.
    pub sha256: &'static str,
}

impl Pinned {
    /// A file of the paper's code repository, at the commit that this program follows.
    pub(super) const fn of_the_paper(path: &'static str, local: &'static str, sha256: &'static str) -> Self {
        Self { repository: "ypwang61/One-Shot-RLVR", commit: "21ed529ec90002597c92aee957af1dd8166bb66c", path, local, sha256 }
    }

    /// Whether a file has these contents.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn is(&self, path: &Path) -> Result<bool> {
        Ok(fetch::sha256_of(path)? == self.sha256)
    }

    pub(super) fn url(&self, base: &str) -> String {
        format!("{}/{}/{}/{}", base.trim_end_matches('/'), self.repository, self.commit, self.path)
    }
}

/// The 1,209 examples that the paper chooses from.
pub const DSR_SUB: Pinned = Pinned::of_the_paper(
    "data/train/one_shot_rlvr/dsr_sub.parquet",
    "train/dsr_sub.parquet",
    "bce5945e5666d5b82f1554b0a18203a88a0209f82fa724e5bfdfc17cc9a1aea6",
);

/// Each example's accuracy, epoch by epoch, over 500 steps of training on all of them.
pub const ACCURACY_HISTORY: Pinned = Pinned::of_the_paper(
    "data/acc_step_500.json",
    "train/acc_step_500.json",
    "c34cd885edc77dc9494b0ababa239483799be5978e288e0181047f139f2efd34",
);

/// A pinned file as people name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// The benchmark's name, `dsr-sub` or `history`.
    pub name: &'static str,
    /// Problems or histories in it.
    pub rows: usize,
    /// The file.
    pub file: Pinned,
}

/// Every pinned file, training files first.
pub fn all() -> Vec<Named> {
    let training = [("dsr-sub", DSR_SUB), ("history", ACCURACY_HISTORY)];
    let training = training.map(|(name, file)| Named { name, rows: example::RANKED, file });
    let named = |benchmark: &&benchmark::Benchmark| Named { name: benchmark.name, rows: benchmark.rows, file: benchmark.file };
    training.into_iter().chain(benchmark::PAPER.iter().map(named)).collect()
}

/// Pinned files by their names, with commas between; `paper` is the six benchmarks of the paper, `all` is every one.
///
/// # Errors
/// When a name is unknown; the message lists the known ones.
pub fn select(names: &str) -> Result<Vec<Named>> {
    let all = all();
    let mut selected: Vec<Named> = Vec::new();
    for name in names.split(',').map(str::trim) {
        let belongs = |named: &&Named| match name {
            "all" => true,
            "paper" => benchmark::PAPER.iter().any(|benchmark| benchmark.name == named.name),
            name => named.name == name,
        };
        let found: Vec<Named> = all.iter().filter(belongs).copied().collect();
        if found.is_empty() {
            let known: Vec<&str> = all.iter().map(|named| named.name).collect();
            bail!("no file is called {name:?}: known are {}, paper and all", known.join(", "));
        }
        selected.extend(found.into_iter().filter(|new| !selected.contains(new)).collect::<Vec<_>>());
    }
    Ok(selected)
}

impl Named {
    /// Reads the file as what it is, and counts its rows.
    ///
    /// # Errors
    /// When it cannot be had, a row is not as expected, or their number is wrong.
    pub fn read(&self, library: &Library) -> Result<usize> {
        let rows = match benchmark::PAPER.iter().find(|benchmark| benchmark.name == self.name) {
            Some(benchmark) => benchmark.load(library)?.len(),
            None if self.file == DSR_SUB => example::resolve(self.name, library)?.len(),
            None => super::read_history(&library.path(&self.file)?)?.len(),
        };
        ensure!(rows == self.rows, "{} has {rows} rows, expected {}", self.file.local, self.rows);
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_pinned_completely_and_once() {
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
    fn the_shared_copies_have_the_pinned_checksums() {
        let Some(library) = crate::data::shared_library() else { return };
        for named in all() {
            library.path(&named.file).unwrap();
            assert_eq!(named.read(&library).unwrap(), named.rows, "{}", named.name);
        }
    }

    #[test]
    fn files_have_names() {
        let names = |names: &str| select(names).map(|found| found.iter().map(|named| named.name).collect::<Vec<_>>());
        assert_eq!(names("history, math500,history").unwrap(), ["history", "math500"]);
        assert_eq!((names("paper").unwrap().len(), names("all").unwrap().len()), (6, 8));
        assert!(names("maths").unwrap_err().to_string().contains("known are dsr-sub, history, math500"));
    }
}
