//! Prints a tree as one line of text. Brackets around every operation show how `11+9a/20` was parsed.

use crate::verify::tree::{Bracket, Constant, Function, Id, Node, Relation, Separator, SetOperation, Tree};

/// Maximum length of a part in bytes. Longer parts are cut, so that an explanation stays readable.
const MAX_LENGTH: usize = 400;

/// Formats the node at `root`.
pub fn show(tree: &Tree, root: Id) -> String {
    let order = tree.reachable(root);
    let mut texts: Vec<String> = Vec::with_capacity(order.len());
    for &id in &order {
        let at = |child: Id| order.binary_search(&child).ok().and_then(|at| texts.get(at)).map_or("?", String::as_str);
        let mut text = node(tree, id, at);
        if text.len() > MAX_LENGTH {
            let end = (0..=MAX_LENGTH).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
            text.truncate(end);
            text.push('…');
        }
        texts.push(text);
    }
    texts.pop().unwrap_or_default()
}

/// Returns the kind of answer at `root`, with an article.
pub fn kind(tree: &Tree, root: Id) -> &'static str {
    match tree.node(root) {
        Node::Number(_) => "a number",
        Node::Text(_) => "words",
        Node::Sequence { open: Bracket::Bare, .. } => "an unordered list",
        Node::Sequence { open: Bracket::Curly, .. } | Node::EmptySet | Node::Numbers(_) | Node::Builder(..) => "a set",
        Node::Sequence { .. } => "a tuple or an interval",
        Node::SetOperation(..) => "a combination of sets",
        Node::Matrix { columns: 1, .. } => "a column vector",
        Node::Matrix { .. } => "a matrix",
        Node::Chain(_) => "a relation",
        Node::Based(..) => "a numeral with a base",
        Node::Clock(_) => "a time of day",
        Node::Ratio(..) => "a ratio",
        Node::Worded(..) => "a value with words or a unit",
        _ => "an expression",
    }
}

fn node<'a>(tree: &'a Tree, id: Id, at: impl Fn(Id) -> &'a str) -> String {
    let list = |list: u32, between: &str| tree.members(list).iter().map(|&member| at(member)).collect::<Vec<_>>().join(between);
    match tree.node(id) {
        Node::Number(index) => tree.number(index).map(|number| number.value.to_string()).unwrap_or_default(),
        Node::Symbol(name) => tree.name_of(name).to_owned(),
        Node::Constant(Constant::Pi) => "π".to_owned(),
        Node::Constant(Constant::E) => "e".to_owned(),
        Node::Constant(Constant::I) => "i".to_owned(),
        Node::Constant(Constant::Infinity) => "∞".to_owned(),
        Node::Negate(a) => format!("-{}", at(a)),
        Node::Add(a, b) => format!("({} + {})", at(a), at(b)),
        Node::Subtract(a, b) => format!("({} - {})", at(a), at(b)),
        Node::Multiply(a, b) => format!("({} · {})", at(a), at(b)),
        Node::Divide(a, b) => format!("({} / {})", at(a), at(b)),
        Node::Ratio(a, b) => format!("({} : {})", at(a), at(b)),
        Node::Power(a, b) => format!("{}^{}", at(a), at(b)),
        Node::PlusMinus(a, b, minus_first) => format!("({} {} {})", at(a), if minus_first { "∓" } else { "±" }, at(b)),
        Node::Call(Function::Abs, a) => format!("|{}|", at(a)),
        Node::Call(function, a) => format!("{}({})", format!("{function:?}").to_lowercase(), at(a)),
        Node::Call2(function, a, b) => format!("{}({}, {})", format!("{function:?}").to_lowercase(), at(a), at(b)),
        Node::Opaque(name, arguments) => format!("{}({})", tree.name_of(name), list(arguments, ", ")),
        Node::Percent(a) => format!("{}%", at(a)),
        Node::Degree(a) => format!("{}°", at(a)),
        Node::Sequence { open, close, separator, list: members } => {
            let between = if separator == Separator::Or { " or " } else { ", " };
            format!("{}{}{}", opening(open), list(members, between), closing(close))
        }
        Node::Chain(members) => chain(tree, members, at),
        Node::Matrix { columns, list: members } => format!("[{columns} columns: {}]", list(members, ", ")),
        Node::SetOperation(operation, a, b) => {
            let sign = match operation {
                SetOperation::Union => "∪",
                SetOperation::Intersection => "∩",
                SetOperation::Difference => "∖",
            };
            format!("({} {sign} {})", at(a), at(b))
        }
        Node::Builder(a, b) => format!("{{{} | {}}}", at(a), at(b)),
        Node::Numbers(letter) => format!("all of {letter}"),
        Node::EmptySet => "∅".to_owned(),
        Node::Text(words) => format!("\"{}\"", tree.name_of(words)),
        Node::Clock(seconds) => format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
        Node::Based(digits, base) => format!("{} in base {base}", tree.name_of(digits)),
        Node::Worded(before, a, after) => {
            let words =
                |index: u32| if index == crate::verify::tree::NONE { String::new() } else { format!(" \"{}\" ", tree.name_of(index)) };
            format!("{}{}{}", words(before), at(a), words(after)).trim().to_owned()
        }
    }
}

fn chain<'a>(tree: &Tree, list: u32, at: impl Fn(Id) -> &'a str) -> String {
    let signs = tree.relations_of(list).iter().map(|relation| match relation {
        Relation::Equal => " = ",
        Relation::NotEqual => " ≠ ",
        Relation::Less => " < ",
        Relation::LessEqual => " ≤ ",
        Relation::Greater => " > ",
        Relation::GreaterEqual => " ≥ ",
        Relation::Approximately => " ≈ ",
        Relation::In => " ∈ ",
        Relation::Other(_) => " ~ ",
    });
    let members = tree.members(list).iter().map(|&member| at(member));
    members.zip(signs.chain([""])).flat_map(|(member, sign)| [member, sign]).collect()
}

fn opening(bracket: Bracket) -> &'static str {
    match bracket {
        Bracket::Bare => "",
        Bracket::Round => "(",
        Bracket::Square => "[",
        Bracket::Curly => "{",
        Bracket::Angle => "⟨",
    }
}

fn closing(bracket: Bracket) -> &'static str {
    match bracket {
        Bracket::Bare => "",
        Bracket::Round => ")",
        Bracket::Square => "]",
        Bracket::Curly => "}",
        Bracket::Angle => "⟩",
    }
}
