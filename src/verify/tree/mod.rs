//! A parsed answer: an arena of nodes in which children always precede their parents. Evaluation and rewriting are therefore loops over
//! ascending indices, and nothing that walks an answer recurses.

mod node;
pub mod rewrite;
pub mod show;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::Zero;

pub use node::{Bracket, Constant, Function, Function2, Id, Literal, NONE, Node, Relation, Separator, SetOperation};

/// Maximum number of nodes in one comparison, including both sides and all rewritten copies.
const MAX_NODES: usize = 40_000;
/// Maximum number of nodes that [`Tree::reachable`] collects one by one. If there are more, it marks them in the whole arena.
const MAX_COLLECTED: usize = 200;
/// Maximum number of names in one comparison. A lookup takes time proportional to their number.
const MAX_NAMES: usize = 1200;

/// The arena of one comparison. Both sides share it, so a name has the same index on both.
#[derive(Debug, Default)]
pub struct Tree {
    /// All nodes; a node's index is its [`Id`].
    pub nodes: Vec<Node>,
    /// The numbers of number nodes.
    pub numbers: Vec<Literal>,
    /// Names of symbols and opaque functions, and texts.
    pub names: Vec<String>,
    /// Members of sequences, chains and matrices, and arguments of opaque functions.
    pub lists: Vec<Vec<Id>>,
    /// The relations between the members of each list; empty for lists that are not chains.
    pub relations: Vec<Vec<Relation>>,
    /// True if there were too many names, so that the tree does not represent the answer.
    pub overflow: bool,
}

impl Tree {
    /// Adds a node. `None` if the arena is full.
    pub fn push(&mut self, node: Node) -> Option<Id> {
        if self.nodes.len() >= MAX_NODES {
            return None;
        }
        self.nodes.push(node);
        u32::try_from(self.nodes.len() - 1).ok()
    }

    /// Returns the node at `id`; an empty set if there is none.
    pub fn node(&self, id: Id) -> Node {
        self.nodes.get(id as usize).copied().unwrap_or(Node::EmptySet)
    }

    /// Adds an integer. `None` if the arena is full.
    pub fn integer(&mut self, value: i64) -> Option<Id> {
        self.rational(BigRational::from_integer(BigInt::from(value)))
    }

    /// Adds an exact number. `None` if the arena is full.
    pub fn rational(&mut self, value: BigRational) -> Option<Id> {
        self.literal(Literal { value, decimals: None, significant: 0 })
    }

    /// Adds a number as written. `None` if the arena is full.
    pub fn literal(&mut self, literal: Literal) -> Option<Id> {
        self.numbers.push(literal);
        self.push(Node::Number(u32::try_from(self.numbers.len() - 1).ok()?))
    }

    /// Returns the literal of a number node, by the index in the node. `None` for an unknown index.
    pub fn number(&self, index: u32) -> Option<&Literal> {
        self.numbers.get(index as usize)
    }

    /// Returns the index of a name, adding it if it is new. `NONE` if there are too many names; then `overflow` is set.
    pub fn name(&mut self, name: &str) -> u32 {
        if self.names.len() >= MAX_NAMES {
            self.overflow = true;
            return NONE;
        }
        let known = self.names.iter().position(|known| known == name);
        let at = known.unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        u32::try_from(at).unwrap_or(NONE)
    }

    /// Returns the name at `index`, or an empty text for `NONE`.
    pub fn name_of(&self, index: u32) -> &str {
        self.names.get(index as usize).map_or("", String::as_str)
    }

    /// Adds a list with the relations between its members, and returns its index.
    pub fn list(&mut self, members: Vec<Id>, relations: Vec<Relation>) -> u32 {
        self.lists.push(members);
        self.relations.push(relations);
        u32::try_from(self.lists.len() - 1).unwrap_or(NONE)
    }

    /// Returns the members of a list.
    pub fn members(&self, list: u32) -> &[Id] {
        self.lists.get(list as usize).map_or(&[], Vec::as_slice)
    }

    /// Returns the relations of a chain.
    pub fn relations_of(&self, list: u32) -> &[Relation] {
        self.relations.get(list as usize).map_or(&[], Vec::as_slice)
    }

    /// Returns the value of a node that is an unsigned integer, written without a decimal point. `None` for any other node.
    pub fn plain_integer(&self, id: Id) -> Option<&BigInt> {
        match self.node(id) {
            Node::Number(index) => {
                let literal = self.number(index)?;
                (literal.decimals.is_none() && literal.value.is_integer()).then(|| literal.value.numer())
            }
            _ => None,
        }
    }

    /// True if the node is the number zero, as in `0` or `0.0`.
    pub fn is_zero(&self, id: Id) -> bool {
        matches!(self.node(id), Node::Number(index) if self.number(index).is_some_and(|n| n.value.is_zero()))
    }

    /// Calls `visit` for each child of `node`.
    pub fn children(&self, node: Node, mut visit: impl FnMut(Id)) {
        match node {
            Node::Number(_) | Node::Symbol(_) | Node::Constant(_) | Node::Numbers(_) => {}
            Node::EmptySet | Node::Text(_) | Node::Based(..) | Node::Clock(_) => {}
            Node::Negate(a) | Node::Call(_, a) | Node::Percent(a) | Node::Degree(a) | Node::Worded(_, a, _) => visit(a),
            Node::Add(a, b)
            | Node::Subtract(a, b)
            | Node::Multiply(a, b)
            | Node::Divide(a, b)
            | Node::Ratio(a, b)
            | Node::Power(a, b)
            | Node::PlusMinus(a, b, _)
            | Node::Call2(_, a, b)
            | Node::SetOperation(_, a, b)
            | Node::Builder(a, b) => {
                visit(a);
                visit(b);
            }
            Node::Opaque(_, list) | Node::Sequence { list, .. } | Node::Chain(list) | Node::Matrix { list, .. } => {
                self.members(list).iter().for_each(|&member| visit(member));
            }
        }
    }

    /// Returns `root` and the nodes below it in ascending order: children before parents.
    pub fn reachable(&self, root: Id) -> Vec<Id> {
        // Most parts of an answer are a few nodes of a large arena, so collect and sort them. If there are many nodes or much sharing, mark
        // them in the arena instead.
        let mut found = vec![root];
        let mut next = 0;
        while let Some(&id) = found.get(next) {
            next += 1;
            self.children(self.node(id), |child| found.push(child));
            if found.len() > MAX_COLLECTED {
                return self.marked(root);
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn marked(&self, root: Id) -> Vec<Id> {
        let mut seen = vec![false; root as usize + 1];
        let mut stack = vec![root];
        while let Some(id) = stack.pop() {
            let Some(flag) = seen.get_mut(id as usize) else { continue };
            if !std::mem::replace(flag, true) {
                self.children(self.node(id), |child| stack.push(child));
            }
        }
        (0..).zip(seen).filter_map(|(id, seen)| seen.then_some(id)).collect()
    }
}
