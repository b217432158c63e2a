//! The work list of a comparison: goals wait for the pairs that they need, results are kept, nothing recurses. The verdict of a structure names
//! the weakest rung that any of its parts needed.

mod chain;
mod goal;
mod label;
mod notation;
pub mod quantity;
mod reals;
mod relation;
mod rename;
pub mod scalar;
mod structure;
mod subject;

use std::collections::HashMap;

use crate::verify::compare::goal::{Goal, goal};
use crate::verify::fuel::Fuel;
use crate::verify::tree::{Id, Tree};
use crate::verify::{Comparison, Method};

/// Goals open at once; answers nest a handful deep.
const MAX_OPEN: usize = 64;

/// A goal, and how far it has come.
struct Open {
    pair: (Id, Id),
    goal: Goal,
    /// Pairs shown, or gold members matched.
    done: usize,
    /// Answers that the current gold member has been compared with.
    tried: usize,
    /// Answers not yet matched.
    free: Vec<bool>,
    weakest: Method,
}

enum Progress {
    Done(Comparison),
    Needs((Id, Id)),
    Exhausted,
}

/// Compares the answers at two nodes.
pub fn compare(tree: &mut Tree, gold: Id, answer: Id, fuel: &mut Fuel) -> Comparison {
    let exhausted = Comparison { equal: false, method: Method::Exhausted };
    let mut known: HashMap<(Id, Id), Comparison> = HashMap::new();
    let mut open: Vec<Open> = Vec::new();
    let mut wanted = Some((gold, answer));
    loop {
        if let Some(pair) = wanted.take() {
            let goal = if open.len() < MAX_OPEN { goal(tree, pair.0, pair.1, fuel) } else { None };
            match goal {
                None => return exhausted,
                // Most answers are one pair of values.
                Some(Goal::Decided(found)) if open.is_empty() => return found,
                Some(Goal::Decided(found)) => drop(known.insert(pair, found)),
                Some(goal) => {
                    let answers = if let Goal::Matching(_, answers) = &goal { answers.len() } else { 0 };
                    open.push(Open { pair, goal, done: 0, tried: 0, free: vec![true; answers], weakest: Method::Exact });
                }
            }
        }
        let Some(top) = open.last_mut() else { return exhausted };
        let pair = top.pair;
        match top.progress(&known, fuel) {
            Progress::Done(found) => {
                open.pop();
                if open.is_empty() {
                    return found;
                }
                known.insert(pair, found);
            }
            Progress::Needs(next) => {
                // A pair that waits for itself can never be shown.
                if open.iter().any(|waiting| waiting.pair == next) {
                    return Comparison { equal: false, method: Method::Structure };
                }
                wanted = Some(next);
            }
            Progress::Exhausted => return exhausted,
        }
    }
}

impl Open {
    /// Goes on as far as the known pairs allow.
    fn progress(&mut self, known: &HashMap<(Id, Id), Comparison>, fuel: &mut Fuel) -> Progress {
        match &self.goal {
            Goal::Decided(found) => Progress::Done(*found),
            Goal::All(pairs) => {
                while let Some(pair) = pairs.get(self.done) {
                    match known.get(pair) {
                        None => return Progress::Needs(*pair),
                        Some(found) if !found.equal => return Progress::Done(*found),
                        Some(found) => self.weakest = self.weakest.max(found.method),
                    }
                    self.done += 1;
                }
                Progress::Done(Comparison { equal: true, method: self.weakest })
            }
            Goal::Matching(gold, answer) => {
                // Every gold member takes the first equal answer that is still free: equality being transitive but for rounding, the first
                // will do. Lists usually come in the same order, so the search starts at the same place.
                while let Some(&g) = gold.get(self.done) {
                    if self.tried == answer.len() || gold.len() != answer.len() {
                        return Progress::Done(Comparison { equal: false, method: Method::Structure });
                    }
                    if fuel.spend(2).is_err() {
                        return Progress::Exhausted;
                    }
                    let at = (self.done + self.tried) % answer.len();
                    let (Some(&a), Some(free)) = (answer.get(at), self.free.get_mut(at)) else { return Progress::Exhausted };
                    self.tried += 1;
                    if !*free {
                        continue;
                    }
                    match known.get(&(g, a)) {
                        None => {
                            self.tried -= 1;
                            return Progress::Needs((g, a));
                        }
                        Some(found) if found.equal => {
                            self.weakest = self.weakest.max(found.method);
                            *free = false;
                            self.done += 1;
                            self.tried = 0;
                        }
                        Some(_) => {}
                    }
                }
                Progress::Done(Comparison { equal: true, method: self.weakest })
            }
        }
    }
}
