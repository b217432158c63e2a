//! Tables with aligned columns, and percentages, for people.

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

/// Formats a table for a terminal, with a rule below the header. Columns of numbers are right-aligned, so that decimal points line up; text
/// columns are left-aligned. Short rows are padded with empty cells.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
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
        let found = table(&header, &rows);
        assert_eq!(found.trim_end(), expected.trim_start(), "\n{found}");
        assert_eq!(table(&["step"], &[]).lines().next(), Some("step"));
    }
}
