//! On which GPUs this program's kernels have been confirmed: `confirmed.toml` beside this file, which is part of the program, and the user's own
//! file of the same form, `rlvr/confirmed.toml` in `$XDG_CACHE_HOME` or `~/.cache`. `scripts/gpu-check.sh` writes an entry when all its checks of
//! correctness have passed, from the `machine` block of `rlvr bench --json`:
//!
//! ```toml
//! [[confirmed]]
//! card = "NVIDIA H100 80GB HBM3"    # as the driver calls it
//! capability = "9.0"
//! driver = "580.95.05"
//! commit = "0123456789ab"           # of the program that was checked
//! date = "2026-11-28"
//! kernels = "0123456789abcdef"      # digest of the kernels' sources
//! ```
//!
//! An entry counts for cards of that name, and only as long as the kernels are those that were checked.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What the program brings.
const OURS: &str = include_str!("confirmed.toml");
/// The digest of the sources of kernels and launches that this program was built from, made by `build.rs`.
pub const KERNELS: &str = env!("RLVR_KERNELS_DIGEST");

/// What a GPU is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// As its driver calls it.
    pub name: String,
    /// Its generation, such as (9, 0).
    pub capability: (i32, i32),
    /// The driver's release, where the system says it, else the CUDA version that it supports.
    pub driver: String,
}

/// One GPU on which the checks have passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// As its driver calls it.
    pub card: String,
    /// Its generation, such as 9.0.
    pub capability: String,
    /// The driver's release.
    pub driver: String,
    /// The program's commit.
    pub commit: String,
    /// The day of the check, year first.
    pub date: String,
    /// [`KERNELS`] of the program that was checked.
    pub kernels: String,
}

/// A file of entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmed {
    /// In the order in which they were written.
    #[serde(default)]
    pub confirmed: Vec<Entry>,
}

impl Confirmed {
    fn has(&self, card: &Card) -> bool {
        let capability = format!("{}.{}", card.capability.0, card.capability.1);
        self.confirmed.iter().any(|entry| entry.card == card.name && entry.capability == capability && entry.kernels == KERNELS)
    }
}

/// Whether the kernels were confirmed on such a card.
pub fn is_confirmed(card: &Card) -> bool {
    let ours: Confirmed = toml::from_str(OURS).expect("confirmed.toml is read by a test");
    ours.has(card) || own_file().is_some_and(|path| read(&path).has(card))
}

/// Where the user's entries are.
fn own_file() -> Option<PathBuf> {
    let folder = |variable: &str| std::env::var_os(variable).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let cache = folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("rlvr/confirmed.toml"))
}

/// The entries of a file; none where it is not there, or cannot be read, which is said.
fn read(path: &Path) -> Confirmed {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Confirmed::default(),
        Err(error) => {
            tracing::warn!("cannot read {} ({error}): it confirms no GPU", path.display());
            return Confirmed::default();
        }
    };
    toml::from_str(&text).unwrap_or_else(|error| {
        let error = error.message().trim_end();
        tracing::warn!("{} is not a file of confirmations ({error}): delete it and run scripts/gpu-check.sh again", path.display());
        Confirmed::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(name: &str) -> Card {
        Card { name: name.to_owned(), capability: (9, 0), driver: "580.95.05".to_owned() }
    }

    /// An entry as `scripts/gpu-check.sh` writes it.
    fn entry(kernels: &str) -> String {
        format!(
            "[[confirmed]]\ncard = \"NVIDIA H200\"\ncapability = \"9.0\"\ndriver = \"580.95.05\"\ncommit = \"0123456789ab\"\n\
             date = \"2026-11-28\"\nkernels = \"{kernels}\"\n"
        )
    }

    #[test]
    fn an_entry_counts_for_its_card_and_its_kernels() {
        let check = |text: &str, name: &str, expected: bool| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("confirmed.toml");
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&path).has(&card(name)), expected, "{name} in {text}");
        };
        check(&entry(KERNELS), "NVIDIA H200", true);
        check(&entry(KERNELS), "NVIDIA H100 80GB HBM3", false);
        check(&entry("0123456789abcdef"), "NVIDIA H200", false);
        check(&[entry("0123456789abcdef"), entry(KERNELS)].concat(), "NVIDIA H200", true);
        check("", "NVIDIA H200", false);
        check("confirmed = 3", "NVIDIA H200", false);
        check(&entry(KERNELS).replace("driver", "drivers"), "NVIDIA H200", false);
        let other = Card { capability: (10, 0), ..card("NVIDIA H200") };
        assert!(!toml::from_str::<Confirmed>(&entry(KERNELS)).unwrap().has(&other));
        assert!(!read(Path::new("/nonexistent/confirmed.toml")).has(&card("NVIDIA H200")));
    }

    #[test]
    fn the_programs_own_entries_are_whole() {
        let ours: Confirmed = toml::from_str(OURS).unwrap();
        for entry in ours.confirmed {
            assert!(![entry.card, entry.driver, entry.commit, entry.date, entry.kernels].iter().any(String::is_empty));
        }
        assert_eq!(KERNELS.len(), 16);
    }
}
