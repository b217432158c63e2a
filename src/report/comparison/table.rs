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

/// Returns a table. The first item of `header` is the heading of the names.
pub fn table(title: &str, header: &[&str], rows: &[Cells]) -> Markup {
    html! {
        div.scroll role="region" aria-label=(title) tabindex="0" {
            table.results.groups {
                thead { tr { @for name in header { th scope="col" { (name) } } } }
                tbody {
                    @for row in rows { tr { th scope="row" { (row.name) } @for cell in &row.cells { td { (cell) } } } }
                }
            }
        }
    }
}
