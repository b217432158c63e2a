//! Letters that are a matter of taste: the integer in `k\pi`, the case of a constant.

use crate::verify::compare::relation::{self, Meaning};
use crate::verify::fuel::Fuel;
use crate::verify::tree::rewrite;
use crate::verify::tree::{Constant, Id, Node, Tree};

/// Letters that stand for any integer.
const PARAMETERS: [&str; 8] = ["k", "n", "m", "l", "j", "t", "N", "K"];

/// The answer with its one letter that the gold does not have replaced by the gold's one letter that it does not have, where both are the same
/// letter in another case, or parameters of a periodic family (next to π or a degree sign).
pub fn parameter(tree: &mut Tree, gold: Id, answer: Id, fuel: &mut Fuel) -> Option<Id> {
    let (to, from) = odd_letters(tree, gold, answer)?;
    let (to_name, from_name) = (tree.name_of(to), tree.name_of(from));
    let periodic = |id| rewrite::any(tree, id, |node| matches!(node, Node::Constant(Constant::Pi | Constant::I) | Node::Degree(_)));
    let parameters = PARAMETERS.contains(&to_name) && PARAMETERS.contains(&from_name);
    let same_letter = to_name.eq_ignore_ascii_case(from_name);
    if !(same_letter || parameters && periodic(gold) && periodic(answer)) {
        return None;
    }
    rewrite::rename(tree, answer, from, to, fuel)
}

/// The answer with its one odd letter replaced by the gold's, whatever they are: for letters said to be arbitrary. Of an assignment, the letters
/// of its value count.
pub fn arbitrary(tree: &mut Tree, gold: Id, answer: Id, fuel: &mut Fuel) -> Option<Id> {
    let value = |tree: &Tree, id: Id| match tree.node(id) {
        Node::Chain(list) => match relation::meaning(tree, list) {
            Meaning::Assignment { value, .. } => value,
            _ => id,
        },
        _ => id,
    };
    let (to, from) = odd_letters(tree, value(tree, gold), value(tree, answer))?;
    rewrite::rename(tree, answer, from, to, fuel)
}

/// The one variable of each side that the other does not have, the gold's first.
fn odd_letters(tree: &Tree, gold: Id, answer: Id) -> Option<(u32, u32)> {
    let (g, a) = (rewrite::symbols(tree, gold), rewrite::symbols(tree, answer));
    let only = |of: &[u32], other: &[u32]| -> Option<u32> {
        let mut rest = of.iter().copied().filter(|name| !other.contains(name));
        let first = rest.next()?;
        rest.next().is_none().then_some(first)
    };
    Some((only(&g, &a)?, only(&a, &g)?))
}

/// A part of the answer with each letter that the gold has in another case only put into the gold's; nothing changes where a letter is used in both.
pub fn cased(tree: &mut Tree, gold: Id, answer: Id, mut part: Id, fuel: &mut Fuel) -> Option<Id> {
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
