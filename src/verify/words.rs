//! The vocabulary of answers: functions and constants by name, Greek letters, units with their sizes, numbers in words. Tables only; a
//! lookup returns `None` for an unknown name.

use crate::verify::tree::{Constant, Function, Function2};

/// Returns the function with this name, given without a backslash.
pub fn function(name: &str) -> Option<Function> {
    use Function::*;
    Some(match name {
        "sin" => Sin,
        "cos" => Cos,
        "tan" | "tg" => Tan,
        "cot" | "ctg" => Cot,
        "sec" => Sec,
        "csc" | "cosec" => Csc,
        "arcsin" | "asin" => Arcsin,
        "arccos" | "acos" => Arccos,
        "arctan" | "atan" | "arctg" => Arctan,
        "arccot" | "acot" => Arccot,
        "arcsec" | "asec" => Arcsec,
        "arccsc" | "acsc" => Arccsc,
        "sinh" => Sinh,
        "cosh" => Cosh,
        "tanh" => Tanh,
        "arcsinh" | "arsinh" | "asinh" => Arsinh,
        "arccosh" | "arcosh" | "acosh" => Arcosh,
        "arctanh" | "artanh" | "atanh" => Artanh,
        "exp" => Exp,
        "ln" => Ln,
        "log" | "lg" => Log,
        "abs" => Abs,
        "floor" => Floor,
        "ceil" | "ceiling" => Ceil,
        _ => return None,
    })
}

/// Returns the function with this name, if it takes two or more arguments in parentheses.
pub fn function2(name: &str) -> Option<Function2> {
    Some(match name {
        "gcd" => Function2::Gcd,
        "lcm" => Function2::Lcm,
        "max" => Function2::Max,
        "min" => Function2::Min,
        _ => return None,
    })
}

/// Returns the inverse function, for `f^{-1}`.
pub fn inverse(function: Function) -> Option<Function> {
    use Function::*;
    Some(match function {
        Sin => Arcsin,
        Cos => Arccos,
        Tan => Arctan,
        Cot => Arccot,
        Sec => Arcsec,
        Csc => Arccsc,
        Sinh => Arsinh,
        Cosh => Arcosh,
        Tanh => Artanh,
        _ => return None,
    })
}

/// Returns the named constant; `oo` and `inf` are spellings of computer algebra systems.
pub fn constant(name: &str) -> Option<Constant> {
    Some(match name {
        "pi" => Constant::Pi,
        "infty" | "infinity" | "inf" | "oo" => Constant::Infinity,
        "exponentialE" => Constant::E,
        "imaginaryI" | "iu" => Constant::I,
        _ => return None,
    })
}

/// True for the name of a letter.
pub fn is_letter_name(name: &str) -> bool {
    const LETTERS: [&str; 44] = [
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "varepsilon",
        "zeta",
        "eta",
        "theta",
        "vartheta",
        "iota",
        "kappa",
        "lambda",
        "mu",
        "nu",
        "xi",
        "omicron",
        "rho",
        "varrho",
        "sigma",
        "varsigma",
        "tau",
        "upsilon",
        "phi",
        "varphi",
        "chi",
        "psi",
        "omega",
        "Gamma",
        "Delta",
        "Theta",
        "Lambda",
        "Xi",
        "Pi",
        "Sigma",
        "Upsilon",
        "Phi",
        "Psi",
        "Omega",
        "ell",
        "hbar",
        "nabla",
        "partial",
        "aleph",
    ];
    LETTERS.contains(&name)
}

/// Greek letters: character, character as text, and name.
const GREEK: [(char, &str, &str); 22] = [
    ('α', "α", "alpha"),
    ('β', "β", "beta"),
    ('γ', "γ", "gamma"),
    ('δ', "δ", "delta"),
    ('ε', "ε", "epsilon"),
    ('ζ', "ζ", "zeta"),
    ('η', "η", "eta"),
    ('θ', "θ", "theta"),
    ('κ', "κ", "kappa"),
    ('λ', "λ", "lambda"),
    ('μ', "μ", "mu"),
    ('ν', "ν", "nu"),
    ('ξ', "ξ", "xi"),
    ('ρ', "ρ", "rho"),
    ('σ', "σ", "sigma"),
    ('τ', "τ", "tau"),
    ('φ', "φ", "phi"),
    ('χ', "χ", "chi"),
    ('ψ', "ψ", "psi"),
    ('ω', "ω", "omega"),
    ('Δ', "Δ", "Delta"),
    ('Ω', "Ω", "Omega"),
];

/// Returns the name of a Greek letter.
pub fn greek(c: char) -> Option<&'static str> {
    let letter = match c {
        // Variants of the same letters.
        'ϵ' | 'ɛ' | 'Ɛ' => 'ε',
        'ϑ' => 'θ',
        'ϕ' => 'φ',
        _ => c,
    };
    GREEK.iter().find(|(known, _, _)| *known == letter).map(|(_, _, name)| *name)
}

/// Returns the Greek letter with this name.
pub fn greek_letter(name: &str) -> Option<&'static str> {
    GREEK.iter().find(|(_, _, known)| *known == name).map(|(_, letter, _)| *letter)
}

/// Returns the value of a number word from "zero" to "twenty".
pub fn number_word(word: &str) -> Option<i64> {
    const NUMBERS: [&str; 21] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
        "twenty",
    ];
    (0..).zip(NUMBERS).find(|(_, name)| *name == word).map(|(value, _)| value)
}

/// True for common short words, which are never read as products of variables.
pub fn is_filler(word: &str) -> bool {
    const FILLERS: [&str; 46] = [
        "no",
        "not",
        "yes",
        "odd",
        "none",
        "does",
        "there",
        "has",
        "have",
        "from",
        "red",
        "box",
        "of",
        "the",
        "is",
        "to",
        "for",
        "per",
        "in",
        "at",
        "are",
        "an",
        "by",
        "on",
        "be",
        "it",
        "we",
        "so",
        "as",
        "with",
        "only",
        "answer",
        "equal",
        "equals",
        "approximately",
        "about",
        "around",
        "exactly",
        "some",
        "any",
        "all",
        "its",
        "where",
        "integer",
        "total",
        "value",
    ];
    FILLERS.contains(&word)
}

/// A unit: its dimension, and its size as a fraction of integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The quantity measured. Powers of a length are separate dimensions.
    pub dimension: &'static str,
    /// Numerator and denominator of the size, in a base unit that all units of the dimension share, such as the millimeter for lengths.
    pub size: (u64, u64),
}

/// Returns the unit with this lower-case name.
pub fn unit(word: &str) -> Option<Unit> {
    let (dimension, numerator, denominator) = match word {
        "mm" | "millimeter" | "millimeters" => ("length", 1, 1),
        "cm" | "centimeter" | "centimeters" | "centimetre" | "centimetres" => ("length", 10, 1),
        "m" | "meter" | "meters" | "metre" | "metres" => ("length", 1000, 1),
        "km" | "kilometer" | "kilometers" | "kilometre" | "kilometres" => ("length", 1_000_000, 1),
        "in" | "inch" | "inches" => ("length", 254, 10),
        "ft" | "foot" | "feet" => ("length", 3048, 10),
        "yd" | "yard" | "yards" => ("length", 9144, 10),
        "mi" | "mile" | "miles" => ("length", 1_609_344, 1),
        "s" | "sec" | "second" | "seconds" => ("time", 1, 1),
        "min" | "minute" | "minutes" | "mins" => ("time", 60, 1),
        "h" | "hr" | "hrs" | "hour" | "hours" => ("time", 3600, 1),
        "day" | "days" => ("time", 86_400, 1),
        "week" | "weeks" => ("time", 604_800, 1),
        "month" | "months" => ("month", 1, 1),
        "year" | "years" => ("month", 12, 1),
        "mg" | "milligrams" => ("mass", 1, 1000),
        "g" | "gram" | "grams" => ("mass", 1, 1),
        "kg" | "kilogram" | "kilograms" => ("mass", 1000, 1),
        "ton" | "tons" => ("ton", 1, 1),
        "lb" | "lbs" | "pound" | "pounds" => ("pound", 16, 1),
        "oz" | "ounce" | "ounces" => ("pound", 1, 1),
        "cent" | "cents" => ("money", 1, 1),
        "dollar" | "dollars" | "usd" => ("money", 100, 1),
        "euro" | "euros" => ("euro", 1, 1),
        "yuan" => ("yuan", 1, 1),
        "ml" | "milliliter" | "milliliters" => ("volume", 1, 1),
        "l" | "liter" | "liters" | "litre" | "litres" => ("volume", 1000, 1),
        "cup" | "cups" => ("cup", 1, 1),
        "pint" | "pints" => ("cup", 2, 1),
        "quart" | "quarts" => ("cup", 4, 1),
        "gallon" | "gallons" => ("cup", 16, 1),
        "mph" => ("speed", 1, 1),
        "km/h" | "kmh" | "kph" => ("speed_metric", 1, 1),
        "degree" | "degrees" | "deg" => ("angle", 1, 1),
        "percent" | "pct" => ("percent", 1, 1),
        "unit" | "units" => ("unit", 1, 1),
        "people" | "person" | "students" | "ways" | "times" | "square" | "sq" | "cubic" | "square units" => ("count", 1, 1),
        "radian" | "radians" | "rad" => ("radian", 1, 1),
        "ohm" | "ohms" => ("resistance", 1, 1),
        "hz" | "khz" | "mhz" | "kpa" | "pa" | "mol" | "kj" | "ev" | "kev" | "mev" | "nm" | "pm" | "am" | "kw" => ("named", 1, 1),
        _ => return None,
    };
    Some(Unit { dimension, size: (numerator, denominator) })
}
