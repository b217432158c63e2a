//! What the reader has open: brackets, arguments of commands, cells of matrices. Plain data; the reader decides.

use crate::verify::read::token::{Command, Delimiter, Environment};
use crate::verify::tree::{Bracket, Id, NONE, Relation, Separator};

/// What a frame reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// The whole answer.
    Root,
    /// A bracketed group; the flag is set where it stands right after a function, whose whole argument it is.
    Group(Delimiter, bool),
    /// Between bars.
    Bars,
    /// Rows of an environment.
    Rows(Environment),
    /// Arguments of a command: the command, the arguments so far, how many. The flag marks plain notation.
    Command(Command, [Id; 2], u8),
    /// An exponent: its base, and whether a minus sign came before it.
    Power(Id, bool),
    /// The power of the function just read, and whether a minus sign came before it.
    FunctionPower(bool),
    /// The base of the logarithm just read.
    FunctionBase,
}

impl Role {
    /// Whether the frame takes one argument rather than a whole expression.
    pub fn wants_argument(self) -> bool {
        matches!(self, Role::Command(..) | Role::Power(..) | Role::FunctionPower(_) | Role::FunctionBase)
    }
}

/// One open frame.
#[derive(Debug)]
pub struct Frame {
    pub role: Role,
    /// Where this frame's part of the shared operand stack begins.
    pub values_base: usize,
    /// Where its part of the operator stack begins.
    pub operators_base: usize,
    /// Left operands of the relations of the current item.
    pub chain: Vec<Id>,
    pub relations: Vec<Relation>,
    /// Finished items of the current row.
    pub items: Vec<Id>,
    /// Finished rows.
    pub rows: Vec<Vec<Id>>,
    pub separator: Separator,
    /// The head of a set-builder.
    pub head: Option<Id>,
    /// Words before and after the current item.
    pub prefix: u32,
    pub suffix: u32,
    /// Whether an operand must come next.
    pub expects: bool,
}

impl Frame {
    /// A new frame above stacks of the given heights.
    pub fn new(role: Role, values_base: usize, operators_base: usize) -> Self {
        Frame {
            role,
            values_base,
            operators_base,
            chain: Vec::new(),
            relations: Vec::new(),
            items: Vec::new(),
            rows: Vec::new(),
            separator: Separator::Comma,
            head: None,
            prefix: NONE,
            suffix: NONE,
            expects: true,
        }
    }
}

/// The bracket of a sequence in such delimiters.
pub fn bracket(delimiter: Delimiter) -> Bracket {
    match delimiter {
        Delimiter::Group => Bracket::Bare,
        Delimiter::Round => Bracket::Round,
        Delimiter::Square => Bracket::Square,
        Delimiter::Curly => Bracket::Curly,
        Delimiter::Angle => Bracket::Angle,
        // A comma inside of ⌊ ⌋ is no list of anything.
        Delimiter::Floor | Delimiter::Ceil => Bracket::Bare,
    }
}
