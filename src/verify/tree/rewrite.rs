//! Copies expressions with a change, such as a sign chosen for each ± or a variable renamed. Loops over ascending indices, without
//! recursion.

use crate::verify::fuel::Fuel;
use crate::verify::tree::{Id, Node, Tree};

/// Expressions with more ± signs are not expanded. Six have 2^6 variants.
const MAX_SIGNS: usize = 6;

/// Copies the expression at `root`, applying `edit` to every node after its children are copied. `None` if a budget runs out.
pub fn rebuild(tree: &mut Tree, root: Id, fuel: &mut Fuel, mut edit: impl FnMut(Node) -> Node) -> Option<Id> {
    let order = tree.reachable(root);
    let mut copies: Vec<Id> = Vec::with_capacity(order.len());
    for &id in &order {
        fuel.spend(4).ok()?;
        let map = |child: Id| order.binary_search(&child).ok().and_then(|at| copies.get(at).copied()).unwrap_or(child);
        let node = match tree.node(id) {
            Node::Negate(a) => Node::Negate(map(a)),
            Node::Add(a, b) => Node::Add(map(a), map(b)),
            Node::Subtract(a, b) => Node::Subtract(map(a), map(b)),
            Node::Multiply(a, b) => Node::Multiply(map(a), map(b)),
            Node::Divide(a, b) => Node::Divide(map(a), map(b)),
            Node::Ratio(a, b) => Node::Ratio(map(a), map(b)),
            Node::Power(a, b) => Node::Power(map(a), map(b)),
            Node::PlusMinus(a, b, flag) => Node::PlusMinus(map(a), map(b), flag),
            Node::Call(function, a) => Node::Call(function, map(a)),
            Node::Call2(function, a, b) => Node::Call2(function, map(a), map(b)),
            Node::Percent(a) => Node::Percent(map(a)),
            Node::Degree(a) => Node::Degree(map(a)),
            Node::SetOperation(operation, a, b) => Node::SetOperation(operation, map(a), map(b)),
            Node::Builder(a, b) => Node::Builder(map(a), map(b)),
            Node::Worded(prefix, a, suffix) => Node::Worded(prefix, map(a), suffix),
            Node::Opaque(name, list) => Node::Opaque(name, copy(tree, list, map)),
            Node::Sequence { open, close, separator, list } => Node::Sequence { open, close, separator, list: copy(tree, list, map) },
            Node::Chain(list) => Node::Chain(copy(tree, list, map)),
            Node::Matrix { columns, list } => Node::Matrix { columns, list: copy(tree, list, map) },
            leaf => leaf,
        };
        let node = edit(node);
        copies.push(tree.push(node)?);
    }
    copies.last().copied()
}

fn copy(tree: &mut Tree, list: u32, map: impl Fn(Id) -> Id) -> u32 {
    let members = tree.members(list).iter().map(|&member| map(member)).collect();
    let relations = tree.relations_of(list).to_vec();
    tree.list(members, relations)
}

/// Expands each ± to both signs. Returns all combinations; if a ∓ occurs, only the two in which all signs are upper or all are lower.
/// `None` if there are too many signs or a budget runs out.
pub fn expand_signs(tree: &mut Tree, root: Id, fuel: &mut Fuel) -> Option<Vec<Id>> {
    let signs: Vec<bool> = tree
        .reachable(root)
        .into_iter()
        .filter_map(|id| match tree.node(id) {
            Node::PlusMinus(_, _, minus_first) => Some(minus_first),
            _ => None,
        })
        .collect();
    if signs.is_empty() {
        return Some(vec![root]);
    }
    let tied = signs.contains(&true);
    if signs.len() > MAX_SIGNS && !tied {
        return None;
    }
    let free = if tied { 1 } else { signs.len() };
    let mut variants = Vec::with_capacity(1 << free);
    for choice in 0u32..1 << free {
        let mut index = 0;
        let variant = rebuild(tree, root, fuel, |node| match node {
            Node::PlusMinus(a, b, minus_first) => {
                let bit = choice >> if tied { 0 } else { index } & 1 == 1;
                index += 1;
                if bit != minus_first { Node::Subtract(a, b) } else { Node::Add(a, b) }
            }
            other => other,
        })?;
        variants.push(variant);
    }
    Some(variants)
}

/// Copies the expression with the variable `from` renamed to `to`. `None` if a budget runs out.
pub fn rename(tree: &mut Tree, root: Id, from: u32, to: u32, fuel: &mut Fuel) -> Option<Id> {
    rebuild(tree, root, fuel, |node| if node == Node::Symbol(from) { Node::Symbol(to) } else { node })
}

/// Returns the variables of an expression as indices of their names, ascending.
pub fn symbols(tree: &Tree, root: Id) -> Vec<u32> {
    let mut names: Vec<u32> = tree
        .reachable(root)
        .into_iter()
        .filter_map(|id| match tree.node(id) {
            Node::Symbol(name) => Some(name),
            _ => None,
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// True if any node of the expression satisfies `test`.
pub fn any(tree: &Tree, root: Id, test: impl Fn(Node) -> bool) -> bool {
    tree.reachable(root).into_iter().any(|id| test(tree.node(id)))
}
