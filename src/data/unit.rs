//! Units as sets write them beside their answers, spelled so that the verifier reads them. It must never know what a unit measures.

/// The unit as LaTeX that can follow an answer, `$cm^2$` as `\text{ cm}^2`. The signs of degree and percent are left out: an answer is the same
/// number with them or without.
pub(super) fn spelled(written: &str) -> String {
    let written = written.trim().trim_matches('$').trim();
    if written.is_empty() || written.contains(['%', '\\']) {
        return String::new();
    }
    match written.split_once('^') {
        Some((name, power)) => format!("\\text{{ {name}}}^{power}"),
        None => format!("\\text{{ {written}}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::spelled;

    #[test]
    fn units_follow_their_answers() {
        let check = |written: &str, expected: &str| assert_eq!(spelled(written), expected, "{written}");
        check("minute", r"\text{ minute}");
        check("min", r"\text{ min}");
        check("km/h", r"\text{ km/h}");
        check("$cm^2$", r"\text{ cm}^2");
        check("%", "");
        check(r"^{\circ}", "");
        check(" ", "");
    }
}
