//! What has to be shown for two nodes to be equal: nothing more, all of some pairs, or a matching of members. One level at a time; `compare`
//! keeps the work list. It owns the policies for lists, tuples, sets, vectors, assignments and mixed kinds.

use crate::verify::compare::chain::{chain, chains};
use crate::verify::compare::notation;
use crate::verify::compare::quantity::{self, Wording};
use crate::verify::compare::reals::{self, Interval};
use crate::verify::compare::rename;
use crate::verify::compare::structure::{is_structure, structures};
use crate::verify::compare::subject::{Subject, subject};
use crate::verify::fuel::Fuel;

use crate::verify::compare::scalar;
use crate::verify::tree::{Bracket, Id, Node, Relation, Tree};
use crate::verify::{Comparison, Method};

/// What remains to be shown.
#[derive(Clone, Debug)]
pub enum Goal {
    /// Nothing.
    Decided(Comparison),
    /// Every pair is equal.
    All(Vec<(Id, Id)>),
    /// The members can be paired so that every pair is equal.
    Matching(Vec<Id>, Vec<Id>),
}

/// Answers of different shape.
pub const DIFFERENT: Goal = Goal::Decided(Comparison { equal: false, method: Method::Structure });

/// The goal of comparing `gold` with `answer`; `None` when a budget ends.
pub fn goal(tree: &mut Tree, gold: Id, answer: Id, fuel: &mut Fuel) -> Option<Goal> {
    let (g, a) = (tree.node(gold), tree.node(answer));
    let leaves = matches!((g, a), (Node::Number(_), Node::Number(_)));
    let size = if leaves { 0 } else { tree.reachable(gold).len() + tree.reachable(answer).len() };
    fuel.spend(16 + 4 * size as u64).ok()?;
    if matches!(g, Node::Worded(..)) || matches!(a, Node::Worded(..)) {
        return worded(tree, gold, answer, fuel);
    }
    if let Some((gold, answer)) = without_ranges(tree, gold, answer) {
        return Some(Goal::All(vec![(gold, answer)]));
    }
    if let (Node::Number(_), Node::Number(_)) = (g, a) {
        return Some(Goal::Decided(scalar::compare(tree, gold, answer, fuel)));
    }
    if let Some(equal) = notation::same_time(tree, gold, answer) {
        return Some(Goal::Decided(Comparison { equal, method: Method::Exact }));
    }
    match (g, a) {
        (Node::Text(g), Node::Text(a)) => {
            let equal = quantity::same_text(tree.name_of(g), tree.name_of(a));
            return Some(Goal::Decided(Comparison { equal, method: Method::Text }));
        }
        (Node::Text(text), _) => {
            return match set_in_words(tree, text) {
                Some(set) if is_set(a) || is_structure(tree, answer) => Some(Goal::All(vec![(tree.push(set)?, answer)])),
                _ => Some(spelled(tree, answer, text)),
            };
        }
        (_, Node::Text(text)) => {
            return match set_in_words(tree, text) {
                Some(set) if is_set(g) || is_structure(tree, gold) => Some(Goal::All(vec![(gold, tree.push(set)?)])),
                _ => Some(spelled(tree, gold, text)),
            };
        }
        (Node::Chain(g), Node::Chain(a)) => return chains(tree, (gold, g), (answer, a), fuel),
        (Node::Chain(list), _) => return chain(tree, gold, list, answer, true, fuel),
        (_, Node::Chain(list)) => return chain(tree, answer, list, gold, false, fuel),
        (Node::Based(gd, gb), Node::Based(ad, ab)) => {
            let digits = |index| tree.name_of(index).trim_start_matches('0');
            return Some(Goal::Decided(Comparison { equal: gb == ab && digits(gd) == digits(ad), method: Method::Exact }));
        }
        (Node::Based(digits, _), _) => {
            return numeral(tree, digits, answer).map(|digits| Goal::All(vec![(digits, answer)])).or(Some(DIFFERENT));
        }
        (_, Node::Based(digits, _)) => {
            return numeral(tree, digits, gold).map(|digits| Goal::All(vec![(gold, digits)])).or(Some(DIFFERENT));
        }
        (Node::Ratio(..), Node::Ratio(..)) => {
            if let Some(goal) = ratios(tree, gold, answer)? {
                return Some(goal);
            }
        }
        (Node::Numbers(g), Node::Numbers(a)) => return Some(Goal::Decided(Comparison { equal: g == a, method: Method::Structure })),
        _ => {}
    }
    if (is_set(g) || is_set(a) || are_conditions(tree, g) || are_conditions(tree, a))
        && let Some(goal) = real_sets(tree, gold, answer, fuel)?
    {
        return Some(goal);
    }
    if is_structure(tree, gold) || is_structure(tree, answer) {
        return structures(tree, gold, answer, fuel);
    }
    scalars(tree, gold, answer, fuel)
}

/// Words around either side.
fn worded(tree: &mut Tree, gold: Id, answer: Id, fuel: &mut Fuel) -> Option<Goal> {
    let parts = |id| match tree.node(id) {
        Node::Worded(before, body, after) => (body, quantity::words_at(tree, before), quantity::words_at(tree, after)),
        _ => (id, "", ""),
    };
    let ((gold, g_before, g_after), (answer, a_before, a_after)) = (parts(gold), parts(answer));
    let wording = quantity::compare((g_before, g_after), (a_before, a_after));
    let answer = if g_after.contains("integer") || a_after.contains("integer") {
        // The letter of "some integer n" is arbitrary.
        rename::arbitrary(tree, gold, answer, fuel).unwrap_or(answer)
    } else {
        answer
    };
    match wording {
        Wording::Different => Some(DIFFERENT),
        Wording::Compatible(ratio) if num_traits::One::is_one(&ratio) => Some(Goal::All(vec![(gold, answer)])),
        Wording::Compatible(ratio) => {
            let factor = tree.rational(ratio)?;
            let scaled = tree.push(Node::Multiply(answer, factor))?;
            Some(Goal::All(vec![(gold, scaled)]))
        }
    }
}

/// The pair without items that only say what a parameter ranges over, `k \in \mathbb{Z}`; `None` where there is none.
fn without_ranges(tree: &mut Tree, gold: Id, answer: Id) -> Option<(Id, Id)> {
    let (g, a) = (without_range(tree, gold), without_range(tree, answer));
    (g.is_some() || a.is_some()).then(|| (g.unwrap_or(gold), a.unwrap_or(answer)))
}

fn without_range(tree: &mut Tree, id: Id) -> Option<Id> {
    let Node::Sequence { open: Bracket::Bare, close, separator, list } = tree.node(id) else { return None };
    let range = |tree: &Tree, member: Id| match tree.node(member) {
        Node::Chain(list) => match (tree.relations_of(list), tree.members(list)) {
            (&[Relation::In], &[variable, set]) => {
                matches!(tree.node(variable), Node::Symbol(_)) && matches!(tree.node(set), Node::Numbers('Z' | 'N' | 'R' | 'Q'))
            }
            _ => false,
        },
        _ => false,
    };
    let members = tree.members(list);
    let rest: Vec<Id> = members.iter().copied().filter(|&member| !range(tree, member)).collect();
    if rest.len() == members.len() || rest.is_empty() {
        return None;
    }
    if let &[single] = rest.as_slice() {
        return Some(single);
    }
    let list = tree.list(rest, Vec::new());
    tree.push(Node::Sequence { open: Bracket::Bare, close, separator, list })
}

/// The set that words name.
fn set_in_words(tree: &Tree, text: u32) -> Option<Node> {
    match tree.name_of(text) {
        "all real numbers" | "all reals" | "real numbers" | "the real numbers" => Some(Node::Numbers('R')),
        "no solution" | "no solutions" | "no real solution" | "no real solutions" | "empty set" | "the empty set" => Some(Node::EmptySet),
        _ => None,
    }
}

/// Plain letters read as a product of variables, against the same letters read as words.
fn spelled(tree: &Tree, other: Id, text: u32) -> Goal {
    let mut letters: Vec<&str> = Vec::new();
    let mut id = other;
    let equal = loop {
        let (rest, last) = match tree.node(id) {
            Node::Multiply(a, b) => (Some(a), b),
            _ => (None, id),
        };
        match tree.node(last) {
            Node::Symbol(name) => letters.push(tree.name_of(name)),
            Node::Constant(crate::verify::tree::Constant::E) => letters.push("e"),
            Node::Constant(crate::verify::tree::Constant::I) => letters.push("i"),
            _ => break false,
        }
        match rest {
            Some(rest) => id = rest,
            None => {
                letters.reverse();
                break quantity::same_text(&letters.concat(), tree.name_of(text));
            }
        }
    };
    Goal::Decided(Comparison { equal, method: Method::Text })
}

/// A numeral's digits as a decimal number, to compare with a side that states no base.
fn numeral(tree: &mut Tree, digits: u32, _other: Id) -> Option<Id> {
    let value = tree.name_of(digits).parse().ok()?;
    tree.rational(num_rational::BigRational::from_integer(value))
}

/// `a:b:c` against `d:e:f`: proportional. Two-part ratios are fractions; a time's zero seconds do not count.
fn ratios(tree: &mut Tree, gold: Id, answer: Id) -> Option<Option<Goal>> {
    let (g, a) = (parts_of_ratio(tree, gold), parts_of_ratio(tree, answer));
    if g.len() == 2 && a.len() == 2 {
        return Some(None);
    }
    if g.len() != a.len() {
        let (long, short, swapped) = if g.len() > a.len() { (&g, &a, false) } else { (&a, &g, true) };
        let time = long.len() == 3 && short.len() == 2 && long.last().is_some_and(|&last| tree.is_zero(last));
        let pairs = long.iter().zip(short).map(|(&l, &s)| if swapped { (s, l) } else { (l, s) }).collect();
        return Some(Some(if time { Goal::All(pairs) } else { DIFFERENT }));
    }
    let (&g_first, &a_first) = (g.first()?, a.first()?);
    let mut pairs = Vec::new();
    for (&g, &a) in g.iter().zip(&a).skip(1) {
        pairs.push((tree.push(Node::Multiply(g, a_first))?, tree.push(Node::Multiply(a, g_first))?));
    }
    Some(Some(Goal::All(pairs)))
}

fn parts_of_ratio(tree: &Tree, mut id: Id) -> Vec<Id> {
    let mut parts = Vec::new();
    while let Node::Ratio(a, b) = tree.node(id) {
        parts.push(b);
        id = a;
    }
    parts.push(id);
    parts.reverse();
    parts
}

/// Both as sets of real numbers, where both are: the same parts, ends equal and equally open.
pub fn real_sets(tree: &mut Tree, gold: Id, answer: Id, fuel: &mut Fuel) -> Option<Option<Goal>> {
    let Some(g) = reals::set(tree, gold, fuel) else { return Some(None) };
    let Some(a) = reals::set(tree, answer, fuel) else { return Some(None) };
    match (subject(tree, gold), subject(tree, answer)) {
        // Two inequalities between expressions may be one up to a factor.
        (Some(Subject::Expression(_)), Some(Subject::Expression(_))) => return Some(None),
        (Some(g), Some(a)) if !g.agrees(a, tree) => return Some(Some(DIFFERENT)),
        _ => {}
    }
    if g.len() != a.len() {
        return Some(Some(DIFFERENT));
    }
    let mut pairs = Vec::new();
    for (g, a) in g.iter().zip(&a) {
        if !same_shape(g, a) {
            return Some(Some(DIFFERENT));
        }
        pairs.extend(g.low.node.zip(a.low.node));
        pairs.extend(g.high.node.zip(a.high.node));
    }
    Some(Some(Goal::All(pairs)))
}

fn same_shape(g: &Interval, a: &Interval) -> bool {
    let shape = |part: &Interval| (part.low.closed, part.high.closed, part.low.node.is_some(), part.high.node.is_some());
    shape(g) == shape(a)
}

/// Inequalities side by side, which hold at once: `x > 2, x < 3`.
fn are_conditions(tree: &Tree, node: Node) -> bool {
    let is_order = |relation: &Relation| {
        matches!(relation, Relation::Less | Relation::LessEqual | Relation::Greater | Relation::GreaterEqual | Relation::NotEqual)
    };
    match node {
        Node::Sequence { open: Bracket::Bare, list, .. } => tree.members(list).iter().all(|&member| match tree.node(member) {
            Node::Chain(list) => tree.relations_of(list).iter().all(is_order),
            _ => false,
        }),
        _ => false,
    }
}

/// Kinds that only sets have.
fn is_set(node: Node) -> bool {
    matches!(
        node,
        Node::SetOperation(..)
            | Node::Builder(..)
            | Node::EmptySet
            | Node::Numbers('R')
            | Node::Sequence { separator: crate::verify::tree::Separator::Or, .. }
    )
}

/// Two expressions, and once more with a parameter renamed where its letter is arbitrary.
fn scalars(tree: &mut Tree, gold: Id, answer: Id, fuel: &mut Fuel) -> Option<Goal> {
    let found = scalar::compare(tree, gold, answer, fuel);
    if found.equal {
        return Some(Goal::Decided(found));
    }
    if let Some(renamed) = rename::parameter(tree, gold, answer, fuel) {
        return Some(Goal::Decided(scalar::compare(tree, gold, renamed, fuel)));
    }
    Some(Goal::Decided(found))
}
