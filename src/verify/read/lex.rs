//! Converts text to tokens. Knows the spellings that answers use (LaTeX, computer algebra, Unicode), but not their meaning. Works in one
//! pass, without backtracking beyond the current word.

use crate::verify::fuel::Fuel;
use crate::verify::read::command;
use crate::verify::read::digits;
use crate::verify::read::token::{Command, Delimiter, Kind, Token, Tokens};
use crate::verify::tree::{Constant, Relation, Tree};
use crate::verify::words;

/// How to read commas between digits, as in `1,234`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commas {
    /// Outside brackets, a comma before exactly three digits is a thousands separator.
    Group,
    /// Every comma separates.
    Separate,
}

/// The state of the lexer. Methods and functions that read text with it return `None` if the text cannot be read.
pub struct Lexer<'a> {
    /// The text being read.
    pub source: &'a str,
    /// Offset of the next byte in `source`.
    pub at: usize,
    /// The tokens read.
    pub tokens: Tokens,
    /// Stores the names that tokens refer to.
    pub tree: &'a mut Tree,
    /// How to read commas between digits.
    pub commas: Commas,
    /// Number of open brackets around the current position, not counting invisible groups.
    pub depth: usize,
    /// True inside an environment, where `\\\\` ends a row.
    pub in_rows: bool,
    /// Number of bytes scanned to find the ends of groups.
    pub scanned: usize,
    /// True if the next number is a whole argument, because it follows `√` or a plain `sqrt`.
    pub whole_argument: bool,
    /// Number of tokens up to and including the last circled number.
    pub circled_end: usize,
    /// True inside `**bold**` Markdown.
    bold: bool,
    spaced: bool,
    /// Words that are not yet a token.
    pub words: String,
    words_spaced: bool,
}

/// Returns the tokens of `source`. `None` if some text cannot be read or the budget runs out.
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
        circled_end: 0,
        bold: false,
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
    /// Returns the text that is not read yet.
    pub fn rest(&self) -> &'a str {
        self.source.get(self.at..).unwrap_or("")
    }

    /// Adds a token.
    pub fn push(&mut self, kind: Kind) {
        self.flush_words();
        let spaced = std::mem::take(&mut self.spaced);
        self.tokens.list.push(Token { kind, spaced });
    }

    /// Returns the last token, or `None` if words came after it.
    pub fn last(&self) -> Option<Kind> {
        if self.words.is_empty() { self.tokens.list.last().map(|token| token.kind) } else { None }
    }

    /// Marks the next token as preceded by white space.
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

    /// Adds one word of text. Connectives, degrees and percent become separate tokens.
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
            '\\' => command::command(self),
            '0'..='9' => digits::number(self),
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => digits::number(self),
            'a'..='z' | 'A'..='Z' => self.letters(),
            _ => {
                self.at += c.len_utf8();
                self.character(c)
            }
        }
    }

    /// Reads a character that is not a letter, a digit or a backslash. It is already consumed.
    pub fn character(&mut self, c: char) -> Option<()> {
        if c.is_whitespace() || c == '~' {
            self.spaced = true;
            return Some(());
        }
        self.sign(c)
    }

    /// Reads a character that is not a letter, a digit, a backslash or white space. It is already consumed.
    fn sign(&mut self, c: char) -> Option<()> {
        let kind = match c {
            '+' if self.eat("-") => Kind::PlusMinus(false),
            '+' => Kind::Plus,
            '-' | '\u{2212}' | '\u{2013}' | '\u{2010}' | '\u{2011}' => Kind::Minus,
            '*' if self.eat("*") => return self.two_stars(),
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
            '{' if self.eat(":}") => Kind::Colon,
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
            '…' | '⋯' => Kind::Symbol(self.tree.name("…")),
            '$' | '€' | '£' | '¥' | '"' | '“' | '”' | '`' | '\u{200b}' | '\u{feff}' => return Some(()),
            '.' if self.eat("..") => Kind::Symbol(self.tree.name("…")),
            '²' | '³' | '¹' | '⁰' | '⁴'..='⁹' | '⁻' => return self.unicode_power(c),
            _ => {
                if let Some(number) = digits::circled(c) {
                    return digits::push_circled(self, number);
                }
                let name = words::greek(c)?;
                return self.symbol(name);
            }
        };
        self.push(kind);
        Some(())
    }

    /// Reads `**`: a power, or the start or end of `**bold**` Markdown, which starts only where no operand precedes it.
    fn two_stars(&mut self) -> Option<()> {
        let no_operand = matches!(self.last(), None | Some(Kind::Relation(_) | Kind::Comma | Kind::Colon | Kind::And | Kind::Or));
        if self.bold || no_operand && self.rest().contains("**") {
            self.bold = !self.bold;
            self.space();
        } else {
            self.push(Kind::Caret);
        }
        Some(())
    }

    /// Consumes `text` if it comes next. Returns true if it did.
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

    /// Adds an opening bracket that is already consumed.
    pub fn open(&mut self, c: char) -> Option<()> {
        self.depth += usize::from(c != '{');
        self.push(Kind::Open(delimiter(c)));
        Some(())
    }

    /// Adds a closing bracket that is already consumed.
    pub fn close(&mut self, c: char) -> Option<()> {
        self.depth = self.depth.saturating_sub(usize::from(c != '}'));
        self.push(Kind::Close(delimiter(c)));
        Some(())
    }

    /// Reads `^`, including the superscripts that are not exponents: degrees and ordinals.
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

    /// Reads superscript digits.
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
        digits::push_digits(self, &digits)
    }
}

/// Returns the bracket that a character stands for.
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

/// Returns the digit that a Unicode subscript stands for.
pub fn subscript_digit(c: char) -> Option<char> {
    matches!(c, '₀'..='₉').then(|| char::from_u32(u32::from(c) - 0x2080 + 0x30)).flatten()
}
