//! Compares answers with members: lists, tuples, sets, vectors, matrices, and anything with a ±.

use crate::verify::compare::goal::Goal;
use crate::verify::fuel::Fuel;
use crate::verify::trace::Stage;
use crate::verify::tree::rewrite;
use crate::verify::tree::{Bracket, Id, Node, SetOperation, Tree};
use crate::verify::value;

// Rules shared by several kinds of nodes.
const ALONE: &str = "a list or set with one member is compared as that member";
const SHAPES: &str = "matrices or vectors of different shape";
const SIZES: &str = "different numbers of members";

/// True for kinds of nodes with members.
pub fn is_structure(tree: &Tree, id: Id) -> bool {
    match tree.node(id) {
        Node::Sequence { .. } | Node::Matrix { .. } | Node::SetOperation(..) | Node::Builder(..) | Node::EmptySet | Node::Numbers(_) => {
            true
        }
        _ => rewrite::any(tree, id, |node| matches!(node, Node::PlusMinus(..))),
    }
}

/// Returns the members of a set or a bare list, or a single item alone. `None` for ordered kinds.
fn unordered(tree: &Tree, id: Id) -> Option<Vec<Id>> {
    match tree.node(id) {
        Node::Sequence { open: Bracket::Curly | Bracket::Bare, list, .. } => Some(tree.members(list).to_vec()),
        Node::EmptySet => Some(Vec::new()),
        Node::Sequence { .. } | Node::Matrix { .. } => None,
        _ => Some(vec![id]),
    }
}

/// Returns the goal for two answers of which at least one has members. `None` if a budget runs out.
pub fn structures(tree: &mut Tree, gold: Id, answer: Id, fuel: &mut Fuel) -> Option<Goal> {
    let (g, a) = (tree.node(gold), tree.node(answer));
    // A set with one member is compared as that member.
    let alone = |node| match node {
        Node::Sequence { open: Bracket::Curly, list, .. } => match *tree.members(list) {
            [single] => Some(single),
            _ => None,
        },
        _ => None,
    };
    match (alone(g), alone(a)) {
        (Some(single), None) => return Some(Goal::all(Stage::Members, ALONE, vec![(single, answer)])),
        (None, Some(single)) => return Some(Goal::all(Stage::Members, ALONE, vec![(gold, single)])),
        _ => {}
    }
    match (g, a) {
        (Node::Matrix { columns: gc, list: gl }, Node::Matrix { columns: ac, list: al }) => {
            return Some(if gc == ac { ordered(tree.members(gl), tree.members(al)) } else { Goal::different(Stage::Members, SHAPES) });
        }
        (Node::Matrix { columns, list }, Node::Sequence { open, list: other, .. }) if open != Bracket::Curly => {
            if let Some(rows) = rows(tree, other, columns) {
                return Some(ordered(tree.members(list), &rows));
            }
            let vector = columns == 1 || tree.members(list).len() == columns as usize;
            return Some(if vector { ordered(tree.members(list), tree.members(other)) } else { Goal::different(Stage::Members, SHAPES) });
        }
        (Node::Sequence { open, list: other, .. }, Node::Matrix { columns, list }) if open != Bracket::Curly => {
            if let Some(rows) = rows(tree, other, columns) {
                return Some(ordered(&rows, tree.members(list)));
            }
            let vector = columns == 1 || tree.members(list).len() == columns as usize;
            if vector {
                return Some(ordered(tree.members(other), tree.members(list)));
            }
        }
        (Node::SetOperation(go, gl, gr), Node::SetOperation(ao, al, ar)) => {
            if go != ao {
                return Some(Goal::different(Stage::Members, "different set operations"));
            }
            return Some(if go == SetOperation::Difference {
                Goal::all(Stage::Members, "differences of sets, operand by operand", vec![(gl, al), (gr, ar)])
            } else {
                let (g, a) = (operands(tree, go, gold), operands(tree, ao, answer));
                Goal::matching(Stage::Members, "unions or intersections, in any order", g, a)
            });
        }
        (Node::Builder(gh, gc), Node::Builder(ah, ac)) => {
            return Some(Goal::all(Stage::Members, "set-builders, element and condition", vec![(gh, ah), (gc, ac)]));
        }
        (Node::Sequence { open: go, close: gc, list: gl, .. }, Node::Sequence { open: ao, close: ac, list: al, .. })
            if !has_plus_minus(tree, gold) && !has_plus_minus(tree, answer) =>
        {
            if let Some(goal) = sequences(tree, (go, gc, gl), (ao, ac, al)) {
                return Some(goal);
            }
        }
        _ => {}
    }
    let (Some(g), Some(a)) = (unordered(tree, gold), unordered(tree, answer)) else {
        if has_plus_minus(tree, gold) || has_plus_minus(tree, answer) {
            let (g, a) = (unordered(tree, gold).unwrap_or(vec![gold]), unordered(tree, answer).unwrap_or(vec![answer]));
            return expanded(tree, g, a, (gold, answer), fuel);
        }
        return Some(Goal::different(Stage::Members, "different kinds: one is ordered, the other is not"));
    };
    expanded(tree, g, a, (gold, answer), fuel)
}

/// Returns the entries of a list of rows, such as `[[1,2],[3,4]]`. `None` unless every row has `columns` entries.
fn rows(tree: &Tree, list: u32, columns: u32) -> Option<Vec<Id>> {
    let mut entries = Vec::new();
    for &row in tree.members(list) {
        let Node::Sequence { list, .. } = tree.node(row) else { return None };
        let row = tree.members(list);
        if row.len() != columns as usize {
            return None;
        }
        entries.extend_from_slice(row);
    }
    Some(entries)
}

/// Compares two sequences without ±, in order if either is ordered. Returns `None` for two unordered ones.
fn sequences(tree: &Tree, (go, gc, gl): (Bracket, Bracket, u32), (ao, ac, al): (Bracket, Bracket, u32)) -> Option<Goal> {
    let has_order = |bracket| matches!(bracket, Bracket::Round | Bracket::Square | Bracket::Angle);
    let (g, a) = (tree.members(gl), tree.members(al));
    // `[2,3)` can only be an interval.
    let half_open = |open, close| has_order(open) && round(open) != round(close);
    if half_open(go, gc) != half_open(ao, ac) {
        return Some(Goal::different(Stage::Members, "a half-open interval against something else"));
    }
    match (has_order(go), has_order(ao)) {
        (true, true) => {
            // Two numbers in brackets may be an interval, in which the kind of bracket matters.
            let interval = g.len() == 2 && (is_interval(go, gc) || is_interval(ao, ac));
            if interval && (round(go) != round(ao) || round(gc) != round(ac)) {
                return Some(Goal::different(Stage::Members, "intervals whose endpoints are not equally open"));
            }
            Some(ordered(g, a))
        }
        // A bare list compared with a tuple must have the order of the tuple.
        (true, false) if ao == Bracket::Bare && g.len() == a.len() => Some(ordered(g, a)),
        (false, true) if go == Bracket::Bare && g.len() == a.len() => Some(ordered(g, a)),
        (false, false) => None,
        _ => Some(Goal::different(Stage::Members, "an ordered list against an unordered one")),
    }
}

fn is_interval(open: Bracket, close: Bracket) -> bool {
    open == Bracket::Square || close == Bracket::Square
}

fn round(bracket: Bracket) -> bool {
    bracket != Bracket::Square
}

fn ordered(gold: &[Id], answer: &[Id]) -> Goal {
    if gold.len() != answer.len() {
        return Goal::different(Stage::Members, SIZES);
    }
    Goal::all(Stage::Members, "member by member, in order", gold.iter().copied().zip(answer.iter().copied()).collect())
}

fn has_plus_minus(tree: &Tree, id: Id) -> bool {
    rewrite::any(tree, id, |node| matches!(node, Node::PlusMinus(..)))
}

/// Matches the members after expanding each ± to both signs.
fn expanded(tree: &mut Tree, gold: Vec<Id>, answer: Vec<Id>, whole: (Id, Id), fuel: &mut Fuel) -> Option<Goal> {
    let members = gold.len() + answer.len();
    let mut all = |tree: &mut Tree, members: Vec<Id>| -> Option<Vec<Id>> {
        let mut found = Vec::with_capacity(members.len());
        for member in members {
            fuel.spend(4).ok()?;
            if has_plus_minus(tree, member) {
                found.extend(rewrite::expand_signs(tree, member, fuel)?);
            } else {
                found.push(member);
            }
        }
        Some(found)
    };
    let (g, a) = (all(tree, gold)?, all(tree, answer)?);
    if let (&[g], &[a]) = (g.as_slice(), a.as_slice()) {
        // A set with one member is compared as that member. Returning the same pair again would loop forever.
        return Some(if (g, a) == whole {
            Goal::different(Stage::Members, "different kinds")
        } else {
            Goal::all(Stage::Members, ALONE, vec![(g, a)])
        });
    }
    if g.len() != a.len() {
        return Some(Goal::different(Stage::Members, SIZES));
    }
    let (g, a) = (by_size(tree, g, fuel), by_size(tree, a, fuel));
    let rule = if members < g.len() + a.len() { "in any order, with each ± as its two values" } else { "in any order" };
    Some(Goal::matching(Stage::Members, rule, g, a))
}

/// Sorts four or more members by value if all have one. Equal members then have the same index, so the matching takes linear time.
fn by_size(tree: &Tree, members: Vec<Id>, fuel: &mut Fuel) -> Vec<Id> {
    if members.len() < 4 {
        return members;
    }
    let sizes: Option<Vec<(f64, Id)>> =
        members.iter().map(|&member| value::magnitude(tree, member, fuel).map(|size| (size, member))).collect();
    let Some(mut sizes) = sizes else { return members };
    sizes.sort_by(|a, b| a.0.total_cmp(&b.0));
    sizes.into_iter().map(|(_, member)| member).collect()
}

/// Returns the operands of nested unions or intersections.
fn operands(tree: &Tree, operation: SetOperation, root: Id) -> Vec<Id> {
    let (mut found, mut stack) = (Vec::new(), vec![root]);
    while let Some(id) = stack.pop() {
        match tree.node(id) {
            Node::SetOperation(other, a, b) if other == operation => stack.extend([b, a]),
            _ => found.push(id),
        }
    }
    found
}
