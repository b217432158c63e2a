//! The operators of the parser: their precedence, and the nodes that they create.

use crate::verify::tree::{Bracket, Function, Function2, Id, Node, Separator, SetOperation, Tree};
use crate::verify::words;

/// Number of parts of an integrand searched for its variable.
const MAX_PARTS: usize = 16;

/// An operator that waits for its right operand. The flag of a plus-minus operator is set for `∓`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operator {
    /// Union, intersection or difference of sets.
    Set(SetOperation),
    /// An operator with bounds, by name. The flag marks an integral, whose operand may be a sum.
    Big(u32, bool),
    Add,
    Subtract,
    PlusMinus(bool),
    Ratio,
    Choose,
    Multiply,
    /// Multiplication without a sign. It does not end the argument of a function.
    Juxtapose,
    Divide,
    Modulo,
    Negate,
    UnaryPlusMinus(bool),
    /// A function, with the power in `\sin^2 x` and the base in `\log_2 x`.
    Apply(Applied, Option<Id>, Option<Id>),
}

/// The function to apply.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Applied {
    /// A known function of one argument.
    One(Function),
    /// A known function of two or more arguments.
    Two(Function2),
    /// A function known only by name.
    Named(u32),
}

impl Operator {
    /// Returns the precedence. Higher binds tighter; equal operators associate from left to right.
    pub fn precedence(self) -> u8 {
        match self {
            Operator::Set(SetOperation::Intersection) => 2,
            Operator::Set(_) => 1,
            Operator::Big(_, true) => 3,
            Operator::Add | Operator::Subtract | Operator::PlusMinus(_) => 4,
            Operator::Ratio | Operator::Choose | Operator::Big(_, false) => 5,
            Operator::Multiply | Operator::Juxtapose | Operator::Divide | Operator::Modulo => 6,
            Operator::Negate | Operator::UnaryPlusMinus(_) | Operator::Apply(..) => 7,
        }
    }

    /// True if the operator has no left operand.
    pub fn is_prefix(self) -> bool {
        matches!(self, Operator::Negate | Operator::UnaryPlusMinus(_) | Operator::Apply(..) | Operator::Big(..))
    }
}

/// Adds the node of a prefix operator applied to `a`.
pub fn prefix(tree: &mut Tree, operator: Operator, a: Id) -> Option<Id> {
    match operator {
        Operator::Negate => tree.push(Node::Negate(a)),
        Operator::UnaryPlusMinus(minus_first) => {
            let zero = tree.integer(0)?;
            tree.push(Node::PlusMinus(zero, a, minus_first))
        }
        Operator::Big(name, integral) => {
            // If the differential is missing, x is the variable.
            let over_x = integral && mentions_x(tree, a);
            let name = if over_x { tree.name(&format!("{} d x", tree.name_of(name))) } else { name };
            let list = tree.list(vec![a], Vec::new());
            tree.push(Node::Opaque(name, list))
        }
        Operator::Apply(applied, power, base) => apply(tree, applied, power, base, a),
        _ => None,
    }
}

/// Adds the node of an operator between `a` and `b`.
pub fn infix(tree: &mut Tree, operator: Operator, a: Id, b: Id) -> Option<Id> {
    let node = match operator {
        Operator::Set(operation) => Node::SetOperation(operation, a, b),
        Operator::Add => Node::Add(a, b),
        Operator::Subtract => Node::Subtract(a, b),
        Operator::PlusMinus(minus_first) => Node::PlusMinus(a, b, minus_first),
        Operator::Ratio => Node::Ratio(a, b),
        Operator::Choose => Node::Call2(Function2::Binomial, a, b),
        Operator::Multiply | Operator::Juxtapose => Node::Multiply(a, b),
        Operator::Divide => Node::Divide(a, b),
        Operator::Modulo => Node::Call2(Function2::Modulo, a, b),
        Operator::Negate | Operator::UnaryPlusMinus(_) | Operator::Apply(..) | Operator::Big(..) => return None,
    };
    tree.push(node)
}

fn apply(tree: &mut Tree, applied: Applied, power: Option<Id>, base: Option<Id>, a: Id) -> Option<Id> {
    let arguments: Vec<Id> = match tree.node(a) {
        Node::Sequence {
            open: Bracket::Round | Bracket::Square | Bracket::Bare | Bracket::Curly,
            separator: Separator::Comma,
            list,
            ..
        } => tree.members(list).to_vec(),
        _ => vec![a],
    };
    let inverted = power.filter(|&power| is_minus_one(tree, power));
    let call = match (applied, arguments.as_slice()) {
        (Applied::One(Function::Log | Function::Ln), &[a]) if base.is_some() => tree.push(Node::Call2(Function2::LogBase, base?, a))?,
        (Applied::One(Function::Log), &[a, b]) => tree.push(Node::Call2(Function2::LogBase, b, a))?,
        (Applied::One(function), &[a]) => match inverted.and_then(|_| words::inverse(function)) {
            Some(inverse) => return tree.push(Node::Call(inverse, a)),
            None => tree.push(Node::Call(function, a))?,
        },
        (Applied::Two(function), &[first, ref rest @ ..]) => {
            let mut all = first;
            for &next in rest {
                all = tree.push(Node::Call2(function, all, next))?;
            }
            all
        }
        (Applied::Named(name), _) => {
            let list = tree.list(arguments, Vec::new());
            tree.push(Node::Opaque(name, list))?
        }
        _ => return None,
    };
    match power {
        Some(power) => tree.push(Node::Power(call, power)),
        None => Some(call),
    }
}

/// True if x is among the first few parts of an integrand.
fn mentions_x(tree: &Tree, integrand: Id) -> bool {
    let mut parts = vec![integrand];
    let mut next = 0;
    while let Some(&id) = parts.get(next).filter(|_| next < MAX_PARTS) {
        next += 1;
        match tree.node(id) {
            Node::Symbol(name) if tree.name_of(name) == "x" => return true,
            node => tree.children(node, |child| parts.push(child)),
        }
    }
    false
}

fn is_minus_one(tree: &Tree, id: Id) -> bool {
    match tree.node(id) {
        Node::Negate(a) => tree.plain_integer(a).is_some_and(|n| *n == 1.into()),
        _ => false,
    }
}
