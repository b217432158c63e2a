//! The work list of a comparison: goals wait for the pairs that they need, results are kept, nothing recurses. The verdict of a structure names
//! the weakest rung that any of its parts needed.

use std::collections::HashMap;

use super::fuel::Fuel;
use super::goal::{Goal, goal};
use super::tree::{Id, Tree};
use super::{Comparison, Method};

/// Goals open at once; answers nest a handful deep.
const MAX_OPEN: usize = 64;

/// Compares the answers at two nodes.
pub fn compare(tree: &mut Tree, gold: Id, answer: Id, fuel: &mut Fuel) -> Comparison {
    let exhausted = Comparison { equal: false, method: Method::Exhausted };
    let mut known: HashMap<(Id, Id), Comparison> = HashMap::new();
    let mut open: Vec<((Id, Id), Goal)> = Vec::new();
    let mut wanted = Some((gold, answer));
    loop {
        if let Some(pair) = wanted.take() {
            if open.len() >= MAX_OPEN {
                return exhausted;
            }
            let Some(goal) = goal(tree, pair.0, pair.1, fuel) else { return exhausted };
            open.push((pair, goal));
        }
        let Some((pair, goal)) = open.last() else { break };
        let pair = *pair;
        match progress(goal, &known, fuel) {
            Progress::Done(found) => {
                known.insert(pair, found);
                open.pop();
            }
            Progress::Needs(next) => {
                // A pair that waits for itself can never be shown.
                if open.iter().any(|(waiting, _)| *waiting == next) {
                    return Comparison { equal: false, method: Method::Structure };
                }
                wanted = Some(next);
            }
            Progress::Exhausted => return exhausted,
        }
    }
    known.get(&(gold, answer)).copied().unwrap_or(exhausted)
}

enum Progress {
    Done(Comparison),
    Needs((Id, Id)),
    Exhausted,
}

fn progress(goal: &Goal, known: &HashMap<(Id, Id), Comparison>, fuel: &mut Fuel) -> Progress {
    match goal {
        Goal::Decided(found) => Progress::Done(*found),
        Goal::All(pairs) => {
            let mut weakest = Method::Exact;
            for pair in pairs {
                match known.get(pair) {
                    None => return Progress::Needs(*pair),
                    Some(found) if !found.equal => return Progress::Done(*found),
                    Some(found) => weakest = weakest.max(found.method),
                }
            }
            Progress::Done(Comparison { equal: true, method: weakest })
        }
        Goal::Matching(gold, answer) => matching(gold, answer, known, fuel),
    }
}

/// Pairs every gold member with the first equal answer that is still free: as equality is transitive but for rounding, the first will do.
fn matching(gold: &[Id], answer: &[Id], known: &HashMap<(Id, Id), Comparison>, fuel: &mut Fuel) -> Progress {
    if gold.len() != answer.len() {
        return Progress::Done(Comparison { equal: false, method: Method::Structure });
    }
    let mut free = vec![true; answer.len()];
    let mut weakest = Method::Exact;
    for (place, &g) in gold.iter().enumerate() {
        // Lists usually come in the same order: look at the same place first.
        let order = std::iter::once(place).chain((0..answer.len()).filter(|&at| at != place));
        let mut found = false;
        for at in order {
            if fuel.spend(2).is_err() {
                return Progress::Exhausted;
            }
            let (Some(&a), Some(is_free)) = (answer.get(at), free.get_mut(at)) else { continue };
            if !*is_free {
                continue;
            }
            match known.get(&(g, a)) {
                None => return Progress::Needs((g, a)),
                Some(comparison) if comparison.equal => {
                    weakest = weakest.max(comparison.method);
                    *is_free = false;
                    found = true;
                    break;
                }
                Some(_) => {}
            }
        }
        if !found {
            return Progress::Done(Comparison { equal: false, method: Method::Structure });
        }
    }
    Progress::Done(Comparison { equal: true, method: weakest })
}
