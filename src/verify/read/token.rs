//! The tokens of an answer, in LaTeX or plain notation alike.

use crate::verify::tree::{Constant, Function, Function2, Relation};

/// Brackets as tokens; TeX's own group is one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delimiter {
    /// `{ }`, invisible.
    Group,
    Round,
    Square,
    /// `\{ \}`, a set.
    Curly,
    Angle,
    Floor,
    Ceil,
}

/// Commands that take arguments in groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Fraction,
    Root,
    Binomial,
}

/// What environments mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    Matrix,
    /// Lines that hold together: a system of equations, aligned steps.
    Lines,
    /// Anything else, a determinant among them; compared as text.
    Other,
}

/// A token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Digits, in [`Tokens::digits`].
    Number(Digits),
    Based(u32, u32),
    /// A time of day in seconds.
    Clock(u32),
    Symbol(u32),
    Constant(Constant),
    Function(Function),
    Function2(Function2),
    /// An operator with bounds, the bounds being part of its name.
    Big(u32, bool),
    Command(Command),
    Open(Delimiter),
    Close(Delimiter),
    Bar,
    SuchThat,
    Comma,
    Semicolon,
    And,
    Or,
    Relation(Relation),
    Plus,
    Minus,
    PlusMinus(bool),
    Times,
    Slash,
    Colon,
    Modulo,
    Choose,
    Caret,
    /// The base of a logarithm follows.
    Underscore,
    /// A subscript after a power, `x^2_1`.
    Subscript(u32),
    Bang,
    Percent,
    Degree,
    Union,
    Intersection,
    Difference,
    Ampersand,
    NewLine,
    Begin(Environment),
    End(Environment),
    Numbers(char),
    EmptySet,
    Text(u32),
}

/// A number as written: where its digits are, what follows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digits {
    /// First byte in [`Tokens::digits`].
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
    /// Decimal exponent.
    pub exponent: i32,
    /// How many of the last digits repeat for ever.
    pub repeating: u32,
    /// Written as a command's TeX digit run, so that `\frac12` may take one digit of it.
    pub grouped: bool,
}

/// A token and whether white space stands before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Token {
    pub kind: Kind,
    pub spaced: bool,
}

/// The tokens of one answer.
#[derive(Debug, Default)]
pub struct Tokens {
    pub list: Vec<Token>,
    /// All digits and decimal points, one number after the other.
    pub digits: String,
}
