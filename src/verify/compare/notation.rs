//! Times of day against each other, and against what may be a time: `18:05`, `6:05`, `noon`. A mark of the half of the day on one side only
//! does not count, as a unit does not.

use crate::verify::read::clock;
use crate::verify::tree::{Id, Node, Tree};

const HOUR: u32 = 3600;

/// Whether two nodes are the same time of day; `None` where neither is one, or the other is something else altogether.
pub fn same_time(tree: &Tree, gold: Id, answer: Id) -> Option<bool> {
    match (tree.node(gold), tree.node(answer)) {
        (Node::Clock(g), Node::Clock(a)) => Some(g == a),
        (Node::Clock(time), _) => unmarked(tree, time, answer),
        (_, Node::Clock(time)) => unmarked(tree, time, gold),
        _ => None,
    }
}

/// A time against hours and minutes without a mark, which may be of either half of the day, or against words.
fn unmarked(tree: &Tree, time: u32, other: Id) -> Option<bool> {
    if let Node::Text(words) = tree.node(other) {
        return clock::in_words(tree.name_of(words)).map(|seconds| seconds == time);
    }
    let (hours, rest) = clock::parts(tree, other)?;
    if matches!(tree.node(other), Node::Number(_)) && !(1..=12).contains(&hours) {
        // 17 alone is no time.
        return Some(false);
    }
    let same_hour = hours == time / HOUR || hours <= 12 && hours % 12 == time / HOUR % 12;
    Some(same_hour && rest == time % HOUR)
}
