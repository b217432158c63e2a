//! Finds the special tokens that a tokenizer adds around every text, such as `<s>`. Independent of prompts.

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use tokenizers::{Encoding, Token, Tokenizer};

/// Adding this many tokens around a text is an error; real tokenizers add one or two.
const TOO_MANY: usize = 64;

/// The tokens that the post-processor in `tokenizer.json` adds around a text. If it adds none, `add_bos_token` in `tokenizer_config.json`
/// can add `bos_token`, as in transformers 5.
pub(super) struct AddedTokens {
    /// The ids added before a text.
    pub(super) before: Vec<u32>,
    /// True if any token is added before or after a text.
    pub(super) any: bool,
}

impl AddedTokens {
    /// Runs the post-processor on a text with one token to find what it adds.
    ///
    /// # Errors
    /// If the post-processor fails, does not return the text exactly once, or adds [`TOO_MANY`] tokens or more, or if `bos_token` is not in
    /// the vocabulary.
    pub(super) fn of(tokenizer: &Tokenizer, config: &Value, bos_token: Option<&str>) -> Result<Self> {
        const MARK: u32 = u32::MAX;
        let text = Encoding::from_tokens(vec![Token::new(MARK, "a".to_owned(), (0, 1))], 0);
        let processed =
            tokenizer.post_process(text, None, true).map_err(|error| anyhow!("the post_processor of tokenizer.json failed: {error}"))?;
        let ids = processed.get_ids();
        let count = ids.iter().filter(|id| **id == MARK).count();
        ensure!(count == 1, "the post_processor of tokenizer.json returns a text {count} times, expected once");
        ensure!(
            ids.len() <= TOO_MANY,
            "the post_processor of tokenizer.json adds {} tokens, expected fewer than {TOO_MANY}",
            ids.len() - 1
        );
        let mut before: Vec<u32> = ids.iter().copied().take_while(|id| *id != MARK).collect();
        if ids.len() == 1
            && config.get("add_bos_token") == Some(&Value::Bool(true))
            && let Some(token) = bos_token
        {
            let id = tokenizer.token_to_id(token);
            before.push(id.with_context(|| format!("bos_token {token:?} of tokenizer_config.json is not a token of tokenizer.json"))?);
        }
        Ok(Self { any: ids.len() > 1 || !before.is_empty(), before })
    }
}
