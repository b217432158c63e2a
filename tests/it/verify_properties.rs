//! Tests properties of the verifier: equality is symmetric, presentation does not matter, and on random expressions the verdict matches
//! exact arithmetic.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Zero};
use rlvr::verify::{self, Method};

/// A random expression over two variables.
#[derive(Clone, Debug)]
enum Expression {
    Number(i64),
    Variable(usize),
    Add(Box<Expression>, Box<Expression>),
    Subtract(Box<Expression>, Box<Expression>),
    Multiply(Box<Expression>, Box<Expression>),
    Divide(Box<Expression>, Box<Expression>),
    Power(Box<Expression>, u32),
}

use Expression::{Add, Divide, Multiply, Number, Power, Subtract, Variable};

/// A small random number generator (xorshift) with a fixed seed.
struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn expression(&mut self, depth: u32) -> Expression {
        if depth == 0 || self.below(6) == 0 {
            return if self.below(2) == 0 { Number(self.below(12) as i64) } else { Variable(self.below(2) as usize) };
        }
        let mut part = || Box::new(self.expression(depth - 1));
        let (a, b) = (part(), part());
        match self.below(9) {
            0..=2 => Add(a, b),
            3 | 4 => Subtract(a, b),
            5 | 6 => Multiply(a, b),
            7 => Divide(a, b),
            _ => Power(a, 1 + self.below(3) as u32),
        }
    }
}

impl Expression {
    /// Returns the value at a point; `None` if it is undefined.
    fn at(&self, point: &[BigRational; 2]) -> Option<BigRational> {
        Some(match self {
            Number(n) => BigRational::from_integer(BigInt::from(*n)),
            Variable(name) => point[*name].clone(),
            Add(a, b) => a.at(point)? + b.at(point)?,
            Subtract(a, b) => a.at(point)? - b.at(point)?,
            Multiply(a, b) => a.at(point)? * b.at(point)?,
            Divide(a, b) => {
                let b = b.at(point)?;
                if b.is_zero() {
                    return None;
                }
                a.at(point)? / b
            }
            Power(a, n) => (0..*n).try_fold(BigRational::one(), |product, _| Some(product * a.at(point)?))?,
        })
    }

    /// Writes the expression as LaTeX or plain text, in one of many presentations.
    fn text(&self, rng: &mut Xorshift) -> String {
        let (open, close) = if rng.below(2) == 0 { ("(", ")") } else { ("\\left(", "\\right)") };
        let bracketed = |e: &Expression, rng: &mut Xorshift| match e {
            Number(_) | Variable(_) => e.text(rng),
            _ => format!("{open}{}{close}", e.text(rng)),
        };
        match self {
            Number(n) => n.to_string(),
            Variable(name) => ["x", "y"][*name].to_owned(),
            Add(a, b) if rng.below(2) == 0 => format!("{} + {}", b.text(rng), bracketed(a, rng)),
            Add(a, b) => format!("{}+{}", a.text(rng), bracketed(b, rng)),
            Subtract(a, b) => format!("{} - {}", a.text(rng), bracketed(b, rng)),
            Multiply(a, b) => {
                let (a, b) = if rng.below(2) == 0 { (a, b) } else { (b, a) };
                let sign = [" \\cdot ", "*", " \\times "][rng.below(3) as usize];
                format!("{}{sign}{}", bracketed(a, rng), bracketed(b, rng))
            }
            Divide(a, b) => match rng.below(3) {
                0 => format!("\\frac{{{}}}{{{}}}", a.text(rng), b.text(rng)),
                1 => format!("\\dfrac{{{}}}{{{}}}", a.text(rng), b.text(rng)),
                _ => format!("({}/{})", bracketed(a, rng), bracketed(b, rng)),
            },
            Power(a, n) => format!("{}^{{{n}}}", bracketed(a, rng)),
        }
    }

    /// Returns the same function, written differently.
    fn rewritten(&self, rng: &mut Xorshift) -> Expression {
        let again = |e: &Expression, rng: &mut Xorshift| Box::new(e.rewritten(rng));
        match self {
            Number(_) | Variable(_) => self.clone(),
            Add(a, b) => Add(again(a, rng), again(b, rng)),
            Subtract(a, b) => {
                Add(again(a, rng), Box::new(Multiply(Box::new(Subtract(Box::new(Number(0)), Box::new(Number(1)))), again(b, rng))))
            }
            Multiply(a, b) => match (a.as_ref(), rng.below(2)) {
                (Add(c, d), 0) => Add(Box::new(Multiply(again(c, rng), b.clone())), Box::new(Multiply(again(d, rng), b.clone()))),
                _ => Multiply(again(a, rng), again(b, rng)),
            },
            Divide(a, b) => {
                Divide(Box::new(Multiply(again(a, rng), Box::new(Number(3)))), Box::new(Multiply(Box::new(Number(3)), again(b, rng))))
            }
            Power(a, n) if *n > 1 => Multiply(again(a, rng), Box::new(Power(a.clone(), n - 1))),
            Power(a, n) => Power(again(a, rng), *n),
        }
    }

    /// Returns a copy with one number or variable changed.
    fn changed(&self, rng: &mut Xorshift) -> Expression {
        let boxed = |e: &Expression, rng: &mut Xorshift| Box::new(e.changed(rng));
        match self {
            Number(n) => Number(n + 1 + rng.below(5) as i64),
            Variable(name) => Variable(1 - name),
            Add(a, b) => Add(boxed(a, rng), b.clone()),
            Subtract(a, b) => Subtract(a.clone(), boxed(b, rng)),
            Multiply(a, b) => Multiply(boxed(a, rng), b.clone()),
            Divide(a, b) => Divide(boxed(a, rng), b.clone()),
            Power(a, n) => Power(a.clone(), n + 1),
        }
    }
}

/// True if two expressions agree at a dozen points; `None` if no point defines both.
fn agree(a: &Expression, b: &Expression) -> Option<bool> {
    let mut seen = None;
    for k in 1..=12i64 {
        let point = [BigRational::new((7 * k + 3).into(), (k + 1).into()), BigRational::new((5 * k - 31).into(), (2 * k + 1).into())];
        if let (Some(a), Some(b)) = (a.at(&point), b.at(&point)) {
            if a != b {
                return Some(false);
            }
            seen = Some(true);
        }
    }
    seen
}

#[test]
fn equal_matches_exact_arithmetic_on_random_expressions() {
    let mut rng = Xorshift(0x1234_5678_9abc_def1);
    let (mut equal, mut different) = (0, 0);
    for _ in 0..4000 {
        let one = rng.expression(4);
        let other = if rng.below(2) == 0 { one.rewritten(&mut rng) } else { one.changed(&mut rng) };
        let Some(expected) = agree(&one, &other) else { continue };
        let (gold, answer) = (one.text(&mut rng), other.text(&mut rng));
        let found = verify::equal(&gold, &answer);
        assert_eq!(found.equal, expected, "{gold} | {answer}: {found:?}");
        *if expected { &mut equal } else { &mut different } += 1;
    }
    assert!(equal > 500 && different > 500, "{equal} {different}");
}

/// Constants of every function, compared with the same value written differently, and with a nearby value.
#[test]
fn equal_recognizes_random_constants_of_functions() {
    let mut rng = Xorshift(0x0bad_cafe_dead_beef);
    for _ in 0..400 {
        let (a, b) = (2 + rng.below(40), 2 + rng.below(40));
        let pairs = [
            (format!("\\sqrt{{{a}}}\\cdot\\sqrt{{{b}}}"), format!("\\sqrt{{{}}}", a * b)),
            (format!("\\ln {a} + \\ln {b}"), format!("\\ln {}", a * b)),
            (format!("e^{{\\ln {a}}}"), a.to_string()),
            (format!("\\tan\\frac{{\\pi}}{{{}}}", a + 1), format!("\\frac{{\\sin(\\pi/{0})}}{{\\cos(\\pi/{0})}}", a + 1)),
            (format!("{a}^{{1/{b}}}"), format!("\\sqrt[{b}]{{{a}}}")),
            (format!("\\sqrt{{{}+2\\sqrt{{{}}}}}", a + b, a * b), format!("\\sqrt{{{a}}}+\\sqrt{{{b}}}")),
            (format!("\\arctan\\frac{{1}}{{{a}}}"), format!("\\frac{{\\pi}}{{2}} - \\arctan {a}")),
            (format!("\\log_{{{a}}} {b}"), format!("\\frac{{\\ln {b}}}{{\\ln {a}}}")),
        ];
        for (one, other) in pairs {
            let found = verify::equal(&one, &other);
            assert!(found.equal, "{one} | {other}: {found:?}");
            let near = format!("{other} + 10^{{-30}}");
            assert!(!verify::equal(&one, &near).equal, "{one} | {near}");
        }
    }
}

fn cases() -> Vec<(&'static str, &'static str)> {
    let lines = include_str!("../verify_cases.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.filter_map(|line| line.get(2..)?.split_once(" ||| ").or_else(|| line.get(2..)?.split_once(" | "))).collect()
}

/// True for methods whose verdict may depend on which side is the gold answer. (Computations, and equations compared with a value, are
/// recognized by their text.)
fn may_be_asymmetric(method: Method) -> bool {
    matches!(method, Method::Rounded)
}

#[test]
fn equal_is_symmetric() {
    for (gold, answer) in cases() {
        let (there, back) = (verify::equal(gold, answer), verify::equal(answer, gold));
        let equations = gold.contains('=') as u8 + answer.contains('=') as u8;
        let computes = |text: &str| !text.contains(',') && text.matches('=').count() > 1;
        if may_be_asymmetric(there.method) || may_be_asymmetric(back.method) || equations == 1 || computes(gold) || computes(answer) {
            continue;
        }
        assert_eq!(there.equal, back.equal, "{gold} | {answer}");
    }
}

#[test]
fn equal_ignores_presentation() {
    for (gold, answer) in cases() {
        let expected = verify::equal(gold, answer).equal;
        let mut variants = vec![
            format!(" {answer} "),
            format!("${answer}$"),
            format!("\\({answer}\\)"),
            answer.replace("\\frac", "\\dfrac"),
            answer.replace("\\tfrac", "\\frac"),
            answer.replace('+', " + ").replace(") , (", "),("),
            answer.replace(", ", ",\\ "),
        ];
        if !answer.contains("\\left") && !answer.contains('\\') {
            variants.push(answer.replace('(', "\\left(").replace(')', "\\right)"));
        }
        for variant in variants {
            // Dollar signs around an amount of money belong to the amount.
            if answer.contains('$') && variant.starts_with('$') {
                continue;
            }
            assert_eq!(verify::equal(gold, &variant).equal, expected, "{gold} | {variant}");
        }
    }
}

#[test]
fn equal_ignores_the_order_of_sets_and_factors_of_equations() {
    let mut rng = Xorshift(0x5eed_5eed_5eed_5eed);
    for _ in 0..200 {
        let mut members: Vec<String> = (0..2 + rng.below(6)).map(|_| rng.expression(2).text(&mut rng)).collect();
        let gold = format!("\\{{{}\\}}", members.join(", "));
        members.reverse();
        let answer = format!("\\{{{}\\}}", members.join(","));
        if !gold.contains("/{0}") && !gold.contains("{0}") && !gold.contains("/0") {
            let found = verify::equal(&gold, &answer);
            assert!(
                found.equal || found.method == Method::Sampled || found.method == Method::Identity || found.method == Method::Structure,
                "{gold} | {answer}: {found:?}"
            );
        }
        let (a, b, c, k) = (1 + rng.below(9), 1 + rng.below(9), 1 + rng.below(9), 2 + rng.below(7));
        let line = format!("{a}x+{b}y={c}");
        let multiple = format!("{}x+{}y-{}=0", a * k, b * k, c * k);
        assert!(verify::equal(&line, &multiple).equal, "{line} | {multiple}");
        let other = format!("{}x+{}y-{}=0", a * k, b * k, c * k + 1);
        assert!(!verify::equal(&line, &other).equal, "{line} | {other}");
    }
}
