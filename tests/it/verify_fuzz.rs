//! Totality: whatever the text, a verdict comes, soon, and nothing panics. Two seconds by default; `RLVR_FUZZ_S` sets more.

use std::time::{Duration, Instant};

use rlvr::verify::{self, Grader, Mode, Settings};

/// Slower verdicts than this fail the test: the promise is 10 ms, and a shared machine may be slow.
const LIMIT: Duration = Duration::from_millis(100);

/// Pieces that answers and attacks are made of.
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

/// A small generator of its own, so that a failure can be repeated by its seed.
struct Draw(u64);

impl Draw {
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

/// Pieces at random, sometimes one of them very often.
fn soup(draw: &mut Draw) -> String {
    let mut text = String::new();
    for _ in 0..1 + draw.below(24) {
        let piece = PIECES[draw.below(PIECES.len())];
        let often = if draw.below(40) == 0 { 1 + draw.below(3000) } else { 1 };
        text.push_str(&piece.repeat(often));
    }
    text
}

/// An own case with characters dropped, doubled, swapped or replaced.
fn mutant(draw: &mut Draw, cases: &[&str]) -> String {
    let mut chars: Vec<char> = cases[draw.below(cases.len())].chars().collect();
    for _ in 0..1 + draw.below(4) {
        let at = draw.below(chars.len());
        match draw.below(4) {
            0 if !chars.is_empty() => drop(chars.remove(at)),
            1 => chars.splice(at..at, PIECES[draw.below(PIECES.len())].chars()).for_each(drop),
            2 if !chars.is_empty() => chars.push(chars[at]),
            _ => {
                let other = draw.below(chars.len());
                if !chars.is_empty() {
                    chars.swap(at, other);
                }
            }
        }
    }
    chars.into_iter().collect()
}

#[test]
fn every_text_gets_a_verdict_soon() {
    let seconds: u64 = std::env::var("RLVR_FUZZ_S").ok().and_then(|s| s.parse().ok()).unwrap_or(2);
    let cases: Vec<&str> =
        include_str!("../verify_cases.txt").lines().filter_map(|line| line.get(2..)).flat_map(|pair| pair.split(" | ")).collect();
    let start = Instant::now();
    let (mut count, mut slowest) = (0u64, (Duration::ZERO, String::new()));
    let mut seed = std::env::var("RLVR_FUZZ_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1u64);
    while start.elapsed() < Duration::from_secs(seconds) {
        seed += 1;
        let mut draw = Draw(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let text = |draw: &mut Draw| if draw.below(2) == 0 { soup(draw) } else { mutant(draw, &cases) };
        let (gold, answer) = (text(&mut draw), text(&mut draw));
        let began = Instant::now();
        let there = verify::equal(&gold, &answer);
        let back = verify::equal(&answer, &gold);
        let same = verify::equal(&answer, &answer);
        let elapsed = began.elapsed() / 3;
        if elapsed > slowest.0 {
            slowest = (elapsed, format!("seed {seed}: {gold:.200} | {answer:.200}"));
        }
        assert!(elapsed < LIMIT, "{elapsed:?} for {gold} | {answer}");
        assert!(same.equal || same.method == verify::Method::NoAnswer, "not equal to itself: {answer}");
        let _ = (there, back);
        let settings = Settings {
            mode: if seed.is_multiple_of(2) { Mode::Eval } else { Mode::Reward },
            grader: [Grader::Strict, Grader::Deepscaler, Grader::Qwen][draw.below(3)],
            after_think: false,
        };
        let _ = verify::verify(&gold, &format!("so \\boxed{{{answer}}} {gold}"), &settings);
        let _ = verify::verify(&gold, &answer, &settings);
        count += 1;
    }
    println!("{count} pairs in {seconds} s, the slowest {:?}: {}", slowest.0, slowest.1);
}
