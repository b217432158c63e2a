//! Reads users' files safely: enforces size limits, tolerates the artifacts of editors, exporters and downloads, and returns library panics
//! as errors. Independent of what a file is for.

mod catch_panics;
mod lines;

use std::borrow::Cow;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};

pub use catch_panics::{catch_panics, is_catching_panics};
pub use lines::{LINE_BYTES, Line, Lines};

/// The size limit in bytes for a checkpoint's JSON files and for chat templates. The largest published `tokenizer.json` has about 35 MB.
pub const TEXT_BYTES: u64 = 256 << 20;

/// The size limit in bytes for a `.json` or `.toml` file of problems, which is read into memory at once.
pub const DOCUMENT_BYTES: u64 = 1 << 30;

/// Windows tools write this character at the start of UTF-8 text.
const BYTE_ORDER_MARK: char = '\u{FEFF}';

/// The start of a pointer file, with which Git LFS replaces a large file in a repository.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// If the file cannot be read, is larger than `limit`, or is a Git LFS pointer. The message names the file.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let reading = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(reading)?;
    let mut bytes = Vec::new();
    // Count bytes instead of trusting the file system, because pipes and files in /proc have no size.
    file.take(limit + 1).read_to_end(&mut bytes).with_context(reading)?;
    ensure!(
        bytes.len() as u64 <= limit,
        "{} is larger than {limit} bytes, the limit for this kind of file: check that it is the right file",
        path.display()
    );
    refuse_lfs_pointer(path, &bytes)?;
    Ok(bytes)
}

/// Like [`read`], but returns `None` if the file does not exist.
///
/// # Errors
/// As for [`read`], except for a missing file.
pub fn read_if_exists(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        _ => read(path, limit).map(Some),
    }
}

/// Reads a UTF-8 text file of at most `limit` bytes and removes a leading byte order mark.
///
/// # Errors
/// As for [`read`] and [`text`].
pub fn read_text(path: &Path, limit: u64) -> Result<String> {
    let bytes = read(path, limit)?;
    text(&path.display().to_string(), &bytes).map(str::to_owned)
}

/// Decodes UTF-8 and removes a leading byte order mark. `name` is the file's name, for errors.
///
/// # Errors
/// If the bytes are not UTF-8. The message names the file; for UTF-16 it says how to convert it.
pub fn text<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str> {
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        bail!("{name} is UTF-16 text, expected UTF-8: convert it with `iconv -f UTF-16 -t UTF-8`");
    }
    let text =
        std::str::from_utf8(bytes).map_err(|error| anyhow!("{name} is not UTF-8 text (invalid byte at offset {})", error.valid_up_to()))?;
    Ok(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text))
}

/// Decodes UTF-8 with [`text`] and normalizes its white space with [`json`].
///
/// # Errors
/// As for [`text`].
pub fn json_text<'a>(name: &str, bytes: &'a [u8]) -> Result<Cow<'a, str>> {
    text(name, bytes).map(json)
}

/// Replaces byte order marks and non-ASCII white space between JSON values with spaces. Editors and exporters insert such characters, but
/// JSON allows them only inside strings. Does not change strings.
pub fn json(text: &str) -> Cow<'_, str> {
    let is_non_json_space = |character: char| !character.is_ascii() && (character.is_whitespace() || character == BYTE_ORDER_MARK);
    if text.is_ascii() || !text.contains(is_non_json_space) {
        return Cow::Borrowed(text);
    }
    let (mut in_string, mut is_escaped) = (false, false);
    let plain = |character: char| {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if in_string => is_escaped = true,
            '"' => in_string = !in_string,
            _ if !in_string && is_non_json_space(character) => return ' ',
            _ => {}
        }
        character
    };
    Cow::Owned(text.chars().map(plain).collect())
}

/// Parses TOML with `parse`, accepting U+2028 and U+2029 as line ends. Some editors insert these between lines, where TOML forbids them.
///
/// # Errors
/// As for `parse`.
pub fn toml<T, E>(text: &str, parse: impl Fn(&str) -> Result<T, E>) -> Result<T, E> {
    const SEPARATORS: [char; 2] = ['\u{2028}', '\u{2029}'];
    match parse(text) {
        Err(error) if text.contains(SEPARATORS) => parse(&text.replace(SEPARATORS, "\n")).map_err(|_| error),
        parsed => parsed,
    }
}

/// Rejects Git LFS pointers. `beginning` is the start of the file's contents.
///
/// # Errors
/// If `beginning` is the start of a Git LFS pointer. The message says how to download the real file.
pub fn refuse_lfs_pointer(path: &Path, beginning: &[u8]) -> Result<()> {
    ensure!(
        !beginning.starts_with(LFS_POINTER),
        "{} is a Git LFS pointer, not the file itself: run `git lfs install` and `git lfs pull` in that folder, or download the model again",
        path.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_utf_8_without_a_byte_order_mark() {
        let check = |bytes: &[u8], expected: Result<&str, &str>| match (text("f", bytes), expected) {
            (Ok(text), Ok(expected)) => assert_eq!(text, expected),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (found, expected) => panic!("{found:?}, expected {expected:?}"),
        };
        check("\u{FEFF}a\u{FEFF}".as_bytes(), Ok("a\u{FEFF}"));
        check(b"", Ok(""));
        check(b"ab\xFF", Err("f is not UTF-8 text (invalid byte at offset 2)"));
        check(b"\xFF\xFEa\0", Err("f is UTF-16 text"));
    }

    #[test]
    fn json_replaces_spaces_between_values() {
        let check = |text: &str, expected: &str| assert_eq!(json(text), expected);
        check("{\"a\":\u{2028} \"\u{2028}\\\"\u{2028}\"\u{FEFF}}\u{2029}", "{\"a\":  \"\u{2028}\\\"\u{2028}\" } ");
        check("{\"a\\\\\":\u{A0}1}", "{\"a\\\\\": 1}");
        check("{\"é\": 1}", "{\"é\": 1}");
        assert!(matches!(json("{\"é\": 1}"), Cow::Borrowed(_)));
    }

    #[test]
    fn toml_accepts_unicode_line_separators() {
        let read = |text: &str| toml(text, |text| text.parse::<::toml::Table>()).map(|table| table.to_string());
        assert_eq!(read("a = 1\u{2028}b = \"c\"\u{2029}\n").unwrap(), "a = 1\nb = \"c\"\n");
        assert!(read("a = \"\u{2028}\"").unwrap().contains('\u{2028}'));
        assert!(read("a = \u{2028}").is_err());
    }

    #[test]
    fn read_enforces_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        assert!(read_if_exists(&path, 4).unwrap().is_none());
        std::fs::write(&path, "abcd").unwrap();
        assert_eq!(read_text(&path, 4).unwrap(), "abcd");
        let error = read(&path, 3).unwrap_err().to_string();
        assert!(error.contains("/f is larger than 3 bytes"), "{error}");
        std::fs::write(&path, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n").unwrap();
        let error = read_if_exists(&path, 100).unwrap_err().to_string();
        assert!(error.contains("/f is a Git LFS pointer") && error.contains("git lfs pull"), "{error}");
        assert!(format!("{:#}", read(folder.path(), 3).unwrap_err()).contains("cannot read"));
    }
}
