//! Rows of the settings tables, each with a path, a range, a unit, a description, and the reason for the default. Checks, error messages and documentation all use these rows.

use toml::Value;

use super::nearest;

/// The row of a setting.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The setting's full name, such as `rollout.groups`; a part `*` matches any name.
    pub path: &'static str,
    /// The allowed values.
    pub range: Range,
    /// The unit of the number, in the plural; empty if it has none.
    pub unit: &'static str,
    /// The meaning, in one or two sentences of Markdown.
    pub about: &'static str,
    /// Why the default is what it is, in one or two sentences of Markdown; empty without a default.
    pub reason: &'static str,
}

/// The allowed values of a setting.
#[derive(Clone, Copy, Debug)]
pub enum Range {
    /// A whole number.
    Integer {
        /// The smallest allowed value.
        min: i64,
        /// The largest allowed value.
        max: i64,
    },
    /// A finite number within bounds.
    Number(Bounds),
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// A string with its own syntax.
    Parsed {
        /// A description of the syntax.
        syntax: &'static str,
        /// Parses the string. The error says what is wrong and lists the known values.
        parse: fn(&str) -> Result<(), String>,
    },
    /// Any string.
    Text,
    /// A list of strings.
    Strings,
    /// A list of whole numbers of at least 0.
    Integers,
    /// True or false.
    Boolean,
    /// A table, or a list of tables.
    Tables,
}

/// The bounds of a number. They also apply to the number rounded to f32, which most computations use.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    min: f64,
    max: f64,
    /// Whether each bound is itself allowed, as `(lower, upper)`.
    closed: (bool, bool),
}

/// The largest allowed number: the largest f32.
const MAX: f64 = f32::MAX as f64;

/// Makes a row. The short name of this function keeps the tables readable.
pub const fn row(path: &'static str, range: Range, about: &'static str) -> Row {
    Row { path, range, unit: "", about, reason: "" }
}

/// Concatenates tables of rows. `N` is their total number of rows.
pub const fn concat_rows<const N: usize>(parts: &[&[Row]]) -> [Row; N] {
    let mut rows = [parts[0][0]; N];
    let (mut part, mut inside, mut at) = (0, 0, 0);
    while at < N {
        if inside == parts[part].len() {
            (part, inside) = (part + 1, 0);
        } else {
            rows[at] = parts[part][inside];
            (inside, at) = (inside + 1, at + 1);
        }
    }
    rows
}

/// Whole numbers from `min` to `max`, both included.
pub const fn whole(min: i64, max: i64) -> Range {
    Range::Integer { min, max }
}

/// Any finite number.
pub const fn finite() -> Range {
    Range::Number(Bounds { min: -MAX, max: MAX, closed: (true, true) })
}

/// Numbers of at least `min`.
pub const fn at_least(min: f64) -> Range {
    between(min, MAX)
}

/// Numbers above `min`.
pub const fn above(min: f64) -> Range {
    above_to(min, MAX)
}

/// Numbers from `min` to `max`, both included.
pub const fn between(min: f64, max: f64) -> Range {
    Range::Number(Bounds { min, max, closed: (true, true) })
}

/// Numbers above `min` and at most `max`.
pub const fn above_to(min: f64, max: f64) -> Range {
    Range::Number(Bounds { min, max, closed: (false, true) })
}

/// Numbers of at least `min` and below `max`.
pub const fn from_below(min: f64, max: f64) -> Range {
    Range::Number(Bounds { min, max, closed: (true, false) })
}

impl Bounds {
    fn contain(&self, value: f64) -> bool {
        let inside = |value: f64| {
            let above = if self.closed.0 { value >= self.min } else { value > self.min };
            let below = if self.closed.1 { value <= self.max } else { value < self.max };
            above && below && value.is_finite()
        };
        inside(value) && inside(f64::from(value as f32))
    }

    /// Describes the bounds: `from 0 to 1`, `above 0`.
    fn describe(&self) -> String {
        let Self { min, max, .. } = self;
        match (*min == -MAX, *max == MAX, self.closed) {
            (true, true, _) => "finite".to_owned(),
            (_, true, (true, _)) => format!("at least {min}"),
            (_, true, (false, _)) => format!("above {min}"),
            (_, _, (true, true)) => format!("from {min} to {max}"),
            (_, _, (true, false)) => format!("at least {min} and below {max}"),
            (_, _, (false, true)) => format!("above {min} and at most {max}"),
            (_, _, (false, false)) => format!("above {min} and below {max}"),
        }
    }
}

impl Range {
    /// Returns the name of the type, without an article, such as `whole number`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Integer { .. } => "whole number",
            Self::Number(_) => "number",
            Self::OneOf(_) | Self::Parsed { .. } | Self::Text => "string",
            Self::Strings => "list of strings",
            Self::Integers => "list of whole numbers",
            Self::Boolean => "true or false",
            Self::Tables => "table",
        }
    }

    /// Describes the bounds or the allowed values; empty if the type alone describes the range.
    pub fn bounds(&self) -> String {
        match self {
            Self::Integer { min, max } => format!("from {min} to {max}"),
            Self::Number(bounds) => bounds.describe(),
            Self::OneOf(names) => names.join(", "),
            Self::Parsed { syntax, .. } => (*syntax).to_owned(),
            Self::Integers => format!("from 0 to {}", i64::MAX),
            Self::Text | Self::Strings | Self::Boolean | Self::Tables => String::new(),
        }
    }

    /// Describes the range so that it can follow "it must be": `a whole number from 1 to 8`.
    pub fn describe(&self) -> String {
        let bounds = self.bounds();
        match self {
            Self::Number(_) if bounds == "finite" => "a finite number".to_owned(),
            Self::Number(_) if bounds.starts_with("at least") => format!("a number of {bounds}"),
            Self::OneOf(_) => format!("one of {bounds}"),
            Self::Parsed { .. } => bounds,
            Self::Boolean => self.kind().to_owned(),
            Self::Text => "a string in quotes".to_owned(),
            _ => format!("a {} {bounds}", self.kind()).trim_end().to_owned(),
        }
    }

    /// Checks the value of the setting `name`.
    ///
    /// # Errors
    /// If the value is outside the range. The message names the setting, the value, the range, and a similar allowed name, if any.
    pub fn check(&self, name: &str, value: &Value) -> Result<(), String> {
        let refuse = || Err(format!("{name} is {}; it must be {}", format_value(value), self.describe()));
        let is_whole = |value: &Value| value.as_integer().is_some_and(|number| number >= 0);
        let fits = match (self, value) {
            (Self::Integer { min, max }, Value::Integer(number)) => (min..=max).contains(&number),
            (Self::Number(bounds), Value::Integer(number)) => bounds.contain(*number as f64),
            (Self::Number(bounds), Value::Float(number)) => bounds.contain(*number),
            (Self::OneOf(names), Value::String(text)) if !names.contains(&text.as_str()) => {
                let near = nearest(text, names.iter().copied()).map_or(String::new(), |near| format!(" (did you mean {near}?)"));
                return refuse().map_err(|error: String| error + &near);
            }
            (Self::Parsed { parse, .. }, Value::String(text)) => return parse(text).map_err(|error| format!("{name}: {error}")),
            (Self::OneOf(_) | Self::Text, Value::String(_)) | (Self::Boolean, Value::Boolean(_)) | (Self::Tables, Value::Table(_)) => true,
            (Self::Tables, Value::Array(parts)) => parts.iter().all(Value::is_table),
            (Self::Strings, Value::Array(parts)) => parts.iter().all(Value::is_str),
            (Self::Integers, Value::Array(parts)) => parts.iter().all(is_whole),
            _ => false,
        };
        if fits { Ok(()) } else { refuse() }
    }
}

impl Row {
    /// Adds the unit of the number.
    pub const fn in_unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }

    /// Adds the reason for the default.
    pub const fn because(self, reason: &'static str) -> Self {
        Self { reason, ..self }
    }

    /// True if the row belongs to the setting with this full name.
    pub fn matches(&self, path: &str) -> bool {
        self.path == path || {
            let (mut own, mut other) = (self.path.split('.'), path.split('.'));
            own.by_ref().zip(other.by_ref()).all(|(own, other)| own == "*" || own == other)
                && self.path.split('.').count() == path.split('.').count()
        }
    }
}

/// Formats a value for people. An f32 that TOML stores as f64 is printed with the digits of the f32.
pub fn format_value(value: &Value) -> String {
    match value {
        Value::Float(number) if f64::from(*number as f32) == *number => (*number as f32).to_string(),
        Value::Float(number) => number.to_string(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(range: Range, allowed: &[&str], refused: &[&str], words: &str) {
        let value = |text: &str| format!("v = {text}").parse::<toml::Table>().unwrap()["v"].clone();
        assert_eq!(range.describe(), words);
        for text in allowed {
            assert_eq!(range.check("a.b", &value(text)), Ok(()), "{text}");
        }
        for text in refused {
            let error = range.check("a.b", &value(text)).unwrap_err();
            assert!(error.starts_with("a.b is ") && error.contains(&format!("; it must be {words}")), "{text}: {error}");
        }
    }

    #[test]
    fn check_includes_and_excludes_bounds() {
        check(whole(1, 8), &["1", "8"], &["0", "9", "-1", "1.0", "true", "\"1\""], "a whole number from 1 to 8");
        check(at_least(0.0), &["0", "0.0", "1e30"], &["-1e-9", "nan", "-nan", "inf", "1e39", "\"0\""], "a number of at least 0");
        check(above(0.0), &["1e-30", "1"], &["0", "1e-60", "-1", "inf"], "a number above 0");
        check(between(0.0, 1.0), &["0", "1"], &["-0.1", "1.01", "nan"], "a number from 0 to 1");
        check(from_below(0.0, 1.0), &["0", "0.999"], &["1", "0.999999999999"], "a number of at least 0 and below 1");
        check(above_to(0.0, 1.0), &["1", "0.1"], &["0", "1.1"], "a number above 0 and at most 1");
        check(finite(), &["-3", "3e38"], &["nan", "-inf", "1e39"], "a finite number");
        check(Range::OneOf(&["group", "none"]), &["\"none\""], &["\"gruop\"", "3", "[]"], "one of group, none");
        check(Range::Boolean, &["true"], &["1", "\"true\""], "true or false");
        check(Range::Strings, &["[]", "[\"a\"]"], &["[1]", "\"a\""], "a list of strings");
        check(Range::Integers, &["[0, 7]"], &["[-1]", "[0.5]", "7"], &format!("a list of whole numbers from 0 to {}", i64::MAX));
    }

    #[test]
    fn check_suggests_the_nearest_name() {
        let error = Range::OneOf(&["group", "none"]).check("a.b", &Value::String("gruop".into())).unwrap_err();
        assert_eq!(error, "a.b is \"gruop\"; it must be one of group, none (did you mean group?)");
    }

    #[test]
    fn row_matches_star_to_one_part() {
        let row = row("a.*.c", Range::Boolean, "");
        assert!(row.matches("a.b.c") && !row.matches("a.b") && !row.matches("a.b.c.d") && !row.matches("b.b.c"));
    }

    #[test]
    fn format_value_uses_the_digits_of_f32() {
        let format = |number: f64| format_value(&Value::Float(number));
        assert_eq!([format(f64::from(0.6f32)), format(0.6), format(f64::NAN), format(-1.0)], ["0.6", "0.6", "NaN", "-1"]);
    }
}
