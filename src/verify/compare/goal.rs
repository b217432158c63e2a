//! Finds the condition for two nodes to be equal: a final verdict, several pairs that must all be equal, or a matching of members. Handles
//! one level at a time; `compare` owns the work list. This file fixes the order of the rules; the rules themselves are in the files for
//! their subjects (words, notations, relations, sets of reals, structures, values).

use crate::verify::compare::chain::{chain, chains};
use crate::verify::compare::notation;
use crate::verify::compare::quantity::{self, WordRelation};
use crate::verify::compare::reals::{self, Interval};
use crate::verify::compare::rename;
use crate::verify::compare::scalar;
use crate::verify::compare::structure::{is_structure, structures};
use crate::verify::compare::subject::{Subject, subject};
use crate::verify::fuel::Fuel;
use crate::verify::trace::{Stage, Trace};
use crate::verify::tree::show::show;
use crate::verify::tree::{Bracket, Constant, Id, Node, Relation, Separator, Tree};
use crate::verify::{Comparison, Method};

/// A condition for the equality of two nodes, and the rule behind it.
#[derive(Clone, Debug)]
pub struct Goal {
    /// The stage that produced this goal.
    pub stage: Stage,
    /// The rule, as text for `--explain`. Empty if the stages have already noted their findings.
    pub rule: &'static str,
    /// The condition itself.
    pub need: Need,
}

/// The condition of a goal.
#[derive(Clone, Debug)]
pub enum Need {
    /// Already decided.
    Decided(Comparison),
    /// Every pair must be equal.
    All(Vec<(Id, Id)>),
    /// The gold members (the first list) and the answer's members must match one to one, in any order.
    Matching(Vec<Id>, Vec<Id>),
}

impl Goal {
    /// Creates a goal that is already decided.
    pub fn decided(stage: Stage, rule: &'static str, equal: bool, method: Method) -> Goal {
        Goal { stage, rule, need: Need::Decided(Comparison { equal, method }) }
    }

    /// Creates the verdict "not equal" for answers with different structures.
    pub fn different(stage: Stage, rule: &'static str) -> Goal {
        Goal::decided(stage, rule, false, Method::Structure)
    }

    /// Wraps the result of the value stages, which have already noted their findings.
    pub fn valued(found: Comparison) -> Goal {
        Goal { stage: Stage::Pair, rule: "", need: Need::Decided(found) }
    }

    /// Creates a goal in which every pair must be equal.
    pub fn all(stage: Stage, rule: &'static str, pairs: Vec<(Id, Id)>) -> Goal {
        Goal { stage, rule, need: Need::All(pairs) }
    }

    /// Creates a goal in which each gold member must match a different member of the answer.
    pub fn matching(stage: Stage, rule: &'static str, gold: Vec<Id>, answer: Vec<Id>) -> Goal {
        Goal { stage, rule, need: Need::Matching(gold, answer) }
    }

    /// Describes the rule and the condition for `--explain`.
    pub fn describe(&self) -> String {
        let rule = self.rule;
        match &self.need {
            Need::Decided(Comparison { equal: true, .. }) => format!("equal: {rule}"),
            Need::Decided(Comparison { equal: false, .. }) => format!("not equal: {rule}"),
            Need::All(pairs) if pairs.len() == 1 => rule.to_owned(),
            Need::All(pairs) => format!("{rule}; {} pairs must be equal", pairs.len()),
            Need::Matching(gold, answer) => format!("{rule}; {} members must match {}", gold.len(), answer.len()),
        }
    }
}

/// Returns the goal for comparing `gold` with `answer`, or `None` if a budget runs out.
pub fn goal(tree: &mut Tree, gold: Id, answer: Id, fuel: &mut Fuel, trace: &mut Trace) -> Option<Goal> {
    let (g, a) = (tree.node(gold), tree.node(answer));
    let leaves = matches!((g, a), (Node::Number(_), Node::Number(_)));
    let size = if leaves { 0 } else { tree.reachable(gold).len() + tree.reachable(answer).len() };
    fuel.spend(16 + 4 * size as u64).ok()?;
    if matches!(g, Node::Worded(..)) || matches!(a, Node::Worded(..)) {
        return worded(tree, gold, answer, fuel);
    }
    if let Some(pair) = without_ranges(tree, gold, answer) {
        return Some(Goal::all(Stage::Members, "the range of a parameter is ignored", vec![pair]));
    }
    if let (Node::Number(_), Node::Number(_)) = (g, a) {
        return Some(Goal::valued(scalar::compare(tree, gold, answer, fuel, trace)));
    }
    if let Some(goal) = notation::time(tree, gold, answer) {
        return Some(goal);
    }
    match (g, a) {
        (Node::Text(g), Node::Text(a)) => {
            let equal = quantity::same_text(tree.name_of(g), tree.name_of(a));
            return Some(Goal::decided(Stage::Words, "words on both sides, ignoring case, articles and plurals", equal, Method::Text));
        }
        (Node::Text(text), _) => return against_words(tree, text, answer, a, |words, other| (words, other)),
        (_, Node::Text(text)) => return against_words(tree, text, gold, g, |words, other| (other, words)),
        (Node::Chain(g), Node::Chain(a)) => return chains(tree, (gold, g), (answer, a), fuel, trace),
        (Node::Chain(list), _) => return chain(tree, gold, list, answer, true, fuel),
        (_, Node::Chain(list)) => return chain(tree, answer, list, gold, false, fuel),
        (Node::Based(..), _) | (_, Node::Based(..)) => return notation::numerals(tree, gold, answer),
        (Node::Ratio(..), Node::Ratio(..)) => {
            if let Some(goal) = notation::ratios(tree, gold, answer)? {
                return Some(goal);
            }
        }
        (Node::Numbers(g), Node::Numbers(a)) => {
            return Some(Goal::decided(Stage::Members, "number sets, compared by letter", g == a, Method::Structure));
        }
        _ => {}
    }
    if (is_set(g) || is_set(a) || are_conditions(tree, g) || are_conditions(tree, a))
        && let Some(goal) = real_sets(tree, gold, answer, fuel)?
    {
        return Some(goal);
    }
    if is_structure(tree, gold) || is_structure(tree, answer) {
        return structures(tree, gold, answer, fuel);
    }
    Some(Goal::valued(expressions(tree, gold, answer, fuel, trace)))
}

/// Compares two sides of which at least one has words around it.
fn worded(tree: &mut Tree, gold: Id, answer: Id, fuel: &mut Fuel) -> Option<Goal> {
    let parts = |id| match tree.node(id) {
        Node::Worded(before, body, after) => (body, quantity::words_at(tree, before), quantity::words_at(tree, after)),
        _ => (id, "", ""),
    };
    let ((gold, g_before, g_after), (answer, a_before, a_after)) = (parts(gold), parts(answer));
    let relation = quantity::compare((g_before, g_after), (a_before, a_after));
    let answer = if g_after.contains("integer") || a_after.contains("integer") {
        // The letter in "some integer n" is arbitrary.
        rename::arbitrary(tree, gold, answer, fuel).unwrap_or(answer)
    } else {
        answer
    };
    match relation {
        WordRelation::Different => Some(Goal::different(Stage::Words, "the words or units next to the values have different meanings")),
        WordRelation::Compatible(ratio) if num_traits::One::is_one(&ratio) => {
            Some(Goal::all(Stage::Words, "the words or units next to the values are compatible", vec![(gold, answer)]))
        }
        WordRelation::Compatible(ratio) => {
            let factor = tree.rational(ratio)?;
            let scaled = tree.push(Node::Multiply(answer, factor))?;
            Some(Goal::all(
                Stage::Words,
                "units of the same quantity; the answer is converted to the unit of the gold answer",
                vec![(gold, scaled)],
            ))
        }
    }
}

/// Drops items that only state the range of a parameter, such as `k \in \mathbb{Z}`. Returns `None` if there are none.
fn without_ranges(tree: &mut Tree, gold: Id, answer: Id) -> Option<(Id, Id)> {
    let (g, a) = (without_range(tree, gold), without_range(tree, answer));
    (g.is_some() || a.is_some()).then(|| (g.unwrap_or(gold), a.unwrap_or(answer)))
}

fn without_range(tree: &mut Tree, id: Id) -> Option<Id> {
    let Node::Sequence { open: Bracket::Bare, close, separator, list } = tree.node(id) else { return None };
    let range = |tree: &Tree, member: Id| match tree.node(member) {
        Node::Chain(list) => match (tree.relations_of(list), tree.members(list)) {
            (&[Relation::In], &[variable, set]) => {
                matches!(tree.node(variable), Node::Symbol(_)) && matches!(tree.node(set), Node::Numbers('Z' | 'N' | 'R' | 'Q'))
            }
            _ => false,
        },
        _ => false,
    };
    let members = tree.members(list);
    let rest: Vec<Id> = members.iter().copied().filter(|&member| !range(tree, member)).collect();
    if rest.len() == members.len() || rest.is_empty() {
        return None;
    }
    if let &[single] = rest.as_slice() {
        return Some(single);
    }
    let list = tree.list(rest, Vec::new());
    tree.push(Node::Sequence { open: Bracket::Bare, close, separator, list })
}

/// Compares words with a node that is not text: as the set that the words name, or letter by letter with a product of variables.
fn against_words(tree: &mut Tree, text: u32, other: Id, node: Node, pair: impl Fn(Id, Id) -> (Id, Id)) -> Option<Goal> {
    match set_in_words(tree, text) {
        Some(set) if is_set(node) || is_structure(tree, other) => {
            let set = tree.push(set)?;
            Some(Goal::all(Stage::Words, "the words name a set", vec![pair(set, other)]))
        }
        _ => Some(compare_letters(tree, other, text)),
    }
}

/// Returns the set that the words name.
fn set_in_words(tree: &Tree, text: u32) -> Option<Node> {
    match tree.name_of(text) {
        "all real numbers" | "all reals" | "real numbers" | "the real numbers" => Some(Node::Numbers('R')),
        "no solution" | "no solutions" | "no real solution" | "no real solutions" | "empty set" | "the empty set" => Some(Node::EmptySet),
        _ => None,
    }
}

/// Compares letters that were read as a product of variables with the same letters read as words.
fn compare_letters(tree: &Tree, other: Id, text: u32) -> Goal {
    let mut letters: Vec<&str> = Vec::new();
    let mut id = other;
    let equal = loop {
        let (rest, last) = match tree.node(id) {
            Node::Multiply(a, b) => (Some(a), b),
            _ => (None, id),
        };
        match tree.node(last) {
            Node::Symbol(name) => letters.push(tree.name_of(name)),
            Node::Constant(Constant::E) => letters.push("e"),
            Node::Constant(Constant::I) => letters.push("i"),
            _ => break false,
        }
        match rest {
            Some(rest) => id = rest,
            None => {
                letters.reverse();
                break quantity::same_text(&letters.concat(), tree.name_of(text));
            }
        }
    };
    Goal::decided(Stage::Words, "words and a product of letters, compared letter by letter", equal, Method::Text)
}

/// Compares two sets of real numbers: they need the same number of parts, with equal endpoints that are equally open. Returns `Some(None)`
/// unless both sides are such sets, and also for two inequalities between expressions, which `relation` compares.
pub fn real_sets(tree: &mut Tree, gold: Id, answer: Id, fuel: &mut Fuel) -> Option<Option<Goal>> {
    let Some(g) = reals::set(tree, gold, fuel) else { return Some(None) };
    let Some(a) = reals::set(tree, answer, fuel) else { return Some(None) };
    match (subject(tree, gold), subject(tree, answer)) {
        // Two inequalities between expressions may still be equal up to a factor.
        (Some(Subject::Expression(_)), Some(Subject::Expression(_))) => return Some(None),
        (Some(g), Some(a)) if !g.agrees(a, tree) => return Some(Some(Goal::different(Stage::Reals, "bounds on different quantities"))),
        _ => {}
    }
    if g.len() != a.len() {
        return Some(Some(Goal::different(Stage::Reals, "sets of reals with different numbers of parts")));
    }
    let mut pairs = Vec::new();
    for (g, a) in g.iter().zip(&a) {
        if !same_shape(g, a) {
            return Some(Some(Goal::different(Stage::Reals, "sets of reals whose endpoints are not equally open, closed or infinite")));
        }
        pairs.extend(g.low.node.zip(a.low.node));
        pairs.extend(g.high.node.zip(a.high.node));
    }
    Some(Some(Goal::all(Stage::Reals, "the same set of reals if the endpoints are equal", pairs)))
}

fn same_shape(g: &Interval, a: &Interval) -> bool {
    let shape = |part: &Interval| (part.low.closed, part.high.closed, part.low.node.is_some(), part.high.node.is_some());
    shape(g) == shape(a)
}

/// True for a list of inequalities, such as `x > 2, x < 3`.
fn are_conditions(tree: &Tree, node: Node) -> bool {
    let is_order = |relation: &Relation| {
        matches!(relation, Relation::Less | Relation::LessEqual | Relation::Greater | Relation::GreaterEqual | Relation::NotEqual)
    };
    match node {
        Node::Sequence { open: Bracket::Bare, list, .. } => tree.members(list).iter().all(|&member| match tree.node(member) {
            Node::Chain(list) => tree.relations_of(list).iter().all(is_order),
            _ => false,
        }),
        _ => false,
    }
}

/// True for kinds of nodes that are always sets.
fn is_set(node: Node) -> bool {
    matches!(
        node,
        Node::SetOperation(..) | Node::Builder(..) | Node::EmptySet | Node::Numbers('R') | Node::Sequence { separator: Separator::Or, .. }
    )
}

/// Compares two expressions. If they differ, tries again with a letter of the answer renamed, if its choice does not matter.
fn expressions(tree: &mut Tree, gold: Id, answer: Id, fuel: &mut Fuel, trace: &mut Trace) -> Comparison {
    let found = scalar::compare(tree, gold, answer, fuel, trace);
    if found.equal {
        return found;
    }
    match rename::parameter(tree, gold, answer, fuel) {
        Some(renamed) => {
            trace.note(Stage::Letters, || {
                format!("trying again with the answer's letter renamed to the gold answer's: {}", show(tree, renamed))
            });
            scalar::compare(tree, gold, renamed, fuel, trace)
        }
        None => found,
    }
}
