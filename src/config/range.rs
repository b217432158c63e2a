//! Rows of the settings tables: a path, a range and a sentence each. Checks, error messages and documentation all use these rows.

use toml::Value;

use super::nearest;

/// The row of a setting.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The setting's full name, such as `rollout.groups`; a part `*` matches any name.
    pub path: &'static str,
    /// The allowed values.
    pub range: Range,
    /// The meaning, in one or two sentences of Markdown.
    pub about: &'static str,
}

/// The allowed values of a setting.
#[derive(Clone, Copy, Debug)]
pub enum Range {
    /// A whole number.
    Integer {
        /// The smallest allowed.
        least: i64,
        /// The largest allowed.
        most: i64,
    },
    /// A finite number within bounds.
    Number(Bounds),
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// A string with its own syntax.
    Parsed {
        /// A description of the syntax.
        form: &'static str,
        /// Parses the string. The error says what is wrong and lists the known values.
        read: fn(&str) -> Result<(), String>,
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
    least: f64,
    most: f64,
    /// True if the lower and the upper bound themselves are allowed.
    closed: (bool, bool),
}

/// The largest allowed number: the largest f32.
const MOST: f64 = f32::MAX as f64;

/// Makes a row. Its short name keeps the tables readable.
pub const fn row(path: &'static str, range: Range, about: &'static str) -> Row {
    Row { path, range, about }
}

/// Concatenates tables of rows. `N` is their total number of rows.
pub const fn joined<const N: usize>(parts: &[&[Row]]) -> [Row; N] {
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

/// Whole numbers from `least` to `most`, both included.
pub const fn whole(least: i64, most: i64) -> Range {
    Range::Integer { least, most }
}

/// Any finite number.
pub const fn finite() -> Range {
    Range::Number(Bounds { least: -MOST, most: MOST, closed: (true, true) })
}

/// Numbers of at least `least`.
pub const fn at_least(least: f64) -> Range {
    between(least, MOST)
}

/// Numbers above `least`.
pub const fn above(least: f64) -> Range {
    above_to(least, MOST)
}

/// Numbers from `least` to `most`, both included.
pub const fn between(least: f64, most: f64) -> Range {
    Range::Number(Bounds { least, most, closed: (true, true) })
}

/// Numbers above `least` and at most `most`.
pub const fn above_to(least: f64, most: f64) -> Range {
    Range::Number(Bounds { least, most, closed: (false, true) })
}

/// Numbers of at least `least` and below `most`.
pub const fn from_below(least: f64, most: f64) -> Range {
    Range::Number(Bounds { least, most, closed: (true, false) })
}

impl Bounds {
    fn contain(&self, value: f64) -> bool {
        let inside = |value: f64| {
            let above = if self.closed.0 { value >= self.least } else { value > self.least };
            let below = if self.closed.1 { value <= self.most } else { value < self.most };
            above && below && value.is_finite()
        };
        inside(value) && inside(f64::from(value as f32))
    }

    /// Describes the bounds: `from 0 to 1`, `above 0`.
    fn describe(&self) -> String {
        let Self { least, most, .. } = self;
        match (*least == -MOST, *most == MOST, self.closed) {
            (true, true, _) => "finite".to_owned(),
            (_, true, (true, _)) => format!("at least {least}"),
            (_, true, (false, _)) => format!("above {least}"),
            (_, _, (true, true)) => format!("from {least} to {most}"),
            (_, _, (true, false)) => format!("at least {least} and below {most}"),
            (_, _, (false, true)) => format!("above {least} and at most {most}"),
            (_, _, (false, false)) => format!("above {least} and below {most}"),
        }
    }
}

impl Range {
    /// Names the type.
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

    /// Describes the bounds or the allowed values; empty if the type says enough.
    pub fn bounds(&self) -> String {
        match self {
            Self::Integer { least, most } => format!("from {least} to {most}"),
            Self::Number(bounds) => bounds.describe(),
            Self::OneOf(names) => names.join(", "),
            Self::Parsed { form, .. } => (*form).to_owned(),
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
    /// If the value is outside the range. The message names the setting, the value, the range, and the nearest allowed name if there is one.
    pub fn check(&self, name: &str, value: &Value) -> Result<(), String> {
        let refuse = || Err(format!("{name} is {}; it must be {}", shown(value), self.describe()));
        let is_whole = |value: &Value| value.as_integer().is_some_and(|number| number >= 0);
        let fits = match (self, value) {
            (Self::Integer { least, most }, Value::Integer(number)) => (least..=most).contains(&number),
            (Self::Number(bounds), Value::Integer(number)) => bounds.contain(*number as f64),
            (Self::Number(bounds), Value::Float(number)) => bounds.contain(*number),
            (Self::OneOf(names), Value::String(text)) if !names.contains(&text.as_str()) => {
                let near = nearest(text, names.iter().copied()).map_or(String::new(), |near| format!(" (did you mean {near}?)"));
                return refuse().map_err(|error: String| error + &near);
            }
            (Self::Parsed { read, .. }, Value::String(text)) => return read(text).map_err(|error| format!("{name}: {error}")),
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
    /// True if the row belongs to the setting with this full name.
    pub fn matches(&self, path: &str) -> bool {
        self.path == path || {
            let (mut own, mut other) = (self.path.split('.'), path.split('.'));
            own.by_ref().zip(other.by_ref()).all(|(own, other)| own == "*" || own == other)
                && self.path.split('.').count() == path.split('.').count()
        }
    }
}

/// Formats a value for people. An f32 that TOML stores as f64 gets the digits of the f32.
pub fn shown(value: &Value) -> String {
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
    fn row_is_of_matches_star_to_one_part() {
        let row = row("a.*.c", Range::Boolean, "");
        assert!(row.matches("a.b.c") && !row.matches("a.b") && !row.matches("a.b.c.d") && !row.matches("b.b.c"));
    }

    #[test]
    fn shown_uses_the_digits_of_f32() {
        let shown = |number: f64| shown(&Value::Float(number));
        assert_eq!([shown(f64::from(0.6f32)), shown(0.6), shown(f64::NAN), shown(-1.0)], ["0.6", "0.6", "NaN", "-1"]);
    }
}
