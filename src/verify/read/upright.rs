//! Reads upright text inside mathematics, such as `\text{...}`: units, connectives, function names, or mathematics in upright letters.

use crate::verify::read::command::named;
use crate::verify::read::digits::circled;
use crate::verify::read::lex::Lexer;
use crate::verify::read::token::Kind;
use crate::verify::words;

/// Maximum number of bytes scanned to find the ends of all groups in an answer.
const MAX_SCANNED: usize = 200_000;

/// Reads `\text{...}` and similar. Content with digits, signs or commands is mathematics in upright letters and is read as such.
pub fn text(lexer: &mut Lexer, command: &str) -> Option<()> {
    lexer.eat("*");
    let before = lexer.at;
    lexer.eat_space();
    if matches!(command, "rm" | "bf") && !lexer.rest().starts_with('{') {
        return Some(());
    }
    let Some(content) = argument(lexer) else {
        lexer.at = before;
        return None;
    };
    if content.contains(|c: char| c.is_ascii_digit() || circled(c).is_some() || matches!(c, '\\' | '$' | '=' | '^' | '_' | '{' | '<' | '>'))
    {
        lexer.at = before;
        return Some(());
    }
    let trimmed = content.trim();
    let inner = trimmed.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')).unwrap_or(trimmed);
    if inner.len() == 1 && inner.bytes().all(|b| b.is_ascii_alphabetic()) {
        let after_number = matches!(lexer.last(), Some(Kind::Number(_) | Kind::Close(_)));
        let is_unit =
            after_number && !matches!(inner, "e" | "i" | "I") && (command == "text" || command == "mbox" || words::unit(inner).is_some());
        if is_unit {
            lexer.word(&inner.to_lowercase());
            return Some(());
        }
        return lexer.letter(inner);
    }
    // At the end and directly after a number, `\text{min}` and `\text{sec}` are units of time, because a function would have an argument.
    let is_time = matches!(lexer.last(), Some(Kind::Number(_) | Kind::Close(_))) && lexer.rest().trim().is_empty();
    if !(is_time && words::unit(trimmed).is_some()) && named(lexer, trimmed) {
        return Some(());
    }
    if command == "operatorname" || matches!(command, "mathbf" | "mathcal" | "mathsf" | "boldsymbol") && trimmed.len() <= 3 {
        return lexer.symbol(trimmed);
    }
    lexer.space();
    plain_words(lexer, inner);
    lexer.space();
    Some(())
}

/// Adds words with the punctuation between them.
fn plain_words(lexer: &mut Lexer, content: &str) {
    for word in content.split_whitespace() {
        let bare = word.trim_matches(|c: char| matches!(c, ',' | '.' | ':' | ';' | '!' | '"' | '?' | '~'));
        if word.starts_with(',') {
            lexer.push(Kind::Comma);
        }
        if matches!(bare.to_ascii_lowercase().as_str(), "a.m" | "p.m") {
            lexer.word(if bare.starts_with(['a', 'A']) { "am" } else { "pm" });
        } else if let Some(value) = words::number_word(&bare.to_lowercase()) {
            let _ = crate::verify::read::digits::push_digits(lexer, &value.to_string());
        } else if !bare.is_empty() {
            lexer.word(&bare.to_lowercase());
        }
        if word.len() > 1 && word.ends_with(',') {
            lexer.push(Kind::Comma);
        } else if word.ends_with(':') {
            lexer.push(Kind::Colon);
        } else if word.ends_with(';') {
            lexer.push(Kind::Semicolon);
        }
    }
}

/// Returns the content of the group that starts here, with balanced braces, and moves past it.
pub fn group<'a>(lexer: &mut Lexer<'a>) -> Option<&'a str> {
    let rest = lexer.rest().strip_prefix('{')?;
    let mut depth = 0usize;
    for (at, byte) in rest.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => {
                lexer.at += at + 2;
                // Nested groups are scanned again at each level.
                lexer.scanned += at;
                return rest.get(..at).filter(|_| lexer.scanned <= MAX_SCANNED);
            }
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Returns the argument of a text-like command: a group or one character.
pub fn argument<'a>(lexer: &mut Lexer<'a>) -> Option<&'a str> {
    lexer.eat_space();
    let rest = lexer.rest();
    if rest.starts_with('{') {
        return group(lexer);
    }
    let length = rest.chars().next()?.len_utf8();
    lexer.at += length;
    rest.get(..length)
}
