//! The parser's rules for the ends of items: commas, "and", "or", rows, closing brackets, bars.

use crate::verify::read::Parser;
use crate::verify::read::frame::{Role, bracket};
use crate::verify::read::operator::Operator;
use crate::verify::read::token::{Delimiter, Environment, Kind};
use crate::verify::tree::{Bracket, Function, Id, NONE, Node, Relation, Separator};

impl Parser<'_> {
    /// Ends the current operand of the innermost frame and returns it; `Some(None)` if there is none. Words alone are an operand.
    pub fn finish_operand(&mut self) -> Option<Option<Id>> {
        let (values_base, operators_base, expects) = {
            let frame = self.frame()?;
            (frame.values_base, frame.operators_base, frame.expects)
        };
        if expects {
            if self.values.len() != values_base || self.operators.len() != operators_base {
                return None;
            }
            let words = std::mem::replace(&mut self.frame()?.prefix, NONE);
            return if words == NONE { Some(None) } else { Some(Some(self.tree.push(Node::Text(words))?)) };
        }
        while self.operators.len() > operators_base {
            self.reduce()?;
        }
        let operand = self.values.pop()?;
        (self.values.len() == values_base).then_some(Some(operand))
    }

    /// Ends the current item of the innermost frame and returns it with its relations and words; `Some(None)` if there is none.
    fn finish_item(&mut self) -> Option<Option<Id>> {
        let operand = self.finish_operand()?;
        let frame = self.frame()?;
        let (chain, relations) = (std::mem::take(&mut frame.chain), std::mem::take(&mut frame.relations));
        let (prefix, suffix) = (frame.prefix, frame.suffix);
        (frame.prefix, frame.suffix, frame.expects) = (NONE, NONE, true);
        let Some(operand) = operand else {
            return chain.is_empty().then_some(None);
        };
        let (operand, suffix) = self.time_of_day(operand, suffix)?;
        let mut item = operand;
        if !chain.is_empty() {
            let mut members = chain;
            members.push(operand);
            let list = self.tree.list(members, relations);
            item = self.tree.push(Node::Chain(list))?;
        }
        if prefix != NONE || suffix != NONE {
            item = self.tree.push(Node::Worded(prefix, item, suffix))?;
        }
        Some(Some(item))
    }

    /// Reads a comma, an "and" or an "or".
    pub fn separate(&mut self, separator: Separator) -> Option<()> {
        let before = self.at.checked_sub(2).and_then(|at| self.tokens.list.get(at)).map(|token| token.kind);
        let after_comma = before == Some(Kind::Comma);
        let item = self.finish_item()?;
        let frame = self.frame()?;
        match item {
            Some(item) => frame.items.push(item),
            // ", and" is one separator. Other runs of connectives are invalid.
            None if separator != Separator::Comma && after_comma && !frame.items.is_empty() => {}
            None => return None,
        }
        if separator != Separator::Comma {
            // "1 and 2 or 3" is not a single list.
            if !matches!(frame.separator, Separator::Comma) && frame.separator != separator {
                return None;
            }
            frame.separator = separator;
        }
        Some(())
    }

    /// Reads a semicolon or a line break.
    pub fn new_row(&mut self) -> Option<()> {
        let before = self.at.checked_sub(2).and_then(|at| self.tokens.list.get(at));
        if before.is_some_and(|token| token.kind == Kind::Ampersand) {
            // An empty cell.
            return None;
        }
        let item = self.finish_item()?;
        let frame = self.frame()?;
        frame.items.extend(item);
        let row = std::mem::take(&mut frame.items);
        if row.is_empty() {
            return None;
        }
        frame.rows.push(row);
        Some(())
    }

    /// Closes the innermost frame and returns its value.
    pub fn finish_frame(&mut self) -> Option<Id> {
        let item = self.finish_item()?;
        let mut frame = self.frames.pop()?;
        let (open, root) = match frame.role {
            Role::Group(delimiter, _) => (bracket(delimiter), false),
            Role::Root => (Bracket::Bare, true),
            _ => (Bracket::Bare, false),
        };
        // A trailing comma is accepted only at the very end of the answer.
        let trailing_comma = root && !frame.items.is_empty() && self.tokens.list.last().is_some_and(|token| token.kind == Kind::Comma);
        if item.is_none() && !trailing_comma && frame.rows.is_empty() {
            return None;
        }
        frame.items.extend(item);
        if !frame.rows.is_empty() {
            if !frame.items.is_empty() {
                frame.rows.push(std::mem::take(&mut frame.items));
            }
            let ordered = matches!(open, Bracket::Round | Bracket::Square | Bracket::Angle);
            for row in std::mem::take(&mut frame.rows) {
                match row.as_slice() {
                    &[single] => frame.items.push(single),
                    _ if ordered => frame.items.extend(row),
                    _ => {
                        let list = self.tree.list(row, Vec::new());
                        let tuple = Node::Sequence { open: Bracket::Round, close: Bracket::Round, separator: Separator::Comma, list };
                        let tuple = self.tree.push(tuple)?;
                        frame.items.push(tuple);
                    }
                }
            }
        }
        if let Some(head) = frame.head {
            let condition = self.sequence(frame.items, Bracket::Bare, Bracket::Bare, frame.separator)?;
            return self.tree.push(Node::Builder(head, condition));
        }
        if open == Bracket::Curly {
            let list = self.tree.list(frame.items, Vec::new());
            return self.tree.push(Node::Sequence { open, close: open, separator: frame.separator, list });
        }
        self.sequence(frame.items, open, open, frame.separator)
    }

    /// Returns a single item unchanged, and several items as a sequence.
    fn sequence(&mut self, items: Vec<Id>, open: Bracket, close: Bracket, separator: Separator) -> Option<Id> {
        if let &[single] = items.as_slice() {
            return Some(single);
        }
        let list = self.tree.list(items, Vec::new());
        self.tree.push(Node::Sequence { open, close, separator, list })
    }

    /// Reads a closing bracket.
    pub fn close(&mut self, closing: Delimiter) -> Option<()> {
        let Role::Group(opening, direct) = self.frame()?.role else { return None };
        let half_open = matches!((opening, closing), (Delimiter::Round, Delimiter::Square) | (Delimiter::Square, Delimiter::Round));
        if opening != closing && !half_open {
            return None;
        }
        let before = self.at.checked_sub(2).and_then(|at| self.tokens.list.get(at)).map(|token| token.kind);
        if before == Some(Kind::Open(opening)) {
            return self.close_empty(opening);
        }
        let mut node = self.finish_frame()?;
        if half_open {
            let Node::Sequence { open, close: _, separator, list } = self.tree.node(node) else { return None };
            node = self.tree.push(Node::Sequence { open, close: bracket(closing), separator, list })?;
        }
        node = match opening {
            Delimiter::Floor => self.tree.push(Node::Call(Function::Floor, node))?,
            Delimiter::Ceil => self.tree.push(Node::Call(Function::Ceil, node))?,
            _ => node,
        };
        // Words in brackets after a number are its unit.
        if let (Node::Text(words), Some(Operator::Juxtapose)) = (self.tree.node(node), self.own_operator()) {
            self.operators.pop();
            let frame = self.frame()?;
            (frame.suffix, frame.expects) = (words, false);
            return Some(());
        }
        self.deliver(node)?;
        if direct { self.reduce() } else { Some(()) }
    }

    /// Closes empty brackets: `\{\}` is the empty set, `{}` is skipped, and others are invalid.
    fn close_empty(&mut self, opening: Delimiter) -> Option<()> {
        self.frames.pop();
        match opening {
            Delimiter::Curly => {
                let node = self.tree.push(Node::EmptySet)?;
                self.deliver(node)
            }
            Delimiter::Group if !self.frame()?.role.wants_argument() => {
                if self.own_operator() == Some(Operator::Juxtapose) {
                    self.operators.pop();
                    self.frame()?.expects = false;
                }
                Some(())
            }
            _ => None,
        }
    }

    /// Reads the end of an environment.
    pub fn end(&mut self, environment: Environment) -> Option<()> {
        let Role::Rows(opened) = self.frame()?.role else { return None };
        if opened != environment || environment == Environment::Other {
            return None;
        }
        let last = self.finish_item()?;
        let mut frame = self.frames.pop()?;
        frame.items.extend(last);
        if !frame.items.is_empty() {
            frame.rows.push(frame.items);
        }
        let columns = frame.rows.first()?.len();
        if environment == Environment::Lines {
            let lines: Vec<Id> = frame.rows.into_iter().flatten().collect();
            let node = self.sequence(lines, Bracket::Bare, Bracket::Bare, Separator::And)?;
            return self.deliver(node);
        }
        if frame.rows.iter().any(|row| row.len() != columns) {
            return None;
        }
        let list = self.tree.list(frame.rows.into_iter().flatten().collect(), Vec::new());
        let node = self.tree.push(Node::Matrix { columns: u32::try_from(columns).ok()?, list })?;
        self.deliver(node)
    }

    /// Reads a vertical bar: the end of an absolute value, the separator of a set-builder, or the start of an absolute value.
    pub fn bar(&mut self) -> Option<()> {
        let frame = self.frame()?;
        if frame.role == Role::Bars && !frame.expects {
            let node = self.finish_frame()?;
            let node = self.tree.push(Node::Call(Function::Abs, node))?;
            return self.deliver(node);
        }
        if !frame.expects && self.in_builder() {
            return self.such_that();
        }
        self.start_operand()?;
        let (values, operators) = (self.values.len(), self.operators.len());
        if self.frames.len() >= 100 {
            return None;
        }
        self.frames.push(crate::verify::read::frame::Frame::new(Role::Bars, values, operators));
        Some(())
    }

    fn in_builder(&self) -> bool {
        self.frames.last().is_some_and(|frame| {
            matches!(frame.role, Role::Group(Delimiter::Curly | Delimiter::Group, _)) && frame.head.is_none() && frame.items.is_empty()
        })
    }

    /// True if the innermost frame has read only the head of a set-builder: a variable, or `x ∈ S` with a set of numbers.
    pub fn at_builder_head(&self) -> bool {
        let symbol = self.values.last().is_some_and(|&id| matches!(self.tree.node(id), Node::Symbol(_)));
        let ranged = self.values.last().is_some_and(|&id| matches!(self.tree.node(id), Node::Numbers(_)));
        let fits = self.frames.last().is_some_and(|frame| {
            let in_set = ranged && frame.relations.as_slice() == [Relation::In];
            self.values.len() == frame.values_base + 1 && (symbol && frame.relations.is_empty() || in_set)
        });
        self.in_builder() && fits
    }

    /// Reads the bar of a set-builder.
    pub fn such_that(&mut self) -> Option<()> {
        if !self.in_builder() {
            return None;
        }
        let head = self.finish_item()??;
        self.frame()?.head = Some(head);
        Some(())
    }
}
