//! The parser's rules for words before, between and after operands, and for the tokens allowed after them.

use crate::verify::read::Parser;
use crate::verify::read::token::{Delimiter, Kind};
use crate::verify::tree::{NONE, Node, Relation};

/// Replaces the rest of a sentence about a value. An answer with it matches only a gold answer with the same words.
pub const STATEMENT: &str = "…";

impl Parser<'_> {
    /// Reads words before, inside or after an operand.
    pub fn words(&mut self, words: u32) -> Option<()> {
        let ends = match self.peek().map(|token| token.kind) {
            None => true,
            Some(kind) => matches!(
                kind,
                Kind::Comma | Kind::And | Kind::Or | Kind::Semicolon | Kind::Close(_) | Kind::Relation(_) | Kind::NewLine | Kind::Ampersand
            ),
        };
        let (values, operators) = (self.values.len(), self.operators.len());
        let frame = self.frame()?;
        if !frame.expects {
            frame.suffix = words;
        } else if values != frame.values_base || operators != frame.operators_base {
            return None;
        } else if ends && !frame.chain.is_empty() {
            let node = self.tree.push(Node::Text(words))?;
            return self.deliver(node);
        } else if frame.prefix == NONE && frame.chain.is_empty() {
            frame.prefix = words;
        } else {
            return None;
        }
        Some(())
    }

    /// Handles a token after words that follow an operand. Returns `Some(false)` if it consumed the token, as more words or the power of a
    /// unit; `Some(true)` if the token ends the item and is left to the caller; `None` for anything else.
    pub fn after_words(&mut self, kind: Kind) -> Option<bool> {
        let suffix = self.frame()?.suffix;
        let addition = match kind {
            Kind::Text(words) => format!(" {}", self.tree.name_of(words)),
            Kind::Slash => "/".to_owned(),
            Kind::Symbol(name) if self.tree.name_of(suffix).ends_with('/') => self.tree.name_of(name).to_owned(),
            Kind::Symbol(_) | Kind::Comma | Kind::And if self.is_statement(suffix) => {
                self.at = self.tokens.list.len();
                format!(" {STATEMENT}")
            }
            // "for some integer n", "where k ∈ ℤ": the range of a parameter.
            Kind::Symbol(name) if self.quantifies(suffix) => format!(" {}", self.tree.name_of(name)),
            Kind::Relation(Relation::In) if self.quantifies(suffix) => " in".to_owned(),
            Kind::Numbers(letter) if self.quantifies(suffix) => format!(" {letter}"),
            Kind::Caret => {
                let mut power = String::from("^");
                while let Some(next) = self.peek() {
                    match next.kind {
                        Kind::Number(digits) => power.push_str(self.tokens.digits.get(digits.start as usize..digits.end as usize)?),
                        Kind::Minus => power.push('-'),
                        Kind::Open(Delimiter::Group) => {}
                        Kind::Close(Delimiter::Group) if power.len() > 1 && self.group_was_opened_here() => {}
                        _ => break,
                    }
                    self.at += 1;
                }
                power
            }
            Kind::Comma
            | Kind::And
            | Kind::Or
            | Kind::Semicolon
            | Kind::NewLine
            | Kind::Ampersand
            | Kind::Close(_)
            | Kind::End(_)
            | Kind::Relation(_) => return Some(true),
            _ => return None,
        };
        let joined = format!("{}{addition}", self.tree.name_of(suffix));
        let name = self.tree.name(&joined);
        self.frame()?.suffix = name;
        Some(false)
    }

    /// True if the rest of the answer is a sentence about its value, as in `R = 1 is the condition for collinearity of A, B and C`: letters
    /// and words only, nothing that could be a second value.
    fn is_statement(&self, words: u32) -> bool {
        let prose = |kind| matches!(kind, Kind::Symbol(_) | Kind::Subscript(_) | Kind::Text(_) | Kind::Comma | Kind::And);
        let rest = self.tokens.list.get(self.at..).unwrap_or(&[]);
        self.frames.len() == 1 && self.tree.name_of(words).starts_with("is ") && rest.iter().all(|token| prose(token.kind))
    }

    /// True if words introduce the range of a parameter.
    fn quantifies(&self, words: u32) -> bool {
        let words = self.tree.name_of(words);
        words.split(' ').any(|word| matches!(word, "where" | "for" | "with" | "integer"))
    }

    /// True if a group opened after the last caret, so that the next closing brace ends the exponent.
    fn group_was_opened_here(&self) -> bool {
        let read = self.tokens.list.get(..self.at).unwrap_or(&[]);
        read.iter().rev().take_while(|token| token.kind != Kind::Caret).any(|token| token.kind == Kind::Open(Delimiter::Group))
    }
}
