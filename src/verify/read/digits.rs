//! Reads numbers as tokens: thousands separators, repeating decimals, scientific notation, numerals with a base.

use crate::verify::read::clock;
use crate::verify::read::lex::{Commas, Lexer, subscript_digit};
use crate::verify::read::token::{Digits, Kind};

/// An answer with a longer number is compared as text.
const MAX_DIGITS: usize = 1000;

/// Reads the number at the current position.
pub fn number(lexer: &mut Lexer) -> Option<()> {
    if clock::with_leading_zero(lexer).is_some() {
        return Some(());
    }
    let start = lexer.tokens.digits.len();
    let mut grouped = false;
    // `3^4 125` is a product: an exponent with thousands separators would be in braces.
    let is_exponent = lexer.last() == Some(Kind::Caret);
    run(lexer);
    while !is_exponent && group_of_three(lexer) {
        grouped = true;
    }
    let integer = !lexer.rest().starts_with('.') || lexer.rest()[1..].starts_with(['.', ' ', ',']) || lexer.rest().len() == 1;
    let mut repeating = 0;
    if integer {
        // In `x^2_3` the subscript belongs to the variable, so it is not a base.
        if !is_exponent && let Some(base) = base(lexer) {
            let digits = lexer.tokens.digits.split_off(start);
            let name = lexer.tree.name(&digits);
            lexer.push(Kind::Based(name, base));
            return Some(());
        }
    } else {
        lexer.at += 1;
        lexer.tokens.digits.push('.');
        run(lexer);
        lexer.eat("\\!");
        if lexer.eat("\\overline{") || lexer.eat("\\bar{") || lexer.eat("\\dot{") {
            let before = lexer.tokens.digits.len();
            run(lexer);
            repeating = u32::try_from(lexer.tokens.digits.len() - before).ok()?;
            if repeating == 0 || !lexer.eat("}") {
                return None;
            }
        }
    }
    let exponent = if repeating == 0 { exponent(lexer)? } else { 0 };
    finish(lexer, start, exponent, repeating, grouped)
}

/// Returns the number of a circled or parenthesized Unicode character. `None` for any other character.
pub fn circled(c: char) -> Option<u32> {
    let from = |first: char| Some(u32::from(c) - u32::from(first) + 1);
    match c {
        '①'..='⑳' => from('①'),
        '⑴'..='⒇' => from('⑴'),
        '❶'..='❿' => from('❶'),
        '➀'..='➉' => from('➀'),
        '➊'..='➓' => from('➊'),
        _ => None,
    }
}

/// Adds a circled number. Several in a row become a list.
pub fn push_circled(lexer: &mut Lexer, number: u32) -> Option<()> {
    if std::mem::replace(&mut lexer.circled_end, 0) == lexer.tokens.list.len() && matches!(lexer.last(), Some(Kind::Number(_))) {
        lexer.push(Kind::Comma);
    }
    push_digits(lexer, &number.to_string())?;
    lexer.circled_end = lexer.tokens.list.len();
    Some(())
}

/// Adds a number with the given digits.
pub fn push_digits(lexer: &mut Lexer, digits: &str) -> Option<()> {
    let start = lexer.tokens.digits.len();
    lexer.tokens.digits.push_str(digits);
    finish(lexer, start, 0, 0, false)
}

fn finish(lexer: &mut Lexer, start: usize, exponent: i32, repeating: u32, grouped: bool) -> Option<()> {
    let end = lexer.tokens.digits.len();
    if end - start > MAX_DIGITS {
        return None;
    }
    let digits = Digits {
        start: u32::try_from(start).ok()?,
        end: u32::try_from(end).ok()?,
        exponent,
        repeating,
        grouped: grouped || std::mem::take(&mut lexer.whole_argument),
    };
    lexer.push(Kind::Number(digits));
    Some(())
}

/// Copies a run of digits.
fn run(lexer: &mut Lexer) {
    let rest = lexer.rest();
    let length = rest.bytes().take_while(u8::is_ascii_digit).count();
    lexer.tokens.digits.push_str(&rest[..length]);
    lexer.at += length;
}

/// Copies one thousands group, if a separator and exactly three digits follow: `,234`, `,\! 234`, `{,}234`, ` 234`.
fn group_of_three(lexer: &mut Lexer) -> bool {
    let rest = lexer.rest();
    let certain = ["{,}\\!", "{,}", ",\\!", "\\,", "\\;", "\\ "];
    let mut tail = certain.iter().find_map(|separator| rest.strip_prefix(separator));
    if tail.is_none() && lexer.commas == Commas::Group && lexer.depth == 0 {
        tail = rest.strip_prefix(',').filter(|tail| tail.starts_with(|c: char| c.is_ascii_digit()));
    }
    if tail.is_none() {
        tail = rest.strip_prefix(' ').filter(|tail| tail.starts_with(|c: char| c.is_ascii_digit()));
    }
    let Some(tail) = tail.map(str::trim_start) else { return false };
    let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
    let after = &tail[digits..];
    // `1,234/5` is a fraction whose numerator is 1234, but `2 123/4` is not.
    if digits != 3 || first_group_too_long(lexer) {
        return false;
    }
    if rest.starts_with(' ') && after.starts_with(['/', '.', '^']) {
        return false;
    }
    lexer.tokens.digits.push_str(&tail[..3]);
    lexer.at += rest.len() - after.len();
    true
}

/// True if the digits before a separator cannot be the first group: more than three digits, none, a lone zero, or decimals.
fn first_group_too_long(lexer: &Lexer) -> bool {
    let before = lexer.source.get(..lexer.at).unwrap_or("");
    let digits = before.bytes().rev().take_while(u8::is_ascii_digit).count();
    digits > 3 || digits == 0 || (digits == 1 && before.ends_with('0')) || before[..before.len() - digits].ends_with('.')
}

/// Reads the base after an integer: `_8`, `_{8}`, `₈`.
fn base(lexer: &mut Lexer) -> Option<u32> {
    let before = lexer.at;
    let mut text = String::new();
    if lexer.rest().trim_start().starts_with('_') {
        lexer.eat_space();
        lexer.at += 1;
        text = lexer.subscript().unwrap_or_default();
    } else {
        while let Some(digit) = lexer.rest().chars().next().and_then(subscript_digit) {
            text.push(digit);
            lexer.at += '₀'.len_utf8();
        }
    }
    let base = match text.as_str() {
        "two" => Some(2),
        "ten" => Some(10),
        text => text.parse().ok().filter(|base| (2..=36).contains(base)),
    };
    if base.is_none() {
        lexer.at = before;
    }
    base
}

/// Reads an exponent directly after the digits: `E-11`, `e5`.
fn exponent(lexer: &mut Lexer) -> Option<i32> {
    let rest = lexer.rest();
    let Some(tail) = rest.strip_prefix(['e', 'E']) else { return Some(0) };
    let (negative, digits) = match tail.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, tail.strip_prefix('+').unwrap_or(tail)),
    };
    let length = digits.bytes().take_while(u8::is_ascii_digit).count();
    if length == 0 || digits[length..].starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Some(0);
    }
    // No real answer has an exponent of 10,000 or more. The whole answer is then compared as text.
    let value: i32 = digits[..length].parse().ok().filter(|&value| value < 10_000)?;
    lexer.at += rest.len() - digits.len() + length;
    Some(if negative { -value } else { value })
}
