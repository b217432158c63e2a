//! What inequalities are about: one variable, the values of a function, or those of an expression. It owns the policy that a bound on one thing
//! is no bound on another; which numbers the bounds leave is for `reals`.

use crate::verify::compare::label;
use crate::verify::compare::structure::is_structure;
use crate::verify::tree::rewrite;
use crate::verify::tree::{Bracket, Id, Node, Relation, Tree};

/// What an inequality is about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Subject {
    Variable(u32),
    /// A function's values, and the variable that it is of.
    Function(u32, u32),
    /// The values of an expression in several variables.
    Expression(Id),
}

impl Subject {
    /// Whether two inequalities may be about the same thing: one variable, but for its case; one function; or a function's values under a name
    /// of their own, `y` for `f(x)`.
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

/// What the inequalities at a node are about, where that is one thing; intervals and sets are about nothing.
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
            (&[Relation::In], &[element, _]) => single(tree, element),
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

/// The one variable of a chain, the one function whose values it bounds, or its one expression.
pub fn chain_subject(tree: &Tree, list: u32) -> Option<Subject> {
    let mut found = None;
    for &member in tree.members(list) {
        if rewrite::symbols(tree, member).is_empty() {
            continue;
        }
        let subject = single(tree, member)?;
        if *found.get_or_insert(subject) != subject {
            return None;
        }
    }
    found
}

/// What one side of an inequality is about.
fn single(tree: &Tree, id: Id) -> Option<Subject> {
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
