//! Formats tables of settings: as Markdown for `docs/settings.md`, and as text for terminals.

use toml::{Table, Value};

use super::range::format_value;
use super::{Range, Renamed, Row, flatten};

/// Formats settings as Markdown tables, one per group. `defaults` are columns of default values, as `(heading, values)`; a cell is empty if
/// its column has no value for the setting. Without defaults, there are no columns for units and reasons.
pub fn markdown(rows: &[Row], defaults: &[(&str, Table)]) -> String {
    let mut text = String::new();
    let mut group = None;
    for row in rows {
        if group != Some(row.group()) {
            let headings: String = defaults.iter().map(|(name, _)| format!(" {name} |")).collect();
            let (unit, reason) = if defaults.is_empty() { ("", "") } else { (" unit |", " reason for the default |") };
            let rule = "---|".repeat(3 + if defaults.is_empty() { 0 } else { defaults.len() + 2 });
            let title = if row.group().is_empty() { String::new() } else { format!("\n### `[{}]`\n", row.group()) };
            text += &format!("{title}\n| setting | values |{unit}{headings} meaning |{reason}\n|{rule}\n");
            group = Some(row.group());
        }
        let cells: String =
            defaults.iter().map(|(_, table)| format!(" {} |", default_of(row, table).map_or(String::new(), cell))).collect();
        let (unit, reason) =
            if defaults.is_empty() { (String::new(), String::new()) } else { (format!(" {} |", row.unit), format!(" {} |", row.reason)) };
        text += &format!("| `{}` | {} |{unit}{cells} {} |{reason}\n", row.path, allowed(&row.range), row.about);
    }
    text
}

/// Formats settings as text with lines of at most `width` columns. `defaults` are default values, as `(heading, values)`.
pub fn text(rows: &[Row], defaults: &[(&str, Table)], width: usize) -> String {
    let mut text = String::new();
    for row in rows {
        let unit = if row.unit.is_empty() { String::new() } else { format!(", in {}", row.unit) };
        let values: Vec<String> =
            defaults.iter().filter_map(|(name, table)| Some(format!("{} ({name})", plain(&cell(default_of(row, table)?))))).collect();
        text += &format!("\n{}\n", row.path);
        let mut paragraph = |what: &str, content: &str| {
            if !content.is_empty() {
                text += &wrapped(&format!("{what}{}", plain(content)), width);
            }
        };
        paragraph("values: ", &format!("{}{unit}", allowed(&row.range)));
        paragraph("default: ", &values.join(", "));
        paragraph("", row.about);
        paragraph("Why: ", row.reason);
    }
    text
}

/// Formats table rows with the old and the new name of each renamed setting or value.
pub fn renamed(renamed: &[Renamed]) -> String {
    let row = |one: &Renamed| match one {
        Renamed::Setting { old, new } => format!("| `{old}` | `{new}` |\n"),
        Renamed::Value { path, old, new } => format!("| `{path} = \"{old}\"` | `{path} = \"{new}\"` |\n"),
    };
    renamed.iter().map(row).collect()
}

impl Row {
    /// Returns the name of the setting's group; empty at the top level.
    fn group(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(group, _)| group)
    }
}

/// Returns the value of a setting in a table of defaults.
fn default_of<'a>(row: &Row, defaults: &'a Table) -> Option<&'a Value> {
    flatten(defaults).into_iter().find(|(path, _)| path == row.path).map(|(_, value)| value)
}

/// Formats the allowed values for a cell.
fn allowed(range: &Range) -> String {
    match range {
        Range::OneOf(names) => {
            names.iter().map(|name| if name.is_empty() { "empty".to_owned() } else { format!("`{name}`") }).collect::<Vec<_>>().join(", ")
        }
        Range::Parsed { syntax, .. } => (*syntax).to_owned(),
        Range::Text => range.kind().to_owned(),
        _ => range.describe().trim_start_matches("a ").to_owned(),
    }
}

/// Formats a default value for a cell.
fn cell(value: &Value) -> String {
    match format_value(value).as_str() {
        "\"\"" => "empty".to_owned(),
        text => format!("`{}`", text.replace('|', "\\|")),
    }
}

/// Removes the marks of code and links from Markdown: `[page](page.md)` becomes `page`.
fn plain(markdown: &str) -> String {
    let text = markdown.replace('`', "").replace("\\|", "|");
    let mut parts = text.split("](");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain += part.split_once(')').map_or(part, |(_, rest)| rest);
    }
    plain.replace('[', "")
}

/// Breaks text into indented lines of at most `width` columns. Longer words get a line of their own.
fn wrapped(text: &str, width: usize) -> String {
    const INDENT: &str = "    ";
    let mut lines = vec![INDENT.to_owned()];
    for word in text.split_whitespace() {
        let line = lines.last().map_or(0, |line| line.chars().count());
        match lines.last_mut() {
            Some(last) if line == INDENT.len() => *last += word,
            Some(last) if line + 1 + word.chars().count() <= width => *last += &format!(" {word}"),
            _ => lines.push(format!("{INDENT}{word}")),
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::super::range::{row, whole};
    use super::*;

    #[test]
    fn text_has_all_parts_and_no_markup() {
        let defaults = Table::from_iter([("a".to_owned(), Value::Table(Table::from_iter([("b".to_owned(), Value::Integer(3))])))]);
        let row = row("a.b", whole(0, 9), "See [runs.md](runs.md) or `--set`.").in_unit("steps").because("A guess, with many more words.");
        let expected = [
            "\na.b\n    values: whole number from 0\n    to 9, in steps\n    default: 3 (mine)\n",
            "    See runs.md or --set.\n    Why: A guess, with many\n    more words.\n",
        ];
        assert_eq!(text(&[row], &[("mine", defaults)], 31), expected.concat());
    }

    #[test]
    fn wrapped_breaks_between_words() {
        assert_eq!(wrapped("aa bb cc", 9), "    aa bb\n    cc\n");
        assert_eq!(wrapped("abcdefgh i", 9), "    abcdefgh\n    i\n");
    }
}
