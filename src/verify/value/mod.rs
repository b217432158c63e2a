//! Evaluates expressions: one function (`evaluate`) for several number systems, from exact rationals to floating point with error bounds.
//! Computes values; `compare` decides which values make two expressions equal.

pub mod approx;
mod approx_function;
pub mod ball;
mod ball_arithmetic;
pub mod decimal;
pub mod evaluate;
pub mod exact;
pub mod field;
mod series;

use crate::verify::fuel::Fuel;
use crate::verify::tree::rewrite;
use crate::verify::tree::{Constant, Id, Node, Tree};
use crate::verify::value::approx::{Approx, Point};
use crate::verify::value::evaluate::{Reading, evaluate};

/// Returns the value of a constant expression as a floating-point number, possibly infinite. For ordering only. `None` if it has variables,
/// is not real, or cannot be evaluated.
pub fn magnitude(tree: &Tree, id: Id, fuel: &mut Fuel) -> Option<f64> {
    if let Some(positive) = infinity(tree, id) {
        return Some(if positive { f64::INFINITY } else { f64::NEG_INFINITY });
    }
    if !rewrite::symbols(tree, id).is_empty() {
        return None;
    }
    let mut approx = Approx::new(Point::Natural(0));
    let value = evaluate(tree, id, Reading::PLAIN, &mut approx, fuel)?;
    value.is_real().then_some(value.re)
}

/// Returns true for positive and false for negative infinity; `None` for any other expression.
pub fn infinity(tree: &Tree, id: Id) -> Option<bool> {
    match tree.node(id) {
        Node::Constant(Constant::Infinity) => Some(true),
        Node::Percent(a) => infinity_of(tree, a),
        _ => infinity_of(tree, id),
    }
}

fn infinity_of(tree: &Tree, id: Id) -> Option<bool> {
    match tree.node(id) {
        Node::Constant(Constant::Infinity) => Some(true),
        Node::Negate(a) if matches!(tree.node(a), Node::Constant(Constant::Infinity)) => Some(false),
        Node::Negate(a) => match tree.node(a) {
            Node::Percent(b) if matches!(tree.node(b), Node::Constant(Constant::Infinity)) => Some(false),
            _ => None,
        },
        _ => None,
    }
}
