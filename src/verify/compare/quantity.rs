//! Words around an answer: units, labels, nouns. A unit on one side only is ignored. If both sides have a unit, the units must measure the
//! same quantity, and the answer is converted. Other nouns are ignored. Words that change the meaning ("at least 5", "not 5") must be on
//! both sides.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::One;

use crate::verify::read::phrase::STATEMENT;
use crate::verify::tree::NONE;
use crate::verify::words::{self, Unit};

/// Words that change the meaning of the answer next to them.
const QUALIFIERS: [&str; 29] = [
    "not",
    "no",
    "least",
    "most",
    "more",
    "less",
    "than",
    "greater",
    "fewer",
    "except",
    "between",
    "minus",
    "negative",
    "cannot",
    "never",
    "half",
    "twice",
    "double",
    "if",
    "unless",
    "without",
    "nor",
    "either",
    "neither",
    "plus",
    "hundred",
    "million",
    "wrong",
    "incorrect",
];

/// Maximum number of words on one side of a number. A longer text is a sentence, in which the number can mean anything.
const MAX_WORDS: usize = 12;

/// Relation between the words around two answers.
#[derive(Clone, Debug, PartialEq)]
pub enum WordRelation {
    /// The values can be compared after the answer is multiplied by this ratio of unit sizes.
    Compatible(BigRational),
    /// The words have different meanings.
    Different,
}

/// Compares the words before and after two answers, given as `(before, after)`.
pub fn compare(gold: (&str, &str), answer: (&str, &str)) -> WordRelation {
    let qualified = |words: &str| -> Vec<String> {
        let all = words.split(' ').filter(|word| QUALIFIERS.contains(word));
        all.map(str::to_owned).collect()
    };
    let qualifiers = |(before, after): (&str, &str)| [qualified(before), qualified(after)].concat();
    let long = |(before, after): (&str, &str)| before.split(' ').count() > MAX_WORDS || after.split(' ').count() > MAX_WORDS;
    if qualifiers(gold) != qualifiers(answer) || long(answer) || answer.1.ends_with(STATEMENT) && answer.1 != gold.1 {
        return WordRelation::Different;
    }
    match (unit(gold.1), unit(answer.1)) {
        (Some(g), Some(a)) if g.dimension == a.dimension => WordRelation::Compatible(a.size / g.size),
        (Some(g), Some(a)) if !g.is_neutral() && !a.is_neutral() => WordRelation::Different,
        _ => WordRelation::Compatible(BigRational::one()),
    }
}

/// Returns the text at an index of the tree; empty for `NONE`.
pub fn words_at(tree: &crate::verify::tree::Tree, index: u32) -> &str {
    if index == NONE { "" } else { tree.name_of(index) }
}

/// A unit spelled in one or more words.
#[derive(Clone, Debug, PartialEq)]
struct Compound {
    dimension: String,
    size: BigRational,
}

impl Compound {
    /// True if the unit is compatible with every other: "units", "times", "square units", degrees, percent.
    fn is_neutral(&self) -> bool {
        self.dimension.starts_with("unit") || self.dimension == "count" || self.dimension == "angle" || self.dimension == "percent"
    }
}

/// Parses a unit from words: `square inches`, `cm^2`, `miles per hour`, `km/h`.
fn unit(text: &str) -> Option<Compound> {
    if text.is_empty() {
        return None;
    }
    let (above, below) =
        match text.split_once(" per ").or_else(|| text.split_once('/')).or_else(|| text.strip_prefix("per ").map(|b| ("", b))) {
            Some((above, below)) => (above, Some(below)),
            None => (text, None),
        };
    let above = power(above.trim());
    let Some(below) = below else { return above };
    let below = power(below.trim())?;
    let above = above.unwrap_or(Compound { dimension: String::new(), size: BigRational::one() });
    Some(Compound { dimension: format!("{}/{}", above.dimension, below.dimension), size: above.size / below.size })
}

fn power(text: &str) -> Option<Compound> {
    let (text, written) = match text.split_once('^') {
        Some((text, power)) => (text.trim(), power.trim().parse::<i32>().ok()?),
        None => (text, 1),
    };
    let mut words = text.split(' ').filter(|word| !word.is_empty());
    let first = words.next()?;
    let (name, spelled) = match first {
        "square" | "sq" | "sq." => (words.next().unwrap_or("units"), 2),
        "cubic" | "cu" => (words.next().unwrap_or("units"), 3),
        _ => (first, 1),
    };
    let power = written * spelled;
    if name == "mph" {
        return power_of(words::unit("mile")?, 1, "/time", words::unit("hour")?);
    }
    let unit = words::unit(name)?;
    let size = ratio(unit);
    let dimension = if power == 1 { unit.dimension.to_owned() } else { format!("{}^{power}", unit.dimension) };
    (power.abs() <= 6).then(|| Compound { dimension, size: num_traits::Pow::pow(size, power) })
}

fn power_of(above: Unit, power: i32, per: &str, below: Unit) -> Option<Compound> {
    let size = num_traits::Pow::pow(ratio(above), power) / ratio(below);
    Some(Compound { dimension: format!("{}{per}", above.dimension), size })
}

fn ratio(unit: Unit) -> BigRational {
    BigRational::new(BigInt::from(unit.size.0), BigInt::from(unit.size.1))
}

/// Compares two texts as words, ignoring case, articles, plurals, punctuation and spaces.
pub fn same_text(a: &str, b: &str) -> bool {
    let letters = |text: &str| -> String {
        let words = text.split(|c: char| c.is_whitespace() || c == '-').filter(|word| !matches!(*word, "a" | "an" | "the"));
        let singular = |word: &str| word.strip_suffix('s').filter(|rest| rest.len() > 2).unwrap_or(word).to_owned();
        let words: Vec<String> = words.map(singular).collect();
        words.iter().flat_map(|word| word.chars()).filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    let (whole_a, whole_b) = (a.to_lowercase(), b.to_lowercase());
    // A lone letter is not an article.
    if whole_a.trim() == whole_b.trim() {
        return !a.trim().is_empty();
    }
    let (a, b) = (letters(&whole_a), letters(&whole_b));
    !a.is_empty() && a == b
}

/// Compares two answers that could not both be parsed. Ignores case, spaces, quotes, braces and commands for upright text; signs and digits
/// count.
pub fn same_text_with_signs(a: &str, b: &str) -> bool {
    let letters = |text: &str| -> String {
        let plain = text.replace("\\text", "").replace("\\mathrm", "").replace("\\mbox", "").replace("\\left", "").replace("\\right", "");
        let spaced = crate::verify::text::normalize(&plain);
        let compared = spaced.chars().filter(|c| !matches!(c, '{' | '}' | '$' | '"' | '\'' | '\u{201c}' | '\u{201d}'));
        compared.flat_map(char::to_lowercase).collect()
    };
    let (a, b) = (letters(a), letters(b));
    !a.is_empty() && a == b
}
