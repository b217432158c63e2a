//! The vocabulary of readings: what a node of a tree can be. Plain data.

use num_rational::BigRational;

/// A node's place in its tree(super::Tree).
pub type Id = u32;

/// A number as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Literal {
    /// Its exact value.
    pub value: BigRational,
    /// Digits after the decimal point, less the exponent of a scientific notation; `None` for an integer or a mixed number.
    pub decimals: Option<i32>,
    /// Significant digits of a decimal.
    pub significant: u32,
}

/// Numbers with names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Constant {
    /// 3.14159...
    Pi,
    /// 2.71828...
    E,
    /// The imaginary unit.
    I,
    /// Unsigned infinity; its negation is the other one.
    Infinity,
}

/// Functions of one argument that are understood, not just named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    Sin,
    Cos,
    Tan,
    Cot,
    Sec,
    Csc,
    Arcsin,
    Arccos,
    Arctan,
    Arccot,
    Arcsec,
    Arccsc,
    Sinh,
    Cosh,
    Tanh,
    Arsinh,
    Arcosh,
    Artanh,
    Exp,
    Ln,
    /// Without a written base: natural or decimal, whichever makes the two sides equal, as conventions differ.
    Log,
    Sqrt,
    Abs,
    Floor,
    Ceil,
    Factorial,
}

/// Functions of two arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function2 {
    /// Index, radicand.
    Root,
    /// Base, argument.
    LogBase,
    Binomial,
    Modulo,
    Gcd,
    Lcm,
    Max,
    Min,
}

/// How a relation relates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Approximately,
    In,
    /// `\equiv`, `\sim`, arrows and the like: compared by name only.
    Other(u32),
}

/// What encloses a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bracket {
    /// Nothing, or TeX's invisible group.
    Bare,
    Round,
    Square,
    Curly,
    Angle,
}

/// What stands between the members of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Separator {
    Comma,
    And,
    Or,
}

/// Operations on sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetOperation {
    Union,
    Intersection,
    Difference,
}

/// One node; lists, names, texts and literals are indices into the tree's tables.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Node {
    Number(u32),
    Symbol(u32),
    Constant(Constant),
    Negate(Id),
    Add(Id, Id),
    Subtract(Id, Id),
    Multiply(Id, Id),
    Divide(Id, Id),
    /// A ratio `a:b`.
    Ratio(Id, Id),
    Power(Id, Id),
    /// `left ± right`; the flag is set for `∓`.
    PlusMinus(Id, Id, bool),
    Call(Function, Id),
    Call2(Function2, Id, Id),
    /// A function known by name only, or an operator with bounds; its arguments are a list.
    Opaque(u32, u32),
    Percent(Id),
    Degree(Id),
    Sequence {
        open: Bracket,
        close: Bracket,
        separator: Separator,
        list: u32,
    },
    /// A chain `a < b = c`: the operands are a list, the relations stand in `relations` under the same index.
    Chain(u32),
    Matrix {
        columns: u32,
        list: u32,
    },
    SetOperation(SetOperation, Id, Id),
    /// `{ head | condition }`.
    Builder(Id, Id),
    /// A set of numbers, `\mathbb{R}`, by its letter.
    Numbers(char),
    EmptySet,
    /// Lower-case words.
    Text(u32),
    /// A numeral with a base: digits as text, and the base.
    Based(u32, u32),
    /// A time of day, in seconds after midnight.
    Clock(u32),
    /// An answer with words around it: what stands before (or `NONE`), the answer, what stands after (or `NONE`).
    Worded(u32, Id, u32),
}

/// No text.
pub const NONE: u32 = u32::MAX;
