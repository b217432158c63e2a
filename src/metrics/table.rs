//! Tables with aligned columns, and percentages, for people.

use std::ops::Range;

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use console::measure_text_width;

use crate::output;

/// Formats a table, with a rule below the header. Columns of numbers are right-aligned, so that decimal points line up; text columns are
/// left-aligned. Short rows are padded with empty cells. If stdout is a terminal, the table fits its width as in [`table_within`].
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    table_within(header, rows, output::stdout_columns().unwrap_or(usize::MAX))
}

/// Like [`table`], but at most `columns` wide: columns that do not fit continue in another table below, which repeats the first column.
pub fn table_within(header: &[&str], rows: &[Vec<String>], columns: usize) -> String {
    let count = rows.iter().map(Vec::len).chain([header.len()]).max().unwrap_or(0);
    let part = |range: Range<usize>| {
        let taken = |index: usize| index == 0 || range.contains(&index);
        let header: Vec<&str> = header.iter().enumerate().filter(|(index, _)| taken(*index)).map(|(_, cell)| *cell).collect();
        let cells = |row: &Vec<String>| row.iter().enumerate().filter(|(index, _)| taken(*index)).map(|(_, cell)| cell.clone()).collect();
        whole_table(&header, &rows.iter().map(cells).collect::<Vec<Vec<String>>>())
    };
    let (mut parts, mut start) = (Vec::new(), 1);
    while start < count.max(2) {
        let (mut end, mut text) = (start + 1, part(start..start + 1));
        while end < count {
            let longer = part(start..end + 1);
            if width(&longer) > columns {
                break;
            }
            (end, text) = (end + 1, longer);
        }
        parts.push(text);
        start = end;
    }
    parts.join("\n\n")
}

/// Joins two texts side by side, such as two tables, with three spaces between them.
pub fn beside(left: &str, right: &str) -> String {
    let (columns, mut rights) = (width(left), right.lines());
    let mut lines: Vec<String> = left
        .lines()
        .map(|line| {
            let right = rights.next().unwrap_or_default();
            format!("{line}{}   {right}", " ".repeat(columns - measure_text_width(line))).trim_end().to_owned()
        })
        .collect();
    lines.extend(rights.map(|right| format!("{}{right}", " ".repeat(columns + 3))));
    lines.join("\n")
}

/// Returns the width of the longest line.
pub fn width(text: &str) -> usize {
    text.lines().map(measure_text_width).max().unwrap_or(0)
}

fn whole_table(header: &[&str], rows: &[Vec<String>]) -> String {
    const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─'));
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_header(header);
    table.add_rows(rows);
    // Rows may have more columns than the header.
    table.discover_columns();
    let last = table.column_count().saturating_sub(1);
    for (index, column) in table.column_iter_mut().enumerate() {
        let mut cells = rows.iter().filter_map(|row| row.get(index)).peekable();
        if cells.peek().is_some() && cells.all(|cell| is_number(cell)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        // No indent, two spaces between columns, none after the last, so that the rule ends with it.
        column.set_padding((0, if index == last { 0 } else { 2 }));
    }
    table.trim_fmt()
}

/// Formats a share between 0 and 1 as a percentage with one decimal: `88.9%`.
pub fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// True for a formatted number (`-4.5`, `88.9%`, `1.2e-6`, `3/8`, `+4.5 [3.1, 5.9]`, `nan`) or a placeholder for a missing one.
fn is_number(cell: &str) -> bool {
    let cell = cell.trim();
    let unsigned = cell.trim_start_matches(['+', '-', '−', '±', '[', '<', '>', ' ']);
    matches!(cell, "" | "-" | "–" | "—" | "n/a")
        || cell.eq_ignore_ascii_case("nan")
        || unsigned.starts_with(|first: char| first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_aligns_numbers_right() {
        let row = |cells: &[&str]| cells.iter().map(|&cell| cell.to_owned()).collect();
        let rows: Vec<Vec<String>> =
            vec![row(&["addition", "9.8%", "100.0%", "+4.5 [3.1, 5.9]"]), row(&["ages", "12.5%", "–", "-0.4 [-1.0, 0.2]"]), row(&["all"])];
        let header = ["subject", "base", "last", "gain"];
        let expected = "
subject    base    last              gain
─────────────────────────────────────────
addition   9.8%  100.0%   +4.5 [3.1, 5.9]
ages      12.5%       –  -0.4 [-1.0, 0.2]
all";
        let found = table_within(&header, &rows, 100);
        assert_eq!(found.trim_end(), expected.trim_start(), "\n{found}");
        assert_eq!(table_within(&["step"], &[], 100).lines().next(), Some("step"));
        assert_eq!(table_within(&[], &[], 100), "");
    }

    #[test]
    fn table_within_continues_columns_below() {
        let rows = vec![vec!["aime24".to_owned(), "12.5%".to_owned(), "100.0%".to_owned(), "3".to_owned()]];
        let header = ["pass", "accuracy", "boxed", "k"];
        let expected = "
pass    accuracy
────────────────
aime24     12.5%

pass     boxed  k
─────────────────
aime24  100.0%  3";
        let found = table_within(&header, &rows, 20);
        assert_eq!(found, expected.trim_start(), "\n{found}");
        assert!(width(&table_within(&header, &rows, 25)) <= 25 && !table_within(&header, &rows, 28).contains("\n\n"));
        assert_eq!(table_within(&header, &rows, 1).matches("aime24").count(), 3, "one column is the least");
    }

    #[test]
    fn beside_aligns_texts_of_different_heights() {
        assert_eq!(beside("ab\nc", "1\n2\n3"), "ab   1\nc    2\n     3");
        assert_eq!(beside("ab\nc\n──", "1"), "ab   1\nc\n──");
    }
}
