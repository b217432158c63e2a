//! What a setting may be, as one row: its path, its range, and a sentence. Checks, error messages and documentation all read these rows.

use toml::Value;

use super::nearest;

/// A setting.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its full name, `rollout.groups`; a part `*` stands for any name.
    pub path: &'static str,
    /// What it may be.
    pub range: Range,
    /// One plain sentence for people.
    pub about: &'static str,
}

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub enum Range {
    /// A whole number, both ends included.
    Whole {
        /// The smallest.
        least: i64,
        /// The largest.
        most: i64,
    },
    /// A finite number.
    Number(Bounds),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A text with a grammar of its own.
    Form {
        /// The grammar in a few words.
        form: &'static str,
        /// Parses the text; the error says what is wrong and lists the known values.
        read: fn(&str) -> Result<(), String>,
    },
    /// Any text.
    Text,
    /// A list of texts.
    Texts,
    /// A list of whole numbers from 0 on.
    Wholes,
    /// True or false.
    Switch,
    /// A table, or a list of them.
    Tables,
}

/// The ends of a range of numbers. A number has to lie inside as f32 too: that is what most of them are computed with.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    least: f64,
    most: f64,
    /// Whether the ends themselves are allowed.
    closed: (bool, bool),
}

/// The largest number: f32's own.
const MOST: f64 = f32::MAX as f64;

/// A row, short enough for a table of them.
pub const fn row(path: &'static str, range: Range, about: &'static str) -> Row {
    Row { path, range, about }
}

/// Tables of rows as one, in their order; `N` is the number of all their rows.
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

/// Whole numbers, both ends included.
pub const fn whole(least: i64, most: i64) -> Range {
    Range::Whole { least, most }
}

/// Any finite number.
pub const fn finite() -> Range {
    Range::Number(Bounds { least: -MOST, most: MOST, closed: (true, true) })
}

/// `least` and more.
pub const fn at_least(least: f64) -> Range {
    between(least, MOST)
}

/// More than `least`.
pub const fn above(least: f64) -> Range {
    above_to(least, MOST)
}

/// Both ends included.
pub const fn between(least: f64, most: f64) -> Range {
    Range::Number(Bounds { least, most, closed: (true, true) })
}

/// Only the upper end included.
pub const fn above_to(least: f64, most: f64) -> Range {
    Range::Number(Bounds { least, most, closed: (false, true) })
}

/// Only the lower end included.
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

    /// `from 0 to 1`, `above 0`.
    fn describe(&self) -> String {
        let Self { least, most, .. } = self;
        match (*least == -MOST, *most == MOST, self.closed) {
            (true, true, _) => "finite".to_owned(),
            (_, true, (true, _)) => format!("at least {least}"),
            (_, true, (false, _)) => format!("above {least}"),
            (_, _, (true, true)) => format!("from {least} to {most}"),
            (_, _, (true, false)) => format!("from {least} to below {most}"),
            (_, _, (false, true)) => format!("above {least} and at most {most}"),
            (_, _, (false, false)) => format!("above {least} and below {most}"),
        }
    }
}

impl Range {
    /// The type in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Whole { .. } => "whole number",
            Self::Number(_) => "number",
            Self::OneOf(_) | Self::Form { .. } | Self::Text => "text",
            Self::Texts => "list of texts",
            Self::Wholes => "list of whole numbers",
            Self::Switch => "true or false",
            Self::Tables => "table",
        }
    }

    /// The bounds or the allowed values in words; empty where the type says all.
    pub fn bounds(&self) -> String {
        match self {
            Self::Whole { least, most } => format!("from {least} to {most}"),
            Self::Number(bounds) => bounds.describe(),
            Self::OneOf(names) => names.join(", "),
            Self::Form { form, .. } => (*form).to_owned(),
            Self::Wholes => format!("each from 0 to {}", i64::MAX),
            Self::Text | Self::Texts | Self::Switch | Self::Tables => String::new(),
        }
    }

    /// "a whole number from 1 to 8", to follow "it must be".
    pub fn describe(&self) -> String {
        let bounds = self.bounds();
        match self {
            Self::Number(_) if bounds == "finite" => "a finite number".to_owned(),
            Self::Number(_) if bounds.starts_with("at least") => format!("a number of {bounds}"),
            Self::OneOf(_) | Self::Form { .. } => bounds,
            Self::Switch => self.kind().to_owned(),
            Self::Text => "text, in quotes".to_owned(),
            _ => format!("a {} {bounds}", self.kind()).trim_end().to_owned(),
        }
    }

    /// Refuses a value that the setting called `name` cannot have: the error names both, what is allowed, and the nearest allowed name.
    pub fn check(&self, name: &str, value: &Value) -> Result<(), String> {
        let refuse = || Err(format!("{name} is {}; it must be {}", shown(value), self.describe()));
        let is_whole = |value: &Value| value.as_integer().is_some_and(|number| number >= 0);
        let fits = match (self, value) {
            (Self::Whole { least, most }, Value::Integer(number)) => (least..=most).contains(&number),
            (Self::Number(bounds), Value::Integer(number)) => bounds.contain(*number as f64),
            (Self::Number(bounds), Value::Float(number)) => bounds.contain(*number),
            (Self::OneOf(names), Value::String(text)) if !names.contains(&text.as_str()) => {
                let near = nearest(text, names.iter().copied()).map_or(String::new(), |near| format!(" (did you mean {near}?)"));
                return refuse().map_err(|error: String| error + &near);
            }
            (Self::Form { read, .. }, Value::String(text)) => return read(text).map_err(|error| format!("{name}: {error}")),
            (Self::OneOf(_) | Self::Text, Value::String(_)) | (Self::Switch, Value::Boolean(_)) | (Self::Tables, Value::Table(_)) => true,
            (Self::Tables, Value::Array(parts)) => parts.iter().all(Value::is_table),
            (Self::Texts, Value::Array(parts)) => parts.iter().all(Value::is_str),
            (Self::Wholes, Value::Array(parts)) => parts.iter().all(is_whole),
            _ => false,
        };
        if fits { Ok(()) } else { refuse() }
    }
}

impl Row {
    /// Whether the row is that of a setting.
    pub fn is_of(&self, path: &str) -> bool {
        self.path == path || {
            let (mut own, mut other) = (self.path.split('.'), path.split('.'));
            own.by_ref().zip(other.by_ref()).all(|(own, other)| own == "*" || own == other)
                && self.path.split('.').count() == path.split('.').count()
        }
    }
}

/// A value as people write it: an f32 that TOML holds as f64 comes with the digits of f32.
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
    fn ranges_hold_at_their_ends() {
        check(whole(1, 8), &["1", "8"], &["0", "9", "-1", "1.0", "true", "\"1\""], "a whole number from 1 to 8");
        check(at_least(0.0), &["0", "0.0", "1e30"], &["-1e-9", "nan", "-nan", "inf", "1e39", "\"0\""], "a number of at least 0");
        check(above(0.0), &["1e-30", "1"], &["0", "1e-60", "-1", "inf"], "a number above 0");
        check(between(0.0, 1.0), &["0", "1"], &["-0.1", "1.01", "nan"], "a number from 0 to 1");
        check(from_below(0.0, 1.0), &["0", "0.999"], &["1", "0.999999999999"], "a number from 0 to below 1");
        check(above_to(0.0, 1.0), &["1", "0.1"], &["0", "1.1"], "a number above 0 and at most 1");
        check(finite(), &["-3", "3e38"], &["nan", "-inf", "1e39"], "a finite number");
        check(Range::OneOf(&["group", "none"]), &["\"none\""], &["\"gruop\"", "3", "[]"], "group, none");
        check(Range::Switch, &["true"], &["1", "\"true\""], "true or false");
        check(Range::Texts, &["[]", "[\"a\"]"], &["[1]", "\"a\""], "a list of texts");
        check(Range::Wholes, &["[0, 7]"], &["[-1]", "[0.5]", "7"], &format!("a list of whole numbers each from 0 to {}", i64::MAX));
    }

    #[test]
    fn a_wrong_name_suggests_the_nearest() {
        let error = Range::OneOf(&["group", "none"]).check("a.b", &Value::String("gruop".into())).unwrap_err();
        assert_eq!(error, "a.b is \"gruop\"; it must be group, none (did you mean group?)");
    }

    #[test]
    fn a_star_stands_for_one_name() {
        let row = row("a.*.c", Range::Switch, "");
        assert!(row.is_of("a.b.c") && !row.is_of("a.b") && !row.is_of("a.b.c.d") && !row.is_of("b.b.c"));
    }

    #[test]
    fn numbers_are_shown_with_their_own_digits() {
        let shown = |number: f64| shown(&Value::Float(number));
        assert_eq!([shown(f64::from(0.6f32)), shown(0.6), shown(f64::NAN), shown(-1.0)], ["0.6", "0.6", "NaN", "-1"]);
    }
}
