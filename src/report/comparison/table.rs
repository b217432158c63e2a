//! Tables of a page: named rows of text, in a box that scrolls if the table is wider than the page.

use maud::{Markup, html};

/// A row of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cells {
    /// The row's heading, in the first column.
    pub name: String,
    /// The other cells.
    pub cells: Vec<String>,
}

/// Returns a table, with the intervals of numbers on a second line. The first item of `header` is the heading of the names.
pub fn table(title: &str, header: &[&str], rows: &[Cells]) -> Markup {
    html! {
        div.scroll role="region" aria-label=(title) tabindex="0" {
            table.results.groups {
                thead { tr { @for name in header { th scope="col" { (name) } } } }
                tbody {
                    @for row in rows { tr { th scope="row" { (row.name) } @for cell in &row.cells { td { (value(cell)) } } } }
                }
            }
        }
    }
}

/// Writes a cell with its interval, `[low, high]` or `(low to high)`, in an element of its own.
fn value(cell: &str) -> Markup {
    let start = cell.find(" [").or_else(|| cell.find(" (").filter(|_| cell.contains(" to ")));
    let end = cell.rfind([']', ')']).map(|end| end + 1);
    // Cells with settings and names have brackets of other kinds.
    let is_interval = |(start, end): &(usize, usize)| {
        start < end && cell[start + 1..*end].chars().all(|c| c.is_ascii_digit() || "[](),.+−-–% to".contains(c))
    };
    match start.zip(end).filter(is_interval) {
        Some((start, end)) => {
            html! { (cell[..start]) (cell[end..]) " " span.interval { (cell[start + 1..end]) } }
        }
        None => html! { (cell) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_separates_the_interval() {
        let check = |cell: &str, expected: &str| assert_eq!(value(cell).into_string(), expected);
        check("58.4 ± 0.4 [57.5, 59.4]", "58.4 ± 0.4 <span class=\"interval\">[57.5, 59.4]</span>");
        check("−1.6 [−3.2, −0.1] *", "−1.6 * <span class=\"interval\">[−3.2, −0.1]</span>");
        check("98.1 (97.4 to 98.6)", "98.1 <span class=\"interval\">(97.4 to 98.6)</span>");
        for cell in ["", "–", "40 to 60", "a (0), b (1)", "[1, 2]", "]a [b", "put [x] here", "trial (a to b) c"] {
            check(cell, cell);
        }
    }
}
