//! Two expressions: exact rationals, then identities in a field, then numbers with error bounds, then seeded points; and what is left over for
//! rounded decimals. It owns the ladder for everything that has a value; lists, sets and relations are for `goal`.

use std::collections::BTreeSet;

use num_rational::BigRational;
use num_traits::ToPrimitive;

use crate::verify::fuel::Fuel;
use crate::verify::tree::rewrite;
use crate::verify::tree::{Constant, Function, Function2, Id, Node, Tree};
use crate::verify::value::approx::{Approx, Point, Value};
use crate::verify::value::ball::{Ball, Balls};
use crate::verify::value::decimal;
use crate::verify::value::evaluate::{Arithmetic, Reading, evaluate};
use crate::verify::value::exact::Exact;
use crate::verify::value::field::Field;
use crate::verify::{Comparison, Method};

/// Precisions, in bits, at which two constants must be indistinguishable to be equal.
const PRECISIONS: [u32; 2] = [128, 384];

/// Different whole numbers at which expressions with factorials must agree.
const MIN_PLACES: usize = 3;

/// Compares the expressions at `gold` and `answer`, signs with two readings in each sensible one.
pub fn compare(tree: &mut Tree, gold: Id, answer: Id, fuel: &mut Fuel) -> Comparison {
    let mut last = Comparison { equal: false, method: Method::Exact };
    // Looking for signs and names walks over both sides some ten times.
    let size = tree.reachable(gold).len() + tree.reachable(answer).len();
    if !matches!((tree.node(gold), tree.node(answer)), (Node::Number(_), Node::Number(_))) && fuel.spend(8 * size as u64).is_err() {
        return Comparison { equal: false, method: Method::Exhausted };
    }
    for (gold_reading, answer_reading) in readings(tree, gold, answer) {
        last = Pair { tree, gold, answer, gold_reading, answer_reading, fuel }.compare();
        if last.equal {
            break;
        }
    }
    last
}

/// The readings to try: a percent or degree sign on one side only may be decoration; on both it cancels.
fn readings(tree: &Tree, gold: Id, answer: Id) -> Vec<(Reading, Reading)> {
    let (g, a) = (marks(tree, gold), marks(tree, answer));
    let mut all = vec![(Reading::PLAIN, Reading::PLAIN)];
    if g.percent != a.percent {
        let (in_gold, in_answer) = (g.percent, a.percent);
        all.push((Reading { percent_is_share: in_gold, ..Reading::PLAIN }, Reading { percent_is_share: in_answer, ..Reading::PLAIN }));
    }
    if g.degree != a.degree {
        all.push((Reading { degree_is_angle: g.degree, ..Reading::PLAIN }, Reading { degree_is_angle: a.degree, ..Reading::PLAIN }));
    }
    if g.logarithm || a.logarithm {
        let decimal = Reading { log_is_decimal: true, ..Reading::PLAIN };
        all.push((decimal, decimal));
    }
    all
}

#[derive(Default)]
struct Marks {
    percent: bool,
    degree: bool,
    logarithm: bool,
}

fn marks(tree: &Tree, root: Id) -> Marks {
    let mut marks = Marks::default();
    if matches!(tree.node(root), Node::Number(_)) {
        return marks;
    }
    for id in tree.reachable(root) {
        match tree.node(id) {
            Node::Percent(_) => marks.percent = true,
            Node::Degree(_) => marks.degree = true,
            Node::Call(Function::Log, _) => marks.logarithm = true,
            _ => {}
        }
    }
    marks
}

/// What numbers to hundreds of digits say about two constants.
enum Held {
    /// They agree to the last digit, and every part of them counts in those digits.
    Together,
    Apart,
    /// They agree, but some part counts too little to be seen.
    Unproven,
    /// One of them has no such value.
    Unknown,
}

/// Two expressions in fixed readings.
struct Pair<'a> {
    tree: &'a Tree,
    gold: Id,
    answer: Id,
    gold_reading: Reading,
    answer_reading: Reading,
    fuel: &'a mut Fuel,
}

impl Pair<'_> {
    fn compare(&mut self) -> Comparison {
        if let Some(equal) = self.infinite() {
            return Comparison { equal, method: Method::Exact };
        }
        let gold = evaluate(self.tree, self.gold, self.gold_reading, &mut Exact, self.fuel);
        let answer = evaluate(self.tree, self.answer, self.answer_reading, &mut Exact, self.fuel);
        if let (Some(g), Some(a)) = (&gold, &answer) {
            if g == a {
                return Comparison { equal: true, method: Method::Exact };
            }
            let (g_value, a_value) = (g.to_f64().unwrap_or(f64::NAN), a.to_f64().unwrap_or(f64::NAN));
            return self.rounded(g_value, a_value, gold.as_ref(), answer.as_ref(), Method::Exact);
        }
        let constants = rewrite::symbols(self.tree, self.gold).is_empty() && rewrite::symbols(self.tree, self.answer).is_empty();
        let opaque = |id| rewrite::any(self.tree, id, |node| matches!(node, Node::Opaque(..)));
        if constants && !opaque(self.gold) && !opaque(self.answer) {
            return self.constants(gold.as_ref(), answer.as_ref());
        }
        let identity = self.identity();
        if identity == Some(true) {
            return Comparison { equal: true, method: Method::Identity };
        }
        let rounded = decimal::has_rounded_part(self.tree, self.gold) != decimal::has_rounded_part(self.tree, self.answer);
        if identity == Some(false) && !rounded {
            return Comparison { equal: false, method: Method::Identity };
        }
        if self.sampled(false) == Some(true) {
            return Comparison { equal: true, method: Method::Sampled };
        }
        if rounded && self.sampled(true) == Some(true) {
            return Comparison { equal: true, method: Method::Rounded };
        }
        Comparison { equal: false, method: Method::Sampled }
    }

    /// Whether both are the same infinity, where at least one is infinite.
    fn infinite(&self) -> Option<bool> {
        let (gold, answer) = (infinity(self.tree, self.gold), infinity(self.tree, self.answer));
        (gold.is_some() || answer.is_some()).then_some(gold == answer)
    }

    /// Expressions without variables: parted by floating point if different, held together by balls if equal.
    fn constants(&mut self, gold_exact: Option<&BigRational>, answer_exact: Option<&BigRational>) -> Comparison {
        let mut approx = Approx::new(Point::Natural(0));
        let gold = evaluate(self.tree, self.gold, self.gold_reading, &mut approx, self.fuel);
        let answer = evaluate(self.tree, self.answer, self.answer_reading, &mut approx, self.fuel);
        let (Some(gold), Some(answer)) = (gold, answer) else {
            // Too large for floating point, or undefined: only an identity can still make them equal.
            return Comparison { equal: self.identity() == Some(true), method: Method::Identity };
        };
        if apart(gold, answer) {
            if !gold.is_real() || !answer.is_real() {
                return Comparison { equal: false, method: Method::Numeric };
            }
            let rounded = self.rounded(gold.re, answer.re, gold_exact, answer_exact, Method::Numeric);
            if rounded.equal {
                return rounded;
            }
            let some = decimal::has_rounded_part(self.tree, self.gold) != decimal::has_rounded_part(self.tree, self.answer);
            let plain = |id| decimal::decimal(self.tree, id, Reading::PLAIN).is_some();
            let inner = some && !plain(self.gold) && !plain(self.answer);
            let equal = inner && self.sampled(true) == Some(true);
            return Comparison { equal, method: if equal { Method::Rounded } else { Method::Numeric } };
        }
        match self.identity() {
            Some(true) => return Comparison { equal: true, method: Method::Identity },
            // Complex numbers with rational parts.
            Some(false) if !gold.is_real() || !answer.is_real() => return Comparison { equal: false, method: Method::Identity },
            _ => {}
        }
        match self.balls() {
            Held::Together => Comparison { equal: true, method: Method::Numeric },
            Held::Apart => self.rounded(gold.re, answer.re, gold_exact, answer_exact, Method::Numeric),
            Held::Unknown if self.fuel.is_spent() => Comparison { equal: false, method: Method::Exhausted },
            // No precision tells them apart, and nothing shows that they are equal.
            Held::Unproven => Comparison { equal: false, method: Method::Exhausted },
            // Complex numbers have no balls: double precision has to do.
            Held::Unknown => {
                let near = gold.error + answer.error <= 1e-9 * gold.abs().max(answer.abs()).max(1e-3);
                Comparison { equal: near && !approx.lost, method: Method::Numeric }
            }
        }
    }

    /// What balls of growing precision say.
    fn balls(&mut self) -> Held {
        let mut held = Held::Unknown;
        for precision in PRECISIONS {
            let mut balls = Balls::new(precision);
            let gold: Option<Ball> = evaluate(self.tree, self.gold, self.gold_reading, &mut balls, self.fuel);
            let answer: Option<Ball> = evaluate(self.tree, self.answer, self.answer_reading, &mut balls, self.fuel);
            let (Some(gold), Some(answer)) = (gold, answer) else { return Held::Unknown };
            if !gold.meets(&answer) {
                return Held::Apart;
            }
            let sharp = gold.is_sharp(u64::from(precision) / 3) && answer.is_sharp(u64::from(precision) / 3);
            // Nearly zero beside what is only known to be near zero.
            let tiny = |one: &Ball, other: &Ball| other.holds_zero() && one.magnitude().is_some();
            let shown = sharp && !balls.lost && !tiny(&gold, &answer) && !tiny(&answer, &gold);
            held = if shown { Held::Together } else { Held::Unproven };
        }
        held
    }

    /// Whether the two are the same rational function; `None` where the field cannot tell.
    fn identity(&mut self) -> Option<bool> {
        for seed in [11, 23] {
            let mut field = Field::new(seed);
            let gold = evaluate(self.tree, self.gold, self.gold_reading, &mut field, self.fuel)?;
            let answer = evaluate(self.tree, self.answer, self.answer_reading, &mut field, self.fuel)?;
            if gold.residue != answer.residue {
                return if field.opaque { None } else { Some(false) };
            }
        }
        Some(true)
    }

    /// Whether the two agree wherever both are defined, at enough points; `None` for too few.
    fn sampled(&mut self, decimals_are_rounded: bool) -> Option<bool> {
        // Factorials are of whole numbers only, and of differences that are not negative: more points are needed to meet enough of them.
        let whole = self.whole_variables();
        let (reals, naturals) = if whole.is_empty() { (6, 5) } else { (30, 30) };
        let points = (1..=6)
            .map(Point::Positive)
            .chain((1..=4).map(Point::Unit))
            .chain((1..=reals).map(Point::Real))
            .chain((1..=naturals).map(Point::Natural));
        let complex = |id| rewrite::any(self.tree, id, |node| node == Node::Constant(Constant::I));
        let complex = complex(self.gold) || complex(self.answer);
        let mut agreeing = 0;
        let mut places = BTreeSet::new();
        for point in points {
            let mut approx = Approx { decimals_are_rounded, whole: whole.clone(), ..Approx::new(point) };
            let gold: Option<Value> = evaluate(self.tree, self.gold, self.gold_reading, &mut approx, self.fuel);
            let answer: Option<Value> = evaluate(self.tree, self.answer, self.answer_reading, &mut approx, self.fuel);
            let (Some(gold), Some(answer)) = (gold, answer) else { continue };
            let real = gold.is_real() && answer.is_real();
            if !complex && !real {
                // A real expression has no value there; that only one side has one is a difference in domain, which answers do not state.
                continue;
            }
            let distance = (gold.re - answer.re).hypot(gold.im - answer.im);
            if apart(gold, answer) || decimals_are_rounded && distance > gold.error + answer.error {
                return Some(false);
            }
            let error = gold.error + answer.error;
            let size = gold.abs().max(answer.abs());
            let sharp = if decimals_are_rounded { 0.01 * size } else { (1e-7 * size).max(1e-10) };
            let counts = error <= sharp && (decimals_are_rounded || !approx.lost);
            agreeing += usize::from(counts);
            if counts && !whole.is_empty() {
                let at = |&name: &u32| approx.symbol(name).map_or(0, |value| value.re as i64);
                places.insert(whole.iter().map(at).collect::<Vec<i64>>());
            }
        }
        // `x!!!` has a value at 2 alone, and agrees there with much.
        (agreeing >= 4 && (whole.is_empty() || places.len() >= MIN_PLACES)).then_some(true)
    }

    /// The variables inside of factorials and binomial coefficients of either side.
    fn whole_variables(&self) -> Vec<u32> {
        let mut found = Vec::new();
        for root in [self.gold, self.answer] {
            let order = self.tree.reachable(root);
            let mut inside = vec![false; order.len()];
            // Parents stand behind their children.
            for (place, &id) in order.iter().enumerate().rev() {
                let node = self.tree.node(id);
                match node {
                    Node::Symbol(name) if inside.get(place) == Some(&true) && !found.contains(&name) => found.push(name),
                    _ if inside.get(place) == Some(&true) || is_of_whole_numbers(node) => self.tree.children(node, |child| {
                        if let Some(flag) = order.binary_search(&child).ok().and_then(|at| inside.get_mut(at)) {
                            *flag = true;
                        }
                    }),
                    _ => {}
                }
            }
        }
        found
    }

    /// What remains for unequal numbers: one of them may be the other, rounded.
    fn rounded(
        &mut self,
        gold_value: f64,
        answer_value: f64,
        gold_exact: Option<&BigRational>,
        answer_exact: Option<&BigRational>,
        otherwise: Method,
    ) -> Comparison {
        let gold = decimal::decimal(self.tree, self.gold, self.gold_reading);
        let answer = decimal::decimal(self.tree, self.answer, self.answer_reading);
        let equal = match (gold, answer) {
            (Some(gold), answer) => decimal::gold_is_rounded(&gold, answer_value, answer_exact, answer.as_ref()),
            (None, Some(answer)) => decimal::answer_is_rounded(&answer, gold_value, gold_exact),
            (None, None) => false,
        };
        Comparison { equal, method: if equal { Method::Rounded } else { otherwise } }
    }
}

/// Whether a function is sampled at whole numbers only.
fn is_of_whole_numbers(node: Node) -> bool {
    matches!(node, Node::Call(Function::Factorial, _) | Node::Call2(Function2::Binomial, ..))
}

/// Whether two values certainly differ.
fn apart(a: Value, b: Value) -> bool {
    (a.re - b.re).hypot(a.im - b.im) > 2.0 * (a.error + b.error)
}

/// The sign of an infinite expression.
pub fn infinity(tree: &Tree, id: Id) -> Option<bool> {
    match tree.node(id) {
        Node::Constant(Constant::Infinity) => Some(true),
        Node::Percent(a) => infinity_of(tree, a),
        _ => infinity_of(tree, id),
    }
}

fn infinity_of(tree: &Tree, id: Id) -> Option<bool> {
    match tree.node(id) {
        Node::Constant(Constant::Infinity) => Some(true),
        Node::Negate(a) if matches!(tree.node(a), Node::Constant(Constant::Infinity)) => Some(false),
        Node::Negate(a) => match tree.node(a) {
            Node::Percent(b) if matches!(tree.node(b), Node::Constant(Constant::Infinity)) => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// The value of a constant as a real floating-point number, infinities included; for ordering only.
pub fn magnitude(tree: &Tree, id: Id, fuel: &mut Fuel) -> Option<f64> {
    if let Some(positive) = infinity(tree, id) {
        return Some(if positive { f64::INFINITY } else { f64::NEG_INFINITY });
    }
    if !rewrite::symbols(tree, id).is_empty() {
        return None;
    }
    let mut approx = Approx::new(Point::Natural(0));
    let value = evaluate(tree, id, Reading::PLAIN, &mut approx, fuel)?;
    value.is_real().then_some(value.re)
}
