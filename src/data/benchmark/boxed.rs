//! The boxed answer of a written solution. Reference solutions only: what models write is the verifier's.

use anyhow::{Result, anyhow};

use crate::data::gold;
use crate::data::rows::Row;

/// The content of the last `\boxed{...}` of the row's `solution`.
pub(super) fn answer(row: &Row) -> Result<String> {
    let solution = row.text(&["solution"])?;
    gold::boxed(&solution).map(str::to_owned).ok_or_else(|| anyhow!("{}: `solution` has no complete \\boxed{{...}}", row.place))
}
