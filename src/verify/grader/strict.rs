//! Our own notion of equality: normalized text first, then the letters of options, then the parsed answers. This file owns that order;
//! `compare` compares two parsed answers.

use crate::verify::choice;
use crate::verify::compare;
use crate::verify::compare::quantity;
use crate::verify::fuel::Fuel;
use crate::verify::read;
use crate::verify::read::lex::Commas;
use crate::verify::text;
use crate::verify::trace::{Stage, Trace, quoted};
use crate::verify::tree::show;
use crate::verify::tree::{Id, Tree};
use crate::verify::{Comparison, Method};

/// Compares two answers by text, as options, and parsed with each sensible reading of their commas.
pub fn equal(gold: &str, answer: &str, trace: &mut Trace) -> Comparison {
    let (gold_text, answer_text) = (text::normalize(gold), text::normalize(answer));
    if gold_text.is_empty() || answer_text.is_empty() {
        trace.note(Stage::Text, || {
            if gold_text.is_empty() { "not equal: the gold answer is empty" } else { "not equal: the answer is empty" }
        });
        return Comparison { equal: false, method: Method::NoAnswer };
    }
    if gold_text == answer_text {
        trace.note(Stage::Text, || format!("equal: both are {} when normalized", quoted(&gold_text)));
        return Comparison { equal: true, method: Method::Text };
    }
    trace.note(Stage::Text, || format!("no verdict: {} and {} differ", quoted(&gold_text), quoted(&answer_text)));
    if let Some(found) = choice::compare(&gold_text, &answer_text, trace) {
        return found;
    }
    if gold_text.len().max(answer_text.len()) > read::MAX_LENGTH {
        // Too long to parse. A long list may still have the same items in a different order.
        let equal = same_items(&gold_text, &answer_text);
        trace.note(Stage::Text, || {
            let found = if equal { "equal: the same items" } else { "not equal: different items" };
            format!("{found}, as text; answers over {} bytes are not parsed", read::MAX_LENGTH)
        });
        return Comparison { equal, method: Method::Text };
    }
    let mut fuel = Fuel::new(Fuel::COMPARISON);
    let found = compare_readings(&text::clean(gold), &text::clean(answer), &mut fuel, trace);
    trace.count(&fuel);
    found
}

/// Parses both sides and compares them. Reads `1,234` as one number, and then as two if the first reading does not match.
fn compare_readings(gold: &str, answer: &str, fuel: &mut Fuel, trace: &mut Trace) -> Comparison {
    let mut found = read_and_compare(gold, Commas::Group, answer, Commas::Group, fuel, trace);
    let ambiguous = |text: &str| text.as_bytes().windows(3).any(|w| matches!(w, [a, b',', b] if a.is_ascii_digit() && b.is_ascii_digit()));
    if !found.equal && ambiguous(gold) {
        trace.note(Stage::Read, || "trying again with every comma as a separator");
        found = better(found, read_and_compare(gold, Commas::Separate, answer, Commas::Separate, fuel, trace));
    }
    if !found.equal && ambiguous(answer) && !ambiguous(gold) {
        trace.note(Stage::Read, || "trying again with every comma in the answer as a separator");
        found = better(found, read_and_compare(gold, Commas::Group, answer, Commas::Separate, fuel, trace));
    }
    found
}

fn better(first: Comparison, second: Comparison) -> Comparison {
    if second.equal { second } else { first }
}

fn read_and_compare(
    gold: &str,
    gold_commas: Commas,
    answer: &str,
    answer_commas: Commas,
    fuel: &mut Fuel,
    trace: &mut Trace,
) -> Comparison {
    let mut tree = Tree::default();
    let gold_read = read::read(gold, gold_commas, &mut tree, fuel);
    note_reading("gold answer", &tree, gold_read, fuel, trace);
    let answer_read = read::read(answer, answer_commas, &mut tree, fuel);
    note_reading("answer", &tree, answer_read, fuel, trace);
    match (gold_read, answer_read) {
        (Some(gold), Some(answer)) => compare::compare(&mut tree, gold, answer, fuel, trace),
        _ => {
            let equal = quantity::same_text_with_signs(gold, answer);
            trace.note(Stage::Text, || if equal { "equal: the same letters and signs" } else { "not equal: different letters or signs" });
            Comparison { equal, method: Method::Text }
        }
    }
}

/// Notes how a side was parsed: `read` is its root, or `None` if it could not be parsed.
pub fn note_reading(side: &str, tree: &Tree, read: Option<Id>, fuel: &Fuel, trace: &mut Trace) {
    trace.note(Stage::Read, || match read {
        Some(id) => format!("the {side} is {}: {}", show::kind(tree, id), show::show(tree, id)),
        None if fuel.is_spent() => format!("the {side} could not be parsed completely: the step budget ran out"),
        None => format!("the {side} cannot be parsed completely, so it is compared as text"),
    });
}

/// True if two texts are lists in the same brackets with the same items as text, in any order.
fn same_items(gold: &str, answer: &str) -> bool {
    // The sort compares the first eight bytes as a number, which is usually enough.
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
    // Texts of different lengths cannot have the same items, so skip the sort.
    gold.len() == answer.len() && items(gold).is_some_and(|gold| Some(gold) == items(answer))
}
