//! Chains of relations: what `x = 5` assigns, what `2 + 3 = 5` computes, when two equations or inequalities say the same.

use crate::verify::fuel::Fuel;
use crate::verify::tree::rewrite;
use crate::verify::tree::{Bracket, Id, Node, Relation, Tree};
use crate::verify::value::approx::{Approx, Point};
use crate::verify::value::decimal;
use crate::verify::value::evaluate::{Arithmetic, Reading, evaluate};
use crate::verify::{Comparison, Method};

/// What a chain says.
#[derive(Clone, Debug, PartialEq)]
pub enum Meaning {
    /// `label = value`, in one or several steps, of which `checks` must be equal.
    Assignment { label: Id, value: Id, checks: Vec<(Id, Id)> },
    /// A computation with its result: all members are equal, and the last is the value.
    Computation { value: Id, checks: Vec<(Id, Id)> },
    /// `x ∈ set`.
    Membership { element: Id, set: Id },
    /// An equation between expressions.
    Equation(Id, Id),
    /// Anything with an order in it, or with a relation known by name only.
    Order,
}

/// What the chain in `list` says.
pub fn meaning(tree: &Tree, list: u32) -> Meaning {
    let relations = tree.relations_of(list);
    let mut members = tree.members(list);
    if let ([Relation::In], &[element, set]) = (relations, members) {
        return Meaning::Membership { element, set };
    }
    if !relations.iter().all(|relation| matches!(relation, Relation::Equal | Relation::Approximately)) {
        return Meaning::Order;
    }
    // What follows ≈ is a rounded repetition, unless nothing but a label stands before it.
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

/// Steps between a label and its value that are values themselves must equal it; labels among them are labels too.
fn step_checks(tree: &Tree, steps: &[Id], value: Id) -> Vec<(Id, Id)> {
    steps.iter().filter(|&&step| !is_label(tree, step)).map(|&step| (step, value)).collect()
}

fn is_constant(tree: &Tree, id: Id) -> bool {
    rewrite::symbols(tree, id).is_empty()
}

/// Whether an expression only names what is computed: a variable, words, `f(x)`, `P(x)`, `AB`, `\angle A`, a tuple of variables.
pub fn is_label(tree: &Tree, id: Id) -> bool {
    match tree.node(id) {
        Node::Symbol(_) | Node::Text(_) | Node::Worded(..) => true,
        // A derivative or a sum is an expression; a named function is a label.
        Node::Opaque(name, _) => !tree.name_of(name).contains('^'),
        Node::Sequence { open: Bracket::Round | Bracket::Bare, list, .. } => {
            tree.members(list).iter().all(|&member| is_simple_label(tree, member))
        }
        // |AB| and \sin\theta name a length and a value.
        Node::Call(_, a) => matches!(tree.node(a), Node::Symbol(_)) || is_capital(tree, a),
        Node::Multiply(a, b) | Node::Divide(a, b) | Node::Ratio(a, b) => {
            is_capital(tree, a) && (is_capital(tree, b) || is_argument(tree, a, b)) || is_derivative(tree, a, b) || is_inverse(tree, a, b)
        }
        _ => false,
    }
}

fn is_simple_label(tree: &Tree, id: Id) -> bool {
    matches!(tree.node(id), Node::Symbol(_)) || is_named_point(tree, id)
}

fn is_named_point(tree: &Tree, id: Id) -> bool {
    match tree.node(id) {
        Node::Opaque(..) => true,
        Node::Multiply(a, b) => is_capital(tree, a) && matches!(tree.node(b), Node::Symbol(_)),
        _ => false,
    }
}

/// Upper-case names, alone or side by side: points, lengths, areas.
fn is_capital(tree: &Tree, mut id: Id) -> bool {
    // Products lean to the left: walk down the spine.
    loop {
        let leaf = match tree.node(id) {
            Node::Multiply(a, b) => {
                id = a;
                b
            }
            _ => return is_capital_symbol(tree, id),
        };
        if !is_capital_symbol(tree, leaf) {
            return false;
        }
    }
}

fn is_capital_symbol(tree: &Tree, id: Id) -> bool {
    match tree.node(id) {
        Node::Symbol(name) => {
            let name = tree.name_of(name);
            name.starts_with(|c: char| c.is_uppercase()) || matches!(name, "angle" | "triangle")
        }
        _ => false,
    }
}

fn is_argument(tree: &Tree, function: Id, argument: Id) -> bool {
    matches!(tree.node(function), Node::Symbol(_)) && matches!(tree.node(argument), Node::Symbol(_) | Node::Number(_) | Node::Chain(_))
}

/// `dy/dx`.
fn is_derivative(tree: &Tree, a: Id, b: Id) -> bool {
    let differential = |id| match tree.node(id) {
        Node::Multiply(d, _) => matches!(tree.node(d), Node::Symbol(name) if tree.name_of(name) == "d"),
        _ => false,
    };
    differential(a) && differential(b)
}

/// `f^{-1}(x)`.
fn is_inverse(tree: &Tree, a: Id, b: Id) -> bool {
    match (tree.node(a), tree.node(b)) {
        (Node::Power(f, exponent), Node::Symbol(_)) => {
            matches!(tree.node(f), Node::Symbol(_)) && matches!(tree.node(exponent), Node::Negate(one) if tree.plain_integer(one).is_some())
        }
        _ => false,
    }
}

/// The variable that a label makes a bound one: the `x` of `f(x) = ...`.
pub fn bound_variable(tree: &Tree, label: Id) -> Option<u32> {
    let argument = match tree.node(label) {
        Node::Opaque(_, list) => match tree.members(list) {
            &[argument] => argument,
            _ => return None,
        },
        Node::Multiply(a, b) if is_capital_symbol(tree, a) => b,
        _ => return None,
    };
    match tree.node(argument) {
        Node::Symbol(name) => Some(name),
        _ => None,
    }
}

/// Whether two labels may stand for the same thing: equal but for case, or one of them a function's name.
pub fn labels_agree(tree: &Tree, gold: Id, answer: Id, value_is_constant: bool) -> bool {
    match (tree.node(gold), tree.node(answer)) {
        (Node::Symbol(g), Node::Symbol(a)) => {
            tree.name_of(g).eq_ignore_ascii_case(tree.name_of(a)) || !value_is_constant && tree.name_of(g).len() == 1
        }
        _ => true,
    }
}

/// Whether two equations (or inequalities between the same sides) differ by a constant factor only: `left - right` of both, at seeded points.
/// `positive` asks for a factor above zero, or below it for `Some(false)`.
pub fn proportional(tree: &mut Tree, gold: (Id, Id), answer: (Id, Id), positive: Option<bool>, fuel: &mut Fuel) -> Comparison {
    let decided = |equal| Comparison { equal, method: Method::Sampled };
    let (Some(g), Some(a)) = (tree.push(Node::Subtract(gold.0, gold.1)), tree.push(Node::Subtract(answer.0, answer.1))) else {
        return decided(false);
    };
    if rewrite::symbols(tree, g) != rewrite::symbols(tree, a) {
        return decided(false);
    }
    let rounded = decimal::has_rounded_part(tree, g) != decimal::has_rounded_part(tree, a);
    let points = (1..=6).map(Point::Positive).chain((1..=6).map(Point::Real)).chain((1..=3).map(Point::Natural));
    let mut first = None;
    let mut agreeing = 0;
    for point in points {
        let mut approx = Approx { point, decimals_are_rounded: rounded };
        let gold = evaluate(tree, g, Reading::PLAIN, &mut approx, fuel);
        let answer = evaluate(tree, a, Reading::PLAIN, &mut approx, fuel);
        let (Some(gold), Some(answer)) = (gold, answer) else { continue };
        if !gold.is_real() || !answer.is_real() || gold.abs() <= 30.0 * gold.error || answer.abs() <= 30.0 * answer.error {
            continue;
        }
        if positive.is_some_and(|positive| (gold.re * answer.re > 0.0) != positive) {
            return decided(false);
        }
        // g(p) a(q) = g(q) a(p) for every pair of points means one ratio everywhere.
        let Some((first_gold, first_answer)) = first else {
            first = Some((gold, answer));
            continue;
        };
        let (Some(one), Some(other)) = (approx.multiply(&gold, &first_answer), approx.multiply(&first_gold, &answer)) else { continue };
        if (one.re - other.re).abs() > 2.0 * (one.error + other.error) {
            return decided(false);
        }
        agreeing += 1;
    }
    decided(agreeing >= 3)
}

/// The relation read from the other side.
pub fn flipped(relation: Relation) -> Relation {
    match relation {
        Relation::Less => Relation::Greater,
        Relation::LessEqual => Relation::GreaterEqual,
        Relation::Greater => Relation::Less,
        Relation::GreaterEqual => Relation::LessEqual,
        other => other,
    }
}
