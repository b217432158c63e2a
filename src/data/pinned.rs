//! Third-party files that this program reads but does not ship. Each is pinned by repository, commit, path and checksum, so that a score
//! refers to exactly known data. Independent of what the files contain.

/// The URL below which GitHub serves raw files by repository, commit and path.
pub(super) const GITHUB: &str = "https://raw.githubusercontent.com";

/// One file at one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// `owner/name` on GitHub.
    pub repository: &'static str,
    /// The full commit hash.
    pub commit: &'static str,
    /// The path within the repository.
    pub path: &'static str,
    /// The path below a data folder or the cache's `data` folder.
    pub local: &'static str,
    /// The SHA-256 of the contents, in lowercase hexadecimal.
    pub sha256: &'static str,
}

impl Pinned {
    /// Pins a file in the paper's code repository, at the commit that this program reproduces.
    pub(super) const fn of_the_paper(path: &'static str, local: &'static str, sha256: &'static str) -> Self {
        Self { repository: "ypwang61/One-Shot-RLVR", commit: "21ed529ec90002597c92aee957af1dd8166bb66c", path, local, sha256 }
    }

    /// Returns the file's URL below `base`.
    pub(super) fn url(&self, base: &str) -> String {
        format!("{}/{}/{}/{}", base.trim_end_matches('/'), self.repository, self.commit, self.path)
    }
}

/// DSR-sub: the 1,209 examples from which the paper selects.
pub const DSR_SUB: Pinned = Pinned::of_the_paper(
    "data/train/one_shot_rlvr/dsr_sub.parquet",
    "train/dsr_sub.parquet",
    "bce5945e5666d5b82f1554b0a18203a88a0209f82fa724e5bfdfc17cc9a1aea6",
);

/// The accuracy of each DSR-sub example in each epoch of a 500-step training run on the whole subset.
pub const ACCURACY_HISTORY: Pinned = Pinned::of_the_paper(
    "data/acc_step_500.json",
    "train/acc_step_500.json",
    "c34cd885edc77dc9494b0ababa239483799be5978e288e0181047f139f2efd34",
);
