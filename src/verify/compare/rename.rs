//! Renames letters whose choice does not matter: the integer in `k\pi`, the case of a constant.

use crate::verify::compare::relation::{self, Meaning};
use crate::verify::fuel::Fuel;
use crate::verify::tree::rewrite;
use crate::verify::tree::{Constant, Id, Node, Tree};

/// Letters that usually stand for an arbitrary integer.
const PARAMETERS: [&str; 8] = ["k", "n", "m", "l", "j", "t", "N", "K"];

/// Renames the one letter that only the answer has to the one letter that only the gold answer has. Applies if both are the same letter in
/// different case, or if both are parameters of a periodic family (next to π, i or a degree sign). Otherwise returns `None`.
pub fn parameter(tree: &mut Tree, gold: Id, answer: Id, fuel: &mut Fuel) -> Option<Id> {
    let (to, from) = unmatched_letters(tree, gold, answer)?;
    let (to_name, from_name) = (tree.name_of(to), tree.name_of(from));
    let periodic = |id| rewrite::any(tree, id, |node| matches!(node, Node::Constant(Constant::Pi | Constant::I) | Node::Degree(_)));
    let parameters = PARAMETERS.contains(&to_name) && PARAMETERS.contains(&from_name);
    let same_letter = to_name.eq_ignore_ascii_case(from_name);
    if !(same_letter || parameters && periodic(gold) && periodic(answer)) {
        return None;
    }
    rewrite::rename(tree, answer, from, to, fuel)
}

/// Like [`parameter`], for letters that the text calls arbitrary, so any two letters qualify. For an assignment, only the letters of its
/// value count.
pub fn arbitrary(tree: &mut Tree, gold: Id, answer: Id, fuel: &mut Fuel) -> Option<Id> {
    let value = |tree: &Tree, id: Id| match tree.node(id) {
        Node::Chain(list) => match relation::meaning(tree, list) {
            Meaning::Assignment { value, .. } => value,
            _ => id,
        },
        _ => id,
    };
    let (to, from) = unmatched_letters(tree, value(tree, gold), value(tree, answer))?;
    rewrite::rename(tree, answer, from, to, fuel)
}

/// Returns the one variable of each side that the other side lacks, gold answer first. `None` unless both sides have exactly one.
fn unmatched_letters(tree: &Tree, gold: Id, answer: Id) -> Option<(u32, u32)> {
    let (g, a) = (rewrite::symbols(tree, gold), rewrite::symbols(tree, answer));
    let only = |of: &[u32], other: &[u32]| -> Option<u32> {
        let mut rest = of.iter().copied().filter(|name| !other.contains(name));
        let first = rest.next()?;
        rest.next().is_none().then_some(first)
    };
    Some((only(&g, &a)?, only(&a, &g)?))
}

/// Rewrites part of the answer with letters in the case of the gold answer, except letters that the answer uses in both cases. `None` if a
/// budget runs out.
pub fn match_case(tree: &mut Tree, gold: Id, answer: Id, mut part: Id, fuel: &mut Fuel) -> Option<Id> {
    let (known, own) = (rewrite::symbols(tree, gold), rewrite::symbols(tree, answer));
    for &from in own.iter().filter(|from| !known.contains(from)) {
        fuel.spend((known.len() + own.len()) as u64).ok()?;
        let alike = |other: &&u32| tree.name_of(**other).eq_ignore_ascii_case(tree.name_of(from));
        let candidates: Vec<u32> = known.iter().filter(alike).copied().collect();
        if let (&[to], 1) = (candidates.as_slice(), own.iter().filter(alike).count()) {
            part = rewrite::rename(tree, part, from, to, fuel)?;
        }
    }
    Some(part)
}
