//! Compares chains of relations with each other and with values: assignments, computations, equations, inequalities.

use crate::verify::compare::goal::{Goal, real_sets};
use crate::verify::compare::label;
use crate::verify::compare::relation::{self, Meaning};
use crate::verify::compare::rename;
use crate::verify::fuel::Fuel;
use crate::verify::trace::{Stage, Trace};
use crate::verify::tree::rewrite;
use crate::verify::tree::{Id, Relation, Tree};

/// Compares two chains of relations, each given by its node and its list. Returns `None` if a budget runs out.
pub fn chains(tree: &mut Tree, (gold, g): (Id, u32), (answer, a): (Id, u32), fuel: &mut Fuel, trace: &mut Trace) -> Option<Goal> {
    match (relation::meaning(tree, g), relation::meaning(tree, a)) {
        (Meaning::Assignment { label: gl, value: gv, .. }, Meaning::Assignment { label: al, value: av, mut checks }) => {
            let constant = rewrite::symbols(tree, gv).is_empty();
            if let (Some(g), Some(a), false) = (sides(tree, g), sides(tree, a), constant) {
                // `y = x` and `x = y` are the same line. If this test fails, labels and values are compared instead.
                let found = relation::proportional(tree, g, a, None, fuel, trace);
                if found.equal {
                    return Some(Goal::valued(found));
                }
            }
            if !label::labels_match(tree, gl, al, constant) {
                return Some(Goal::different(Stage::Relation, "values with different names"));
            }
            let av = match (label::bound_variable(tree, gl), label::bound_variable(tree, al)) {
                (Some(to), Some(from)) if from != to => rewrite::rename(tree, av, from, to, fuel)?,
                _ => av,
            };
            checks.push((gv, av));
            Some(Goal::all(Stage::Relation, "the same name on both sides, so the values are compared", checks))
        }
        (Meaning::Order, Meaning::Order) => orders(tree, (gold, g), (answer, a), fuel, trace),
        (Meaning::Membership { set: gs, .. }, Meaning::Membership { set: asw, .. }) => {
            Some(Goal::all(Stage::Relation, "`x ∈ set` is compared as the set", vec![(gs, asw)]))
        }
        (Meaning::Computation { value: gv, .. }, Meaning::Computation { value: av, mut checks }) => {
            checks.push((gv, av));
            Some(Goal::all(Stage::Relation, "a computation is compared by its result, and every step of the answer must be right", checks))
        }
        (Meaning::Assignment { value: gv, .. }, Meaning::Computation { value: av, mut checks })
        | (Meaning::Computation { value: gv, .. }, Meaning::Assignment { value: av, mut checks, .. }) => {
            checks.push((gv, av));
            Some(Goal::all(Stage::Relation, "the value of a name and the result of a computation", checks))
        }
        (Meaning::Order | Meaning::Membership { .. }, _) | (_, Meaning::Order | Meaning::Membership { .. }) => {
            Some(real_sets(tree, gold, answer, fuel)?.unwrap_or(Goal::different(Stage::Relation, "relations of different kinds")))
        }
        _ => {
            let (Some(g), Some(a)) = (sides(tree, g), sides(tree, a)) else {
                return Some(Goal::different(Stage::Relation, "an equation against a longer chain"));
            };
            let a = (rename::match_case(tree, gold, answer, a.0, fuel)?, rename::match_case(tree, gold, answer, a.1, fuel)?);
            Some(Goal::valued(relation::proportional(tree, g, a, None, fuel, trace)))
        }
    }
}

fn sides(tree: &Tree, list: u32) -> Option<(Id, Id)> {
    match tree.members(list) {
        &[left, right] => Some((left, right)),
        _ => None,
    }
}

/// Compares two chains of inequalities: the same set of numbers, the same relation up to a factor, or the same members in the same order.
fn orders(tree: &mut Tree, (gold, g): (Id, u32), (answer, a): (Id, u32), fuel: &mut Fuel, trace: &mut Trace) -> Option<Goal> {
    if let Some(goal) = real_sets(tree, gold, answer, fuel)? {
        return Some(goal);
    }
    let (g_relations, a_relations) = (tree.relations_of(g).to_vec(), tree.relations_of(a).to_vec());
    if let (&[g_relation], &[a_relation], Some(g_sides), Some(a_sides)) =
        (g_relations.as_slice(), a_relations.as_slice(), sides(tree, g), sides(tree, a))
    {
        let positive = match () {
            () if g_relation == Relation::NotEqual && a_relation == g_relation => None,
            () if matches!(g_relation, Relation::Other(_) | Relation::In) => {
                let pairs = vec![(g_sides.0, a_sides.0), (g_sides.1, a_sides.1)];
                return Some(if g_relation == a_relation {
                    Goal::all(Stage::Relation, "the same relation, side by side", pairs)
                } else {
                    Goal::different(Stage::Relation, "different relations")
                });
            }
            () if g_relation == a_relation => Some(true),
            () if g_relation == relation::flipped(a_relation) => Some(false),
            () => return Some(Goal::different(Stage::Relation, "different relations")),
        };
        return Some(Goal::valued(relation::proportional(tree, g_sides, a_sides, positive, fuel, trace)));
    }
    let (g_members, mut a_members) = (tree.members(g).to_vec(), tree.members(a).to_vec());
    let mut a_relations = a_relations;
    if g_relations != a_relations {
        a_members.reverse();
        a_relations.reverse();
        a_relations.iter_mut().for_each(|relation| *relation = relation::flipped(*relation));
    }
    let same = g_relations == a_relations && g_members.len() == a_members.len();
    Some(if same {
        Goal::all(Stage::Relation, "the same relations, member by member", g_members.into_iter().zip(a_members).collect())
    } else {
        Goal::different(Stage::Relation, "different relations, or different numbers of members")
    })
}

/// Compares a chain with an answer that is not a chain. `chain_is_gold` is true if the chain is the gold answer. Returns `None` if a budget
/// runs out.
pub fn chain(tree: &mut Tree, chain: Id, list: u32, other: Id, chain_is_gold: bool, fuel: &mut Fuel) -> Option<Goal> {
    let pair = |value| if chain_is_gold { (value, other) } else { (other, value) };
    match relation::meaning(tree, list) {
        Meaning::Assignment { value, mut checks, .. } | Meaning::Computation { value, mut checks } => {
            if chain_is_gold {
                // The steps of the gold answer are not checked.
                checks.clear();
            }
            checks.push(pair(value));
            Some(Goal::all(Stage::Relation, "a relation that gives a value is compared by that value", checks))
        }
        Meaning::Membership { set, .. } => Some(Goal::all(Stage::Relation, "`x ∈ set` is compared as the set", vec![pair(set)])),
        // `a + 5b = 18` is compared as 18 if the gold answer is a constant: its left side names the requested quantity. `... = 0` is an
        // equation and not a value. A gold answer that is an equation is never a number.
        Meaning::Equation(_, right) if !chain_is_gold && constant(tree, right) && constant(tree, other) && !tree.is_zero(right) => {
            Some(Goal::all(Stage::Relation, "an equation for the requested quantity is compared by its right side", vec![pair(right)]))
        }
        Meaning::Equation(..) => Some(Goal::different(Stage::Relation, "an equation is not a value")),
        Meaning::Order => {
            let (gold, answer) = pair(chain);
            Some(
                real_sets(tree, gold, answer, fuel)?
                    .unwrap_or(Goal::different(Stage::Relation, "an inequality against something that is not a set of reals")),
            )
        }
    }
}

fn constant(tree: &Tree, id: Id) -> bool {
    rewrite::symbols(tree, id).is_empty()
}
