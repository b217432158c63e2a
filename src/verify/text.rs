//! Removes parts of an answer that do not affect its meaning: math delimiters, spacing commands, sizes of brackets and fractions. This is
//! the first stage of a comparison; it never interprets the text.

/// Commands that affect only the appearance.
const INVISIBLE: [&str; 26] = [
    "left",
    "right",
    "big",
    "Big",
    "bigg",
    "Bigg",
    "bigl",
    "bigr",
    "Bigl",
    "Bigr",
    "biggl",
    "biggr",
    "Biggl",
    "Biggr",
    "displaystyle",
    "textstyle",
    "scriptstyle",
    "limits",
    "nolimits",
    "quad",
    "qquad",
    "hspace",
    "thinspace",
    "medspace",
    "thickspace",
    "mathstrut",
];

/// Returns the canonical spelling of `text`. Answers with the same canonical spelling are equal; different spellings prove nothing.
pub fn normalize(text: &str) -> String {
    let text = strip_delimiters(text);
    let mut out = String::with_capacity(text.len());
    // White space matters only between letters and digits.
    let mut space = false;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let piece: &str;
        let skip;
        let plain = rest.bytes().take_while(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b'~' | b'$')).count();
        if plain > 0 {
            // Most of every answer is copied unchanged.
            skip = plain;
            piece = &rest[..plain];
        } else if c == '\\' {
            let name_len = rest[1..].bytes().take_while(u8::is_ascii_alphabetic).count();
            if name_len == 0 {
                let len = rest[1..].chars().next().map_or(0, char::len_utf8);
                skip = 1 + len;
                match &rest[1..skip] {
                    " " | "," | ";" | ":" | "!" | "\n" => {
                        space |= &rest[1..skip] != "!";
                        rest = &rest[skip..];
                        continue;
                    }
                    "$" => piece = "",
                    "%" => piece = "%",
                    _ => piece = &rest[..skip],
                }
            } else {
                skip = 1 + name_len;
                let name = &rest[1..skip];
                if INVISIBLE.contains(&name) {
                    space = true;
                    rest = &rest[skip..];
                    continue;
                }
                piece = match name {
                    "dfrac" | "tfrac" | "cfrac" => "\\frac",
                    "leq" | "leqslant" => "\\le",
                    "geq" | "geqslant" => "\\ge",
                    "neq" => "\\ne",
                    "lbrace" => "\\{",
                    "rbrace" => "\\}",
                    _ => &rest[..skip],
                };
            }
        } else {
            skip = c.len_utf8();
            if c.is_whitespace() || c == '~' {
                space = true;
                rest = &rest[skip..];
                continue;
            }
            piece = match c {
                '\u{2212}' | '\u{2013}' | '\u{2010}' | '\u{2011}' => "-",
                '\u{d7}' => "\\times",
                '\u{b7}' | '\u{22c5}' => "\\cdot",
                '\u{3c0}' => "\\pi",
                '\u{221e}' => "\\infty",
                '\u{b0}' => "^\\circ",
                '\u{2264}' => "\\le",
                '\u{2265}' => "\\ge",
                '\u{2260}' => "\\ne",
                '\u{222a}' => "\\cup",
                '$' => "",
                _ => &rest[..skip],
            };
        }
        if space && joins(&out) && piece.starts_with(|c: char| c.is_alphanumeric()) {
            out.push(' ');
        }
        space = false;
        out.push_str(piece);
        rest = &rest[skip..];
    }
    out.truncate(trim_closing_punctuation(&out).len());
    out
}

/// Removes closing punctuation, and the backslash of a spacing command that lost its space to trimming: `5\ `.
fn trim_closing_punctuation(text: &str) -> &str {
    let mut text = text;
    loop {
        let shorter = text.trim_end_matches(['.', ',', ';', ' ', '\n', '。']);
        let backslashes = shorter.bytes().rev().take_while(|byte| *byte == b'\\').count();
        // An escaped character keeps its backslash: the dollar sign of `\$`, the line break `\\`.
        let shorter = &shorter[..shorter.len() - backslashes % 2];
        if shorter.len() == text.len() {
            return text;
        }
        text = shorter;
    }
}

/// Prepares `text` for the parser: removes delimiters and closing punctuation, and replaces full-width characters and TeX character codes.
pub fn clean(text: &str) -> String {
    let text = trim_closing_punctuation(strip_delimiters(text)).trim_end_matches('^');
    let text = strip_delimiters(text);
    let halved = escaped_twice(text).then(|| text.replace("\\\\", "\\"));
    let text = halved.as_deref().unwrap_or(text);
    let decoded = text.contains("\\char\"").then(|| with_characters(text));
    let text = decoded.as_deref().unwrap_or(text);
    let wide = text.chars().map(|c| match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        '\u{3001}' => ',',
        _ => c,
    });
    wide.collect()
}

/// Replaces the TeX codes of characters: `\char"3B5` becomes ε.
fn with_characters(text: &str) -> String {
    let mut parts = text.split("\\char\"");
    let mut out = parts.next().unwrap_or("").to_owned();
    for part in parts {
        let (code, rest) = part.split_at(part.bytes().take_while(u8::is_ascii_hexdigit).count());
        match u32::from_str_radix(code, 16).ok().and_then(char::from_u32) {
            Some(c) => out.push(c),
            None => out.push_str(code),
        }
        out.push_str(rest);
    }
    out
}

/// True if every backslash of a text with environments is doubled, as in a string that was escaped once too often.
fn escaped_twice(text: &str) -> bool {
    let mut runs = text.split(|c| c != '\\').map(str::len).filter(|&run| run > 0);
    text.contains("\\\\begin{") && runs.all(|run| run % 2 == 0)
}

/// True if a letter or digit directly after `out` would merge with its last character.
fn joins(out: &str) -> bool {
    out.chars().next_back().is_some_and(char::is_alphanumeric)
}

/// Removes surrounding white space, math delimiters, and Markdown emphasis.
pub fn strip_delimiters(text: &str) -> &str {
    let mut text = text.trim();
    loop {
        let inner = [("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"), ("*", "*"), ("__", "__")]
            .into_iter()
            .find_map(|(open, close)| Some((text.strip_prefix(open)?.strip_suffix(close)?.trim(), open)));
        match inner {
            Some((inner, open)) if !inner.contains(if open.starts_with(['*', '_']) { open } else { "$" }) => text = inner,
            _ => return text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(a: &str, b: &str) {
        assert_eq!(normalize(a), normalize(b));
    }

    #[test]
    fn normalize_ignores_appearance() {
        check(r"\dfrac{1}{2}", r"$\frac {1} {2}$.");
        check(r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})");
        check("\u{2212}5", "-5");
        check(r"11,\! 111", "11,111");
        check(r"\sqrt 2", r"\sqrt 2 ");
        assert_ne!(normalize("1 2"), normalize("12"));
    }
}
