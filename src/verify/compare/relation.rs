//! Interprets chains of relations as assignments (`x = 5`), computations (`2 + 3 = 5`) and equations, and tests whether two equations or
//! inequalities are equivalent.

use crate::verify::compare::label::is_label;
use crate::verify::fuel::Fuel;
use crate::verify::trace::{Stage, Trace};
use crate::verify::tree::rewrite;
use crate::verify::tree::{Id, Node, Relation, Tree};
use crate::verify::value::approx::{Approx, Point};
use crate::verify::value::decimal;
use crate::verify::value::evaluate::{Arithmetic, Reading, evaluate};
use crate::verify::{Comparison, Method};

/// Interpretation of a chain.
#[derive(Clone, Debug, PartialEq)]
pub enum Meaning {
    /// `label = value`, possibly in several steps. `checks` lists the pairs that must be equal.
    Assignment { label: Id, value: Id, checks: Vec<(Id, Id)> },
    /// A computation with its result. `checks` lists the pairs that must be equal.
    Computation { value: Id, checks: Vec<(Id, Id)> },
    /// `x ∈ set`.
    Membership { element: Id, set: Id },
    /// An equation between two expressions.
    Equation(Id, Id),
    /// Any chain with a relation other than `=` and `≈`, except a single membership.
    Order,
}

/// Interprets the chain at index `list` of the tree.
pub fn meaning(tree: &Tree, list: u32) -> Meaning {
    let relations = tree.relations_of(list);
    let mut members = tree.members(list);
    if let ([Relation::In], &[element, set]) = (relations, members) {
        return Meaning::Membership { element, set };
    }
    if !relations.iter().all(|relation| matches!(relation, Relation::Equal | Relation::Approximately)) {
        return Meaning::Order;
    }
    // Anything after ≈ is the rounded value, which is dropped unless only a label precedes the sign.
    if let Some(at) = relations.iter().position(|relation| *relation == Relation::Approximately) {
        let before = members.get(..=at).unwrap_or(members);
        members = match before {
            &[label] if is_label(tree, label) => members.get(..at + 2).unwrap_or(members),
            _ => before,
        };
    }
    match *members {
        [value] => Meaning::Computation { value, checks: Vec::new() },
        [label, ref steps @ .., value] if is_label(tree, label) => {
            Meaning::Assignment { label, value, checks: step_checks(tree, steps, value) }
        }
        [first, last] if is_label(tree, last) && is_constant(tree, first) => {
            Meaning::Assignment { label: last, value: first, checks: Vec::new() }
        }
        [first, .., value] if members.len() > 2 || is_constant(tree, first) && is_constant(tree, value) => {
            let checks = members.windows(2).filter_map(|pair| Some((*pair.first()?, *pair.get(1)?))).collect();
            Meaning::Computation { value, checks }
        }
        [left, right] => Meaning::Equation(left, right),
        _ => Meaning::Order,
    }
}

/// Returns the checks for the steps between a label and its value: every step must equal the value, except that labels are skipped.
fn step_checks(tree: &Tree, steps: &[Id], value: Id) -> Vec<(Id, Id)> {
    steps.iter().filter(|&&step| !is_label(tree, step)).map(|&step| (step, value)).collect()
}

fn is_constant(tree: &Tree, id: Id) -> bool {
    rewrite::symbols(tree, id).is_empty()
}

/// Tests at seeded points whether two equations, or two inequalities, differ only by a constant factor of `left - right`. The factor must
/// be positive (`Some(true)`) or negative (`Some(false)`); `None` accepts both.
pub fn proportional(
    tree: &mut Tree,
    gold: (Id, Id),
    answer: (Id, Id),
    positive: Option<bool>,
    fuel: &mut Fuel,
    trace: &mut Trace,
) -> Comparison {
    let decided = |equal| Comparison { equal, method: Method::Sampled };
    let (Some(g), Some(a)) = (tree.push(Node::Subtract(gold.0, gold.1)), tree.push(Node::Subtract(answer.0, answer.1))) else {
        trace.note(Stage::Budget, || "not equal: the comparison has too many nodes");
        return decided(false);
    };
    if rewrite::symbols(tree, g) != rewrite::symbols(tree, a) {
        trace.note(Stage::Sampled, || "not equal: the relations use different letters");
        return decided(false);
    }
    let rounded = decimal::has_rounded_part(tree, g) != decimal::has_rounded_part(tree, a);
    let points = (1..=6).map(Point::Positive).chain((1..=6).map(Point::Real)).chain((1..=3).map(Point::Natural));
    let mut first = None;
    let mut agreeing = 0;
    for point in points {
        let mut approx = Approx { decimals_are_rounded: rounded, ..Approx::new(point) };
        let gold = evaluate(tree, g, Reading::PLAIN, &mut approx, fuel);
        let answer = evaluate(tree, a, Reading::PLAIN, &mut approx, fuel);
        let (Some(gold), Some(answer)) = (gold, answer) else { continue };
        if !gold.is_real() || !answer.is_real() || gold.abs() <= 30.0 * gold.error || answer.abs() <= 30.0 * answer.error {
            continue;
        }
        if positive.is_some_and(|positive| (gold.re * answer.re > 0.0) != positive) {
            trace.note(Stage::Sampled, || "not equal: the inequalities point in opposite directions");
            return decided(false);
        }
        // g(p) a(q) = g(q) a(p) for every pair of points means that the ratio is the same everywhere.
        let Some((first_gold, first_answer)) = first else {
            first = Some((gold, answer));
            continue;
        };
        let (Some(one), Some(other)) = (approx.multiply(&gold, &first_answer), approx.multiply(&first_gold, &answer)) else { continue };
        if (one.re - other.re).abs() > 2.0 * (one.error + other.error) {
            trace.note(Stage::Sampled, || "not equal: the differences (left minus right) have no constant ratio");
            return decided(false);
        }
        agreeing += usize::from(!approx.lost);
    }
    let equal = agreeing >= 3;
    trace.note(Stage::Sampled, || match equal {
        true => format!("equal: the differences (left minus right) have the same ratio at {} points", agreeing + 1),
        false => "not equal: too few points where both relations can be compared".to_owned(),
    });
    decided(equal)
}

/// Returns the relation with its sides swapped.
pub fn flipped(relation: Relation) -> Relation {
    match relation {
        Relation::Less => Relation::Greater,
        Relation::LessEqual => Relation::GreaterEqual,
        Relation::Greater => Relation::Less,
        Relation::GreaterEqual => Relation::LessEqual,
        other => other,
    }
}
