//! The boxed answer of a written solution. Reference solutions only: what models write is the verifier's.

use anyhow::{Result, anyhow};

use crate::data::rows::Row;

/// The content of the last `\boxed{...}` of the row's `solution`.
pub(super) fn answer(row: &Row) -> Result<String> {
    let solution = row.text(&["solution"])?;
    last(&solution).map(str::to_owned).ok_or_else(|| anyhow!("{}: `solution` has no complete \\boxed{{...}}", row.place))
}

/// Braces balance; an escaped one, `\{`, is text.
fn last(solution: &str) -> Option<&str> {
    const OPENING: &str = r"\boxed{";
    let start = solution.rfind(OPENING)? + OPENING.len();
    let (mut depth, mut escaped) = (1, false);
    for (offset, byte) in solution[start..].bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&solution[start..start + offset]);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::last;

    #[test]
    fn finds_the_last_balanced_box() {
        let check = |solution: &str, expected: Option<&str>| assert_eq!(last(solution), expected, "{solution}");
        check(r"so $\boxed{1}$, no, $\boxed{\frac{1}{2}}$.", Some(r"\frac{1}{2}"));
        check(r"\boxed{\{1, 2\}}", Some(r"\{1, 2\}"));
        check(r"\boxed{\left\{x\right.}é", Some(r"\left\{x\right."));
        check(r"\boxed{a\\}", Some(r"a\\"));
        check(r"\boxed{}", Some(""));
        check(r"\boxed{1} and \boxed{2", None);
        check(r"\boxed 1", None);
        check("", None);
    }
}
