//! The parser's rules for functions: which names apply to the following operand, powers and bases between a name and its argument, and the
//! differentials of integrals.

use crate::verify::read::Parser;
use crate::verify::read::frame::Role;
use crate::verify::read::operator::{Applied, Operator};
use crate::verify::read::token::{Command, Delimiter, Kind};
use crate::verify::tree::{Node, Relation};

impl Parser<'_> {
    /// Reads a variable. `f`, `g` and `h` directly before a parenthesis are functions.
    pub fn symbol(&mut self, name: u32) -> Option<()> {
        let next = self.peek();
        let calls = next.is_some_and(|next| next.kind == Kind::Open(Delimiter::Round) && !next.spaced)
            && self.tree.name_of(name).chars().nth(1).is_none_or(|c| !c.is_alphabetic())
            && (self.tree.name_of(name).starts_with(['f', 'g', 'h']) || self.defines_here());
        if calls || self.evaluates_here(name) || self.tree.name_of(name).starts_with(['f', 'g', 'h']) && self.grouped_argument() {
            return self.function(Applied::Named(name));
        }
        if self.tree.name_of(name) == "d" && self.differential()? {
            return Some(());
        }
        self.operand(Node::Symbol(name))
    }

    /// Reads the `mod` of `a (mod n)`, directly after the opening bracket.
    pub fn bracketed_modulus(&mut self) -> Option<()> {
        let frame = self.frame()?;
        let fresh = frame.items.is_empty() && frame.chain.is_empty();
        if frame.role != Role::Group(Delimiter::Round, false) || !fresh || self.own_operator().is_some() {
            return None;
        }
        self.frames.pop();
        if self.own_operator() != Some(Operator::Juxtapose) {
            return None;
        }
        self.operators.pop();
        self.infix(Operator::Modulo)?;
        self.open(Role::Group(Delimiter::Round, false))
    }

    /// True for `T(10)`: a capital letter with a number in brackets is a function value, not a product.
    fn evaluates_here(&self, name: u32) -> bool {
        let kinds = self.tokens.list.get(self.at..self.at + 3).unwrap_or(&[]);
        let number = matches!(kinds, [a, b, c] if a.kind == Kind::Open(Delimiter::Round)
            && !a.spaced
            && matches!(b.kind, Kind::Number(_))
            && c.kind == Kind::Close(Delimiter::Round));
        number && self.tree.name_of(name).starts_with(|c: char| c.is_ascii_uppercase())
    }

    /// True for `f{(x)}`, the form printed by computer algebra systems.
    fn grouped_argument(&self) -> bool {
        let kinds = self.tokens.list.get(self.at..self.at + 2).unwrap_or(&[]);
        matches!(kinds, [a, b] if a.kind == Kind::Open(Delimiter::Group) && b.kind == Kind::Open(Delimiter::Round))
    }

    /// True if `(x) =` follows, since any name may be defined as a function.
    fn defines_here(&self) -> bool {
        let kinds = self.tokens.list.get(self.at..self.at + 4).unwrap_or(&[]);
        let argument = |kind| matches!(kind, Kind::Symbol(_) | Kind::Number(_));
        matches!(kinds, [_, a, b, c] if argument(a.kind) && b.kind == Kind::Close(Delimiter::Round) && c.kind == Kind::Relation(Relation::Equal))
    }

    /// Reads the `dx` that ends an integral and adds it to the integral's name: `\int x dt` is not `\int x dx`. Returns `Some(false)` if
    /// this is not a differential.
    fn differential(&mut self) -> Option<bool> {
        let base = self.frame()?.operators_base;
        let integral = self.operators.get(base..).unwrap_or(&[]).iter().rposition(|operator| matches!(operator, Operator::Big(_, true)));
        let Some(Kind::Symbol(variable)) = self.peek().map(|token| token.kind) else { return Some(false) };
        let Some(integral) = integral else {
            // Inside a bracket or a fraction after the integral sign.
            let Some(outer) = self.operators.iter().rposition(|operator| matches!(operator, Operator::Big(_, true))) else {
                return Some(false);
            };
            if self.frame()?.expects {
                if !self.is_whole_numerator() {
                    return Some(false);
                }
                let one = self.tree.integer(1)?;
                self.deliver(one)?;
            }
            self.at += 1;
            self.close_integral(outer, variable)?;
            return Some(true);
        };
        if self.frame()?.expects {
            if self.operators.len() != base + integral + 1 {
                return Some(false);
            }
            let one = self.tree.integer(1)?;
            self.values.push(one);
        }
        self.at += 1;
        self.close_integral(base + integral, variable)?;
        while self.operators.len() > base + integral {
            self.reduce()?;
        }
        self.frame()?.expects = false;
        Some(true)
    }

    /// Adds the differential to the name of the integral at `index` in the operator stack. From then on, the integral does not extend over
    /// sums.
    fn close_integral(&mut self, index: usize, variable: u32) -> Option<()> {
        let Operator::Big(name, _) = *self.operators.get(index)? else { return None };
        let full = format!("{} d {}", self.tree.name_of(name), self.tree.name_of(variable));
        let full = self.tree.name(&full);
        *self.operators.get_mut(index)? = Operator::Big(full, false);
        Some(())
    }

    /// True if the `dx` here is a whole numerator, and the fraction is not a derivative `dy/dx`.
    fn is_whole_numerator(&self) -> bool {
        let numerator = matches!(self.frames.as_slice(), [.., fraction, group]
            if matches!(fraction.role, Role::Command(Command::Fraction, _, state) if state & 3 == 0)
            && group.role == Role::Group(Delimiter::Group, false)
            && self.values.len() == group.values_base
            && self.operators.len() == group.operators_base);
        let next = |offset: usize| self.tokens.list.get(self.at + offset).map(|token| token.kind);
        let derivative = matches!(next(3), Some(Kind::Symbol(name)) if self.tree.name_of(name) == "d");
        numerator && next(1) == Some(Kind::Close(Delimiter::Group)) && !derivative
    }

    /// Reads `x^2_1`, where the subscript belongs to the base.
    pub fn late_subscript(&mut self, subscript: u32) -> Option<()> {
        let value = self.values.pop()?;
        let Node::Power(base, exponent) = self.tree.node(value) else { return None };
        let Node::Symbol(name) = self.tree.node(base) else { return None };
        let full = format!("{}_{}", self.tree.name_of(name), self.tree.name_of(subscript));
        let name = self.tree.name(&full);
        let base = self.tree.push(Node::Symbol(name))?;
        // The new base comes after its exponent, which is allowed: children only have to precede their parents.
        let power = self.tree.push(Node::Power(base, exponent))?;
        self.values.push(power);
        Some(())
    }

    /// Reads a function name; its argument follows.
    pub fn function(&mut self, applied: Applied) -> Option<()> {
        if !self.frame()?.expects {
            // A second function ends the argument of the first: `\sin a \cos b`.
            self.infix(Operator::Multiply)?;
        }
        self.operators.push(Operator::Apply(applied, None, None));
        self.function_scripts()
    }

    /// Opens the frame of a power or a base directly after a function, `\sin^2 x` or `\log_2 x`.
    pub fn function_scripts(&mut self) -> Option<()> {
        let role = match self.peek().map(|token| token.kind) {
            Some(Kind::Caret) => Role::FunctionPower(false),
            Some(Kind::Underscore) => Role::FunctionBase,
            _ => return Some(()),
        };
        self.at += 1;
        self.open(role)
    }
}
