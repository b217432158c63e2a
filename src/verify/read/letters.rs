//! Reads letters as tokens. A run of letters is a known name, a unit, a few variables or a word. Subscripts and primes are part of a
//! variable's name.

use crate::verify::read::clock::dotted_mark;
use crate::verify::read::command;
use crate::verify::read::digits;
use crate::verify::read::lex::{Lexer, subscript_digit};
use crate::verify::read::token::Kind;
use crate::verify::read::upright;
use crate::verify::tree::Constant;
use crate::verify::words;

/// Maximum length of a variable name in bytes.
const MAX_NAME: usize = 80;

impl Lexer<'_> {
    /// Reads a run of plain letters: a known name, a unit, a few variables, or a word.
    pub fn letters(&mut self) -> Option<()> {
        let rest = self.rest();
        let length = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let run = &rest[..length];
        if let (Some((mark, length)), Some(Kind::Number(_) | Kind::Clock(_) | Kind::Close(_))) = (dotted_mark(rest), self.last()) {
            self.at += length;
            self.word(mark);
            return Some(());
        }
        let after_words = !self.words.is_empty();
        if length == 1 && !((after_words || starts_a_phrase(rest)) && run.eq_ignore_ascii_case("a")) {
            self.at += 1;
            return self.letter(run);
        }
        self.at += length;
        let lower = run.to_ascii_lowercase();
        if matches!(self.last(), Some(Kind::Number(_))) && matches!(lower.as_str(), "th" | "st" | "nd" | "rd") {
            self.word("th");
            return Some(());
        }
        self.whole_argument = run == "sqrt";
        if command::named(self, run) {
            return Some(());
        }
        if words::unit(&lower).is_some()
            || words::is_filler(&lower) && run != run.to_ascii_uppercase()
            || matches!(lower.as_str(), "a" | "and" | "or")
            || after_words
        {
            self.word(&lower);
            return Some(());
        }
        if let Some(value) = words::number_word(&lower) {
            return digits::push_digits(self, &value.to_string());
        }
        if length > 2 && self.compound(run) {
            return Some(());
        }
        if length <= 3 || run.bytes().all(|b| b.is_ascii_uppercase()) && length <= 4 {
            return run.char_indices().try_for_each(|(at, _)| {
                // Only the last letter can carry the subscript that follows.
                let end = self.at;
                self.at = if at + 1 == length { end } else { self.source.len() };
                let done = self.letter(&run[at..at + 1]);
                self.at = if at + 1 == length { self.at } else { end };
                done
            });
        }
        self.word(&lower);
        Some(())
    }

    /// Splits a known name with a few letters before or after it: `xpi`, `sqrtx`, `xlnx`.
    fn compound(&mut self, run: &str) -> bool {
        const NAMES: [&str; 8] = ["sqrt", "pi", "sin", "cos", "tan", "log", "ln", "exp"];
        for name in NAMES {
            let Some(at) = run.find(name) else { continue };
            let (before, after) = (&run[..at], &run[at + name.len()..]);
            // Letters on both sides are allowed only around a function, as in `xlnx`: π in the middle belongs to a word.
            let both = !before.is_empty() && !after.is_empty();
            if before.len() > 2 || after.len() > 2 || both && matches!(name, "pi" | "exp") {
                continue;
            }
            // `letter` looks for a subscript at the current position, so move it to the end of the text.
            let end = std::mem::replace(&mut self.at, self.source.len());
            for at in 0..before.len() {
                let _ = self.letter(&before[at..at + 1]);
            }
            command::named(self, name);
            for at in 0..after.len() {
                let _ = self.letter(&after[at..at + 1]);
            }
            self.at = end;
            return true;
        }
        false
    }

    /// Adds a single letter as a constant, a union sign or a variable.
    pub fn letter(&mut self, letter: &str) -> Option<()> {
        let next = self.rest().trim_start();
        match letter {
            "e" if !next.starts_with('_') => self.push(Kind::Constant(Constant::E)),
            "I" if self.rest().starts_with('(') => return self.symbol(letter),
            "i" | "I" if !next.starts_with('_') => self.push(Kind::Constant(Constant::I)),
            "U" if matches!(self.last(), Some(Kind::Close(_))) && next.starts_with(['(', '[', '{', '\\']) => self.push(Kind::Union),
            _ => return self.symbol(letter),
        }
        Some(())
    }

    /// Adds a variable, including the subscript and primes that follow.
    pub fn symbol(&mut self, name: &str) -> Option<()> {
        let rest = self.rest();
        if !rest.trim_start().starts_with(['_', '\'', '’', '^', '₀', '₁', '₂', '₃', '₄', '₅', '₆', '₇', '₈', '₉']) {
            let name = self.tree.name(name);
            self.push(Kind::Symbol(name));
            return Some(());
        }
        // In `x^k_1` the subscript belongs to x, not to its exponent k.
        let is_exponent = matches!(self.tokens.list.as_slice(), [.., base, caret]
            if caret.kind == Kind::Caret && matches!(base.kind, Kind::Symbol(_)));
        // Subscripts and primes may come in either order.
        let (mut full, mut marks) = (name.to_owned(), String::new());
        loop {
            let before = self.at;
            self.eat_space();
            if !is_exponent && self.eat("_") {
                let subscript = self.subscript()?;
                full.push('_');
                full.push_str(&subscript);
            } else if self.eat("'") || self.eat("’") || self.eat("^{\\prime}") || self.eat("^\\prime") || self.eat("^{'}") {
                marks.push('\'');
            } else if self.eat("^*") || self.eat("^{*}") {
                marks.push('*');
            } else if let Some(digit) = self.rest().chars().next().and_then(subscript_digit) {
                self.at += '₀'.len_utf8();
                if !full.contains('_') {
                    full.push('_');
                }
                full.push(digit);
            } else {
                self.at = before;
                break;
            }
        }
        full.push_str(&marks);
        if full.len() > MAX_NAME {
            return None;
        }
        let name = self.tree.name(&full);
        self.push(Kind::Symbol(name));
        Some(())
    }

    /// Reads the text of a subscript: a group, a command, a run of digits or one letter.
    pub fn subscript(&mut self) -> Option<String> {
        self.eat_space();
        let rest = self.rest();
        let raw = if rest.starts_with('{') {
            upright::group(self)?
        } else if let Some(command) = rest.strip_prefix('\\') {
            let length = 1 + command.bytes().take_while(u8::is_ascii_alphabetic).count();
            self.at += length;
            &rest[..length]
        } else {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let length = if digits > 0 { digits } else { rest.chars().next()?.len_utf8() };
            self.at += length;
            &rest[..length]
        };
        if raw.len() > MAX_NAME {
            return None;
        }
        let plain = raw.replace("\\text", "").replace("\\mathrm", "").replace("\\rm", "");
        Some(plain.chars().filter(|c| !c.is_whitespace() && !matches!(c, '{' | '}' | '\\')).collect())
    }
}

/// True if the letter `a` is an article before a word, and not a variable before an operator.
fn starts_a_phrase(rest: &str) -> bool {
    let word = rest.get(1..).and_then(|after| after.strip_prefix(' ')).unwrap_or("");
    let length = word.bytes().take_while(u8::is_ascii_alphabetic).count();
    length >= 4 && words::function(&word[..length]).is_none()
}
