//! Finds the commands in documentation: the `sh` blocks of Markdown files, and the examples in help texts.

use std::path::Path;

use crate::fixture::{repository, rlvr, stdout};

/// Commands that belong together: the lines from a comment to the next blank line or comment.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Where the entry is, for messages.
    pub place: String,
    /// What the comment says that the commands need: "Needs a GPU".
    pub needs: Option<String>,
    /// The commands, as a shell script.
    pub script: String,
}

/// A document with its entries in order. Later commands may use what earlier ones wrote.
pub struct Document {
    pub entries: Vec<Entry>,
}

/// Returns README.md, all pages of the book, and the help of every command.
pub fn documents() -> Vec<Document> {
    let mut pages: Vec<_> = std::fs::read_dir(repository("docs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    pages.insert(0, repository("README.md"));
    let pages = pages.iter().map(|path| of_markdown(path));
    pages.chain(std::iter::once(of_help())).filter(|document| !document.entries.is_empty()).collect()
}

fn of_markdown(path: &Path) -> Document {
    Document { entries: in_blocks(&path.file_name().unwrap().to_string_lossy(), &std::fs::read_to_string(path).unwrap()) }
}

/// Returns the entries in the `sh` blocks of a Markdown text.
fn in_blocks(name: &str, text: &str) -> Vec<Entry> {
    let mut lines = text.lines().zip(1..);
    let mut entries = Vec::new();
    while let Some((line, _)) = lines.next() {
        if line.trim() == "```sh" {
            // A block in a list is indented.
            let indent = line.len() - line.trim_start().len();
            let block = lines.by_ref().take_while(|(line, _)| line.trim() != "```");
            let block: Vec<(&str, usize)> = block.map(|(line, number)| (line.get(indent..).unwrap_or_default(), number)).collect();
            entries.extend(split(name, &block));
        }
    }
    entries
}

fn of_help() -> Document {
    let overview = stdout(&rlvr(&["help"]));
    let commands = overview.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names =
        commands.filter(|line| line.starts_with("  ") && !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    let mut entries = Vec::new();
    for name in names.filter(|name| *name != "help") {
        let help = stdout(&rlvr(&[name, "--help"]));
        let (_, examples) = help.split_once("\nExamples:\n").unwrap_or_else(|| panic!("rlvr {name} --help has no examples"));
        let (examples, _) = examples.rsplit_once("\n\n").unwrap();
        let lines: Vec<(&str, usize)> = examples.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)).zip(1..).collect();
        entries.extend(split(&format!("rlvr {name} --help"), &lines));
    }
    Document { entries }
}

/// Splits the lines of a block into entries.
fn split(name: &str, lines: &[(&str, usize)]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut is_new = true;
    for &(line, number) in lines {
        let starts = line.trim().is_empty() || (line.starts_with('#') && entries.last().is_some_and(|entry| !entry.script.is_empty()));
        is_new |= starts;
        if line.trim().is_empty() {
            continue;
        }
        if is_new {
            entries.push(Entry { place: format!("{name}, line {number}"), needs: None, script: String::new() });
            is_new = false;
        }
        let Some(entry) = entries.last_mut() else { continue };
        match line.strip_prefix('#') {
            Some(comment) => entry.needs = entry.needs.take().or(comment.find("Needs ").map(|at| comment[at..].to_owned())),
            None => entry.script.extend([line, "\n"]),
        }
    }
    entries.retain(|entry| !entry.script.is_empty());
    entries
}

#[test]
fn split_starts_an_entry_at_each_comment_and_blank_line() {
    let lines = ["# One", "# Needs a GPU", "a \\", "  b", "# Two", "c", "", "d"];
    let lines: Vec<(&str, usize)> = lines.into_iter().zip(1..).collect();
    let found = split("x", &lines);
    let found: Vec<_> = found.iter().map(|entry| (entry.place.as_str(), entry.needs.as_deref(), entry.script.as_str())).collect();
    assert_eq!(found, [("x, line 1", Some("Needs a GPU"), "a \\\n  b\n"), ("x, line 5", None, "c\n"), ("x, line 8", None, "d\n")]);
}

#[test]
fn in_blocks_reads_sh_blocks_and_removes_the_indent_of_a_list() {
    let found = in_blocks("x", "Text\n```toml\na = 1\n```\n1. Step:\n   ```sh\n   # Needs a GPU\n   b \\\n     c\n   ```\n");
    assert_eq!(found, [Entry { place: "x, line 7".into(), needs: Some("Needs a GPU".into()), script: "b \\\n  c\n".into() }]);
}
