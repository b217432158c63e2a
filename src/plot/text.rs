//! Estimates the width of text, wraps it and shortens it, without access to the typeface.

/// Estimates the width of a text in pixels, from the widths of DejaVu Sans by class of character. Other common typefaces are narrower.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    let em = |character: char| match character {
        'i' | 'j' | 'l' | '\'' => 0.28,
        ' ' | '.' | ',' | 'I' => 0.32,
        ':' | ';' | '|' | '/' | '-' => 0.36,
        'f' | 't' | 'r' | '(' | ')' | '[' | ']' | '!' => 0.40,
        'c' | 's' | 'v' | 'x' | 'y' | 'z' | 'k' => 0.58,
        'a' | 'b' | 'd'..='h' | 'n'..='q' | 'u' | '0'..='9' | '"' | '_' => 0.64,
        'w' | '+' | '=' | '<' | '>' | '~' => 0.84,
        'A'..='L' | 'N'..='P' | 'R'..='V' | 'X'..='Z' => 0.73,
        'm' | 'M' | 'W' | 'Q' | '%' | '@' | '…' => 1.0,
        '\0'..='\u{2ff}' => 0.72,
        // Characters of wide scripts are square.
        _ => 1.0,
    };
    text.chars().map(em).sum::<f64>() * size
}

/// Estimates the width of bold text.
pub(super) fn bold_width(text: &str, size: f64) -> f64 {
    1.1 * text_width(text, size)
}

/// Wraps a text to at most `lines` lines of at most `width` pixels, as equally long as possible, so that no word is alone on the last line.
/// Does not break inside brackets or before them. An ellipsis replaces text that does not fit, including the end of a word wider than a
/// line.
pub(super) fn wrap(text: &str, size: f64, width: f64, lines: usize) -> Vec<String> {
    let units = units(text);
    let mut wrapped = fill(&units, size, width);
    let count = wrapped.len();
    if count > 1 && count <= lines {
        // The narrowest width with the same number of lines, to 1/64 of the width.
        let narrower = (32..64).map(|part| width * f64::from(part) / 64.0).map(|width| fill(&units, size, width));
        let is_as_good = |narrow: &Vec<String>| narrow.len() == count && narrow.iter().all(|line| text_width(line, size) <= width);
        wrapped = narrower.into_iter().find(is_as_good).unwrap_or(wrapped);
    }
    let cut = count > lines;
    wrapped.truncate(lines);
    let last = wrapped.len().saturating_sub(1);
    for (index, line) in wrapped.iter_mut().enumerate() {
        if cut && index == last {
            line.push('…');
        }
        *line = shorten(line, size, width);
    }
    wrapped
}

/// Replaces the end of a text wider than `width` pixels by an ellipsis.
pub(super) fn shorten(text: &str, size: f64, width: f64) -> String {
    let mut short = text.to_owned();
    while text_width(&short, size) > width && short.chars().count() > 1 {
        short.pop();
        short.pop();
        short.truncate(short.trim_end().len());
        short.push('…');
    }
    short
}

/// Splits a text where a line may end.
fn units(text: &str) -> Vec<String> {
    let mut units: Vec<String> = Vec::new();
    let mut inside = false;
    for word in text.split_whitespace() {
        match units.last_mut() {
            Some(unit) if inside || word.starts_with('[') => {
                unit.push(' ');
                unit.push_str(word);
            }
            _ => units.push(word.to_owned()),
        }
        // An unclosed bracket must not join the rest of the text.
        inside = match (word.rfind('['), word.rfind(']')) {
            (None, None) => inside && units.last().is_some_and(|unit| unit.len() < 40),
            (open, close) => open > close,
        };
    }
    units
}

/// Puts as many units on each line as fit.
fn fill(units: &[String], size: f64, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for unit in units {
        match lines.last_mut() {
            Some(line) if text_width(&format!("{line} {unit}"), size) <= width => {
                line.push(' ');
                line.push_str(unit);
            }
            _ => lines.push(unit.clone()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrap_fits_lines_and_cuts_with_an_ellipsis() {
        let text = "held-out accuracy rises from 9.8% to 88.9% and the words continue";
        let lines = wrap(text, 12.0, 150.0, 9);
        assert!(lines.len() > 1);
        assert!(lines.iter().all(|line| text_width(line, 12.0) <= 150.0));
        assert_eq!(lines.join(" "), text);
        let cut = wrap(text, 12.0, 150.0, 2);
        assert_eq!(cut.len(), 2);
        assert!(cut[1].ends_with('…') && text_width(&cut[1], 12.0) <= 150.0);
        let long = wrap(&"x".repeat(400), 12.0, 150.0, 2);
        assert_eq!(long.len(), 1);
        assert!(long[0].ends_with('…') && text_width(&long[0], 12.0) <= 150.0);
        assert!(wrap("", 12.0, 150.0, 2).is_empty());
    }

    #[test]
    fn wrap_balances_lines_and_keeps_intervals_together() {
        let text = "Sampled accuracy after saturation rises by +10.2 points [+8.8, +11.6].";
        for width in [200.0, 260.0, 330.0, 400.0] {
            let lines = wrap(text, 12.0, width, 9);
            assert!(lines.iter().any(|line| line.contains("points [+8.8, +11.6].")), "{lines:?}");
            let widths: Vec<f64> = lines.iter().map(|line| text_width(line, 12.0)).collect();
            assert!(widths[widths.len() - 1] >= 0.5 * widths[0], "{lines:?}");
        }
    }
}
