//! The ladder from text to values: normalised text first, then whatever both sides can be read as. It owns the order of the rungs.

use crate::verify::choice;
use crate::verify::compare;
use crate::verify::compare::quantity;
use crate::verify::compare::scalar;
use crate::verify::fuel::Fuel;
use crate::verify::read;
use crate::verify::read::lex::Commas;
use crate::verify::text;
use crate::verify::tree::show;
use crate::verify::tree::{Id, Node, Relation, Tree};
use crate::verify::{Comparison, Method};

/// Compares two answers, read in every sensible way.
pub fn equal(gold: &str, answer: &str) -> Comparison {
    let (gold_text, answer_text) = (text::normalise(gold), text::normalise(answer));
    if gold_text.is_empty() || answer_text.is_empty() {
        return Comparison { equal: false, method: Method::NoAnswer };
    }
    if gold_text == answer_text {
        return Comparison { equal: true, method: Method::Text };
    }
    if let Some(found) = choice::compare(&gold_text, &answer_text) {
        return found;
    }
    if gold_text.len().max(answer_text.len()) > read::MAX_LENGTH {
        // Too long to read; a long list may still come in another order.
        return Comparison { equal: same_items(&gold_text, &answer_text), method: Method::Text };
    }
    let mut fuel = Fuel::new(Fuel::COMPARISON);
    let (gold, answer) = (text::clean(gold), text::clean(answer));
    let mut found = read_and_compare(&gold, Commas::Group, &answer, Commas::Group, &mut fuel);
    // `1,234` is a number on one side and may be two of them on the other.
    let ambiguous = |text: &str| text.as_bytes().windows(3).any(|w| matches!(w, [a, b',', b] if a.is_ascii_digit() && b.is_ascii_digit()));
    if !found.equal && ambiguous(&gold) {
        found = better(found, read_and_compare(&gold, Commas::Separate, &answer, Commas::Separate, &mut fuel));
    }
    if !found.equal && ambiguous(&answer) && !ambiguous(&gold) {
        found = better(found, read_and_compare(&gold, Commas::Group, &answer, Commas::Separate, &mut fuel));
    }
    found
}

/// Whether both are real numbers, no further apart than `tolerance`; `4.2\%` and `r = 4.2` are 4.2 here.
pub fn within(gold: &str, answer: &str, tolerance: f64) -> bool {
    let mut fuel = Fuel::new(Fuel::COMPARISON);
    let mut number = |text: &str| {
        let mut tree = Tree::default();
        let mut id = read::read(&text::clean(text), Commas::Group, &mut tree, &mut fuel)?;
        if let Node::Chain(list) = tree.node(id)
            && let (&[Relation::Equal], &[name, value]) = (tree.relations_of(list), tree.members(list))
            && matches!(tree.node(name), Node::Symbol(_))
        {
            id = value;
        }
        if let Node::Percent(inner) = tree.node(id) {
            id = inner;
        }
        scalar::magnitude(&tree, id, &mut fuel).filter(|value| value.is_finite())
    };
    // The ends belong to it, whatever the last bits of a difference of decimals are.
    number(gold).zip(number(answer)).is_some_and(|(gold, answer)| (gold - answer).abs() <= tolerance * (1.0 + 1e-9))
}

/// Whether two texts are lists, in the same brackets, of the same texts in any order.
fn same_items(gold: &str, answer: &str) -> bool {
    // The first eight bytes as a number decide most comparisons of the sort.
    fn items(text: &str) -> Option<Vec<(u64, &str)>> {
        let inner = text.strip_prefix("\\{").and_then(|inner| inner.strip_suffix("\\}")).unwrap_or(text);
        if inner.contains(['(', '[', '{', ';']) || !inner.contains(',') {
            return None;
        }
        let key = |item: &str| item.bytes().take(8).fold(0u64, |key, byte| key << 8 | u64::from(byte));
        let mut items: Vec<(u64, &str)> = inner.split(',').map(|item| (key(item), item)).collect();
        items.sort_unstable();
        Some(items)
    }
    // Different lengths cannot be the same items: no need to sort a megabyte.
    gold.len() == answer.len() && items(gold).is_some_and(|gold| Some(gold) == items(answer))
}

fn better(first: Comparison, second: Comparison) -> Comparison {
    if second.equal { second } else { first }
}

fn read_and_compare(gold: &str, gold_commas: Commas, answer: &str, answer_commas: Commas, fuel: &mut Fuel) -> Comparison {
    let mut tree = Tree::default();
    let gold_read: Option<Id> = read::read(gold, gold_commas, &mut tree, fuel);
    let answer_read: Option<Id> = read::read(answer, answer_commas, &mut tree, fuel);
    match (gold_read, answer_read) {
        (Some(gold), Some(answer)) => compare::compare(&mut tree, gold, answer, fuel),
        _ => Comparison { equal: quantity::same_text_with_signs(gold, answer), method: Method::Text },
    }
}

/// Whether an answer can be read, and is more than words.
pub fn reads(answer: &str) -> bool {
    let (mut tree, mut fuel) = (Tree::default(), Fuel::new(Fuel::COMPARISON));
    read::read(&text::clean(answer), Commas::Group, &mut tree, &mut fuel).is_some()
}

/// For people: how each side was read, which rungs were tried, which one decided, and why.
pub fn explain(gold: &str, answer: &str) -> String {
    let found = equal(gold, answer);
    let mut out = String::new();
    let mut line = |label: &str, text: &str| {
        out.push_str(&format!("{label:<9}{text}\n"));
    };
    for (label, side) in [("gold", gold), ("answer", answer)] {
        let (mut tree, mut fuel) = (Tree::default(), Fuel::new(Fuel::COMPARISON));
        line(label, &text::normalise(side));
        match read::read(&text::clean(side), Commas::Group, &mut tree, &mut fuel) {
            Some(id) => line("  read", &format!("{}: {}", show::kind(&tree, id), show::show(&tree, id))),
            None => line("  read", "not as a whole, so as text only"),
        }
    }
    for rung in RUNGS.iter().take_while(|rung| **rung < found.method) {
        line("rung", &format!("{}: no verdict", rung.describe()));
    }
    line("rung", &format!("{}: decides", found.method.describe()));
    line("verdict", if found.equal { "equal" } else { "not equal" });
    out
}

/// The rungs in the order in which they are tried.
const RUNGS: [Method; 7] =
    [Method::Text, Method::Choice, Method::Exact, Method::Identity, Method::Numeric, Method::Sampled, Method::Rounded];
