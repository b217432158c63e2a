//! Parses the names of models on the hub. Does not check that a model exists.

use anyhow::{Result, bail};

/// A model on the hub: `OWNER/NAME` or `OWNER/NAME@REVISION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName {
    /// The user or organization.
    pub owner: String,
    /// The repository.
    pub name: String,
    /// A branch, tag or commit; `None` is the `main` branch.
    pub revision: Option<String>,
}

impl ModelName {
    /// Parses `OWNER/NAME` or `OWNER/NAME@REVISION`.
    ///
    /// # Errors
    /// If the text is neither, or contains a character that the hub does not allow.
    pub fn parse(text: &str) -> Result<Self> {
        let (path, revision) = match text.split_once('@') {
            Some((path, revision)) => (path, Some(revision)),
            None => (text, None),
        };
        let is_name = |part: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            !part.is_empty() && !part.starts_with('.') && part.bytes().all(allowed)
        };
        match path.split_once('/') {
            Some((owner, name)) if is_name(owner) && is_name(name) && revision.is_none_or(is_revision) => {
                Ok(Self { owner: owner.into(), name: name.into(), revision: revision.map(str::to_owned) })
            }
            _ => bail!("{text:?} is neither a folder nor a model name on the hub; expected --model DIR or --model OWNER/NAME[@REVISION]"),
        }
    }
}

/// True if the text can be a revision. The cache has a file named after the revision, so its path must not leave the cache.
fn is_revision(text: &str) -> bool {
    text.split('/').all(|part| !part.is_empty() && part != "." && part != "..") && !text.contains('\\')
}

impl std::fmt::Display for ModelName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.owner, self.name)?;
        self.revision.iter().try_for_each(|revision| write!(formatter, "@{revision}"))
    }
}
