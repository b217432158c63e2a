//! The left side of `x = 5`, `f(x) = ...` or `\angle A = ...`: which expressions are only names of values, and which names can mean the
//! same value. This file owns the policy that an answer with a different name is a different answer.

use crate::verify::tree::show::show;
use crate::verify::tree::{Bracket, Function, Id, Node, Tree};

/// True if an expression only names a value: a variable, words, `f(x)`, `P(x)`, `AB`, `\angle A`, or a tuple of variables.
pub fn is_label(tree: &Tree, id: Id) -> bool {
    match tree.node(id) {
        Node::Symbol(_) | Node::Text(_) | Node::Worded(..) => true,
        // A named function is a label. An operator with bounds, such as a sum, has `^` in its name and is an expression.
        Node::Opaque(name, _) => !tree.name_of(name).contains('^'),
        Node::Sequence { open: Bracket::Round | Bracket::Bare, list, .. } => {
            tree.members(list).iter().all(|&member| is_simple_label(tree, member))
        }
        // `|AB|` names a length, `\sin\theta` a value.
        Node::Call(_, a) => matches!(tree.node(a), Node::Symbol(_)) || is_capital(tree, a),
        Node::Multiply(a, b) | Node::Divide(a, b) | Node::Ratio(a, b) => {
            is_capital(tree, a) && (is_capital(tree, b) || is_argument(tree, a, b)) || is_derivative(tree, a, b) || is_inverse(tree, a, b)
        }
        _ => false,
    }
}

fn is_simple_label(tree: &Tree, id: Id) -> bool {
    matches!(tree.node(id), Node::Symbol(_)) || is_named_point(tree, id)
}

fn is_named_point(tree: &Tree, id: Id) -> bool {
    match tree.node(id) {
        Node::Opaque(..) => true,
        Node::Multiply(a, b) => is_capital(tree, a) && matches!(tree.node(b), Node::Symbol(_)),
        _ => false,
    }
}

/// True for upper-case names, alone or side by side: points, lengths, areas.
fn is_capital(tree: &Tree, mut id: Id) -> bool {
    // Products associate to the left, so walk down the left operands.
    loop {
        let leaf = match tree.node(id) {
            Node::Multiply(a, b) => {
                id = a;
                b
            }
            _ => return is_capital_symbol(tree, id),
        };
        if !is_capital_symbol(tree, leaf) {
            return false;
        }
    }
}

fn is_capital_symbol(tree: &Tree, id: Id) -> bool {
    match tree.node(id) {
        Node::Symbol(name) => {
            let name = tree.name_of(name);
            name.starts_with(|c: char| c.is_uppercase()) || matches!(name, "angle" | "triangle")
        }
        _ => false,
    }
}

fn is_argument(tree: &Tree, function: Id, argument: Id) -> bool {
    matches!(tree.node(function), Node::Symbol(_)) && matches!(tree.node(argument), Node::Symbol(_) | Node::Number(_) | Node::Chain(_))
}

/// True for `dy/dx`.
fn is_derivative(tree: &Tree, a: Id, b: Id) -> bool {
    let differential = |id| match tree.node(id) {
        Node::Multiply(d, _) => matches!(tree.node(d), Node::Symbol(name) if tree.name_of(name) == "d"),
        _ => false,
    };
    differential(a) && differential(b)
}

/// True for `f^{-1}(x)`.
fn is_inverse(tree: &Tree, a: Id, b: Id) -> bool {
    match (tree.node(a), tree.node(b)) {
        (Node::Power(f, exponent), Node::Symbol(_)) => {
            matches!(tree.node(f), Node::Symbol(_)) && matches!(tree.node(exponent), Node::Negate(one) if tree.plain_integer(one).is_some())
        }
        _ => false,
    }
}

/// Returns the variable that a label binds: the `x` of `f(x) = ...`.
pub fn bound_variable(tree: &Tree, label: Id) -> Option<u32> {
    let argument = match tree.node(label) {
        Node::Opaque(_, list) => match tree.members(list) {
            &[argument] => argument,
            _ => return None,
        },
        Node::Multiply(a, b) if is_capital_symbol(tree, a) => b,
        _ => return None,
    };
    match tree.node(argument) {
        Node::Symbol(name) => Some(name),
        _ => None,
    }
}

/// True if two labels can name the same thing. A plain name can match a function, a length or words. Two names of the same kind must be
/// identical, up to the case of a letter: `\tan y` is not `\sin y`, and `AB` is not `CD`.
pub fn labels_match(tree: &Tree, gold: Id, answer: Id, value_is_constant: bool) -> bool {
    match (tree.node(gold), tree.node(answer)) {
        (Node::Symbol(g), Node::Symbol(a)) => {
            tree.name_of(g).eq_ignore_ascii_case(tree.name_of(a)) || !value_is_constant && tree.name_of(g).len() == 1
        }
        (Node::Text(g), Node::Text(a)) => words_agree(tree.name_of(g), tree.name_of(a)),
        (Node::Text(_) | Node::Worded(..), _) | (_, Node::Text(_) | Node::Worded(..)) => true,
        // `|AB|` is the length `AB`.
        (Node::Call(Function::Abs, g), Node::Multiply(..)) => spelling(tree, g) == spelling(tree, answer),
        (Node::Multiply(..), Node::Call(Function::Abs, a)) => spelling(tree, gold) == spelling(tree, a),
        (Node::Call(g_function, g), Node::Call(a_function, a)) => g_function == a_function && same_product(tree, g, a),
        // A function value does not determine its argument: `\sin x = 1/2` is not `x = 1/2`.
        (Node::Call(..), _) | (_, Node::Call(..)) => false,
        (Node::Opaque(g, g_list), Node::Opaque(a, a_list)) => {
            let same_arguments = match (tree.members(g_list), tree.members(a_list)) {
                (&[g], &[a]) if is_variable(tree, g) && is_variable(tree, a) => true,
                (g, a) => g.len() == a.len() && g.iter().zip(a).all(|(&g, &a)| show(tree, g) == show(tree, a)),
            };
            tree.name_of(g).eq_ignore_ascii_case(tree.name_of(a)) && same_arguments
        }
        (Node::Sequence { list: g, .. }, Node::Sequence { list: a, .. }) => {
            let (g, a) = (tree.members(g), tree.members(a));
            g.len() == a.len() && g.iter().zip(a).all(|(&g, &a)| spelling(tree, g).eq_ignore_ascii_case(&spelling(tree, a)))
        }
        (Node::Multiply(..), Node::Multiply(..)) => same_product(tree, gold, answer),
        (Node::Divide(g, h) | Node::Ratio(g, h), Node::Divide(a, b) | Node::Ratio(a, b)) => {
            same_product(tree, g, a) && same_product(tree, h, b)
        }
        _ => true,
    }
}

/// True if two labels in words share a word, or one of them has no specific word.
fn words_agree(gold: &str, answer: &str) -> bool {
    const GENERIC: [&str; 14] =
        ["answer", "result", "value", "total", "final", "solution", "number", "the", "of", "a", "is", "in", "for", "required"];
    let specific_words = |text: &str| -> Vec<String> {
        let words = text.split(' ').filter(|word| !GENERIC.contains(word));
        words.map(|word| word.strip_suffix('s').unwrap_or(word).to_owned()).collect()
    };
    let (gold, answer) = (specific_words(gold), specific_words(answer));
    gold.is_empty() || answer.is_empty() || gold.iter().any(|word| answer.contains(word))
}

/// True for a letter that can be replaced by any other: the `x` of `f(x)`, but not the event `A` of `P(A)`.
fn is_variable(tree: &Tree, id: Id) -> bool {
    matches!(tree.node(id), Node::Symbol(name) if !tree.name_of(name).starts_with(|c: char| c.is_uppercase()))
}

/// True if two names made of adjacent letters have the same letters and, for angles, the same vertex.
fn same_product(tree: &Tree, gold: Id, answer: Id) -> bool {
    let (g, a) = (factors(tree, gold), factors(tree, answer));
    // An angle named by its vertex alone, with or without the angle sign, matches any angle at that vertex.
    if let (Some(g_vertex), Some(a_vertex)) = (vertex(&g), vertex(&a)) {
        return g_vertex == a_vertex && (g.len() != a.len() || spelling(tree, gold) == spelling(tree, answer));
    }
    // `P(x)` and `P(t)` are the same function.
    if let ([g_name, _], [a_name, _], Some(_), Some(_)) = (&g[..], &a[..], bound_variable(tree, gold), bound_variable(tree, answer))
        && !(is_capital(tree, gold) && is_capital(tree, answer))
    {
        return g_name == a_name;
    }
    spelling(tree, gold) == spelling(tree, answer)
}

/// Returns the vertex of an angle: the `B` of `\angle ABC`, `\angle B` and `B`.
fn vertex(factors: &[String]) -> Option<&str> {
    match factors {
        [vertex] => Some(vertex),
        [angle, vertex] | [angle, _, vertex, _] if angle == "angle" => Some(vertex),
        _ => None,
    }
}

/// Returns the factors of a product, in order.
fn factors(tree: &Tree, mut id: Id) -> Vec<String> {
    let mut found = Vec::new();
    while let Node::Multiply(a, b) = tree.node(id) {
        found.push(show(tree, b));
        id = a;
    }
    found.push(show(tree, id));
    found.reverse();
    found
}

/// Writes a name as text with its letters sorted, so that their order does not matter.
fn spelling(tree: &Tree, id: Id) -> String {
    let mut factors = factors(tree, id);
    factors.sort_unstable();
    factors.join(" ")
}
