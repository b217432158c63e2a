//! Times of day: `6:15 p.m.`, `06:15`, `12 noon`. Without a mark, `6:15` is a ratio, which `compare` interprets as a time if the other side
//! is one.

use crate::verify::read::Parser;
use crate::verify::read::lex::Lexer;
use crate::verify::read::token::Kind;
use crate::verify::tree::{Id, NONE, Node, Tree};

/// Seconds in an hour.
const HOUR: u32 = 3600;

/// The half of the day that a mark stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Half {
    First,
    Second,
    Noon,
    Midnight,
}

/// Words directly after a time that determine the half of the day.
const MARKS: [(&str, Half); 7] = [
    ("am", Half::First),
    ("pm", Half::Second),
    ("in the morning", Half::First),
    ("in the afternoon", Half::Second),
    ("in the evening", Half::Second),
    ("noon", Half::Noon),
    ("midnight", Half::Midnight),
];

/// Reads `06:15` or `00:30:05`: a leading zero shows that this is a time and not a ratio. Returns `None` for anything else.
pub fn with_leading_zero(lexer: &mut Lexer) -> Option<()> {
    let before = lexer.source.get(..lexer.at)?;
    let rest = lexer.rest();
    if !rest.starts_with('0') || before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, ':' | '.')) {
        return None;
    }
    let two = |at: usize| rest.get(at..at + 2).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?.parse::<u32>().ok();
    let (hours, minutes) = (two(0)?, two(3).filter(|&minutes| minutes < 60)?);
    let seconds = if rest.get(5..6) == Some(":") { two(6).filter(|&seconds| seconds < 60)? } else { 0 };
    let length = if rest.get(5..6) == Some(":") { 8 } else { 5 };
    let ends = !rest.get(length..)?.starts_with(|c: char| c.is_ascii_digit() || matches!(c, ':' | '.') && rest.len() > length + 1);
    if rest.get(2..3) != Some(":") || !ends {
        return None;
    }
    lexer.at += length;
    lexer.push(Kind::Clock(hours * HOUR + minutes * 60 + seconds));
    Some(())
}

/// Reads `a.m.` or `P. M.` in plain letters. Returns the mark as a word, and its length in bytes. `None` for anything else.
pub fn dotted_mark(rest: &str) -> Option<(&'static str, usize)> {
    let word = match rest.chars().next()?.to_ascii_lowercase() {
        'a' => "am",
        'p' => "pm",
        _ => return None,
    };
    let after = rest.get(1..)?.strip_prefix('.')?.trim_start_matches(' ').strip_prefix(['m', 'M'])?;
    let after = after.strip_prefix('.').unwrap_or(after);
    (!after.starts_with(|c: char| c.is_alphanumeric())).then_some((word, rest.len() - after.len()))
}

/// Returns the time of day that words name, in seconds since midnight. `None` for other words.
pub fn in_words(words: &str) -> Option<u32> {
    match words {
        "noon" | "midday" => Some(12 * HOUR),
        "midnight" => Some(0),
        _ => None,
    }
}

/// Reads hours with minutes and seconds after colons, or hours alone. Returns the hours, and the minutes and seconds together in seconds.
/// `None` for anything else.
pub fn parts(tree: &Tree, id: Id) -> Option<(u32, u32)> {
    let small = |id: Id| tree.plain_integer(id).and_then(|n| u32::try_from(n).ok()).filter(|&n| n < 60);
    let (hours, rest) = match tree.node(id) {
        Node::Ratio(a, b) => match tree.node(a) {
            Node::Ratio(a, minutes) => (small(a)?, small(minutes)? * 60 + small(b)?),
            _ => (small(a)?, small(b)? * 60),
        },
        Node::Number(_) => (small(id)?, 0),
        _ => return None,
    };
    (hours < 24).then_some((hours, rest))
}

impl Parser<'_> {
    /// Combines an operand with the words after it into a time of day, if the words begin with a mark. Returns the new operand and the
    /// remaining words, or both arguments unchanged. `None` if a budget runs out.
    pub fn time_of_day(&mut self, operand: Id, words: u32) -> Option<(Id, u32)> {
        if words == NONE {
            return Some((operand, words));
        }
        let text = self.tree.name_of(words);
        let mark = MARKS.iter().find_map(|&(mark, half)| {
            let rest = text.strip_prefix(mark)?;
            (rest.is_empty() || rest.starts_with(' ')).then(|| (half, rest.trim_start().to_owned()))
        });
        let Some((half, rest)) = mark else { return Some((operand, words)) };
        let written = match self.tree.node(operand) {
            Node::Clock(seconds) => Some((seconds / HOUR, seconds % HOUR)),
            _ => parts(self.tree, operand),
        };
        let hours = match (half, written) {
            (Half::First, Some((hours @ 0..=12, _))) => hours % 12,
            (Half::Second, Some((hours @ 1..=12, _))) => hours % 12 + 12,
            (Half::Second, Some((hours @ 13.., _))) => hours,
            (Half::Noon, Some((12, 0))) => 12,
            (Half::Midnight, Some((0 | 12, 0))) => 0,
            _ => return Some((operand, words)),
        };
        let clock = self.tree.push(Node::Clock(hours * HOUR + written?.1))?;
        let rest = if rest.is_empty() { NONE } else { self.tree.name(&rest) };
        Some((clock, rest))
    }
}
