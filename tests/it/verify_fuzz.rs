//! Tests that the verifier is total: any text gets a verdict after a bounded number of steps, and nothing panics. Steps are counted, not
//! timed, so the outcome is the same on every machine. `RLVR_FUZZ_PAIRS` sets the number of pairs, `RLVR_FUZZ_SEED` selects different ones.

use rlvr::verify::{self, Grader, Mode, Settings, Verifier};

/// Default number of pairs. They take a few seconds without optimization.
const PAIRS: u64 = 4000;
/// Maximum number of steps that a comparison may request: its whole budget of 300,000, plus the requests refused before it stops. Code that
/// continues without fuel exceeds it.
const MAX_STEPS: u64 = 310_000;
/// Maximum number of steps for one of our own cases. Honest answers use a small part of the budget.
const MAX_STEPS_OF_OWN_CASES: u64 = 30_000;

/// Pieces for random answers and attacks.
const PIECES: &[&str] = &[
    "\\frac",
    "\\sqrt",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "\\{",
    "\\}",
    "|",
    "^",
    "_",
    "1",
    "2",
    "7",
    "10",
    "999999999999",
    "0",
    ".5",
    "3.14159",
    "x",
    "y",
    "n",
    "e",
    "i",
    "\\pi",
    "\\infty",
    "+",
    "-",
    "*",
    "/",
    "=",
    "<",
    "\\le",
    ",",
    ";",
    "\\cup",
    "\\cap",
    "\\setminus",
    "\\pm",
    "\\mp",
    "!",
    "%",
    "\\%",
    "^\\circ",
    "\\sin",
    "\\log_",
    "\\ln",
    "\\sum_{k=1}^n",
    "\\int",
    "\\binom",
    "\\text{ cm}",
    "\\text{and}",
    " or ",
    "\\begin{pmatrix}",
    "\\end{pmatrix}",
    "&",
    "\\\\",
    "\\begin{cases}",
    "\\end{cases}",
    "\\left",
    "\\right",
    "\\in",
    "\\mathbb{R}",
    "'",
    ":",
    "f(x)",
    "dx",
    "\\boxed{",
    "\\overline{",
    "\u{221a}",
    "\u{2212}",
    "\u{0301}",
    "\u{202e}",
    "\u{ff15}",
    "\0",
    "\\",
    "$",
    " ",
    "\n",
    "9^9",
    "\\max(",
    "\\gcd(",
    "\\lfloor",
    "\\rfloor",
    "\\mod",
    "e^",
    "**",
    "12{,}345",
    "1,234",
    "two",
    "apples",
    "_5",
    "\\approx",
    "\\ne",
    "1e9",
    "E-11",
    "\\mid",
    "\\arccos",
    "\\tan^{-1}",
    "\\operatorname{lcm}",
    "\\choose",
    " a.m.",
    "\\text{ PM}",
    "06:15",
    "6:05",
    "noon",
    "\u{2462}",
    "\\textcircled{",
    "\\char\"",
    "\\\\\\\\",
    "[4pt]",
    "5^2 ",
    "d",
    "g(x)",
    "\\text{B} ",
    "(C)",
];

/// A small random number generator (xorshift), so that a failure can be reproduced from its seed.
struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Concatenates random pieces, occasionally repeating one many times.
fn random_text(rng: &mut Xorshift) -> String {
    let mut text = String::new();
    for _ in 0..1 + rng.below(24) {
        let piece = PIECES[rng.below(PIECES.len())];
        let often = if rng.below(40) == 0 { 1 + rng.below(3000) } else { 1 };
        text.push_str(&piece.repeat(often));
    }
    text
}

/// Drops, inserts, repeats or swaps characters of one of our own cases.
fn mutated_case(rng: &mut Xorshift, cases: &[&str]) -> String {
    let mut chars: Vec<char> = cases[rng.below(cases.len())].chars().collect();
    for _ in 0..1 + rng.below(4) {
        let at = rng.below(chars.len());
        match rng.below(4) {
            0 if !chars.is_empty() => drop(chars.remove(at)),
            1 => chars.splice(at..at, PIECES[rng.below(PIECES.len())].chars()).for_each(drop),
            2 if !chars.is_empty() => chars.push(chars[at]),
            _ => {
                let other = rng.below(chars.len());
                if !chars.is_empty() {
                    chars.swap(at, other);
                }
            }
        }
    }
    chars.into_iter().collect()
}

/// Returns the number in an environment variable, or `default` if it is not set.
fn env_number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}; it must be a number")))
}

fn own_pairs() -> Vec<(&'static str, &'static str)> {
    let lines = include_str!("../verify_cases.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.filter_map(|line| line.get(2..)?.split_once(" ||| ").or_else(|| line.get(2..)?.split_once(" | "))).collect()
}

#[test]
fn verify_decides_any_text_within_the_step_budget() {
    let cases: Vec<&str> = own_pairs().into_iter().flat_map(|(gold, answer)| [gold, answer]).collect();
    let (pairs, first) = (env_number("RLVR_FUZZ_PAIRS", PAIRS), env_number("RLVR_FUZZ_SEED", 1));
    let strict = Verifier::default();
    let mut most = (0, String::new());
    for seed in first + 1..=first + pairs {
        let mut rng = Xorshift(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let text = |rng: &mut Xorshift| if rng.below(2) == 0 { random_text(rng) } else { mutated_case(rng, &cases) };
        let (gold, answer) = (text(&mut rng), text(&mut rng));
        let (there, trace) = strict.explain_equal(&gold, &answer);
        assert_eq!(there, strict.equal(&gold, &answer), "seed {seed}: explain_equal and equal disagree");
        let (_, back) = strict.explain_equal(&answer, &gold);
        for steps in [trace.steps(), back.steps()] {
            assert!(steps <= MAX_STEPS, "seed {seed}: {steps} steps for {gold:.200} | {answer:.200}");
            if steps > most.0 {
                most = (steps, format!("seed {seed}: {gold:.200} | {answer:.200}"));
            }
        }
        let same = verify::equal(&answer, &answer);
        assert!(same.equal || same.method == verify::Method::NoAnswer, "not equal to itself: {answer}");
        let settings = Settings {
            mode: if seed.is_multiple_of(2) { Mode::Eval } else { Mode::Reward },
            grader: [Grader::Strict, Grader::Deepscaler, Grader::Qwen][rng.below(3)],
            after_think: false,
        };
        let _ = verify::verify(&gold, &format!("so \\boxed{{{answer}}} {gold}"), &settings);
        let _ = verify::verify(&gold, &answer, &settings);
    }
    println!("{pairs} pairs, the most steps {}: {}", most.0, most.1);
}

/// Each pair uses up the budget in a different part of a comparison. Code that continues without fuel would request more steps there.
#[test]
fn explain_equal_stops_every_stage_without_fuel() {
    let terms = |count: u64, term: fn(u64) -> String, joint: &str| (2..2 + count).map(term).collect::<Vec<_>>().join(joint);
    let pairs = [
        ("reading", "1+".repeat(9000) + "1", "2".to_owned()),
        ("error bounds", terms(150, |k| format!("\\ln {k}"), "+"), "\\ln(151!)".to_owned()),
        ("points", terms(250, |k| format!("\\sin({k}x)^2"), "+"), "250-".to_owned() + &terms(250, |k| format!("\\cos({k}x)^2"), "-")),
        ("matching", terms(120, |k| format!("x^{{{k}}}y"), ","), terms(120, |k| format!("yx^{{{}}}", 2 + (k + 58) % 120), ",")),
    ];
    for (part, gold, answer) in pairs {
        let (found, trace) = Verifier::default().explain_equal(&gold, &answer);
        println!("{part}: {} steps, {found:?}", trace.steps());
        assert!((300_000..=MAX_STEPS).contains(&trace.steps()), "{part}: {} steps", trace.steps());
    }
}

#[test]
fn equal_needs_few_steps_for_honest_answers() {
    let mut all: Vec<(u64, &str, &str)> =
        own_pairs().into_iter().map(|(gold, answer)| (Verifier::default().explain_equal(gold, answer).1.steps(), gold, answer)).collect();
    all.sort_unstable();
    let (median, most) = (all[all.len() / 2], all[all.len() - 1]);
    println!("steps: median {}, most {} for {} | {}", median.0, most.0, most.1, most.2);
    assert!(median.0 <= 1000 && most.0 <= MAX_STEPS_OF_OWN_CASES, "median {median:?}, most {most:?}");
}
