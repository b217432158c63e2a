//! Where tests find material that is too large, or not ours, to commit.

use std::path::{Path, PathBuf};

/// A path below the shared folder (`RLVR_SHARED_DIR`, else `../shared`), or `None`, said on stderr, when it is not there: the caller's test
/// then returns without having run.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let root = match std::env::var_os("RLVR_SHARED_DIR") {
        Some(root) => PathBuf::from(root),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
    };
    let path = root.join(path);
    if path.exists() {
        return Some(path);
    }
    eprintln!("DID NOT RUN: {} is not there (set RLVR_SHARED_DIR to the folder that has it)", path.display());
    None
}
