//! The node types of a parsed answer. Plain data.

use num_rational::BigRational;

/// A node's index in its [`Tree`](super::Tree).
pub type Id = u32;

/// A number as written.
#[derive(Clone, Debug, PartialEq)]
pub struct Literal {
    /// Its exact value.
    pub value: BigRational,
    /// Digits after the decimal point, minus the exponent of scientific notation. `None` for an integer, a mixed number or a repeating
    /// decimal.
    pub decimals: Option<i32>,
    /// Number of significant digits of a decimal.
    pub significant: u32,
}

/// Named constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Constant {
    /// 3.14159...
    Pi,
    /// 2.71828...
    E,
    /// The imaginary unit.
    I,
    /// Positive infinity.
    Infinity,
}

/// Functions of one argument that can be evaluated.
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
    /// Logarithm without a written base: natural or decimal, whichever makes the two sides equal, because conventions differ.
    Log,
    Sqrt,
    Abs,
    Floor,
    Ceil,
    Factorial,
}

/// Functions of two arguments that can be evaluated.
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

/// A relation between two sides.
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
    /// `\equiv`, `\sim`, arrows and similar relations, compared by name only.
    Other(u32),
}

/// The brackets of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bracket {
    /// None, or the invisible group of TeX.
    Bare,
    Round,
    Square,
    Curly,
    Angle,
}

/// The separator between the members of a sequence.
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

/// One node. Lists, names, texts and literals are indices into the tables of the tree.
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
    /// A function known only by name, or an operator with bounds: its name and the list of its arguments.
    Opaque(u32, u32),
    Percent(Id),
    Degree(Id),
    Sequence {
        open: Bracket,
        close: Bracket,
        separator: Separator,
        list: u32,
    },
    /// A chain `a < b = c`: a list of operands, with the relations under the same index in `relations`.
    Chain(u32),
    Matrix {
        columns: u32,
        list: u32,
    },
    SetOperation(SetOperation, Id, Id),
    /// `{ head | condition }`.
    Builder(Id, Id),
    /// A set of numbers, such as `\mathbb{R}`, by its letter.
    Numbers(char),
    EmptySet,
    /// Lower-case words.
    Text(u32),
    /// A numeral with a base: digits as text, and the base.
    Based(u32, u32),
    /// A time of day, in seconds after midnight.
    Clock(u32),
    /// A value with words around it: the words before (or `NONE`), the value, and the words after (or `NONE`).
    Worded(u32, Id, u32),
}

/// The index of a missing text.
pub const NONE: u32 = u32::MAX;
