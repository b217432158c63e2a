//! How long the rules of a `tokenizer.json` can make a text: known before a rule runs, because a chain of short rules multiplies a text as
//! often as it likes. It owns the bounds; it must never know a vocabulary.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

/// Most bytes of a text to tokenize.
const TEXT_BYTES: usize = 16 << 20;
/// Most bytes of a text while it is normalized or decoded.
const GROWN_BYTES: f64 = (64 << 20) as f64;
/// Most entries of a list in `normalizer`, `pre_tokenizer`, `post_processor` and `decoder`.
const RULES: usize = 64;

/// The parts of a `tokenizer.json` that are rules.
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

/// A text of `n` bytes has at most `factor * n + added` after it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Growth {
    factor: f64,
    added: f64,
}

/// The bounds of one tokenizer.
#[derive(Debug)]
pub(super) struct Bounds {
    normalized: Growth,
    decoded: Growth,
}

impl Bounds {
    /// Reads the rules, and refuses those that no tokenizer has.
    ///
    /// # Errors
    /// When there are too many of them, or they would blow up the tokenizer's own added tokens.
    pub(super) fn read(json: &str) -> Result<Self> {
        let rules: Rules = serde_json::from_str(json).context("tokenizer.json is not a tokenizer that can be read")?;
        for (name, part) in [
            ("normalizer", &rules.normalizer),
            ("pre_tokenizer", &rules.pre_tokenizer),
            ("post_processor", &rules.post_processor),
            ("decoder", &rules.decoder),
        ] {
            let entries = longest_list(part);
            ensure!(entries <= RULES, "{name} of tokenizer.json has a list of {entries} entries, expected at most {RULES}");
        }
        let bounds = Self { normalized: growth(&rules.normalizer), decoded: growth(&rules.decoder) };
        // They are normalized when the tokenizer is built.
        let added = rules.added_tokens.iter().map(|token| bounds.normalized.of(token.content.len())).sum::<f64>();
        ensure!(
            added <= GROWN_BYTES,
            "the normalizer of tokenizer.json could make {added:.0} bytes of its own added tokens, expected at most {GROWN_BYTES:.0}"
        );
        Ok(bounds)
    }

    /// Refuses a text that is too long, or that the normalizer could make too long.
    pub(super) fn check_text(&self, bytes: usize) -> Result<()> {
        ensure!(bytes <= TEXT_BYTES, "a text of {bytes} bytes is too long to tokenize, expected at most {TEXT_BYTES}");
        let grown = self.normalized.of(bytes);
        ensure!(
            grown <= GROWN_BYTES,
            "the normalizer of tokenizer.json could make {grown:.0} bytes of a text of {bytes}, expected at most {GROWN_BYTES:.0}"
        );
        Ok(())
    }

    /// Whether tokens of so many bytes together are safe to decode.
    pub(super) fn decodes(&self, tokens: usize, bytes: usize) -> bool {
        self.decoded.factor * bytes as f64 + self.decoded.added * tokens as f64 <= GROWN_BYTES
    }
}

impl Growth {
    const NONE: Self = Self { factor: 1.0, added: 0.0 };

    fn of(self, bytes: usize) -> f64 {
        self.factor * bytes as f64 + self.added
    }

    fn then(self, next: Self) -> Self {
        Self { factor: self.factor * next.factor, added: self.added * next.factor + next.added }
    }
}

/// The bound of a rule, or of a sequence of rules. Every factor is for the worst text.
fn growth(rule: &Value) -> Growth {
    let length = |name: &str| rule.get(name).and_then(Value::as_str).map_or(0, str::len) as f64;
    let list = ["normalizers", "decoders"].into_iter().find_map(|name| rule.get(name)?.as_array());
    if let Some(rules) = list {
        return rules.iter().map(growth).fold(Growth::NONE, Growth::then);
    }
    match rule.get("type").and_then(Value::as_str) {
        Some("Replace") => {
            let content = length("content");
            match rule.get("pattern").and_then(|pattern| pattern.get("String")?.as_str()) {
                Some(pattern) if !pattern.is_empty() => Growth { factor: (content / pattern.len() as f64).max(1.0), added: 0.0 },
                // An expression may find something at every byte, and nothing between all of them.
                _ => Growth { factor: 1.0 + content, added: content },
            }
        }
        // Once for each piece between special tokens.
        Some("Prepend") => Growth { factor: 1.0 + length("prepend"), added: length("prepend") },
        // U+FDFA has 3 bytes and becomes 33; the composed forms go through the decomposed ones.
        Some("NFKD" | "NFKC") => Growth { factor: 11.0, added: 0.0 },
        Some("Precompiled") => Growth { factor: longest_replacement(rule), added: 0.0 },
        // Bytes that are no text become U+FFFD, empty separators become spaces; 3 is more than any of the others do.
        Some(_) => Growth { factor: 3.0, added: 1.0 },
        None => Growth::NONE,
    }
}

/// How many bytes a rule that SentencePiece compiled can put in place of one: its longest replacement.
fn longest_replacement(rule: &Value) -> f64 {
    let encoded = rule.get("precompiled_charsmap").and_then(Value::as_str).unwrap_or_default();
    let bytes = from_base64(encoded);
    let trie = bytes.first_chunk().map_or(0, |size| u32::from_le_bytes(*size) as usize);
    let texts = bytes.get(4..).and_then(|rest| rest.get(trie..)).unwrap_or_default();
    texts.split(|byte| *byte == 0).map(<[u8]>::len).max().unwrap_or(1).max(1) as f64
}

/// Bytes of base64; what is none of its letters ends them, and the library that reads the same text complains.
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
    for six in text.bytes().map_while(value) {
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

/// The most entries of a list in a rule and those inside of it.
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
    fn rules_are_bounded_before_they_run() {
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
        check(&sequence(20), 1000, Some("could make 1048576000 bytes of a text of 1000"));
        check(&sequence(40), 1, Some("of its own added tokens"));
        check(&sequence(65), 1, Some("normalizer of tokenizer.json has a list of 65 entries, expected at most 64"));
        check(r#"{"type": "Replace", "pattern": {"String": ""}, "content": "aaaaaaaaaaaaaaaa"}"#, 8 << 20, Some("could make"));
        check(r#"{"type": "Replace", "pattern": {"Regex": "b*"}, "content": "aaaaaaaaaaaaaaaa"}"#, 8 << 20, Some("could make"));
        // Those of Llama 2, Gemma and XLM-RoBERTa.
        let metaspace = r#"{"type": "Replace", "pattern": {"String": " "}, "content": "▁"}"#;
        check(metaspace, 16 << 20, None);
        check(&format!(r#"{{"type": "Sequence", "normalizers": [{{"type": "Prepend", "prepend": "▁"}}, {metaspace}]}}"#), 4 << 20, None);
        let squeezed = r#"{"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}"#;
        // A trie of 4 bytes, then "ab\0cdefg\0".
        let compiled = r#"{"type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAABhYgBjZGVmZwA="}"#;
        check(&format!(r#"{{"type": "Sequence", "normalizers": [{compiled}, {squeezed}]}}"#), 1 << 20, None);
        let rule: Value = serde_json::from_str(compiled).unwrap();
        assert_eq!(growth(&rule), Growth { factor: 5.0, added: 0.0 });
    }

    #[test]
    fn decoders_are_bounded_by_their_tokens() {
        let bounds = Bounds::read(r#"{"decoder": {"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaa"}}"#).unwrap();
        assert!(bounds.decodes(1000, 8 << 20) && !bounds.decodes(1000, (8 << 20) + 1));
        assert!(Bounds::read("{}").unwrap().decodes(1 << 20, 64 << 20));
    }
}
