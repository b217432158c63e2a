//! What stands before the equals sign of `x = 5`, `f(x) = ...`, `\angle A = ...`: which expressions only name a value, and when two names
//! may be one. It owns the policy that an answer under another name is another answer.

use crate::verify::tree::show::show;
use crate::verify::tree::{Bracket, Function, Id, Node, Tree};

/// Whether an expression only names what is computed: a variable, words, `f(x)`, `P(x)`, `AB`, `\angle A`, a tuple of variables.
pub fn is_label(tree: &Tree, id: Id) -> bool {
    match tree.node(id) {
        Node::Symbol(_) | Node::Text(_) | Node::Worded(..) => true,
        // A derivative or a sum is an expression; a named function is a label.
        Node::Opaque(name, _) => !tree.name_of(name).contains('^'),
        Node::Sequence { open: Bracket::Round | Bracket::Bare, list, .. } => {
            tree.members(list).iter().all(|&member| is_simple_label(tree, member))
        }
        // |AB| and \sin\theta name a length and a value.
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

/// Upper-case names, alone or side by side: points, lengths, areas.
fn is_capital(tree: &Tree, mut id: Id) -> bool {
    // Products lean to the left: walk down the spine.
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

/// `dy/dx`.
fn is_derivative(tree: &Tree, a: Id, b: Id) -> bool {
    let differential = |id| match tree.node(id) {
        Node::Multiply(d, _) => matches!(tree.node(d), Node::Symbol(name) if tree.name_of(name) == "d"),
        _ => false,
    };
    differential(a) && differential(b)
}

/// `f^{-1}(x)`.
fn is_inverse(tree: &Tree, a: Id, b: Id) -> bool {
    match (tree.node(a), tree.node(b)) {
        (Node::Power(f, exponent), Node::Symbol(_)) => {
            matches!(tree.node(f), Node::Symbol(_)) && matches!(tree.node(exponent), Node::Negate(one) if tree.plain_integer(one).is_some())
        }
        _ => false,
    }
}

/// The variable that a label makes a bound one: the `x` of `f(x) = ...`.
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

/// Whether two labels may stand for the same thing. A plain name against a function's, a length's or words may; two names of one kind must be
/// the same, but for the case of a letter: `\tan y` is not `\sin y`, and `AB` is not `CD`.
pub fn labels_agree(tree: &Tree, gold: Id, answer: Id, value_is_constant: bool) -> bool {
    match (tree.node(gold), tree.node(answer)) {
        (Node::Symbol(g), Node::Symbol(a)) => {
            tree.name_of(g).eq_ignore_ascii_case(tree.name_of(a)) || !value_is_constant && tree.name_of(g).len() == 1
        }
        (Node::Text(g), Node::Text(a)) => words_agree(tree.name_of(g), tree.name_of(a)),
        (Node::Text(_) | Node::Worded(..), _) | (_, Node::Text(_) | Node::Worded(..)) => true,
        // |AB| is the length AB.
        (Node::Call(Function::Abs, g), Node::Multiply(..)) => spelling(tree, g) == spelling(tree, answer),
        (Node::Multiply(..), Node::Call(Function::Abs, a)) => spelling(tree, gold) == spelling(tree, a),
        (Node::Call(g_function, g), Node::Call(a_function, a)) => g_function == a_function && same_product(tree, g, a),
        // What a function is of something is no other thing's value: \sin x = 1/2 is not x = 1/2.
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

/// Two labels in words: some word of both is the same, or one of them says nothing of its own.
fn words_agree(gold: &str, answer: &str) -> bool {
    const EMPTY: [&str; 14] =
        ["answer", "result", "value", "total", "final", "solution", "number", "the", "of", "a", "is", "in", "for", "required"];
    let telling = |text: &str| -> Vec<String> {
        let words = text.split(' ').filter(|word| !EMPTY.contains(word));
        words.map(|word| word.strip_suffix('s').unwrap_or(word).to_owned()).collect()
    };
    let (gold, answer) = (telling(gold), telling(answer));
    gold.is_empty() || answer.is_empty() || gold.iter().any(|word| answer.contains(word))
}

/// A letter that may be any other: the x of f(x), not the event of P(A).
fn is_variable(tree: &Tree, id: Id) -> bool {
    matches!(tree.node(id), Node::Symbol(name) if !tree.name_of(name).starts_with(|c: char| c.is_uppercase()))
}

/// Two names made of letters side by side: the same letters, and of angles the same vertex.
fn same_product(tree: &Tree, gold: Id, answer: Id) -> bool {
    let (g, a) = (factors(tree, gold), factors(tree, answer));
    // Of an angle named by its vertex, with the sign or without, the sides are not told.
    if let (Some(g_vertex), Some(a_vertex)) = (vertex(&g), vertex(&a)) {
        return g_vertex == a_vertex && (g.len() != a.len() || spelling(tree, gold) == spelling(tree, answer));
    }
    // P(x) and P(t) are one function.
    if let ([g_name, _], [a_name, _], Some(_), Some(_)) = (&g[..], &a[..], bound_variable(tree, gold), bound_variable(tree, answer))
        && !(is_capital(tree, gold) && is_capital(tree, answer))
    {
        return g_name == a_name;
    }
    spelling(tree, gold) == spelling(tree, answer)
}

/// The vertex of an angle: the B of `\angle ABC`, of `\angle B` and of `B`.
fn vertex(factors: &[String]) -> Option<&str> {
    match factors {
        [vertex] => Some(vertex),
        [angle, vertex] | [angle, _, vertex, _] if angle == "angle" => Some(vertex),
        _ => None,
    }
}

/// The factors of a product, in order.
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

/// A name as text in which the order of letters side by side does not count.
fn spelling(tree: &Tree, id: Id) -> String {
    let mut factors = factors(tree, id);
    factors.sort_unstable();
    factors.join(" ")
}
