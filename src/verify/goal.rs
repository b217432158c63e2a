//! What has to be shown for two nodes to be equal: nothing more, all of some pairs, or a matching of members. One level at a time; `compare`
//! keeps the work list. It owns the policies for lists, tuples, sets, vectors, assignments and mixed kinds.

use super::fuel::Fuel;
use super::quantity::{self, Wording};
use super::reals::{self, Interval};
use super::relation::{self, Meaning};
use super::rename;
use super::rewrite;
use super::scalar;
use super::tree::{Bracket, Id, Node, Relation, SetOperation, Tree};
use super::{Comparison, Method};

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

const DIFFERENT: Goal = Goal::Decided(Comparison { equal: false, method: Method::Structure });

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
    match (g, a) {
        (Node::Text(g), Node::Text(a)) => {
            let equal = quantity::same_text(tree.name_of(g), tree.name_of(a));
            return Some(Goal::Decided(Comparison { equal, method: Method::Text }));
        }
        (Node::Text(text), _) => return Some(spelled(tree, answer, text)),
        (_, Node::Text(text)) => return Some(spelled(tree, gold, text)),
        (Node::Chain(g), Node::Chain(a)) => return chains(tree, (gold, g), (answer, a), fuel),
        (Node::Chain(list), _) => return chain(tree, gold, list, answer, true, fuel),
        (_, Node::Chain(list)) => return chain(tree, answer, list, gold, false, fuel),
        (Node::Based(gd, gb), Node::Based(ad, ab)) => {
            let digits = |index| tree.name_of(index).trim_start_matches('0');
            return Some(Goal::Decided(Comparison { equal: gb == ab && digits(gd) == digits(ad), method: Method::Exact }));
        }
        (Node::Based(digits, _), _) => return numeral(tree, digits, answer).map(|digits| Goal::All(vec![(digits, answer)])).or(Some(DIFFERENT)),
        (_, Node::Based(digits, _)) => return numeral(tree, digits, gold).map(|digits| Goal::All(vec![(gold, digits)])).or(Some(DIFFERENT)),
        (Node::Ratio(..), Node::Ratio(..)) => {
            if let Some(goal) = ratios(tree, gold, answer)? {
                return Some(goal);
            }
        }
        (Node::Numbers(g), Node::Numbers(a)) => return Some(Goal::Decided(Comparison { equal: g == a, method: Method::Structure })),
        _ => {}
    }
    if is_set(g) || is_set(a) {
        if let Some(goal) = real_sets(tree, gold, answer, fuel)? {
            return Some(goal);
        }
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
            Node::Constant(super::tree::Constant::E) => letters.push("e"),
            Node::Constant(super::tree::Constant::I) => letters.push("i"),
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

/// Two chains.
fn chains(tree: &mut Tree, (gold, g): (Id, u32), (answer, a): (Id, u32), fuel: &mut Fuel) -> Option<Goal> {
    match (relation::meaning(tree, g), relation::meaning(tree, a)) {
        (
            Meaning::Assignment { label: gl, value: gv, .. },
            Meaning::Assignment { label: al, value: av, mut checks },
        ) => {
            let constant = rewrite::symbols(tree, gv).is_empty();
            if let (Some(g), Some(a), false) = (sides(tree, g), sides(tree, a), constant) {
                // `y = x` and `x = y` are one line; `f(x) = x` and `x = f(x)` are not read that way.
                let found = relation::proportional(tree, g, a, None, fuel);
                if found.equal {
                    return Some(Goal::Decided(found));
                }
            }
            if !relation::labels_agree(tree, gl, al, constant) {
                return Some(DIFFERENT);
            }
            let av = match (relation::bound_variable(tree, gl), relation::bound_variable(tree, al)) {
                (Some(to), Some(from)) if from != to => rewrite::rename(tree, av, from, to, fuel)?,
                _ => av,
            };
            checks.push((gv, av));
            Some(Goal::All(checks))
        }
        (Meaning::Order, Meaning::Order) => orders(tree, (gold, g), (answer, a), fuel),
        (Meaning::Membership { set: gs, .. }, Meaning::Membership { set: asw, .. }) => Some(Goal::All(vec![(gs, asw)])),
        (Meaning::Computation { value: gv, .. }, Meaning::Computation { value: av, mut checks }) => {
            checks.push((gv, av));
            Some(Goal::All(checks))
        }
        (Meaning::Assignment { value: gv, .. }, Meaning::Computation { value: av, mut checks })
        | (Meaning::Computation { value: gv, .. }, Meaning::Assignment { value: av, mut checks, .. }) => {
            checks.push((gv, av));
            Some(Goal::All(checks))
        }
        (Meaning::Order | Meaning::Membership { .. }, _) | (_, Meaning::Order | Meaning::Membership { .. }) => {
            Some(real_sets(tree, gold, answer, fuel)?.unwrap_or(DIFFERENT))
        }
        _ => {
            let (Some(g), Some(a)) = (sides(tree, g), sides(tree, a)) else { return Some(DIFFERENT) };
            Some(Goal::Decided(relation::proportional(tree, g, a, None, fuel)))
        }
    }
}

fn sides(tree: &Tree, list: u32) -> Option<(Id, Id)> {
    match tree.members(list) {
        &[left, right] => Some((left, right)),
        _ => None,
    }
}

/// Two chains with an order: the same set of numbers, or the same relation up to a factor, or the same members in the same order.
fn orders(tree: &mut Tree, (gold, g): (Id, u32), (answer, a): (Id, u32), fuel: &mut Fuel) -> Option<Goal> {
    if let Some(goal) = real_sets(tree, gold, answer, fuel)? {
        return Some(goal);
    }
    let (g_relations, a_relations) = (tree.relations_of(g).to_vec(), tree.relations_of(a).to_vec());
    if let (&[g_relation], &[a_relation], Some(g_sides), Some(a_sides)) =
        (g_relations.as_slice(), a_relations.as_slice(), sides(tree, g), sides(tree, a))
    {
        let positive = match () {
            () if g_relation == Relation::NotEqual && a_relation == g_relation => None,
            () if matches!(g_relation, Relation::Other(_) | Relation::In) => {
                let pairs = vec![(g_sides.0, a_sides.0), (g_sides.1, a_sides.1)];
                return Some(if g_relation == a_relation { Goal::All(pairs) } else { DIFFERENT });
            }
            () if g_relation == a_relation => Some(true),
            () if g_relation == relation::flipped(a_relation) => Some(false),
            () => return Some(DIFFERENT),
        };
        return Some(Goal::Decided(relation::proportional(tree, g_sides, a_sides, positive, fuel)));
    }
    let (g_members, mut a_members) = (tree.members(g).to_vec(), tree.members(a).to_vec());
    let mut a_relations = a_relations;
    if g_relations != a_relations {
        a_members.reverse();
        a_relations.reverse();
        a_relations.iter_mut().for_each(|relation| *relation = relation::flipped(*relation));
    }
    let same = g_relations == a_relations && g_members.len() == a_members.len();
    Some(if same { Goal::All(g_members.into_iter().zip(a_members).collect()) } else { DIFFERENT })
}

/// A chain against something else.
fn chain(tree: &mut Tree, chain: Id, list: u32, other: Id, chain_is_gold: bool, fuel: &mut Fuel) -> Option<Goal> {
    let pair = |value| if chain_is_gold { (value, other) } else { (other, value) };
    match relation::meaning(tree, list) {
        Meaning::Assignment { value, mut checks, .. } | Meaning::Computation { value, mut checks } => {
            if chain_is_gold {
                // The reference's own steps are not in question.
                checks.clear();
            }
            checks.push(pair(value));
            Some(Goal::All(checks))
        }
        Meaning::Membership { set, .. } => Some(Goal::All(vec![pair(set)])),
        // `a + 5b = 18` answers a question for a number, by naming what was asked. An equation asked for is no number.
        Meaning::Equation(_, right) if !chain_is_gold && constant(tree, right) && constant(tree, other) => Some(Goal::All(vec![pair(right)])),
        Meaning::Equation(..) => Some(DIFFERENT),
        Meaning::Order => {
            let (gold, answer) = pair(chain);
            Some(real_sets(tree, gold, answer, fuel)?.unwrap_or(DIFFERENT))
        }
    }
}

fn constant(tree: &Tree, id: Id) -> bool {
    rewrite::symbols(tree, id).is_empty()
}

/// Both as sets of real numbers, where both are: the same parts, ends equal and equally open.
fn real_sets(tree: &mut Tree, gold: Id, answer: Id, fuel: &mut Fuel) -> Option<Option<Goal>> {
    let Some(g) = reals::set(tree, gold, fuel) else { return Some(None) };
    let Some(a) = reals::set(tree, answer, fuel) else { return Some(None) };
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

/// Kinds that only sets have.
fn is_set(node: Node) -> bool {
    matches!(
        node,
        Node::SetOperation(..)
            | Node::Builder(..)
            | Node::EmptySet
            | Node::Numbers('R')
            | Node::Sequence { separator: super::tree::Separator::Or, .. }
    )
}

/// Kinds with members.
fn is_structure(tree: &Tree, id: Id) -> bool {
    match tree.node(id) {
        Node::Sequence { .. } | Node::Matrix { .. } | Node::SetOperation(..) | Node::Builder(..) | Node::EmptySet | Node::Numbers(_) => true,
        _ => rewrite::any(tree, id, |node| matches!(node, Node::PlusMinus(..))),
    }
}

/// The members of a list whose order does not count: a set, a bare list, or something single.
fn unordered(tree: &Tree, id: Id) -> Option<Vec<Id>> {
    match tree.node(id) {
        Node::Sequence { open: Bracket::Curly | Bracket::Bare, list, .. } => Some(tree.members(list).to_vec()),
        Node::EmptySet => Some(Vec::new()),
        Node::Sequence { .. } | Node::Matrix { .. } => None,
        _ => Some(vec![id]),
    }
}

fn structures(tree: &mut Tree, gold: Id, answer: Id, fuel: &mut Fuel) -> Option<Goal> {
    let (g, a) = (tree.node(gold), tree.node(answer));
    match (g, a) {
        (Node::Matrix { columns: gc, list: gl }, Node::Matrix { columns: ac, list: al }) => {
            return Some(if gc == ac { ordered(tree.members(gl), tree.members(al)) } else { DIFFERENT });
        }
        (Node::Matrix { columns, list }, Node::Sequence { open, list: other, .. }) if open != Bracket::Curly => {
            if let Some(rows) = rows(tree, other, columns) {
                return Some(ordered(tree.members(list), &rows));
            }
            let vector = columns == 1 || tree.members(list).len() == columns as usize;
            return Some(if vector { ordered(tree.members(list), tree.members(other)) } else { DIFFERENT });
        }
        (Node::Sequence { open, list: other, .. }, Node::Matrix { columns, list }) if open != Bracket::Curly => {
            if let Some(rows) = rows(tree, other, columns) {
                return Some(ordered(&rows, tree.members(list)));
            }
            let vector = columns == 1 || tree.members(list).len() == columns as usize;
            if !(open == Bracket::Bare && !vector) && vector {
                return Some(ordered(tree.members(other), tree.members(list)));
            }
        }
        (Node::SetOperation(go, gl, gr), Node::SetOperation(ao, al, ar)) => {
            if go != ao {
                return Some(DIFFERENT);
            }
            return Some(if go == SetOperation::Difference {
                Goal::All(vec![(gl, al), (gr, ar)])
            } else {
                Goal::Matching(operands(tree, go, gold), operands(tree, ao, answer))
            });
        }
        (Node::Builder(gh, gc), Node::Builder(ah, ac)) => return Some(Goal::All(vec![(gh, ah), (gc, ac)])),
        (
            Node::Sequence { open: go, close: gc, list: gl, .. },
            Node::Sequence { open: ao, close: ac, list: al, .. },
        ) if !signed(tree, gold) && !signed(tree, answer) => {
            if let Some(goal) = sequences(tree, (go, gc, gl), (ao, ac, al)) {
                return Some(goal);
            }
        }
        _ => {}
    }
    let (Some(g), Some(a)) = (unordered(tree, gold), unordered(tree, answer)) else {
        if signed(tree, gold) || signed(tree, answer) {
            let (g, a) = (unordered(tree, gold).unwrap_or(vec![gold]), unordered(tree, answer).unwrap_or(vec![answer]));
            return expanded(tree, g, a, (gold, answer), fuel);
        }
        return Some(DIFFERENT);
    };
    expanded(tree, g, a, (gold, answer), fuel)
}

/// The entries of a list of rows, `[[1,2],[3,4]]`.
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

/// Two sequences without ±: by order where one of them has one, by matching otherwise.
fn sequences(tree: &Tree, (go, gc, gl): (Bracket, Bracket, u32), (ao, ac, al): (Bracket, Bracket, u32)) -> Option<Goal> {
    let has_order = |bracket| matches!(bracket, Bracket::Round | Bracket::Square | Bracket::Angle);
    let (g, a) = (tree.members(gl), tree.members(al));
    match (has_order(go), has_order(ao)) {
        (true, true) => {
            // Two numbers in brackets may be an interval, whose brackets count.
            let interval = g.len() == 2 && (is_interval(go, gc) || is_interval(ao, ac));
            if interval && (round(go) != round(ao) || round(gc) != round(ac)) {
                return Some(DIFFERENT);
            }
            Some(ordered(g, a))
        }
        // A bare list against a tuple: the tuple's order is the one asked for.
        (true, false) if ao == Bracket::Bare && g.len() == a.len() => Some(ordered(g, a)),
        (false, true) if go == Bracket::Bare && g.len() == a.len() => Some(ordered(g, a)),
        (false, false) => None,
        _ => Some(DIFFERENT),
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
        return DIFFERENT;
    }
    Goal::All(gold.iter().copied().zip(answer.iter().copied()).collect())
}

fn signed(tree: &Tree, id: Id) -> bool {
    rewrite::any(tree, id, |node| matches!(node, Node::PlusMinus(..)))
}

/// A matching of members after every ± is read both ways.
fn expanded(tree: &mut Tree, gold: Vec<Id>, answer: Vec<Id>, whole: (Id, Id), fuel: &mut Fuel) -> Option<Goal> {
    let mut all = |tree: &mut Tree, members: Vec<Id>| -> Option<Vec<Id>> {
        let mut found = Vec::with_capacity(members.len());
        for member in members {
            fuel.spend(4).ok()?;
            if signed(tree, member) {
                found.extend(rewrite::expand_signs(tree, member, fuel)?);
            } else {
                found.push(member);
            }
        }
        Some(found)
    };
    let (g, a) = (all(tree, gold)?, all(tree, answer)?);
    if let (&[g], &[a]) = (g.as_slice(), a.as_slice()) {
        // A set of one is its member; the same pair again would go round in a circle.
        return Some(if (g, a) == whole { DIFFERENT } else { Goal::All(vec![(g, a)]) });
    }
    Some(if g.len() == a.len() { Goal::Matching(g, a) } else { DIFFERENT })
}

/// The operands of nested unions or intersections.
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
