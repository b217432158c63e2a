//! Compares two expressions by value: exact rationals first, then identities in a prime field, numbers with error bounds, seeded points,
//! and rounded decimals last. This file fixes that order for everything with a value. `goal` handles lists, sets and relations.

use num_rational::BigRational;
use num_traits::ToPrimitive;

use crate::verify::fuel::Fuel;
use crate::verify::trace::{Stage, Trace, digits, short};
use crate::verify::tree::rewrite;
use crate::verify::tree::{Function, Id, Node, Tree};
use crate::verify::value::approx::{Approx, Point, Value};
use crate::verify::value::ball::{Ball, Balls};
use crate::verify::value::decimal;
use crate::verify::value::evaluate::{Reading, evaluate};
use crate::verify::value::exact::Exact;
use crate::verify::value::field::Field;
use crate::verify::value::infinity;
use crate::verify::{Comparison, Method};

/// Precisions in bits, ascending. Two constants are equal only if they agree at both.
const PRECISIONS: [u32; 2] = [128, 384];

/// Compares the expressions at `gold` and `answer`. If a sign has two readings, tries both.
pub fn compare(tree: &mut Tree, gold: Id, answer: Id, fuel: &mut Fuel, trace: &mut Trace) -> Comparison {
    let mut last = Comparison { equal: false, method: Method::Exact };
    // The search for signs and names walks both sides about ten times.
    let size = tree.reachable(gold).len() + tree.reachable(answer).len();
    if !matches!((tree.node(gold), tree.node(answer)), (Node::Number(_), Node::Number(_))) && fuel.spend(8 * size as u64).is_err() {
        trace.note(Stage::Budget, || "not equal: the step budget ran out");
        return Comparison { equal: false, method: Method::Exhausted };
    }
    for (nth, (gold_reading, answer_reading)) in readings(tree, gold, answer).into_iter().enumerate() {
        if nth > 0 {
            trace.note(Stage::Signs, || describe(gold_reading, answer_reading));
        }
        last = Pair { tree, gold, answer, gold_reading, answer_reading, fuel, trace }.compare();
        if last.equal {
            break;
        }
    }
    if fuel.is_spent() {
        trace.note(Stage::Budget, || "the step budget ran out: stages without a verdict may have been too expensive");
    }
    last
}

/// Returns the pairs of readings to try, for gold answer and answer. A percent or degree sign has a second reading only if it is on one
/// side, because on both sides it cancels.
fn readings(tree: &Tree, gold: Id, answer: Id) -> Vec<(Reading, Reading)> {
    let (g, a) = (ambiguous_signs(tree, gold), ambiguous_signs(tree, answer));
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

/// Describes a reading other than the plain one for `--explain`.
fn describe(gold: Reading, answer: Reading) -> &'static str {
    let either = |sign: fn(Reading) -> bool| sign(gold) || sign(answer);
    if either(|reading| reading.percent_is_share) {
        "trying again with % as 1/100"
    } else if either(|reading| reading.degree_is_angle) {
        "trying again with ° as an angle: 180° is π"
    } else {
        "trying again with log as the decimal logarithm"
    }
}

/// The signs with more than one reading in an expression.
#[derive(Default)]
struct AmbiguousSigns {
    percent: bool,
    degree: bool,
    logarithm: bool,
}

fn ambiguous_signs(tree: &Tree, root: Id) -> AmbiguousSigns {
    let mut signs = AmbiguousSigns::default();
    if matches!(tree.node(root), Node::Number(_)) {
        return signs;
    }
    for id in tree.reachable(root) {
        match tree.node(id) {
            Node::Percent(_) => signs.percent = true,
            Node::Degree(_) => signs.degree = true,
            Node::Call(Function::Log, _) => signs.logarithm = true,
            _ => {}
        }
    }
    signs
}

/// Result of comparing two constants to hundreds of bits.
enum Agreement {
    /// They agree to the last bit, and every part of them affects those bits.
    Proven,
    /// They differ.
    Different,
    /// They agree, but some part is too small to affect those bits.
    Unproven,
    /// One of them cannot be computed with error bounds.
    Unknown,
}

/// Two expressions with fixed readings.
pub struct Pair<'a> {
    /// The tree with both sides.
    pub tree: &'a Tree,
    /// The gold answer.
    pub gold: Id,
    /// The answer to grade.
    pub answer: Id,
    /// The reading of signs in the gold answer.
    pub gold_reading: Reading,
    /// The reading of signs in the answer.
    pub answer_reading: Reading,
    /// The budget of the whole comparison.
    pub fuel: &'a mut Fuel,
    /// Receives a line for each stage.
    pub trace: &'a mut Trace,
}

impl Pair<'_> {
    fn compare(&mut self) -> Comparison {
        if let Some(equal) = self.infinite() {
            self.trace.note(Stage::Exact, || {
                if equal { "equal: the same infinity" } else { "not equal: one side is infinite, and the other is not the same infinity" }
            });
            return Comparison { equal, method: Method::Exact };
        }
        let gold = evaluate(self.tree, self.gold, self.gold_reading, &mut Exact, self.fuel);
        let answer = evaluate(self.tree, self.answer, self.answer_reading, &mut Exact, self.fuel);
        if let (Some(g), Some(a)) = (&gold, &answer) {
            if g == a {
                self.trace.note(Stage::Exact, || format!("equal: both are {}", short(g)));
                return Comparison { equal: true, method: Method::Exact };
            }
            self.trace.note(Stage::Exact, || format!("the values differ: {} and {}", short(g), short(a)));
            let (g_value, a_value) = (g.to_f64().unwrap_or(f64::NAN), a.to_f64().unwrap_or(f64::NAN));
            return self.rounded(g_value, a_value, gold.as_ref(), answer.as_ref(), Method::Exact);
        }
        self.trace.note(Stage::Exact, || format!("no verdict: {}", irrational(gold.is_some(), answer.is_some())));
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

    /// Compares infinities. `None` if neither side is infinite.
    fn infinite(&self) -> Option<bool> {
        let (gold, answer) = (infinity(self.tree, self.gold), infinity(self.tree, self.answer));
        (gold.is_some() || answer.is_some()).then_some(gold == answer)
    }

    /// Compares expressions without variables: floating point can show that they differ, ball arithmetic that they are equal.
    fn constants(&mut self, gold_exact: Option<&BigRational>, answer_exact: Option<&BigRational>) -> Comparison {
        let mut approx = Approx::new(Point::Natural(0));
        let gold = evaluate(self.tree, self.gold, self.gold_reading, &mut approx, self.fuel);
        let answer = evaluate(self.tree, self.answer, self.answer_reading, &mut approx, self.fuel);
        let (Some(gold), Some(answer)) = (gold, answer) else {
            // Too large for floating point, or undefined. Only an identity can still make them equal.
            self.trace.note(Stage::Numeric, || "no verdict: some part is undefined, or too large or small for double precision");
            return Comparison { equal: self.identity() == Some(true), method: Method::Identity };
        };
        if differ(gold, answer) {
            self.trace.note(Stage::Numeric, || format!("the values differ: {} and {}", format_value(gold), format_value(answer)));
            if !gold.is_real() || !answer.is_real() {
                return Comparison { equal: false, method: Method::Numeric };
            }
            let rounded = self.rounded(gold.re, answer.re, gold_exact, answer_exact, Method::Numeric);
            if rounded.equal {
                return rounded;
            }
            let one_is_rounded = decimal::has_rounded_part(self.tree, self.gold) != decimal::has_rounded_part(self.tree, self.answer);
            let plain = |id| decimal::decimal(self.tree, id, Reading::PLAIN).is_some();
            let inner = one_is_rounded && !plain(self.gold) && !plain(self.answer);
            let equal = inner && self.sampled(true) == Some(true);
            return Comparison { equal, method: if equal { Method::Rounded } else { Method::Numeric } };
        }
        self.trace.note(Stage::Numeric, || format!("no verdict: {} on both sides, in double precision", format_value(gold)));
        match self.identity() {
            Some(true) => return Comparison { equal: true, method: Method::Identity },
            // Complex numbers with rational parts.
            Some(false) if !gold.is_real() || !answer.is_real() => return Comparison { equal: false, method: Method::Identity },
            _ => {}
        }
        match self.balls() {
            Agreement::Proven => Comparison { equal: true, method: Method::Numeric },
            Agreement::Different => self.rounded(gold.re, answer.re, gold_exact, answer_exact, Method::Numeric),
            Agreement::Unknown if self.fuel.is_spent() => Comparison { equal: false, method: Method::Exhausted },
            // No precision distinguishes them, and nothing proves that they are equal.
            Agreement::Unproven => Comparison { equal: false, method: Method::Exhausted },
            // Ball arithmetic does not support complex numbers, so double precision has to suffice.
            Agreement::Unknown => {
                let near = gold.error + answer.error <= 1e-9 * gold.abs().max(answer.abs()).max(1e-3);
                Comparison { equal: near && !approx.lost, method: Method::Numeric }
            }
        }
    }

    /// Compares with ball arithmetic of increasing precision.
    fn balls(&mut self) -> Agreement {
        let mut agreement = Agreement::Unknown;
        for precision in PRECISIONS {
            let mut balls = Balls::new(precision);
            let gold: Option<Ball> = evaluate(self.tree, self.gold, self.gold_reading, &mut balls, self.fuel);
            let answer: Option<Ball> = evaluate(self.tree, self.answer, self.answer_reading, &mut balls, self.fuel);
            let (Some(gold), Some(answer)) = (gold, answer) else {
                self.trace.note(Stage::Numeric, || "no verdict: no error bounds are available, for example because a value is complex");
                return Agreement::Unknown;
            };
            if !gold.overlaps(&answer) {
                self.trace.note(Stage::Numeric, || format!("the values differ in the first {precision} bits"));
                return Agreement::Different;
            }
            let sharp = gold.is_sharp(u64::from(precision) / 3) && answer.is_sharp(u64::from(precision) / 3);
            // One value is nearly zero, and the other is only known to be near zero.
            let tiny = |one: &Ball, other: &Ball| other.contains_zero() && one.magnitude().is_some();
            let proven = sharp && !balls.lost && !tiny(&gold, &answer) && !tiny(&answer, &gold);
            agreement = if proven { Agreement::Proven } else { Agreement::Unproven };
            self.trace.note(Stage::Numeric, || match agreement {
                _ if Some(&precision) != PRECISIONS.last() => format!("no verdict yet: the values agree to {precision} bits"),
                Agreement::Proven => format!("equal: the values agree to {precision} bits"),
                _ => format!("no verdict: the values agree to {precision} bits, but some part of them is too small to affect those bits"),
            });
        }
        agreement
    }

    /// `Some(true)` if the two are the same rational function; `None` if the field cannot decide.
    fn identity(&mut self) -> Option<bool> {
        let found = self.same_in_the_field();
        self.trace.note(Stage::Identity, || match found {
            Some(true) => "equal: the same values in a prime field",
            Some(false) => "the values differ in a prime field",
            None => "no verdict: not every part is a rational function",
        });
        found
    }

    fn same_in_the_field(&mut self) -> Option<bool> {
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

    /// The last stage for unequal numbers: tests whether one is the other, rounded. If not, returns `otherwise` as the method.
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
        let equal = match (&gold, &answer) {
            (Some(gold), answer) => decimal::gold_is_rounded(gold, answer_value, answer_exact, answer.as_ref()),
            (None, Some(answer)) => decimal::answer_is_rounded(answer, gold_value, gold_exact),
            (None, None) => false,
        };
        self.trace.note(Stage::Rounded, || {
            let (found, matches) = if equal { ("equal", "matches") } else { ("not equal", "does not match") };
            match (&gold, &answer) {
                (Some(_), _) => format!("{found}: the gold answer is a decimal that {matches} {}", digits(answer_value)),
                (None, Some(_)) => format!("{found}: the answer is a decimal that {matches} {}", digits(gold_value)),
                (None, None) => "not equal: neither side is a decimal that could be rounded".to_owned(),
            }
        });
        Comparison { equal, method: if equal { Method::Rounded } else { otherwise } }
    }
}

/// Returns which side could not be evaluated exactly.
fn irrational(gold_is_rational: bool, answer_is_rational: bool) -> &'static str {
    match (gold_is_rational, answer_is_rational) {
        (true, _) => "the answer could not be evaluated as a rational number",
        (false, true) => "the gold answer could not be evaluated as a rational number",
        (false, false) => "neither side could be evaluated as a rational number",
    }
}

/// True if two values certainly differ.
pub fn differ(a: Value, b: Value) -> bool {
    (a.re - b.re).hypot(a.im - b.im) > 2.0 * (a.error + b.error)
}

/// Formats a value for `--explain`.
pub fn format_value(value: Value) -> String {
    if value.is_real() { digits(value.re) } else { format!("{} + {}i", digits(value.re), digits(value.im)) }
}
