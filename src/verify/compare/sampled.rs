//! Compares two expressions in variables at seeded points, for pairs that no identity decides. Defines which points are used and how many
//! must agree.

use std::collections::BTreeSet;

use crate::verify::compare::scalar::{Pair, differ, format_value};
use crate::verify::trace::Stage;
use crate::verify::tree::rewrite;
use crate::verify::tree::{Constant, Function, Function2, Node};
use crate::verify::value::approx::{Approx, Point, Value};
use crate::verify::value::evaluate::{Arithmetic, evaluate};

/// Number of points at which two expressions must agree.
const MIN_POINTS: usize = 4;
/// Number of different integer points at which expressions with factorials must agree.
const MIN_INTEGER_POINTS: usize = 3;

impl Pair<'_> {
    /// `Some(true)` if the two agree wherever both are defined, at enough points; `Some(false)` if they differ at a point; `None` if there
    /// are too few points. With `decimals_are_rounded`, decimals of at least four digits match within half a unit of their last digit.
    pub fn sampled(&mut self, decimals_are_rounded: bool) -> Option<bool> {
        let stage = if decimals_are_rounded { Stage::Rounded } else { Stage::Sampled };
        // Factorials are defined only at non-negative integers. Their argument may be a difference, so try more points to find enough valid
        // ones.
        let integers = self.integer_variables();
        let (reals, naturals) = if integers.is_empty() { (6, 5) } else { (30, 30) };
        let points = (1..=6)
            .map(Point::Positive)
            .chain((1..=4).map(Point::Unit))
            .chain((1..=reals).map(Point::Real))
            .chain((1..=naturals).map(Point::Natural));
        let complex = |id| rewrite::any(self.tree, id, |node| node == Node::Constant(Constant::I));
        let complex = complex(self.gold) || complex(self.answer);
        let mut agreeing = 0;
        let mut integer_points = BTreeSet::new();
        for point in points {
            let mut approx = Approx { decimals_are_rounded, integers: integers.clone(), ..Approx::new(point) };
            let gold: Option<Value> = evaluate(self.tree, self.gold, self.gold_reading, &mut approx, self.fuel);
            let answer: Option<Value> = evaluate(self.tree, self.answer, self.answer_reading, &mut approx, self.fuel);
            let (Some(gold), Some(answer)) = (gold, answer) else { continue };
            let real = gold.is_real() && answer.is_real();
            if !complex && !real {
                // A real expression has no value here. Domains may differ, because answers do not state them.
                continue;
            }
            let distance = (gold.re - answer.re).hypot(gold.im - answer.im);
            if differ(gold, answer) || decimals_are_rounded && distance > gold.error + answer.error {
                self.trace.note(stage, || format!("the values differ at a point: {} and {}", format_value(gold), format_value(answer)));
                return Some(false);
            }
            let error = gold.error + answer.error;
            let size = gold.abs().max(answer.abs());
            let max_error = if decimals_are_rounded { 0.01 * size } else { (1e-7 * size).max(1e-10) };
            let counts = error <= max_error && (decimals_are_rounded || !approx.lost);
            agreeing += usize::from(counts);
            if counts && !integers.is_empty() {
                let at = |&name: &u32| approx.symbol(name).map_or(0, |value| value.re as i64);
                integer_points.insert(integers.iter().map(at).collect::<Vec<i64>>());
            }
        }
        // `x!!!` can be evaluated only at 2, where it agrees with many expressions, so agreement at one integer proves little.
        let enough = agreeing >= MIN_POINTS && (integers.is_empty() || integer_points.len() >= MIN_INTEGER_POINTS);
        self.trace.note(stage, || match enough {
            true => format!("equal: the values agree at {agreeing} points and differ at none where both are defined"),
            false => format!("no difference found, but only {agreeing} points are precise enough to decide"),
        });
        enough.then_some(true)
    }

    /// Returns the variables inside factorials and binomial coefficients of either side.
    fn integer_variables(&self) -> Vec<u32> {
        let mut found = Vec::new();
        for root in [self.gold, self.answer] {
            let order = self.tree.reachable(root);
            let mut inside = vec![false; order.len()];
            // Parents come after their children, so iterate backwards.
            for (index, &id) in order.iter().enumerate().rev() {
                let node = self.tree.node(id);
                match node {
                    Node::Symbol(name) if inside.get(index) == Some(&true) && !found.contains(&name) => found.push(name),
                    _ if inside.get(index) == Some(&true) || is_sampled_at_integers(node) => self.tree.children(node, |child| {
                        if let Some(flag) = order.binary_search(&child).ok().and_then(|at| inside.get_mut(at)) {
                            *flag = true;
                        }
                    }),
                    _ => {}
                }
            }
        }
        found
    }
}

/// True for functions that are sampled at integers only.
fn is_sampled_at_integers(node: Node) -> bool {
    matches!(node, Node::Call(Function::Factorial, _) | Node::Call2(Function2::Binomial, ..))
}
