//! The subject of an inequality: one variable, the values of a function, or the values of an expression. This file owns the policy that a
//! bound on one subject is not a bound on another; `reals` computes the numbers that satisfy the bounds.

use crate::verify::compare::label;
use crate::verify::compare::structure::is_structure;
use crate::verify::tree::rewrite;
use crate::verify::tree::{Bracket, Id, Node, Relation, Tree};

/// The subject of an inequality.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Subject {
    /// A variable, given by the index of its name.
    Variable(u32),
    /// The values of a function, given by the indices of its name and of its argument.
    Function(u32, u32),
    /// The values of an expression in several variables.
    Expression(Id),
}

impl Subject {
    /// True if two inequalities can have the same subject: the same variable up to case, the same function, or a function and a variable
    /// for its values, such as `f(x)` and `y`.
    pub fn agrees(self, other: Subject, tree: &Tree) -> bool {
        let same = |a: u32, b: u32| tree.name_of(a).eq_ignore_ascii_case(tree.name_of(b));
        match (self, other) {
            (Subject::Variable(g), Subject::Variable(a)) | (Subject::Function(g, _), Subject::Function(a, _)) => same(g, a),
            (Subject::Function(_, argument), Subject::Variable(name)) | (Subject::Variable(name), Subject::Function(_, argument)) => {
                argument != name
            }
            _ => false,
        }
    }
}

/// Returns the common subject of the inequalities at a node. `None` if their subjects differ, and for intervals and sets, which have none.
pub fn subject(tree: &Tree, id: Id) -> Option<Subject> {
    let unworded = |mut id: Id| {
        while let Node::Worded(_, inner, _) = tree.node(id) {
            id = inner;
        }
        id
    };
    let id = unworded(id);
    let chains = match tree.node(id) {
        Node::Sequence { open: Bracket::Bare, list, .. } => tree.members(list),
        _ => &[id],
    };
    let mut subjects = chains.iter().map(|&chain| match tree.node(unworded(chain)) {
        Node::Chain(list) => match (tree.relations_of(list), tree.members(list)) {
            (&[Relation::In], &[element, _]) => side_subject(tree, element),
            _ => chain_subject(tree, list),
        },
        _ => None,
    });
    let first = subjects.next()??;
    subjects.all(|other| other == Some(first)).then_some(first)
}

fn is_capital(tree: &Tree, name: u32) -> bool {
    tree.name_of(name).starts_with(|c: char| c.is_uppercase())
}

/// Returns the subject of a chain: its only variable, the function that it bounds, or its only expression. `None` if there are several.
pub fn chain_subject(tree: &Tree, list: u32) -> Option<Subject> {
    let mut found = None;
    for &member in tree.members(list) {
        if rewrite::symbols(tree, member).is_empty() {
            continue;
        }
        let subject = side_subject(tree, member)?;
        if *found.get_or_insert(subject) != subject {
            return None;
        }
    }
    found
}

/// Returns the subject of one side of an inequality.
fn side_subject(tree: &Tree, id: Id) -> Option<Subject> {
    let variables = rewrite::symbols(tree, id);
    match variables.as_slice() {
        [] => None,
        _ if is_structure(tree, id) => None,
        &[name] if !matches!(tree.node(id), Node::Opaque(..)) => Some(Subject::Variable(name)),
        _ => match (label::bound_variable(tree, id).filter(|_| label::is_label(tree, id)), tree.node(id)) {
            (Some(argument), Node::Opaque(name, _)) => Some(Subject::Function(name, argument)),
            (_, Node::Opaque(..)) => None,
            (Some(argument), Node::Multiply(function, _)) if !is_capital(tree, argument) => match tree.node(function) {
                Node::Symbol(name) => Some(Subject::Function(name, argument)),
                _ => Some(Subject::Expression(id)),
            },
            _ => Some(Subject::Expression(id)),
        },
    }
}
