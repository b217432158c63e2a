//! A value from a user's file, in any format. Numbers keep all their digits. Owns the conversion from JSON and TOML, and the descriptions
//! of values in messages. Does not know which fields a row needs.

use std::fmt;

use anyhow::{Result, anyhow};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use toml::de::{DeTable, DeValue};

/// A value in a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// A number in its usual notation, with all its digits: 27.0 is `27`.
    Number(String),
    Text(String),
    List(Vec<Value>),
    Object(Vec<(String, Value)>),
    /// A value of an unsupported type, described for messages.
    Other(&'static str),
}

/// Below 2^53 (about 9.007e15) a float with a whole value is exactly that integer.
const MAX_EXACT_INTEGER: f64 = 9e15;

impl Value {
    /// Parses JSON. `serde_json` keeps only 64 bits of a number unless its feature `arbitrary_precision` is enabled, which would change how
    /// the rest of the program parses JSON. So this takes the text of each number from the source, in the order of parsing.
    ///
    /// # Errors
    /// If the text is not JSON, or an object has a field twice.
    pub(super) fn json(text: &str) -> Result<Self> {
        let mut json = serde_json::Deserializer::from_str(text);
        let mut numbers = NumberTexts { rest: text };
        let value = ValueSeed { numbers: &mut numbers }.deserialize(&mut json)?;
        json.end()?;
        Ok(value)
    }

    /// Parses TOML into an object.
    ///
    /// # Errors
    /// If the text is not TOML.
    pub(super) fn toml(text: &str) -> Result<Self> {
        let table = DeTable::parse(text).map_err(|error| anyhow!("{}", error.message()))?;
        Ok(Self::table(table.get_ref()))
    }

    fn table(table: &DeTable) -> Self {
        Self::Object(table.iter().map(|(name, value)| (name.get_ref().to_string(), Self::of_toml(value.get_ref()))).collect())
    }

    fn of_toml(value: &DeValue) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Integer(integer) if integer.radix() == 10 => Self::Number(usual_notation(integer.as_str())),
            DeValue::Integer(integer) => {
                // Keep the notation of a number that is too large to convert to decimal.
                let read = i128::from_str_radix(integer.as_str(), integer.radix());
                Self::Number(read.map_or_else(|_| integer.to_string(), |value| value.to_string()))
            }
            DeValue::Float(float) => Self::Number(usual_notation(float.as_str())),
            DeValue::Boolean(truth) => Self::Bool(*truth),
            DeValue::Datetime(_) => Self::Other("a date"),
            DeValue::Array(items) => Self::List(items.iter().map(|item| Self::of_toml(item.get_ref())).collect()),
            DeValue::Table(table) => Self::table(table),
        }
    }

    /// Converts a float. `shortest` is the shortest decimal that parses as the same number in the original type, such as 12.8 for an `f32`.
    pub(super) fn float(value: impl Into<f64> + Copy, shortest: String) -> Self {
        let value: f64 = value.into();
        match value.is_finite() {
            true if value.fract() == 0.0 && value.abs() < MAX_EXACT_INTEGER => Self::Number((value as i64).to_string()),
            true => Self::Number(shortest),
            false if value.is_nan() => Self::Other("NaN, which is not a number"),
            false => Self::Other("an infinite number"),
        }
    }

    /// Returns a field of an object, or `None` if this is not an object or has no such field.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => fields.iter().find(|(own, _)| own == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Returns the items of a list, or `None` for any other value.
    pub(super) fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// Returns text unchanged or a number in its usual notation, or `None` for any other value.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Number(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        *self == Self::Null
    }

    /// Describes the value, for messages.
    pub(super) fn kind(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(truth) => format!("{truth} (true or false)"),
            Self::Number(_) => "a number".to_owned(),
            Self::Text(_) => "text".to_owned(),
            Self::List(_) => "a list".to_owned(),
            Self::Object(fields) if fields.is_empty() => "an object without fields".to_owned(),
            Self::Object(fields) => {
                let names: Vec<&str> = fields.iter().take(8).map(|(name, _)| name.as_str()).collect();
                format!("an object with the fields {}", names.join(", "))
            }
            Self::Other(name) => (*name).to_owned(),
        }
    }
}

/// Iterates over the texts of the numbers in JSON, in order.
struct NumberTexts<'a> {
    rest: &'a str,
}

impl<'a> NumberTexts<'a> {
    /// Returns the text of the next number, or an empty string at the end.
    fn next(&mut self) -> &'a str {
        let bytes = self.rest.as_bytes();
        let (mut at, mut is_quoted) = (0, false);
        while at < bytes.len() {
            match bytes[at] {
                b'\\' if is_quoted => at += 1,
                b'"' => is_quoted = !is_quoted,
                b'-' | b'0'..=b'9' if !is_quoted => break,
                _ => {}
            }
            at += 1;
        }
        let from = self.rest.get(at..).unwrap_or_default();
        let end = from.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')).unwrap_or(from.len());
        let (number, rest) = from.split_at(end);
        self.rest = rest;
        number
    }
}

/// Deserializes a value, taking the text of each number from `numbers`.
struct ValueSeed<'n, 'a> {
    numbers: &'n mut NumberTexts<'a>,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_, '_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Number(usual_notation(self.numbers.next())))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Number(usual_notation(self.numbers.next())))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Number(usual_notation(self.numbers.next())))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(ValueSeed { numbers: &mut *self.numbers })? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object: Vec<(String, Value)> = Vec::new();
        while let Some(name) = fields.next_key::<String>()? {
            if object.iter().any(|(other, _)| *other == name) {
                return Err(A::Error::custom(format_args!("duplicate field `{name}`")));
            }
            object.push((name, fields.next_value_seed(ValueSeed { numbers: &mut *self.numbers })?));
        }
        Ok(Value::Object(object))
    }
}

/// Rewrites a number in its usual notation: 27.0 becomes `27`, 1e3 becomes `1000`. Returns the text unchanged if an `f64` would lose
/// digits.
pub(super) fn usual_notation(written: &str) -> String {
    if let Ok(whole) = written.parse::<i128>() {
        return whole.to_string();
    }
    let Ok(value) = written.parse::<f64>() else { return written.to_owned() };
    let usual = match serde_json::Number::from_f64(value) {
        Some(_) if value.fract() == 0.0 && value.abs() < MAX_EXACT_INTEGER => (value as i64).to_string(),
        Some(number) => number.to_string(),
        None => return written.to_owned(),
    };
    if decimal_parts(&usual).is_some_and(|usual| decimal_parts(written) == Some(usual)) { usual } else { written.to_owned() }
}

/// Splits a decimal number into its sign (true if negative), significant digits and exponent, which are the same for equal numbers. `None`
/// if the exponent is not a 64-bit integer.
fn decimal_parts(text: &str) -> Option<(bool, String, i64)> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i64 = exponent.parse().ok()?;
    let unsigned = mantissa.trim_start_matches(['-', '+']);
    let (whole, part) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let all = format!("{whole}{part}");
    let leading = all.trim_start_matches('0');
    let significant = leading.trim_end_matches('0');
    if significant.is_empty() {
        return Some((false, String::new(), 0));
    }
    let dropped = (leading.len() - significant.len()) as i64;
    let scale = exponent.checked_sub(part.len() as i64)?.checked_add(dropped)?;
    Some((mantissa.starts_with('-'), significant.to_owned(), scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_numbers_keep_their_digits() {
        let check = |written: &str, expected: &str| {
            assert_eq!(Value::json(written).unwrap(), Value::Number(expected.to_owned()), "{written}");
        };
        for same in ["27", "-3", "0.5", "12.800000190734863", "1e-7", "9007199254740993", "18446744073709551616", "0"] {
            check(same, same);
        }
        check("123456789012345678901234567890", "123456789012345678901234567890");
        check("1234567890123456789012345678901234567890123456789", "1234567890123456789012345678901234567890123456789");
        check("3.14159265358979323846", "3.14159265358979323846");
        let Value::List(several) = Value::json(r#"[{"a1": -1.50, "b\"2": "3\\"}, 123456789012345678901, "\\\"4"]"#).unwrap() else {
            panic!()
        };
        assert_eq!(several[0].get("a1"), Some(&Value::Number("-1.5".into())));
        assert_eq!(several[1..], [Value::Number("123456789012345678901".into()), Value::Text("\\\"4".into())]);
        for (written, usual) in [("27.0", "27"), ("-0", "0"), ("-0.0", "0"), ("0.50", "0.5"), ("1e3", "1000"), ("1.50E+2", "150")] {
            check(written, usual);
        }
    }

    #[test]
    fn toml_numbers_keep_their_digits() {
        let value = Value::toml("a = 3.14159265358979323846\nb = 1_000\nc = 0xff\nd = 2024-01-01\ne = [12.80, true]").unwrap();
        let expected = [
            ("a", Value::Number("3.14159265358979323846".into())),
            ("b", Value::Number("1000".into())),
            ("c", Value::Number("255".into())),
            ("d", Value::Other("a date")),
            ("e", Value::List(vec![Value::Number("12.8".into()), Value::Bool(true)])),
        ];
        expected.into_iter().for_each(|(name, expected)| assert_eq!(value.get(name), Some(&expected), "{name}"));
    }

    #[test]
    fn json_rejects_malformed_text() {
        let error = |text: &str| Value::json(text).unwrap_err().to_string();
        assert!(error(r#"{"a": 1, "b": {"c": 1, "c": 2}}"#).starts_with("duplicate field `c` at line 1"));
        assert!(error("{\"a\": ").contains("EOF"));
        assert!(error("1e400").contains("out of range"));
        assert!(error(&"[".repeat(100_000)).contains("recursion limit exceeded"));
    }

    #[test]
    fn kind_describes_each_value() {
        let check = |json: &str, expected: &str| assert_eq!(Value::json(json).unwrap().kind(), expected);
        check("true", "true (true or false)");
        check("[]", "a list");
        check(r#"{"target": 1, "numbers": [1]}"#, "an object with the fields target, numbers");
        assert_eq!(Value::float(f64::NAN, String::new()).kind(), "NaN, which is not a number");
    }
}
