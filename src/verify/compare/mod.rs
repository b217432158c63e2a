//! The work list of a comparison. A goal waits for the pairs that it needs, and results are cached, so nothing recurses. The method of an
//! equal structure is the weakest method that any of its parts needed.

mod chain;
mod goal;
mod label;
mod notation;
pub mod quantity;
mod reals;
mod relation;
mod rename;
mod sampled;
pub mod scalar;
mod structure;
mod subject;

use std::collections::HashMap;

use crate::verify::compare::goal::{Goal, Need, goal};
use crate::verify::fuel::Fuel;
use crate::verify::trace::{Stage, Trace, short};
use crate::verify::tree::show::show;
use crate::verify::tree::{Id, Tree};
use crate::verify::{Comparison, Method};

/// Maximum number of goals open at once. Real answers nest only a few levels deep.
const MAX_OPEN: usize = 64;

/// A goal in progress.
struct OpenGoal {
    pair: (Id, Id),
    goal: Goal,
    /// Number of pairs found equal, or of gold members matched.
    done: usize,
    /// Number of members of the answer compared with the current gold member.
    tried: usize,
    /// For each member of the answer, whether it is still unmatched.
    free: Vec<bool>,
    /// The weakest method among the parts decided.
    weakest: Method,
}

/// The next action for a goal.
enum Progress {
    Done(Comparison),
    Needs((Id, Id)),
    Exhausted,
}

/// Compares the answers at the nodes `gold` and `answer` of `tree`.
pub fn compare(tree: &mut Tree, gold: Id, answer: Id, fuel: &mut Fuel, trace: &mut Trace) -> Comparison {
    let exhausted = Comparison { equal: false, method: Method::Exhausted };
    let mut known: HashMap<(Id, Id), Comparison> = HashMap::new();
    let mut open: Vec<OpenGoal> = Vec::new();
    let mut wanted = Some((gold, answer));
    loop {
        if let Some(pair) = wanted.take() {
            trace.set_depth(open.len());
            if !open.is_empty() {
                trace.note(Stage::Pair, || format!("{} with {}", short(show(tree, pair.0)), short(show(tree, pair.1))));
            }
            let goal = if open.len() < MAX_OPEN { goal(tree, pair.0, pair.1, fuel, trace) } else { None };
            let Some(goal) = goal else {
                trace.note(Stage::Budget, || "not equal: the limit on steps, nodes or open pairs was reached");
                return exhausted;
            };
            if !goal.rule.is_empty() {
                trace.note(goal.stage, || goal.describe());
            }
            match goal.need {
                // Most answers are a single pair of values.
                Need::Decided(found) if open.is_empty() => return found,
                Need::Decided(found) => drop(known.insert(pair, found)),
                _ => {
                    let answers = if let Need::Matching(_, answers) = &goal.need { answers.len() } else { 0 };
                    open.push(OpenGoal { pair, goal, done: 0, tried: 0, free: vec![true; answers], weakest: Method::Exact });
                }
            }
        }
        let depth = open.len();
        let Some(top) = open.last_mut() else { return exhausted };
        let pair = top.pair;
        match top.progress(&known, fuel) {
            Progress::Done(found) => {
                trace.set_depth(depth - 1);
                top.note_result(tree, found, trace);
                open.pop();
                if open.is_empty() {
                    return found;
                }
                known.insert(pair, found);
            }
            Progress::Needs(next) => {
                // A pair that depends on itself can never be proved equal.
                if open.iter().any(|waiting| waiting.pair == next) {
                    trace.note(Stage::Pair, || "not equal: the pair depends on itself");
                    return Comparison { equal: false, method: Method::Structure };
                }
                wanted = Some(next);
            }
            Progress::Exhausted => {
                trace.note(Stage::Budget, || "not equal: the step budget ran out");
                return exhausted;
            }
        }
    }
}

impl OpenGoal {
    /// Notes the result of several pairs. The result of a single pair is already noted.
    fn note_result(&self, tree: &Tree, found: Comparison, trace: &mut Trace) {
        match &self.goal.need {
            Need::All(pairs) if pairs.len() > 1 => trace.note(self.goal.stage, || match found.equal {
                true => "equal: all pairs are equal".to_owned(),
                false => format!("not equal: pair {} of {} differs", self.done + 1, pairs.len()),
            }),
            Need::Matching(gold, answer) => trace.note(self.goal.stage, || match gold.get(self.done) {
                _ if found.equal => "equal: every member has a match".to_owned(),
                Some(&member) if gold.len() == answer.len() => {
                    format!("not equal: {} matches none of the remaining members", short(show(tree, member)))
                }
                _ => "not equal: different numbers of members".to_owned(),
            }),
            _ => {}
        }
    }

    /// Advances as far as the known results allow.
    fn progress(&mut self, known: &HashMap<(Id, Id), Comparison>, fuel: &mut Fuel) -> Progress {
        match &self.goal.need {
            Need::Decided(found) => Progress::Done(*found),
            Need::All(pairs) => {
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
            Need::Matching(gold, answer) => {
                // Match each gold member with the first equal member that is still free. Equality is transitive up to rounding, so no
                // backtracking is needed. Lists usually have the same order, so the search starts at the same index.
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
