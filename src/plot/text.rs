//! Estimates the width of text and wraps it, without access to the typeface.

/// Estimates the width of a text in pixels, from Helvetica's widths by class of character. Adds a twelfth for wider substitute typefaces.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    let em = |character: char| match character {
        'i' | 'j' | 'l' | '\'' | '|' => 0.22,
        'f' | 't' | 'r' | 'I' | ' ' | '.' | ',' | ':' | ';' | '!' | '(' | ')' | '[' | ']' | '-' | '/' => 0.31,
        'm' | 'M' | 'W' | '%' | '@' => 0.87,
        'w' | 'A'..='Z' => 0.70,
        '\0'..='\u{2ff}' => 0.56,
        // Characters of wide scripts are square.
        _ => 1.0,
    };
    text.chars().map(em).sum::<f64>() * size * 13.0 / 12.0
}

/// Wraps a text to at most `lines` lines of at most `width` pixels. An ellipsis replaces text that does not fit, including the end of a
/// word wider than a line.
pub(super) fn wrap(text: &str, size: f64, width: f64, lines: usize) -> Vec<String> {
    let mut wrapped: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match wrapped.last_mut() {
            Some(line) if text_width(&format!("{line} {word}"), size) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => wrapped.push(word.to_owned()),
        }
    }
    let cut = wrapped.len() > lines;
    wrapped.truncate(lines);
    let last = wrapped.len().saturating_sub(1);
    for (index, line) in wrapped.iter_mut().enumerate() {
        if cut && index == last {
            line.push('…');
        }
        while text_width(line, size) > width && line.chars().count() > 1 {
            line.pop();
            line.pop();
            line.push('…');
        }
    }
    wrapped
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
}
