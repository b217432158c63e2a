//! Bounds on how long the rules in a `tokenizer.json` can make a text, computed before any rule runs, because a short chain of replacements
//! can multiply the length of a text without limit. Independent of the vocabulary.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

/// The maximum size in bytes of a text to tokenize.
const MAX_TEXT_BYTES: usize = 16 << 20;
/// The maximum size in bytes of a text during normalization or decoding.
const MAX_GROWN_BYTES: f64 = (64 << 20) as f64;
/// The maximum length of a list in `normalizer`, `pre_tokenizer`, `post_processor` or `decoder`.
const MAX_RULES: usize = 64;

/// The parts of a `tokenizer.json` that contain rules.
#[derive(Deserialize)]
pub(super) struct Rules {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

#[derive(Deserialize)]
struct AddedToken {
    #[serde(default)]
    content: String,
}

/// A bound on a rule's output: a text of `n` bytes becomes at most `factor * n + added` bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct LengthBound {
    factor: f64,
    added: f64,
}

/// The length bounds of one tokenizer.
#[derive(Debug)]
pub(super) struct Bounds {
    normalized: LengthBound,
    decoded: LengthBound,
}

impl Bounds {
    /// Reads the rules in a `tokenizer.json` and computes their bounds.
    ///
    /// # Errors
    /// If `json` is malformed, a list has more than [`MAX_RULES`] entries, or the rules could make the tokenizer's own added tokens too
    /// long.
    pub(super) fn read(json: &str) -> Result<Self> {
        let rules: Rules = serde_json::from_str(json).context("tokenizer.json is not a valid tokenizer")?;
        for (name, part) in [
            ("normalizer", &rules.normalizer),
            ("pre_tokenizer", &rules.pre_tokenizer),
            ("post_processor", &rules.post_processor),
            ("decoder", &rules.decoder),
        ] {
            let entries = longest_list(part);
            ensure!(entries <= MAX_RULES, "{name} of tokenizer.json has a list of {entries} entries, expected at most {MAX_RULES}");
        }
        let bounds = Self { normalized: length_bound(&rules.normalizer), decoded: length_bound(&rules.decoder) };
        // The tokenizers library normalizes added tokens when it loads a tokenizer.
        let added = rules.added_tokens.iter().map(|token| bounds.normalized.of(token.content.len())).sum::<f64>();
        ensure!(
            added <= MAX_GROWN_BYTES,
            "the normalizer of tokenizer.json could turn its own added tokens into {added:.0} bytes, expected at most {MAX_GROWN_BYTES:.0}"
        );
        Ok(bounds)
    }

    /// Checks that a text with `bytes` bytes is short enough, before and after normalization.
    ///
    /// # Errors
    /// If it could be too long.
    pub(super) fn check_text(&self, bytes: usize) -> Result<()> {
        ensure!(bytes <= MAX_TEXT_BYTES, "a text of {bytes} bytes is too long to tokenize, expected at most {MAX_TEXT_BYTES}");
        let grown = self.normalized.of(bytes);
        ensure!(
            grown <= MAX_GROWN_BYTES,
            "the normalizer of tokenizer.json could turn {bytes} bytes of text into {grown:.0}, expected at most {MAX_GROWN_BYTES:.0}"
        );
        Ok(())
    }

    /// True if the decoded text of `tokens` tokens with `bytes` bytes in total cannot exceed the limit.
    pub(super) fn can_decode(&self, tokens: usize, bytes: usize) -> bool {
        self.decoded.factor * bytes as f64 + self.decoded.added * tokens as f64 <= MAX_GROWN_BYTES
    }
}

impl LengthBound {
    const NONE: Self = Self { factor: 1.0, added: 0.0 };

    fn of(self, bytes: usize) -> f64 {
        self.factor * bytes as f64 + self.added
    }

    fn then(self, next: Self) -> Self {
        Self { factor: self.factor * next.factor, added: self.added * next.factor + next.added }
    }
}

/// Returns the bound of a rule or a sequence of rules for the worst possible text.
fn length_bound(rule: &Value) -> LengthBound {
    let length = |name: &str| rule.get(name).and_then(Value::as_str).map_or(0, str::len) as f64;
    let list = ["normalizers", "decoders"].into_iter().find_map(|name| rule.get(name)?.as_array());
    if let Some(rules) = list {
        return rules.iter().map(length_bound).fold(LengthBound::NONE, LengthBound::then);
    }
    match rule.get("type").and_then(Value::as_str) {
        Some("Replace") => {
            let content = length("content");
            match rule.get("pattern").and_then(|pattern| pattern.get("String")?.as_str()) {
                Some(pattern) if !pattern.is_empty() => LengthBound { factor: (content / pattern.len() as f64).max(1.0), added: 0.0 },
                // A regular expression may match every byte, and also the empty string between all bytes.
                _ => LengthBound { factor: 1.0 + content, added: content },
            }
        }
        // The prefix is added once to each piece between added tokens.
        Some("Prepend") => LengthBound { factor: 1.0 + length("prepend"), added: length("prepend") },
        // U+FDFA has 3 bytes and becomes 33. Composed forms are computed from decomposed ones.
        Some("NFKD" | "NFKC") => LengthBound { factor: 11.0, added: 0.0 },
        Some("Precompiled") => LengthBound { factor: longest_replacement(rule), added: 0.0 },
        // Invalid bytes become U+FFFD (3 bytes), and empty separators become spaces; no other rule exceeds a factor of 3.
        Some(_) => LengthBound { factor: 3.0, added: 1.0 },
        None => LengthBound::NONE,
    }
}

/// Returns the length in bytes of the longest replacement in a rule compiled by SentencePiece: the most bytes that can replace one byte.
fn longest_replacement(rule: &Value) -> f64 {
    let encoded = rule.get("precompiled_charsmap").and_then(Value::as_str).unwrap_or_default();
    let bytes = from_base64(encoded);
    let trie = bytes.first_chunk().map_or(0, |size| u32::from_le_bytes(*size) as usize);
    let texts = bytes.get(4..).and_then(|rest| rest.get(trie..)).unwrap_or_default();
    texts.split(|byte| *byte == 0).map(<[u8]>::len).max().unwrap_or(1).max(1) as f64
}

/// Decodes base64 up to the first invalid character. The tokenizers library parses the same text and reports invalid characters.
fn from_base64(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut bytes, mut bits, mut count) = (Vec::with_capacity(text.len() / 4 * 3), 0_u32, 0);
    for six_bits in text.bytes().map_while(value) {
        bits = bits << 6 | u32::from(six_bits);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

/// Returns the length of the longest list in a rule, including nested rules.
fn longest_list(rule: &Value) -> usize {
    match rule {
        Value::Array(items) => items.iter().map(longest_list).fold(items.len(), usize::max),
        Value::Object(fields) => fields.values().map(longest_list).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(normalizer: &str) -> Result<Bounds> {
        Bounds::read(&format!(r#"{{"normalizer": {normalizer}, "decoder": null, "added_tokens": [{{"id": 0, "content": "<end>"}}]}}"#))
    }

    #[test]
    fn check_text_bounds_the_normalizer() {
        let check = |normalizer: &str, bytes: usize, expected: Option<&str>| {
            let result = bounds(normalizer).and_then(|bounds| bounds.check_text(bytes));
            match (result, expected) {
                (Ok(()), None) => {}
                (Err(error), Some(expected)) => assert!(format!("{error:#}").contains(expected), "{error:#}"),
                (result, expected) => panic!("{normalizer}: {result:?}, expected {expected:?}"),
            }
        };
        let twice = r#"{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}"#;
        let sequence = |count: usize| format!(r#"{{"type": "Sequence", "normalizers": [{}]}}"#, vec![twice; count].join(","));
        check("null", 16 << 20, None);
        check("null", (16 << 20) + 1, Some("is too long to tokenize, expected at most 16777216"));
        check(twice, 16 << 20, None);
        check(&sequence(5), 1 << 20, None);
        check(&sequence(20), 1000, Some("could turn 1000 bytes of text into 1048576000"));
        check(&sequence(40), 1, Some("could turn its own added tokens into"));
        check(&sequence(65), 1, Some("normalizer of tokenizer.json has a list of 65 entries, expected at most 64"));
        check(r#"{"type": "Replace", "pattern": {"String": ""}, "content": "aaaaaaaaaaaaaaaa"}"#, 8 << 20, Some("could turn"));
        check(r#"{"type": "Replace", "pattern": {"Regex": "b*"}, "content": "aaaaaaaaaaaaaaaa"}"#, 8 << 20, Some("could turn"));
        // The normalizers of Llama 2, Gemma and XLM-RoBERTa.
        let metaspace = r#"{"type": "Replace", "pattern": {"String": " "}, "content": "▁"}"#;
        check(metaspace, 16 << 20, None);
        check(&format!(r#"{{"type": "Sequence", "normalizers": [{{"type": "Prepend", "prepend": "▁"}}, {metaspace}]}}"#), 4 << 20, None);
        let squeezed = r#"{"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}"#;
        // A trie of 4 bytes, then "ab\0cdefg\0".
        let compiled = r#"{"type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAABhYgBjZGVmZwA="}"#;
        check(&format!(r#"{{"type": "Sequence", "normalizers": [{compiled}, {squeezed}]}}"#), 1 << 20, None);
        let rule: Value = serde_json::from_str(compiled).unwrap();
        assert_eq!(length_bound(&rule), LengthBound { factor: 5.0, added: 0.0 });
    }

    #[test]
    fn can_decode_bounds_the_decoder() {
        let bounds = Bounds::read(r#"{"decoder": {"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaa"}}"#).unwrap();
        assert!(bounds.can_decode(1000, 8 << 20) && !bounds.can_decode(1000, (8 << 20) + 1));
        assert!(Bounds::read("{}").unwrap().can_decode(1 << 20, 64 << 20));
    }
}
