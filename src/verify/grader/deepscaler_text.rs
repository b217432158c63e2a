//! The two text normalizations of the published training reward, step by step.

use crate::verify::words;

/// Units that the published grader removes from an answer, wherever they occur.
const UNITS: [&str; 16] = [
    "degree",
    "cm",
    "centimeter",
    "meter",
    "mile",
    "second",
    "minute",
    "hour",
    "day",
    "week",
    "month",
    "year",
    "foot",
    "feet",
    "inch",
    "yard",
];

/// Applies the first normalization.
pub fn first_normalization(text: &str) -> String {
    let text = text.trim();
    let text = enclosed_text(text).map_or(text, str::trim);
    let mut s = text.replace('\n', "").replace("\\!", "").replace("\\\\", "\\").replace("tfrac", "frac").replace("dfrac", "frac");
    s = s.replace("\\left", "").replace("\\right", "").replace("^{\\circ}", "").replace("^\\circ", "").replace("\\$", "");
    if s.contains("\\text{ ") {
        let mut pieces = s.split("\\text{ ");
        let (before, after) = (pieces.next(), pieces.next());
        match (before, after, pieces.next()) {
            (Some(before), Some(_), None) => s = before.to_owned(),
            // If there is more than one unit, the published step fails and leaves the text unchanged.
            _ => return text.to_owned(),
        }
    }
    s = s.replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.");
    if s.starts_with('.') {
        s.insert(0, '0');
    }
    let sides: Vec<&str> = s.split('=').collect();
    if let [name, value] = sides.as_slice()
        && name.chars().count() <= 2
    {
        s = (*value).to_owned();
    }
    s = braced_roots(&s).replace(' ', "");
    s = braced_fractions(&s);
    if s == "0.5" {
        s = "\\frac{1}{2}".to_owned();
    }
    slash_fraction(&s).unwrap_or(s)
}

/// Returns the content of a `\text{...}` around the whole answer.
fn enclosed_text(text: &str) -> Option<&str> {
    text.strip_prefix("\\text{")?.strip_suffix('}').filter(|inner| !inner.is_empty())
}

/// Rewrites `\sqrt3` as `\sqrt{3}`.
fn braced_roots(text: &str) -> String {
    let mut pieces = text.split("\\sqrt");
    let mut out = pieces.next().unwrap_or("").to_owned();
    for piece in pieces {
        out.push_str("\\sqrt");
        match piece.chars().next() {
            Some(first) if first != '{' => {
                out.extend(['{', first, '}']);
                out.push_str(&piece[first.len_utf8()..]);
            }
            _ => out.push_str(piece),
        }
    }
    out
}

/// Rewrites `\frac12` as `\frac{1}{2}`. If an argument is missing, the whole text stays unchanged.
fn braced_fractions(text: &str) -> String {
    let mut pieces = text.split("\\frac");
    let mut out = pieces.next().unwrap_or("").to_owned();
    for piece in pieces {
        out.push_str("\\frac");
        let mut chars = piece.chars();
        match (chars.next(), chars.next()) {
            (Some('{'), _) => out.push_str(piece),
            (Some(a), Some(b)) => {
                out.extend(['{', a, '}']);
                if b == '{' {
                    out.push(b);
                } else {
                    out.extend(['{', b, '}']);
                }
                out.push_str(chars.as_str());
            }
            _ => return text.to_owned(),
        }
    }
    out
}

/// Rewrites `a/b` with two integers as a LaTeX fraction. `None` for any other text.
fn slash_fraction(text: &str) -> Option<String> {
    let (a, b) = text.split_once('/')?;
    let (x, y): (i64, i64) = (a.parse().ok()?, b.parse().ok()?);
    (format!("{x}/{y}") == text).then(|| format!("\\frac{{{x}}}{{{y}}}"))
}

/// Applies the second normalization: LaTeX to plain text, lower case, no spaces or braces.
pub fn second_normalization(text: &str) -> String {
    let text = enclosed_text(text).unwrap_or(text);
    let mut s = text.replace("\\%", "%").replace("\\$", "$").replace(['$', '%'], "").replace(" or ", " , ").replace(" and ", " , ");
    s = s.replace("million", "*10^6").replace("billion", "*10^9").replace("trillion", "*10^12");
    for unit in UNITS {
        s = without_unit(&s, unit);
    }
    for degree in ["^\\circ", "^ \\circ", "^  \\circ"] {
        s = s.replace(degree, "");
    }
    if s.len() > 1 && s.starts_with('{') && s.ends_with('}') {
        s = s[1..s.len() - 1].to_owned();
    }
    s = s.replace(",\\! ", "").replace(",\\!", "");
    if let Some(value) = s.trim().parse::<f64>().ok().filter(|value| value.fract() == 0.0 && value.abs() < 1e15) {
        s = format!("{value:.0}");
    }
    if s.contains('\\') {
        s = plain(&s);
    }
    while s.contains("- ") {
        s = s.replace("- ", "-");
    }
    s = mixed_sums(&s).replace([' ', '{', '}'], "").to_lowercase();
    integer(&s).unwrap_or(s)
}

/// Removes every occurrence of a unit, with its plural ending and its power.
fn without_unit(text: &str, unit: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(unit) {
        out.push_str(&rest[..at]);
        rest = &rest[at + unit.len()..];
        rest = rest.strip_prefix("es").unwrap_or(rest);
        rest = rest.strip_prefix('s').unwrap_or(rest);
        let power = rest.trim_start_matches(' ');
        rest = power;
        if let Some(digits) = power.strip_prefix('^') {
            let length = digits.bytes().take_while(u8::is_ascii_digit).count();
            if length > 0 {
                rest = &digits[length..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// Converts LaTeX to plain text: without braces, fractions as `a/b` without brackets, and roots without their index.
fn plain(text: &str) -> String {
    let text = text.replace("\\tfrac", "\\frac").replace("\\dfrac", "\\frac").replace("\\frac", " \\frac").replace("\\frac ", "\\frac");
    let text = braced_roots(&braced_fractions(&text).replace("\\sqrt ", "\\sqrt"));
    let mut out = String::new();
    let mut rest = text.as_str();
    // `closings` has the output for the closing brace of each open group; `next` is the one for the group that opens next.
    let (mut closings, mut next): (Vec<&str>, &str) = (Vec::new(), "");
    while let Some(c) = rest.chars().next() {
        let mut skip = c.len_utf8();
        match c {
            '\\' => {
                let length = rest[1..].bytes().take_while(u8::is_ascii_alphabetic).count();
                let name = &rest[1..1 + length];
                skip = 1 + length;
                if name.is_empty() {
                    skip += rest[1..].chars().next().map_or(0, char::len_utf8);
                    out.push_str(if rest.starts_with("\\\\") { ";" } else { "" });
                } else if name == "frac" {
                    next = "/";
                } else if name == "sqrt" {
                    out.push_str("sqrt(");
                    next = ")";
                    skip += rest[skip..].strip_prefix('[').and_then(|index| index.find(']')).map_or(0, |end| end + 2);
                } else if matches!(name, "begin" | "end") {
                    out.push_str(if name == "begin" { "[" } else { "]" });
                    skip += rest[skip..].find('}').map_or(0, |end| end + 1);
                } else {
                    out.push_str(symbol(name));
                }
            }
            '{' => closings.push(std::mem::take(&mut next)),
            '}' => out.push_str(closings.pop().unwrap_or("")),
            _ => out.push(c),
        }
        rest = &rest[skip..];
    }
    out.trim().to_owned()
}

/// Returns the text for a command; empty for unknown commands.
fn symbol(name: &str) -> &str {
    match name {
        "pi" => "pi",
        "infty" => "inf",
        "cup" => "U",
        "cdot" | "times" => "*",
        "pm" => "±",
        "le" | "leq" => "≤",
        "ge" | "geq" => "≥",
        "ne" | "neq" => "≠",
        "in" => "∈",
        "sin" | "cos" | "tan" | "log" | "ln" | "cot" | "sec" | "csc" | "exp" | "arcsin" | "arccos" | "arctan" => name,
        _ if words::is_letter_name(name) => words::greek_letter(name).unwrap_or(""),
        _ => "",
    }
}

/// Rewrites `7 3/4` as `7+3/4`.
fn mixed_sums(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let spaces = chars.iter().skip(at + 1).take_while(|c| **c == ' ').count();
        let next = chars.get(at + 1 + spaces);
        out.push(c);
        at += 1;
        if c.is_ascii_digit() && spaces > 0 && next.is_some_and(char::is_ascii_digit) {
            out.push('+');
            at += spaces;
        }
    }
    out
}

/// Returns the digits of an integer, which may be written with zero decimals or commas. `None` for any other text.
pub fn integer(text: &str) -> Option<String> {
    let value: f64 = without_commas(text).parse().ok()?;
    let near = value.round();
    ((value - near).abs() <= 1e-7 && near.abs() < 1e15).then(|| format!("{near:.0}"))
}

/// Removes commas before three digits as the published regular expression does. It consumes the character after each group, so some commas
/// stay if there are many groups.
pub fn without_commas(text: &str) -> String {
    let mut text: Vec<char> = text.chars().collect();
    loop {
        let mut out: Vec<char> = Vec::with_capacity(text.len());
        let (mut at, mut changed) = (0, false);
        while let Some(&c) = text.get(at) {
            let group = text.get(at + 1) == Some(&',') && (2..=4).all(|k| text.get(at + k).is_some_and(char::is_ascii_digit));
            let after = text.get(at + 5);
            if c.is_ascii_digit() && group && after.is_none_or(|after| !after.is_ascii_digit()) {
                out.push(c);
                out.extend(text.get(at + 2..at + 5).unwrap_or(&[]));
                out.extend(after);
                at += 6;
                changed = true;
            } else {
                out.push(c);
                at += 1;
            }
        }
        text = out;
        if !changed {
            return text.into_iter().collect();
        }
    }
}

/// True for an integer over a nonzero integer.
pub fn is_fraction(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    text.split_once('/').is_some_and(|(a, b)| {
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|byte| byte.is_ascii_digit());
        digits(a) && digits(b) && b.bytes().any(|byte| byte != b'0')
    })
}
