//! Sets of real numbers: intervals, their unions, inequalities in one variable, set-builders. This file defines such sets, so that `x > 2`,
//! `(2, \infty)` and `\{x | x > 2\}` are one set. `scalar` decides whether two endpoints are equal.

use num_rational::BigRational;
use num_traits::Zero;

use crate::verify::compare::relation::flipped;
use crate::verify::compare::subject::{Subject, chain_subject, subject};
use crate::verify::fuel::Fuel;
use crate::verify::tree::rewrite;
use crate::verify::tree::{Bracket, Function, Id, Literal, Node, Relation, Separator, SetOperation, Tree};
use crate::verify::value;
use crate::verify::value::evaluate::{Reading, evaluate};
use crate::verify::value::exact::Exact;

/// Sets with more parts are not treated as sets of reals.
const MAX_PARTS: usize = 256;

/// An endpoint of an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Endpoint {
    /// Its expression; `None` if it is infinite.
    pub node: Option<Id>,
    /// Its value, for ordering only.
    pub value: f64,
    /// Whether it belongs to the interval.
    pub closed: bool,
}

/// An interval, or a point if both endpoints are equal and closed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The lower endpoint.
    pub low: Endpoint,
    /// The upper endpoint.
    pub high: Endpoint,
}

const MINUS_INFINITY: Endpoint = Endpoint { node: None, value: f64::NEG_INFINITY, closed: false };
const PLUS_INFINITY: Endpoint = Endpoint { node: None, value: f64::INFINITY, closed: false };
const ALL: Interval = Interval { low: MINUS_INFINITY, high: PLUS_INFINITY };

/// Returns the set of real numbers that a node describes, as disjoint intervals in ascending order. `None` if it describes no such set or
/// the budget runs out.
pub fn set(tree: &mut Tree, root: Id, fuel: &mut Fuel) -> Option<Vec<Interval>> {
    let order = tree.reachable(root);
    let mut sets: Vec<(Id, Option<Vec<Interval>>)> = Vec::with_capacity(order.len());
    for id in order {
        fuel.spend(4).ok()?;
        let at = |child: Id| sets.binary_search_by_key(&child, |entry| entry.0).ok().and_then(|at| sets.get(at)?.1.clone());
        let found = match tree.node(id) {
            Node::SetOperation(operation, a, b) => at(a).zip(at(b)).map(|(a, b)| operate(operation, &a, &b, fuel)),
            // Integers between two bounds are not an interval.
            Node::Builder(head, condition) if over_the_reals(tree, head) && is_about(tree, condition, head) => at(condition),
            Node::Worded(_, a, _) => at(a),
            Node::EmptySet => Some(Vec::new()),
            Node::Numbers('R') => Some(vec![ALL]),
            Node::Chain(list) => match (tree.relations_of(list), tree.members(list)) {
                (&[Relation::In], &[_, set]) => at(set),
                _ => inequality(tree, list, fuel),
            },
            Node::Sequence { open, close, separator, list } => {
                let members = tree.members(list).to_vec();
                let chains = members.iter().all(|&member| matches!(tree.node(member), Node::Chain(_) | Node::Worded(..)));
                if open == Bracket::Bare && chains {
                    fuel.spend(2 * tree.reachable(id).len() as u64).ok()?;
                    let parts: Option<Vec<_>> = members.iter().map(|&member| at(member)).collect();
                    // Conditions on different things do not describe one set of numbers.
                    parts.filter(|_| subject(tree, id).is_some()).map(|parts| combine(separator, parts, fuel))
                } else {
                    sequence(tree, (open, close), &members, fuel)
                }
            }
            _ => None,
        };
        let found = found.filter(|parts| parts.len() <= MAX_PARTS);
        sets.push((id, found));
    }
    sets.pop()?.1.map(normalize)
}

/// True if the condition of a set-builder bounds the variable of its head, and not a function of it.
fn is_about(tree: &Tree, condition: Id, head: Id) -> bool {
    let variable = rewrite::symbols(tree, head);
    match subject(tree, condition) {
        Some(Subject::Variable(name)) => variable.as_slice() == [name],
        Some(_) => false,
        None => true,
    }
}

fn over_the_reals(tree: &Tree, head: Id) -> bool {
    match tree.node(head) {
        Node::Symbol(_) => true,
        Node::Chain(list) => tree.members(list).last().is_some_and(|&last| tree.node(last) == Node::Numbers('R')),
        _ => false,
    }
}

fn combine(separator: Separator, parts: Vec<Vec<Interval>>, fuel: &mut Fuel) -> Vec<Interval> {
    // A list of single solutions gives alternatives; a list of conditions applies as a whole.
    let points = parts.iter().flatten().all(|part| part.low == part.high);
    if separator == Separator::Or || points {
        return parts.concat();
    }
    parts.into_iter().fold(vec![ALL], |all, part| operate(SetOperation::Intersection, &all, &part, fuel))
}

/// Reads two numbers in round or square brackets as an interval, and numbers in curly or no brackets as points. Returns `None` for anything
/// else.
fn sequence(tree: &Tree, (open, close): (Bracket, Bracket), members: &[Id], fuel: &mut Fuel) -> Option<Vec<Interval>> {
    let mut end = |id: Id, closed: bool| -> Option<Endpoint> {
        let value = value::magnitude(tree, id, fuel)?;
        let infinite = value.is_infinite();
        Some(Endpoint { node: (!infinite).then_some(id), value, closed: closed && !infinite })
    };
    match (open, close, members) {
        (Bracket::Round | Bracket::Square, Bracket::Round | Bracket::Square, &[low, high]) => {
            let interval = Interval { low: end(low, open == Bracket::Square)?, high: end(high, close == Bracket::Square)? };
            Some(vec![interval])
        }
        (Bracket::Curly | Bracket::Bare, _, _) => members
            .iter()
            .map(|&member| {
                let point = end(member, true)?;
                point.node.map(|_| Interval { low: point, high: point })
            })
            .collect(),
        _ => None,
    }
}

/// Solves a chain of inequalities in one variable. Returns `None` if that is not possible or a budget runs out.
fn inequality(tree: &mut Tree, list: u32, fuel: &mut Fuel) -> Option<Vec<Interval>> {
    let (mut members, relations) = (tree.members(list).to_vec(), tree.relations_of(list).to_vec());
    // One bound on an expression in several variables describes a region; two bounds describe the range of its values.
    let subject = chain_subject(tree, list).filter(|subject| !matches!(subject, Subject::Expression(_)) || members.len() == 3)?;
    let variable = match subject {
        Subject::Variable(name) | Subject::Function(name, _) => name,
        Subject::Expression(_) => tree.name("values"),
    };
    if !matches!(subject, Subject::Variable(_)) {
        // A bound on the values of an expression is treated as a bound on one variable for those values.
        let value = tree.push(Node::Symbol(variable))?;
        for member in &mut members {
            if !rewrite::symbols(tree, *member).is_empty() {
                *member = value;
            }
        }
    }
    let mut solutions = vec![ALL];
    for (pair, &relation) in members.windows(2).zip(&relations) {
        let &[left, right] = pair else { return None };
        let solution = solve_relation(tree, left, relation, right, variable, fuel)?;
        solutions = operate(SetOperation::Intersection, &solutions, &solution, fuel);
    }
    Some(solutions)
}

/// Solves one relation of the chain.
fn solve_relation(tree: &mut Tree, left: Id, relation: Relation, right: Id, variable: u32, fuel: &mut Fuel) -> Option<Vec<Interval>> {
    let (left_has, right_has) = (!rewrite::symbols(tree, left).is_empty(), !rewrite::symbols(tree, right).is_empty());
    match (left_has, right_has) {
        (true, false) => solve_bound(tree, left, relation, right, variable, fuel),
        (false, true) => solve_bound(tree, right, flipped(relation), left, variable, fuel),
        (true, true) => {
            let difference = tree.push(Node::Subtract(left, right))?;
            let zero = tree.integer(0)?;
            solve_bound(tree, difference, relation, zero, variable, fuel)
        }
        (false, false) => None,
    }
}

/// Solves `expression relation bound`, where the expression is the variable, its absolute value, or linear in it.
fn solve_bound(tree: &mut Tree, expression: Id, relation: Relation, bound: Id, variable: u32, fuel: &mut Fuel) -> Option<Vec<Interval>> {
    let value = value::magnitude(tree, bound, fuel)?;
    let bound_end = Endpoint { node: value.is_finite().then_some(bound), value, closed: false };
    if tree.node(expression) == Node::Symbol(variable) {
        return half_line(relation, bound_end);
    }
    if let Node::Call(Function::Abs, inner) = tree.node(expression) {
        if tree.node(inner) != Node::Symbol(variable) || value < 0.0 || !value.is_finite() {
            return None;
        }
        let minus = Endpoint { node: Some(tree.push(Node::Negate(bound))?), value: -value, closed: false };
        let (above, below) = (half_line(relation, bound_end)?, half_line(flipped(relation), minus)?);
        let operation =
            if matches!(relation, Relation::Greater | Relation::GreaterEqual) { SetOperation::Union } else { SetOperation::Intersection };
        return Some(operate(operation, &above, &below, fuel));
    }
    // The linear form a·x + b follows from the values at 0, 1 and 2. A fourth point rules out a coincidence.
    let mut at = |x: i64| -> Option<BigRational> {
        tree.numbers.push(Literal { value: BigRational::from_integer(x.into()), decimals: None, significant: 0 });
        let number = Node::Number(u32::try_from(tree.numbers.len() - 1).ok()?);
        let copy = rewrite::rebuild(tree, expression, fuel, |node| if node == Node::Symbol(variable) { number } else { node })?;
        evaluate(tree, copy, Reading::PLAIN, &mut Exact, fuel)
    };
    let (zero, one, two, seven) = (at(0)?, at(1)?, at(2)?, at(7)?);
    let slope = &one - &zero;
    if slope.is_zero() || &two - &one != slope || seven != &zero + &slope * BigRational::from_integer(7.into()) {
        return None;
    }
    let bound_value = evaluate(tree, bound, Reading::PLAIN, &mut Exact, fuel)?;
    let solution = (bound_value - zero) / &slope;
    let relation = if slope < BigRational::zero() { flipped(relation) } else { relation };
    let node = tree.rational(solution)?;
    let value = value::magnitude(tree, node, fuel)?;
    half_line(relation, Endpoint { node: Some(node), value, closed: false })
}

fn half_line(relation: Relation, bound: Endpoint) -> Option<Vec<Interval>> {
    let (open, closed) = (Endpoint { closed: false, ..bound }, Endpoint { closed: bound.node.is_some(), ..bound });
    Some(match relation {
        Relation::Less => vec![Interval { low: MINUS_INFINITY, high: open }],
        Relation::LessEqual => vec![Interval { low: MINUS_INFINITY, high: closed }],
        Relation::Greater => vec![Interval { low: open, high: PLUS_INFINITY }],
        Relation::GreaterEqual => vec![Interval { low: closed, high: PLUS_INFINITY }],
        Relation::NotEqual => vec![Interval { low: MINUS_INFINITY, high: open }, Interval { low: open, high: PLUS_INFINITY }],
        Relation::Equal => vec![Interval { low: closed, high: closed }],
        Relation::Approximately | Relation::In | Relation::Other(_) => return None,
    })
}

fn operate(operation: SetOperation, a: &[Interval], b: &[Interval], fuel: &mut Fuel) -> Vec<Interval> {
    if fuel.spend((a.len() * b.len() + a.len() + b.len()) as u64).is_err() {
        return Vec::new();
    }
    match operation {
        SetOperation::Union => normalize([a, b].concat()),
        SetOperation::Intersection => intersection(a, b),
        SetOperation::Difference => intersection(a, &complement(b)),
    }
}

fn intersection(a: &[Interval], b: &[Interval]) -> Vec<Interval> {
    let pairs = a.iter().flat_map(|x| b.iter().map(move |y| Interval { low: higher_end(x.low, y.low), high: lower_end(x.high, y.high) }));
    normalize(pairs.collect())
}

fn complement(set: &[Interval]) -> Vec<Interval> {
    let mut low = MINUS_INFINITY;
    let mut gaps = Vec::new();
    for part in normalize(set.to_vec()) {
        gaps.push(Interval { low, high: Endpoint { closed: !part.low.closed && part.low.node.is_some(), ..part.low } });
        low = Endpoint { closed: !part.high.closed && part.high.node.is_some(), ..part.high };
    }
    gaps.push(Interval { low, high: PLUS_INFINITY });
    normalize(gaps)
}

/// True if two endpoints differ only by rounding.
fn nearly_equal(a: f64, b: f64) -> bool {
    a == b || a.is_finite() && b.is_finite() && (a - b).abs() <= 1e-11 * a.abs().max(b.abs())
}

/// Returns the larger of two lower endpoints, or the open one if they are equal.
fn higher_end(a: Endpoint, b: Endpoint) -> Endpoint {
    if nearly_equal(a.value, b.value) {
        if a.closed { b } else { a }
    } else if a.value > b.value {
        a
    } else {
        b
    }
}

/// Returns the smaller of two upper endpoints, or the open one if they are equal.
fn lower_end(a: Endpoint, b: Endpoint) -> Endpoint {
    if nearly_equal(a.value, b.value) {
        if a.closed { b } else { a }
    } else if a.value < b.value {
        a
    } else {
        b
    }
}

/// Removes empty parts, sorts the rest, and joins parts that touch.
fn normalize(mut set: Vec<Interval>) -> Vec<Interval> {
    set.retain(|part| {
        let point = nearly_equal(part.low.value, part.high.value);
        if point { part.low.closed && part.high.closed } else { part.low.value < part.high.value }
    });
    set.sort_by(|a, b| a.low.value.total_cmp(&b.low.value).then(b.low.closed.cmp(&a.low.closed)));
    let mut joined: Vec<Interval> = Vec::with_capacity(set.len());
    for part in set {
        match joined.last_mut() {
            Some(last) if touches(last.high, part.low) => {
                let same_high = nearly_equal(last.high.value, part.high.value);
                if same_high {
                    last.high.closed |= part.high.closed;
                } else if part.high.value > last.high.value {
                    last.high = part.high;
                }
                if nearly_equal(last.low.value, part.low.value) {
                    last.low.closed |= part.low.closed;
                }
            }
            _ => joined.push(part),
        }
    }
    joined
}

fn touches(high: Endpoint, low: Endpoint) -> bool {
    if nearly_equal(high.value, low.value) { high.closed || low.closed } else { high.value > low.value }
}
