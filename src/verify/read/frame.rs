//! The open constructs of the parser: brackets, arguments of commands, cells of matrices. Plain data; the parser makes the decisions.

use crate::verify::read::token::{Command, Delimiter, Environment};
use crate::verify::tree::{Bracket, Id, NONE, Relation, Separator};

/// The construct that a frame reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// The whole answer.
    Root,
    /// A bracketed group. The flag is set if it directly follows a function, so that it is its whole argument.
    Group(Delimiter, bool),
    /// The content between vertical bars.
    Bars,
    /// The rows of an environment.
    Rows(Environment),
    /// The arguments of a command: the command, the arguments read, and a state with their number in the lower two bits and the flag
    /// `number::MIXED`.
    Command(Command, [Id; 2], u8),
    /// An exponent: its base, and whether a minus sign preceded it.
    Power(Id, bool),
    /// The power of the function just read, and whether a minus sign preceded it.
    FunctionPower(bool),
    /// The base of the logarithm just read.
    FunctionBase,
}

impl Role {
    /// True if the frame reads a single argument instead of a whole expression.
    pub fn wants_argument(self) -> bool {
        matches!(self, Role::Command(..) | Role::Power(..) | Role::FunctionPower(_) | Role::FunctionBase)
    }
}

/// An open construct.
#[derive(Debug)]
pub struct Frame {
    /// The construct that the frame reads.
    pub role: Role,
    /// Start of this frame's part of the shared operand stack.
    pub values_base: usize,
    /// Start of its part of the operator stack.
    pub operators_base: usize,
    /// Left operands of the relations in the current item.
    pub chain: Vec<Id>,
    /// The relations of the current item, one for each operand in `chain`.
    pub relations: Vec<Relation>,
    /// Finished items of the current row.
    pub items: Vec<Id>,
    /// Finished rows.
    pub rows: Vec<Vec<Id>>,
    /// The separator between the items.
    pub separator: Separator,
    /// The head of a set-builder, once its bar has been read.
    pub head: Option<Id>,
    /// Words before the current item; `NONE` if none.
    pub prefix: u32,
    /// Words after the current item; `NONE` if none.
    pub suffix: u32,
    /// True if an operand must come next.
    pub expects: bool,
}

impl Frame {
    /// Creates a frame on top of stacks with the given heights.
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

/// Returns the bracket of a sequence in these delimiters.
pub fn bracket(delimiter: Delimiter) -> Bracket {
    match delimiter {
        Delimiter::Group => Bracket::Bare,
        Delimiter::Round => Bracket::Round,
        Delimiter::Square => Bracket::Square,
        Delimiter::Curly => Bracket::Curly,
        Delimiter::Angle => Bracket::Angle,
        // These are functions, not brackets of a sequence.
        Delimiter::Floor | Delimiter::Ceil => Bracket::Bare,
    }
}
