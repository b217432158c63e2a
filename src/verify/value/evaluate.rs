//! Evaluates an expression in any arithmetic: exact rationals, a prime field, floating point with error bounds, high-precision balls.
//! Defines the order of evaluation and the readings of percent and degree signs; each arithmetic defines its numbers.

use crate::verify::fuel::Fuel;
use crate::verify::tree::{Constant, Function, Function2, Id, Literal, Node, Tree};

/// A number system. Every operation returns `None` if the result is undefined, too large or unknown.
pub trait Arithmetic {
    /// The type of its numbers.
    type Value: Clone;
    /// Converts a number as written.
    fn number(&mut self, literal: &Literal) -> Option<Self::Value>;
    /// Returns a named constant.
    fn constant(&mut self, constant: Constant) -> Option<Self::Value>;
    /// Returns the value of a variable, given by the index of its name.
    fn symbol(&mut self, name: u32) -> Option<Self::Value>;
    /// Returns -a.
    fn negate(&mut self, a: &Self::Value) -> Option<Self::Value>;
    /// Returns a + b.
    fn add(&mut self, a: &Self::Value, b: &Self::Value) -> Option<Self::Value>;
    /// Returns a · b.
    fn multiply(&mut self, a: &Self::Value, b: &Self::Value) -> Option<Self::Value>;
    /// Returns a / b.
    fn divide(&mut self, a: &Self::Value, b: &Self::Value) -> Option<Self::Value>;
    /// Returns a to the power b.
    fn power(&mut self, a: &Self::Value, b: &Self::Value) -> Option<Self::Value>;
    /// Applies a function of one argument.
    fn call(&mut self, function: Function, a: &Self::Value) -> Option<Self::Value>;
    /// Applies a function of two arguments.
    fn call2(&mut self, function: Function2, a: &Self::Value, b: &Self::Value) -> Option<Self::Value>;
    /// Applies a function known only by name.
    fn opaque(&mut self, name: u32, arguments: &[Self::Value]) -> Option<Self::Value>;
    /// Returns the cost, in steps, of an operation with this result; `None` is a failed operation.
    fn cost(&self, result: Option<&Self::Value>) -> u64;

    /// Returns a - b.
    fn subtract(&mut self, a: &Self::Value, b: &Self::Value) -> Option<Self::Value> {
        let b = self.negate(b)?;
        self.add(a, &b)
    }

    /// Converts an integer.
    fn integer(&mut self, value: i64) -> Option<Self::Value> {
        let value = num_rational::BigRational::from_integer(value.into());
        self.number(&Literal { value, decimals: None, significant: 0 })
    }
}

/// How to read signs with two readings. Inside functions, a degree is always an angle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// `25%` is 0.25 rather than 25.
    pub percent_is_share: bool,
    /// `60°` is π/3 rather than 60.
    pub degree_is_angle: bool,
    /// A logarithm without a base is decimal rather than natural.
    pub log_is_decimal: bool,
}

impl Reading {
    /// Percent and degree signs are ignored, and logarithms are natural.
    pub const PLAIN: Reading = Reading { percent_is_share: false, degree_is_angle: false, log_is_decimal: false };
}

/// Evaluates the expression at `root`. `None` if an operation has no result or the budget runs out.
pub fn evaluate<A: Arithmetic>(tree: &Tree, root: Id, reading: Reading, arithmetic: &mut A, fuel: &mut Fuel) -> Option<A::Value> {
    if let Node::Number(index) = tree.node(root) {
        return arithmetic.number(tree.number(index)?);
    }
    let order = tree.reachable(root);
    let mut values: Vec<Option<A::Value>> = Vec::with_capacity(order.len());
    let angles = angles(tree, &order, reading);
    for (index, &id) in order.iter().enumerate() {
        let at = |child: Id| order[..index].binary_search(&child).ok().and_then(|found| values.get(found)?.as_ref());
        let angle = angles.as_ref().is_none_or(|angles| angles.get(index).copied().unwrap_or(true));
        let value = node(tree, id, reading, angle, arithmetic, at);
        fuel.spend(arithmetic.cost(value.as_ref())).ok()?;
        values.push(value);
    }
    values.pop().flatten()
}

fn node<'v, A: Arithmetic>(
    tree: &Tree,
    id: Id,
    reading: Reading,
    angle: bool,
    arithmetic: &mut A,
    at: impl Fn(Id) -> Option<&'v A::Value>,
) -> Option<A::Value>
where
    A::Value: 'v,
{
    match tree.node(id) {
        Node::Number(index) => arithmetic.number(tree.number(index)?),
        Node::Symbol(name) => arithmetic.symbol(name),
        Node::Constant(constant) => arithmetic.constant(constant),
        Node::Negate(a) => arithmetic.negate(at(a)?),
        Node::Add(a, b) => arithmetic.add(at(a)?, at(b)?),
        Node::Subtract(a, b) => arithmetic.subtract(at(a)?, at(b)?),
        Node::Multiply(a, b) => arithmetic.multiply(at(a)?, at(b)?),
        Node::Divide(a, b) => arithmetic.divide(at(a)?, at(b)?),
        // 1:2:3 has no value.
        Node::Ratio(a, _) if matches!(tree.node(a), Node::Ratio(..)) => None,
        Node::Ratio(a, b) => arithmetic.divide(at(a)?, at(b)?),
        Node::Power(a, b) => arithmetic.power(at(a)?, at(b)?),
        Node::Call(Function::Log, a) if reading.log_is_decimal => {
            let ten = arithmetic.integer(10)?;
            arithmetic.call2(Function2::LogBase, &ten, at(a)?)
        }
        Node::Call(function, a) => arithmetic.call(function, at(a)?),
        Node::Call2(function, a, b) => arithmetic.call2(function, at(a)?, at(b)?),
        Node::Opaque(name, list) => {
            let arguments: Option<Vec<A::Value>> = tree.members(list).iter().map(|&member| at(member).cloned()).collect();
            arithmetic.opaque(name, &arguments?)
        }
        // A matrix inside an expression is evaluated as an unknown function of its entries. That suffices if both sides have the same
        // products in the same order.
        Node::Matrix { columns, list } => {
            let entries: Option<Vec<A::Value>> = tree.members(list).iter().map(|&member| at(member).cloned()).collect();
            arithmetic.opaque(u32::MAX - columns, &entries?)
        }
        Node::Percent(a) if reading.percent_is_share => {
            let hundred = arithmetic.integer(100)?;
            arithmetic.divide(at(a)?, &hundred)
        }
        Node::Degree(a) if reading.degree_is_angle || angle => {
            let half_turn = arithmetic.integer(180)?;
            let pi = arithmetic.constant(Constant::Pi)?;
            let radians = arithmetic.multiply(at(a)?, &pi)?;
            arithmetic.divide(&radians, &half_turn)
        }
        Node::Percent(a) | Node::Degree(a) => at(a).cloned(),
        Node::Based(..)
        | Node::Clock(_)
        | Node::PlusMinus(..)
        | Node::Sequence { .. }
        | Node::Chain(_)
        | Node::SetOperation(..)
        | Node::Builder(..)
        | Node::Numbers(_)
        | Node::EmptySet
        | Node::Text(_)
        | Node::Worded(..) => None,
    }
}

/// Returns for each node whether it is inside a function's argument. `None` if that does not matter: there is no degree sign, or all of
/// them are angles.
fn angles(tree: &Tree, order: &[Id], reading: Reading) -> Option<Vec<bool>> {
    if reading.degree_is_angle || !order.iter().any(|&id| matches!(tree.node(id), Node::Degree(_))) {
        return None;
    }
    let mut inside = vec![false; order.len()];
    for index in (0..order.len()).rev() {
        let Some(&id) = order.get(index) else { continue };
        let node = tree.node(id);
        let here = inside.get(index).copied().unwrap_or(false) || matches!(node, Node::Call(..));
        tree.children(node, |child| {
            if let Some(flag) = order.binary_search(&child).ok().and_then(|at| inside.get_mut(at)) {
                *flag |= here;
            }
        });
    }
    Some(inside)
}
