//! Formats tables of settings as Markdown, for `docs/settings.md`.

use toml::{Table, Value};

use super::range::format_value;
use super::{Range, Renamed, Row, flatten};

/// Formats settings as Markdown tables, one per group. `defaults` are extra columns of default values, as `(heading, values)`; a cell is
/// empty if its column has no value for the setting.
pub fn markdown(rows: &[Row], defaults: &[(&str, Table)]) -> String {
    let mut text = String::new();
    let mut group = None;
    let values: Vec<Vec<(String, &Value)>> = defaults.iter().map(|(_, table)| flatten(table)).collect();
    for row in rows {
        let own = row.path.rsplit_once('.').map_or("", |(group, _)| group);
        if group != Some(own) {
            let (headings, rule) = (defaults.iter().map(|(name, _)| format!(" {name} |")), "---|".repeat(3 + defaults.len()));
            let title = if own.is_empty() { String::new() } else { format!("\n### `[{own}]`\n") };
            text += &format!("{title}\n| setting | values |{} meaning |\n|{rule}\n", headings.collect::<String>());
            group = Some(own);
        }
        let of = |values: &Vec<(String, &Value)>| {
            let value = values.iter().find(|(path, _)| row.matches(path) && path == row.path).map(|(_, value)| cell(value));
            format!(" {} |", value.unwrap_or_default())
        };
        let defaults: String = values.iter().map(of).collect();
        text += &format!("| `{}` | {} |{defaults} {} |\n", row.path, allowed(&row.range), row.about);
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
