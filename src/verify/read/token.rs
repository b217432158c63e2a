//! The tokens of an answer. LaTeX and plain notation have the same tokens.

use crate::verify::tree::{Constant, Function, Function2, Relation};

/// Brackets as tokens, including the invisible group of TeX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delimiter {
    /// `{ }`, which groups without being printed.
    Group,
    Round,
    Square,
    /// `\{ \}`, a set.
    Curly,
    Angle,
    Floor,
    Ceil,
}

/// Commands with arguments in groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Fraction,
    Root,
    Binomial,
}

/// Kinds of LaTeX environments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    Matrix,
    /// Lines that are valid together: a system of equations, aligned steps.
    Lines,
    /// Any other environment, including determinants; compared as text.
    Other,
}

/// A token. Names and texts are indices into the tree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Digits, in [`Tokens::digits`].
    Number(Digits),
    /// A numeral with a base: its digits as a name, and the base.
    Based(u32, u32),
    /// A time of day, in seconds after midnight.
    Clock(u32),
    Symbol(u32),
    Constant(Constant),
    Function(Function),
    Function2(Function2),
    /// An operator with bounds; the bounds are part of its name. The flag marks an integral.
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
    /// `±`, or `∓` if the flag is set.
    PlusMinus(bool),
    Times,
    Slash,
    Colon,
    Modulo,
    Choose,
    Caret,
    /// `_` after a function: the base of a logarithm follows.
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
    /// A set of numbers, by its letter.
    Numbers(char),
    EmptySet,
    /// Words, in lower case.
    Text(u32),
}

/// A number as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digits {
    /// Offset of the first byte in [`Tokens::digits`].
    pub start: u32,
    /// Offset after the last byte.
    pub end: u32,
    /// Decimal exponent.
    pub exponent: i32,
    /// Number of trailing digits that repeat forever.
    pub repeating: u32,
    /// True if the digits belong together, as in `1,234`. Otherwise a TeX command takes only the first digit: `\frac12`.
    pub grouped: bool,
}

/// A token of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Token {
    /// What the token is.
    pub kind: Kind,
    /// True if white space precedes it.
    pub spaced: bool,
}

/// The tokens of one answer.
#[derive(Debug, Default)]
pub struct Tokens {
    /// The tokens in order.
    pub list: Vec<Token>,
    /// All digits and decimal points, one number after another.
    pub digits: String,
}
