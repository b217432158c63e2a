//! Compares numbers in special notations: times of day (`18:05`, `6:05`, `noon`), numerals with a base (`101_2`), ratios (`1:2:3`).

use crate::verify::Method;
use crate::verify::compare::goal::Goal;
use crate::verify::read::clock;
use crate::verify::trace::Stage;
use crate::verify::tree::{Id, Node, Tree};

/// Seconds in an hour.
const HOUR: u32 = 3600;

/// Compares two sides if one is a time of day. Returns `None` if neither is, or if the other side cannot be read as a time. `a.m.` or
/// `p.m.` on one side only is ignored, like a unit.
pub fn time(tree: &Tree, gold: Id, answer: Id) -> Option<Goal> {
    let equal = same_time(tree, gold, answer)?;
    Some(Goal::decided(Stage::Notation, "compared as times of day", equal, Method::Exact))
}

fn same_time(tree: &Tree, gold: Id, answer: Id) -> Option<bool> {
    match (tree.node(gold), tree.node(answer)) {
        (Node::Clock(g), Node::Clock(a)) => Some(g == a),
        (Node::Clock(time), _) => unmarked(tree, time, answer),
        (_, Node::Clock(time)) => unmarked(tree, time, gold),
        _ => None,
    }
}

/// Compares a time with words, or with hours and minutes without a.m. or p.m., which match both halves of the day.
fn unmarked(tree: &Tree, time: u32, other: Id) -> Option<bool> {
    if let Node::Text(words) = tree.node(other) {
        return clock::in_words(tree.name_of(words)).map(|seconds| seconds == time);
    }
    let (hours, rest) = clock::parts(tree, other)?;
    if matches!(tree.node(other), Node::Number(_)) && !(1..=12).contains(&hours) {
        // 17 alone is not a time.
        return Some(false);
    }
    let same_hour = hours == time / HOUR || hours <= 12 && hours % 12 == time / HOUR % 12;
    Some(same_hour && rest == time % HOUR)
}

/// Compares two sides if one is a numeral with a base. Returns `None` if neither is.
pub fn numerals(tree: &mut Tree, gold: Id, answer: Id) -> Option<Goal> {
    let without_base = |tree: &mut Tree, digits: u32, pair: fn(Id, Id) -> (Id, Id), other: Id| {
        let decimal = numeral(tree, digits).map(|decimal| pair(decimal, other));
        decimal.map_or(Goal::different(Stage::Notation, "digits above 9 need a base on both sides"), |pair| {
            Goal::all(Stage::Notation, "a base on one side only is ignored", vec![pair])
        })
    };
    match (tree.node(gold), tree.node(answer)) {
        (Node::Based(gold_digits, gold_base), Node::Based(answer_digits, answer_base)) => {
            let digits = |index| tree.name_of(index).trim_start_matches('0');
            let equal = gold_base == answer_base && digits(gold_digits) == digits(answer_digits);
            Some(Goal::decided(Stage::Notation, "with a base on both sides, digits and base are compared", equal, Method::Exact))
        }
        (Node::Based(digits, _), _) => Some(without_base(tree, digits, |digits, other| (digits, other), answer)),
        (_, Node::Based(digits, _)) => Some(without_base(tree, digits, |digits, other| (other, digits), gold)),
        _ => None,
    }
}

/// Reads the digits of a numeral as a decimal number, to compare it with a side that states no base.
fn numeral(tree: &mut Tree, digits: u32) -> Option<Id> {
    let value = tree.name_of(digits).parse().ok()?;
    tree.rational(num_rational::BigRational::from_integer(value))
}

/// Compares `a:b:c` with `d:e:f`, which are equal if they are proportional. Returns `Some(None)` for two ratios of two parts, which are
/// compared as fractions, and `None` if a budget runs out. Trailing zero seconds of a time are ignored.
pub fn ratios(tree: &mut Tree, gold: Id, answer: Id) -> Option<Option<Goal>> {
    let (g, a) = (parts_of_ratio(tree, gold), parts_of_ratio(tree, answer));
    if g.len() == 2 && a.len() == 2 {
        return Some(None);
    }
    if g.len() != a.len() {
        let (long, short, swapped) = if g.len() > a.len() { (&g, &a, false) } else { (&a, &g, true) };
        let time = long.len() == 3 && short.len() == 2 && long.last().is_some_and(|&last| tree.is_zero(last));
        let pairs = long.iter().zip(short).map(|(&l, &s)| if swapped { (s, l) } else { (l, s) }).collect();
        return Some(Some(if time {
            Goal::all(Stage::Notation, "zero seconds of a time are ignored", pairs)
        } else {
            Goal::different(Stage::Notation, "ratios with different numbers of parts")
        }));
    }
    let (&g_first, &a_first) = (g.first()?, a.first()?);
    let mut pairs = Vec::new();
    for (&g, &a) in g.iter().zip(&a).skip(1) {
        pairs.push((tree.push(Node::Multiply(g, a_first))?, tree.push(Node::Multiply(a, g_first))?));
    }
    Some(Some(Goal::all(Stage::Notation, "ratios, which are equal if they are proportional", pairs)))
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
