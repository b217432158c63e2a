//! Text to tokens. It owns every spelling that answers use (LaTeX, computer algebra, Unicode) and nothing about what an answer means. One
//! pass, no backtracking further than the current word.

use super::fuel::Fuel;
use super::lex_command;
use super::lex_number;
use super::token::{Command, Delimiter, Kind, Token, Tokens};
use super::tree::{Constant, Relation, Tree};
use super::words;

/// Names longer than this are nobody's variable.
const MAX_NAME: usize = 80;

/// How commas between digits are to be read: `1,234` is one number or two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commas {
    /// Three digits after a comma belong to the number before, outside of brackets.
    Group,
    /// Every comma separates.
    Separate,
}

/// The state of one pass.
pub struct Lexer<'a> {
    pub source: &'a str,
    /// The next byte.
    pub at: usize,
    pub tokens: Tokens,
    pub tree: &'a mut Tree,
    pub commas: Commas,
    /// Open brackets around the current place, invisible groups not counted.
    pub depth: usize,
    /// Inside of an environment, where `\\\\` ends a row.
    pub in_rows: bool,
    /// Bytes looked at to find the ends of groups.
    pub scanned: usize,
    /// The next number is a whole argument, in plain notation.
    pub whole_argument: bool,
    spaced: bool,
    /// Words not yet turned into a text token.
    words: String,
    words_spaced: bool,
}

/// The tokens of `source`; `None` where some character has no reading or the budget ends.
pub fn tokens(source: &str, commas: Commas, tree: &mut Tree, fuel: &mut Fuel) -> Option<Tokens> {
    let mut lexer = Lexer {
        source,
        at: 0,
        tokens: Tokens::default(),
        tree,
        commas,
        depth: 0,
        in_rows: false,
        scanned: 0,
        whole_argument: false,
        spaced: false,
        words: String::new(),
        words_spaced: false,
    };
    while lexer.at < source.len() {
        fuel.spend(8).ok()?;
        lexer.step()?;
    }
    lexer.flush_words();
    Some(lexer.tokens)
}

impl<'a> Lexer<'a> {
    /// What is left to read.
    pub fn rest(&self) -> &'a str {
        self.source.get(self.at..).unwrap_or("")
    }

    /// Appends a token.
    pub fn push(&mut self, kind: Kind) {
        self.flush_words();
        let spaced = std::mem::take(&mut self.spaced);
        self.tokens.list.push(Token { kind, spaced });
    }

    /// The last token, unless words came after it.
    pub fn last(&self) -> Option<Kind> {
        if self.words.is_empty() { self.tokens.list.last().map(|token| token.kind) } else { None }
    }

    /// White space stands here.
    pub fn space(&mut self) {
        self.spaced = true;
    }

    fn flush_words(&mut self) {
        if !self.words.is_empty() {
            let name = self.tree.name(&self.words);
            self.words.clear();
            self.tokens.list.push(Token { kind: Kind::Text(name), spaced: self.words_spaced });
        }
    }

    /// One word of text; connectives and units of angle and share become tokens of their own.
    pub fn word(&mut self, word: &str) {
        match word {
            "and" => self.push(Kind::And),
            "or" => self.push(Kind::Or),
            "percent" | "pct" => self.push(Kind::Percent),
            "degree" | "degrees" => self.push(Kind::Degree),
            _ => {
                if self.words.is_empty() {
                    self.words_spaced = std::mem::take(&mut self.spaced);
                } else {
                    self.words.push(' ');
                }
                self.words.push_str(word);
            }
        }
    }

    fn step(&mut self) -> Option<()> {
        let rest = self.rest();
        let c = rest.chars().next()?;
        match c {
            '\\' => lex_command::command(self),
            '0'..='9' => lex_number::number(self),
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => lex_number::number(self),
            'a'..='z' | 'A'..='Z' => self.letters(),
            _ => {
                self.at += c.len_utf8();
                if c.is_whitespace() || c == '~' {
                    self.spaced = true;
                    return Some(());
                }
                self.sign(c)
            }
        }
    }

    /// One character that is neither letter, digit nor backslash; it is already consumed.
    fn sign(&mut self, c: char) -> Option<()> {
        let kind = match c {
            '+' if self.eat("-") => Kind::PlusMinus(false),
            '+' => Kind::Plus,
            '-' | '\u{2212}' | '\u{2013}' | '\u{2010}' | '\u{2011}' => Kind::Minus,
            '*' if self.eat("*") => Kind::Caret,
            '*' | '×' | '·' | '⋅' | '∙' => Kind::Times,
            '/' | '÷' | '∕' => Kind::Slash,
            '±' => Kind::PlusMinus(false),
            '∓' => Kind::PlusMinus(true),
            '^' => return self.caret(),
            '_' if matches!(self.last(), Some(Kind::Function(_))) => Kind::Underscore,
            '_' => {
                let subscript = self.subscript()?;
                Kind::Subscript(self.tree.name(&subscript))
            }
            '!' if self.eat("=") => Kind::Relation(Relation::NotEqual),
            '!' => Kind::Bang,
            '%' => Kind::Percent,
            '°' | 'º' => Kind::Degree,
            ',' => Kind::Comma,
            ';' => Kind::Semicolon,
            ':' if self.eat("=") => Kind::Relation(Relation::Equal),
            ':' | '∶' => Kind::Colon,
            '=' if self.eat("=") => Kind::Relation(Relation::Equal),
            '=' => Kind::Relation(Relation::Equal),
            '<' if self.eat("sup>") => {
                self.push(Kind::Caret);
                Kind::Open(Delimiter::Group)
            }
            '<' if self.eat("/sup>") => Kind::Close(Delimiter::Group),
            '<' if self.eat("=") => Kind::Relation(Relation::LessEqual),
            '<' => Kind::Relation(Relation::Less),
            '>' if self.eat("=") => Kind::Relation(Relation::GreaterEqual),
            '>' => Kind::Relation(Relation::Greater),
            '≤' | '⩽' | '≦' => Kind::Relation(Relation::LessEqual),
            '≥' | '⩾' | '≧' => Kind::Relation(Relation::GreaterEqual),
            '≠' => Kind::Relation(Relation::NotEqual),
            '≈' => Kind::Relation(Relation::Approximately),
            '∈' => Kind::Relation(Relation::In),
            '(' | '[' | '{' => return self.open(c),
            ')' | ']' | '}' => return self.close(c),
            '⟨' | '〈' => Kind::Open(Delimiter::Angle),
            '⟩' | '〉' => Kind::Close(Delimiter::Angle),
            '⌊' => Kind::Open(Delimiter::Floor),
            '⌋' => Kind::Close(Delimiter::Floor),
            '⌈' => Kind::Open(Delimiter::Ceil),
            '⌉' => Kind::Close(Delimiter::Ceil),
            '|' => Kind::Bar,
            '∪' => Kind::Union,
            '∩' => Kind::Intersection,
            '∖' => Kind::Difference,
            '&' => Kind::Ampersand,
            '∞' => Kind::Constant(Constant::Infinity),
            'π' => Kind::Constant(Constant::Pi),
            '√' => {
                self.whole_argument = true;
                Kind::Command(Command::Root)
            }
            '∀' => Kind::Symbol(self.tree.name("forall")),
            'ℝ' => Kind::Numbers('R'),
            'ℤ' => Kind::Numbers('Z'),
            'ℕ' => Kind::Numbers('N'),
            'ℚ' => Kind::Numbers('Q'),
            'ℂ' => Kind::Numbers('C'),
            '∅' | 'Ø' => Kind::EmptySet,
            '①'..='⑳' => {
                // Numbered statements, side by side or with commas.
                if matches!(self.last(), Some(Kind::Symbol(name)) if self.tree.name_of(name).starts_with(|c| ('①'..='⑳').contains(&c))) {
                    self.push(Kind::Comma);
                }
                Kind::Symbol(self.tree.name(c.encode_utf8(&mut [0; 4])))
            }
            '…' | '⋯' => Kind::Symbol(self.tree.name("…")),
            '$' | '€' | '£' | '¥' | '"' | '“' | '”' | '`' | '\u{200b}' | '\u{feff}' => return Some(()),
            '.' if self.eat("..") => Kind::Symbol(self.tree.name("…")),
            '²' | '³' | '¹' | '⁰' | '⁴'..='⁹' | '⁻' => return self.unicode_power(c),
            _ => {
                let name = words::greek(c)?;
                return self.symbol(name);
            }
        };
        self.push(kind);
        Some(())
    }

    /// Consumes `text` if it comes next.
    pub fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    /// Consumes white space.
    pub fn eat_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// An opening bracket, already consumed.
    pub fn open(&mut self, c: char) -> Option<()> {
        self.depth += usize::from(c != '{');
        self.push(Kind::Open(delimiter(c)));
        Some(())
    }

    /// A closing bracket, already consumed.
    pub fn close(&mut self, c: char) -> Option<()> {
        self.depth = self.depth.saturating_sub(usize::from(c != '}'));
        self.push(Kind::Close(delimiter(c)));
        Some(())
    }

    /// `^` and the exponents that are no exponents: degrees, ordinals.
    fn caret(&mut self) -> Option<()> {
        let rest = self.rest();
        let length = rest.find(|c: char| !matches!(c, '{' | ' ' | '}' | '\\') && !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let length = rest[..length].find('}').map_or(length, |end| {
            let ends = rest[end..length].bytes().take_while(|b| matches!(b, b'}' | b' ')).count();
            end + ends
        });
        let word = rest[..length].trim_start_matches(['{', ' ']);
        for name in ["\\circ", "\\degree", "\\textcirc", "circ"] {
            if let Some(after) = word.strip_prefix(name) {
                if after.starts_with(|c: char| c.is_ascii_alphabetic()) {
                    continue;
                }
                let opened = rest[..length - word.len()].matches('{').count();
                self.at += length - after.len();
                self.eat_closing(opened);
                self.push(Kind::Degree);
                return Some(());
            }
        }
        let bare: String = word.chars().filter(|c| c.is_ascii_alphabetic()).collect();
        let bare = bare.trim_start_matches("mathrm").trim_start_matches("textrm").trim_start_matches("text");
        if matches!(bare, "th" | "st" | "nd" | "rd") && matches!(self.last(), Some(Kind::Number(_))) {
            let opened = rest[..length].matches('{').count();
            let closed = rest[..length].matches('}').count();
            self.at += length;
            self.eat_closing(opened.saturating_sub(closed));
            self.word("th");
            return Some(());
        }
        self.push(Kind::Caret);
        Some(())
    }

    fn eat_closing(&mut self, count: usize) {
        for _ in 0..count {
            self.eat_space();
            self.eat("}");
        }
    }

    /// Superscript digits.
    fn unicode_power(&mut self, first: char) -> Option<()> {
        let mut digits = String::from(superscript(first)?);
        while let Some(c) = self.rest().chars().next().filter(|&c| superscript(c).is_some()) {
            digits.push(superscript(c)?);
            self.at += c.len_utf8();
        }
        self.push(Kind::Caret);
        let digits = match digits.strip_prefix('-') {
            Some(rest) => {
                self.push(Kind::Minus);
                rest.to_owned()
            }
            None => digits,
        };
        lex_number::push_digits(self, &digits)
    }

    /// A run of plain letters: a known name, a unit, a few variables, or a word.
    fn letters(&mut self) -> Option<()> {
        let rest = self.rest();
        let length = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let run = &rest[..length];
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
        if lex_command::named(self, run) {
            return Some(());
        }
        if words::unit(&lower).is_some() || words::is_filler(&lower) && run != run.to_ascii_uppercase() || matches!(lower.as_str(), "a" | "and" | "or") || after_words {
            self.word(&lower);
            return Some(());
        }
        if let Some(value) = words::number_word(&lower) {
            return lex_number::push_digits(self, &value.to_string());
        }
        if length <= 3 || run.bytes().all(|b| b.is_ascii_uppercase()) && length <= 4 {
            return run.char_indices().try_for_each(|(at, _)| {
                // Only the last letter can carry a subscript that follows.
                let end = self.at;
                self.at = if at + 1 == length { end } else { self.source.len() };
                let done = self.letter(&run[at..at + 1]);
                self.at = if at + 1 == length { self.at } else { end };
                done
            });
        }
        if self.compound(run) {
            return Some(());
        }
        self.word(&lower);
        Some(())
    }

    /// `xpi`, `sqrtx`, `pir`: a known name with a few letters before or after it.
    fn compound(&mut self, run: &str) -> bool {
        const NAMES: [&str; 8] = ["sqrt", "pi", "sin", "cos", "tan", "log", "ln", "exp"];
        for name in NAMES {
            let (before, after) = match (run.strip_prefix(name), run.strip_suffix(name)) {
                (Some(after), _) if after.len() <= 2 => ("", after),
                (_, Some(before)) if before.len() <= 2 => (before, ""),
                _ => continue,
            };
            // The subscript reader looks at what follows; inside of a run nothing does.
            let end = std::mem::replace(&mut self.at, self.source.len());
            for at in 0..before.len() {
                let _ = self.letter(&before[at..at + 1]);
            }
            lex_command::named(self, name);
            for at in 0..after.len() {
                let _ = self.letter(&after[at..at + 1]);
            }
            self.at = end;
            return true;
        }
        false
    }

    /// A single letter.
    pub fn letter(&mut self, letter: &str) -> Option<()> {
        let next = self.rest().trim_start();
        match letter {
            "e" if !next.starts_with('_') => self.push(Kind::Constant(Constant::E)),
            "i" | "I" if !next.starts_with('_') => self.push(Kind::Constant(Constant::I)),
            "U" if matches!(self.last(), Some(Kind::Close(_))) && next.starts_with(['(', '[', '{', '\\']) => self.push(Kind::Union),
            _ => return self.symbol(letter),
        }
        Some(())
    }

    /// A variable, with the subscript and primes that follow.
    pub fn symbol(&mut self, name: &str) -> Option<()> {
        let rest = self.rest();
        if !rest.trim_start().starts_with(['_', '\'', '’', '^', '₀', '₁', '₂', '₃', '₄', '₅', '₆', '₇', '₈', '₉']) {
            let name = self.tree.name(name);
            self.push(Kind::Symbol(name));
            return Some(());
        }
        let mut full = name.to_owned();
        loop {
            let before = self.at;
            self.eat_space();
            if self.eat("_") {
                let subscript = self.subscript()?;
                full.push('_');
                full.push_str(&subscript);
            } else if self.eat("'") || self.eat("’") || self.eat("^{\\prime}") || self.eat("^\\prime") || self.eat("^{'}") {
                full.push('\'');
            } else if self.eat("^*") || self.eat("^{*}") {
                full.push('*');
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
        if full.len() > MAX_NAME {
            return None;
        }
        let name = self.tree.name(&full);
        self.push(Kind::Symbol(name));
        Some(())
    }

    /// The text of a subscript: a group, a command, a run of digits or one letter.
    pub fn subscript(&mut self) -> Option<String> {
        self.eat_space();
        let rest = self.rest();
        let raw = if rest.starts_with('{') {
            lex_command::group(self)?
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

/// Whether an article stands before a word, rather than a variable before an operator.
fn starts_a_phrase(rest: &str) -> bool {
    let word = rest.get(1..).and_then(|after| after.strip_prefix(' ')).unwrap_or("");
    let length = word.bytes().take_while(u8::is_ascii_alphabetic).count();
    length >= 4 && words::function(&word[..length]).is_none()
}

/// The bracket that a character is.
fn delimiter(c: char) -> Delimiter {
    match c {
        '(' | ')' => Delimiter::Round,
        '[' | ']' => Delimiter::Square,
        _ => Delimiter::Group,
    }
}

fn superscript(c: char) -> Option<char> {
    Some(match c {
        '⁰' => '0',
        '¹' => '1',
        '²' => '2',
        '³' => '3',
        '⁻' => '-',
        '⁴'..='⁹' => char::from_u32(u32::from(c) - 0x2070 + 0x30)?,
        _ => return None,
    })
}

/// The digit that a Unicode subscript is.
pub fn subscript_digit(c: char) -> Option<char> {
    matches!(c, '₀'..='₉').then(|| char::from_u32(u32::from(c) - 0x2080 + 0x30)).flatten()
}
