//! Commands to type, quoted for the shell.

use std::borrow::Cow;

/// The width that commands are broken at.
const COLUMNS: usize = 80;

/// Quotes a word for a POSIX shell; a word of harmless characters stays as it is.
pub fn quoted(word: &str) -> Cow<'_, str> {
    let is_harmless = |char: char| char.is_ascii_alphanumeric() || "/._-+=:,@%".contains(char);
    if !word.is_empty() && word.chars().all(is_harmless) {
        return Cow::Borrowed(word);
    }
    // In double quotes, which read better in sentences with apostrophes, only these are special; `!` is in interactive shells.
    if !word.contains(['$', '`', '"', '\\', '!', '\n']) {
        return Cow::Owned(format!("\"{word}\""));
    }
    Cow::Owned(format!("'{}'", word.replace('\'', "'\\''")))
}

/// Returns a command of this program in one line, for use within a sentence.
pub fn line(arguments: &[&str]) -> String {
    std::iter::once(program().as_str()).chain(arguments.iter().copied()).map(quoted).collect::<Vec<_>>().join(" ")
}

/// Returns a command of this program that can be pasted into a shell. `arguments` are groups of words, such as a flag with its value.
/// Breaks lines between groups with a backslash, so that they fit 80 columns behind `indent`.
pub fn command(arguments: &[&[&str]], indent: &str) -> String {
    command_of(&program(), arguments, indent)
}

fn command_of(program: &str, arguments: &[&[&str]], indent: &str) -> String {
    let mut out = format!("{indent}{}", quoted(program));
    let mut column = out.chars().count();
    for group in arguments {
        let text = group.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        let width = text.chars().count();
        // Room for a space before the text and for a space and a backslash behind it.
        if column + width + 3 > COLUMNS {
            out += &format!(" \\\n{indent}    {text}");
            column = indent.len() + 4 + width;
        } else {
            out += &format!(" {text}");
            column += 1 + width;
        }
    }
    out
}

/// Returns the name that this program was started by. A folder on `PATH` is left out.
fn program() -> String {
    let name = std::env::args().next().unwrap_or_default();
    let path = std::path::Path::new(&name);
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(file)) if path.is_absolute() => {
            let is_on_path = std::env::var_os("PATH").is_some_and(|paths| std::env::split_paths(&paths).any(|path| path == folder));
            if is_on_path { file.to_string_lossy().into_owned() } else { name }
        }
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_leaves_nothing_for_the_shell_to_interpret() {
        let check = |word: &str, expected: &str| assert_eq!(quoted(word), expected);
        check("runs/tiny-334+556", "runs/tiny-334+556");
        check("--set", "--set");
        check("my runs/a", "\"my runs/a\"");
        check("What is 2*3?", "\"What is 2*3?\"");
        check("it's", "\"it's\"");
        check("costs $5, isn't it", "'costs $5, isn'\\''t it'");
        check("~", "\"~\"");
        check("", "\"\"");
    }

    #[test]
    fn command_breaks_long_lines_between_arguments() {
        let check = |arguments: &[&[&str]], expected: &str| assert_eq!(command_of("rlvr", arguments, "  "), expected);
        check(&[&["report"], &["runs/a b"]], "  rlvr report \"runs/a b\"");
        let long = "What is the sum of the digits of 978,431?";
        let model = "runs/tiny-334+556/checkpoints/best";
        check(
            &[&["sample"], &["--model", model], &["--temperature", "0"], &["--prompt", long]],
            "  rlvr sample --model runs/tiny-334+556/checkpoints/best --temperature 0 \\\n      --prompt \"What is the sum of the digits of 978,431?\"",
        );
    }
}
