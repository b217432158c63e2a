//! What crashes and disks do to the files of a run.

use std::path::Path;

use crate::fixture::files;

/// Flips one bit in the middle of a file.
pub fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1 << 2;
    std::fs::write(path, bytes).unwrap();
}

/// Deletes the second half of a file.
pub fn cut(path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

pub fn remove(path: &Path) {
    if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
}

/// Keeps the first lines of a file.
pub fn shorten(path: &Path, lines: usize) {
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, text.split_inclusive('\n').take(lines).collect::<String>()).unwrap();
}

/// Deletes the files that older versions did not write.
pub fn remove_new_files(run: &Path) {
    for path in files(run).into_keys() {
        if ["manifest.json", "records.json", "launch.json"].iter().any(|name| path.ends_with(name)) {
            remove(&run.join(path));
        }
    }
}
