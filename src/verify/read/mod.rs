//! The parser: converts tokens to a tree by operator precedence, with explicit stacks. This file owns the grammar of answers; `compare`
//! interprets the parts. Parsing is all or nothing: an unexpected token is never skipped, but makes the whole answer fail to parse.

pub mod clock;
mod command;
mod digits;
mod frame;
mod function;
mod items;
mod letters;
pub mod lex;
mod number;
mod operator;
pub mod phrase;
mod token;
mod upright;

use crate::verify::fuel::Fuel;
use crate::verify::read::command::set_operation;
use crate::verify::read::frame::{Frame, Role};
pub use crate::verify::read::lex::Commas;
use crate::verify::read::operator::{Applied, Operator};
use crate::verify::read::token::{Command, Delimiter, Environment, Kind, Token, Tokens};
use crate::verify::tree::{Bracket, Function, Function2, Id, NONE, Node, Relation, Separator, Tree};

/// Maximum nesting depth of brackets and arguments. Real answers have much less.
const MAX_DEPTH: usize = 200;
/// Maximum length of an answer in bytes. Longer ones are compared as text only.
pub const MAX_LENGTH: usize = 20_000;

/// The state of the parser. Its methods return `None` if the answer cannot be parsed or a budget runs out.
pub struct Parser<'a> {
    /// The tree being built.
    pub tree: &'a mut Tree,
    /// The tokens of the answer.
    pub tokens: Tokens,
    /// Index of the next token.
    pub at: usize,
    /// Open brackets and arguments, innermost last.
    pub frames: Vec<Frame>,
    /// Operands that wait for an operator, shared by all frames.
    pub values: Vec<Id>,
    /// Operators that wait for their right operand, shared by all frames.
    pub operators: Vec<Operator>,
}

/// Parses a whole answer into `tree` and returns its root. `None` if it cannot be parsed or a budget runs out.
pub fn read(source: &str, commas: Commas, tree: &mut Tree, fuel: &mut Fuel) -> Option<Id> {
    if source.len() > MAX_LENGTH {
        return None;
    }
    let tokens = lex::tokens(source, commas, tree, fuel)?;
    let mut parser = Parser { tree, tokens, at: 0, frames: vec![Frame::new(Role::Root, 0, 0)], values: Vec::new(), operators: Vec::new() };
    while let Some(token) = parser.peek() {
        fuel.spend(16).ok()?;
        parser.at += 1;
        if parser.frame()?.role.wants_argument() { parser.argument(token)? } else { parser.token(token)? }
    }
    if parser.frames.len() != 1 || parser.tree.overflow {
        return None;
    }
    parser.finish_frame()
}

impl Parser<'_> {
    /// Returns the next token, or `None` at the end.
    pub fn peek(&self) -> Option<Token> {
        self.tokens.list.get(self.at).copied()
    }

    /// Returns the innermost frame.
    pub fn frame(&mut self) -> Option<&mut Frame> {
        self.frames.last_mut()
    }

    /// Opens a frame.
    pub fn open(&mut self, role: Role) -> Option<()> {
        if self.frames.len() >= MAX_DEPTH {
            return None;
        }
        self.frames.push(Frame::new(role, self.values.len(), self.operators.len()));
        Some(())
    }

    /// Handles a token at the start of an argument or an exponent.
    fn argument(&mut self, token: Token) -> Option<()> {
        let role = self.frame()?.role;
        match token.kind {
            Kind::Open(Delimiter::Group) => self.open(Role::Group(Delimiter::Group, false)),
            Kind::Open(Delimiter::Round) if !matches!(role, Role::Command(Command::Fraction | Command::Binomial, ..)) => {
                self.open(Role::Group(Delimiter::Round, false))
            }
            Kind::Open(Delimiter::Round) => self.open(Role::Group(Delimiter::Round, false)),
            Kind::Open(Delimiter::Square) if matches!(role, Role::Command(Command::Root, _, 0)) => {
                self.open(Role::Group(Delimiter::Square, false))
            }
            Kind::Minus | Kind::Plus => {
                let minus = token.kind == Kind::Minus;
                match &mut self.frame()?.role {
                    Role::Power(_, negative) | Role::FunctionPower(negative) => *negative ^= minus,
                    _ => return None,
                }
                Some(())
            }
            Kind::Number(digits) => {
                let single = matches!(role, Role::Command(..) | Role::FunctionBase) && !digits.grouped;
                let node = number::take(self, digits, single)?;
                self.deliver(node)
            }
            Kind::Symbol(name) => {
                let node = self.tree.push(Node::Symbol(name))?;
                self.deliver(node)
            }
            Kind::Constant(constant) => {
                let node = self.tree.push(Node::Constant(constant))?;
                self.deliver(node)
            }
            Kind::Command(command) => self.open(Role::Command(command, [0; 2], 0)),
            _ => None,
        }
    }

    /// Handles a token within an expression.
    fn token(&mut self, token: Token) -> Option<()> {
        let (expects, worded) = {
            let frame = self.frame()?;
            (frame.expects, frame.suffix != NONE)
        };
        if worded && !self.after_words(token.kind)? {
            return Some(());
        }
        match token.kind {
            Kind::Number(digits) => {
                if !expects && self.previous_is_number() && !self.is_factor(token.spaced) {
                    return number::mixed(self, digits);
                }
                self.start_operand()?;
                let node = number::take(self, digits, false)?;
                self.deliver(node)
            }
            Kind::Based(digits, base) => self.operand(Node::Based(digits, base)),
            Kind::Clock(seconds) => self.operand(Node::Clock(seconds)),
            Kind::Symbol(name) => self.symbol(name),
            Kind::Constant(constant) => self.operand(Node::Constant(constant)),
            Kind::Numbers(letter) => self.operand(Node::Numbers(letter)),
            Kind::EmptySet => self.operand(Node::EmptySet),
            Kind::Function(function) => self.function(Applied::One(function)),
            Kind::Function2(function) => self.function(Applied::Two(function)),
            Kind::Big(name, integral) => {
                self.start_operand()?;
                self.operators.push(Operator::Big(name, integral));
                Some(())
            }
            Kind::Command(command) => {
                let mixed = !expects && command == Command::Fraction && self.previous_is_number();
                self.start_operand()?;
                self.open(Role::Command(command, [0; 2], if mixed { number::MIXED } else { 0 }))
            }
            Kind::Open(delimiter) => {
                let direct = expects && matches!(self.own_operator(), Some(Operator::Apply(..)));
                self.start_operand()?;
                self.open(Role::Group(delimiter, direct))
            }
            Kind::Begin(environment) => {
                self.start_operand()?;
                self.open(Role::Rows(environment))
            }
            Kind::Close(delimiter) => self.close(delimiter),
            Kind::End(environment) => self.end(environment),
            Kind::Bar => self.bar(),
            Kind::SuchThat => self.such_that(),
            Kind::Comma => self.separate(Separator::Comma),
            Kind::And => self.separate(Separator::And),
            Kind::Or => self.separate(Separator::Or),
            Kind::Semicolon | Kind::NewLine => self.new_row(),
            Kind::Ampersand => match self.frame()?.role {
                Role::Rows(Environment::Matrix) => self.separate(Separator::Comma),
                // Only as alignment at the start of an operand. Cases with conditions do not parse and are compared as text.
                Role::Rows(Environment::Lines) => expects.then_some(()),
                _ => None,
            },
            Kind::Relation(relation) => self.relation(relation),
            Kind::Plus if expects => Some(()),
            Kind::Minus if expects => self.push_prefix(Operator::Negate),
            Kind::PlusMinus(minus_first) if expects => self.push_prefix(Operator::UnaryPlusMinus(minus_first)),
            Kind::Colon if expects && self.frame()?.prefix != NONE => Some(()),
            Kind::Text(words) => self.words(words),
            Kind::Modulo if expects => self.bracketed_modulus(),
            _ if expects => None,
            Kind::Plus => self.infix(Operator::Add),
            Kind::Minus => self.infix(Operator::Subtract),
            Kind::PlusMinus(minus_first) => self.infix(Operator::PlusMinus(minus_first)),
            Kind::Times => self.infix(Operator::Multiply),
            Kind::Slash => self.infix(Operator::Divide),
            Kind::Modulo => self.infix(Operator::Modulo),
            Kind::Choose => self.infix(Operator::Choose),
            Kind::Colon if self.at_builder_head() => self.such_that(),
            Kind::Colon => self.infix(Operator::Ratio),
            Kind::Union | Kind::Intersection | Kind::Difference => self.infix(Operator::Set(set_operation(token.kind)?)),
            Kind::Caret => {
                let base = self.values.pop()?;
                self.open(Role::Power(base, false))
            }
            Kind::Underscore => None,
            Kind::Subscript(subscript) => self.late_subscript(subscript),
            Kind::Bang => self.postfix(|a| Node::Call(Function::Factorial, a)),
            Kind::Percent => self.postfix(Node::Percent),
            Kind::Degree => self.postfix(Node::Degree),
        }
    }

    /// Returns the last pending operator of the innermost frame, or `None` if it has none.
    pub fn own_operator(&self) -> Option<Operator> {
        let base = self.frames.last()?.operators_base;
        self.operators.get(base..)?.last().copied()
    }

    fn previous_is_number(&self) -> bool {
        matches!(self.at.checked_sub(2).and_then(|at| self.tokens.list.get(at)).map(|token| token.kind), Some(Kind::Number(_)))
    }

    /// True if the number just read is a factor next to the number before it: one of the two has an exponent, as in `3^4 5^2 7`.
    fn is_factor(&self, spaced: bool) -> bool {
        let after_power = self.values.last().is_some_and(|&last| matches!(self.tree.node(last), Node::Power(..)));
        spaced && (after_power || self.peek().is_some_and(|next| next.kind == Kind::Caret))
    }

    /// Prepares for an operand. If it directly follows another one, the two are multiplied.
    pub fn start_operand(&mut self) -> Option<()> {
        if !self.frame()?.expects {
            self.infix(Operator::Juxtapose)?;
        }
        Some(())
    }

    fn operand(&mut self, node: Node) -> Option<()> {
        self.start_operand()?;
        let id = self.tree.push(node)?;
        self.deliver(id)
    }

    fn push_prefix(&mut self, operator: Operator) -> Option<()> {
        self.operators.push(operator);
        Some(())
    }

    /// Reads an operator between operands, after applying the pending operators that bind at least as tightly.
    pub fn infix(&mut self, operator: Operator) -> Option<()> {
        let base = self.frame()?.operators_base;
        while self.operators.len() > base {
            let top = self.operators.last().copied()?;
            let ends_here = operator == Operator::Juxtapose && matches!(top, Operator::Apply(..));
            if top.precedence() < operator.precedence() || ends_here {
                break;
            }
            self.reduce()?;
        }
        self.operators.push(operator);
        self.frame()?.expects = true;
        Some(())
    }

    /// Applies the last pending operator.
    pub fn reduce(&mut self) -> Option<()> {
        let operator = self.operators.pop()?;
        let b = self.values.pop()?;
        let b = self.grouping(operator, b);
        let node = if operator.is_prefix() {
            operator::prefix(self.tree, operator, b)?
        } else {
            let a = self.values.pop()?;
            let a = self.grouping(operator, a);
            operator::infix(self.tree, operator, a, b)?
        };
        self.values.push(node);
        Some(())
    }

    /// Treats curly brackets around an operand of arithmetic as grouping, as in `\{1+2\}\{3-4\}`. Around an operand of a set operation they
    /// form a set.
    fn grouping(&self, operator: Operator, operand: Id) -> Id {
        match (operator, self.tree.node(operand)) {
            (Operator::Set(_), _) => operand,
            (_, Node::Sequence { open: Bracket::Curly, list, .. }) => match self.tree.members(list) {
                &[single] => single,
                _ => operand,
            },
            _ => operand,
        }
    }

    fn postfix(&mut self, node: impl FnOnce(Id) -> Node) -> Option<()> {
        let a = self.values.pop()?;
        let id = self.tree.push(node(a))?;
        self.values.push(id);
        Some(())
    }

    /// Passes an operand to the innermost frame. If that completes the frame, passes its value to the next one, and so on.
    pub fn deliver(&mut self, mut node: Id) -> Option<()> {
        loop {
            match self.frame()?.role {
                Role::Command(command, mut arguments, state) => {
                    let count = state & 3;
                    let index_follows = command == Command::Root && count == 0;
                    *arguments.get_mut(usize::from(count))? = node;
                    let done = if index_follows { !self.was_index() } else { count == 1 };
                    if !done {
                        self.frame()?.role = Role::Command(command, arguments, state + 1);
                        return Some(());
                    }
                    self.frames.pop();
                    node = match command {
                        Command::Fraction if state & number::MIXED != 0 => match number::mixed_fraction(self, arguments)? {
                            Some(mixed) => mixed,
                            None => self.tree.push(Node::Divide(arguments[0], arguments[1]))?,
                        },
                        Command::Fraction => self.tree.push(Node::Divide(arguments[0], arguments[1]))?,
                        Command::Binomial => self.tree.push(Node::Call2(Function2::Binomial, arguments[0], arguments[1]))?,
                        Command::Root if count == 1 => self.tree.push(Node::Call2(Function2::Root, arguments[0], arguments[1]))?,
                        Command::Root => self.tree.push(Node::Call(Function::Sqrt, node))?,
                    };
                }
                Role::Power(base, negative) => {
                    if self.peek().is_some_and(|next| next.kind == Kind::Caret) {
                        self.at += 1;
                        return self.open(Role::Power(node, false));
                    }
                    self.frames.pop();
                    let exponent = if negative { self.tree.push(Node::Negate(node))? } else { node };
                    node = self.tree.push(Node::Power(base, exponent))?;
                }
                Role::FunctionPower(negative) => {
                    self.frames.pop();
                    let exponent = if negative { self.tree.push(Node::Negate(node))? } else { node };
                    if let Some(Operator::Apply(_, power, _)) = self.operators.last_mut() {
                        *power = Some(exponent);
                    }
                    return self.function_scripts();
                }
                Role::FunctionBase => {
                    self.frames.pop();
                    if let Some(Operator::Apply(_, _, base)) = self.operators.last_mut() {
                        *base = Some(node);
                    }
                    return self.function_scripts();
                }
                _ => {
                    self.values.push(node);
                    self.frame()?.expects = false;
                    return Some(());
                }
            }
        }
    }

    /// True if the operand just passed came from the square brackets of `\sqrt[3]{x}`.
    fn was_index(&self) -> bool {
        matches!(self.tokens.list.get(self.at - 1).map(|token| token.kind), Some(Kind::Close(Delimiter::Square)))
    }
}

impl Parser<'_> {
    fn relation(&mut self, relation: Relation) -> Option<()> {
        let operand = match self.finish_operand()? {
            Some(operand) => operand,
            // `= 5` without a left side is read as `5`.
            None if self.frame()?.chain.is_empty() && matches!(relation, Relation::Equal | Relation::Approximately) => return Some(()),
            None => return None,
        };
        let frame = self.frame()?;
        frame.chain.push(operand);
        frame.relations.push(relation);
        frame.expects = true;
        Some(())
    }
}
