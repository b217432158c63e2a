//! The table of settings as a page: what `docs/settings.md` is made by.

use toml::{Table, Value};

use super::range::shown;
use super::{Range, Row, leaves};

/// A section for people: a row for each setting, grouped as in the file. `defaults` are columns of values, each under its heading; a setting
/// that a column lacks is left empty there.
pub fn markdown(rows: &[Row], defaults: &[(&str, Table)]) -> String {
    let mut text = String::new();
    let mut group = None;
    let values: Vec<Vec<(String, &Value)>> = defaults.iter().map(|(_, table)| leaves(table)).collect();
    for row in rows {
        let own = row.path.rsplit_once('.').map_or("", |(group, _)| group);
        if group != Some(own) {
            let (headings, rule) = (defaults.iter().map(|(name, _)| format!(" {name} |")), "---|".repeat(3 + defaults.len()));
            let title = if own.is_empty() { String::new() } else { format!("\n### `[{own}]`\n") };
            text += &format!("{title}\n| setting | may be |{} what it does |\n|{rule}\n", headings.collect::<String>());
            group = Some(own);
        }
        let of = |values: &Vec<(String, &Value)>| {
            let value = values.iter().find(|(path, _)| row.is_of(path) && path == row.path).map(|(_, value)| cell(value));
            format!(" {} |", value.unwrap_or_default())
        };
        let defaults: String = values.iter().map(of).collect();
        text += &format!("| `{}` | {} |{defaults} {} |\n", row.path, allowed(&row.range), row.about);
    }
    text
}

/// What a setting may be, for a cell.
fn allowed(range: &Range) -> String {
    match range {
        Range::OneOf(names) => {
            names.iter().map(|name| if name.is_empty() { "empty".to_owned() } else { format!("`{name}`") }).collect::<Vec<_>>().join(", ")
        }
        Range::Form { form, .. } => (*form).to_owned(),
        Range::Text => range.kind().to_owned(),
        _ => range.describe().trim_start_matches("a ").to_owned(),
    }
}

fn cell(value: &Value) -> String {
    match shown(value).as_str() {
        "\"\"" => "empty".to_owned(),
        text => format!("`{}`", text.replace('|', "\\|")),
    }
}
