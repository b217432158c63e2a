//! The tokens that a tokenizer puts before every text, such as `<s>`. It owns where they are written down; it must never know prompts.

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use tokenizers::{Encoding, Token, Tokenizer};

/// More tokens than any tokenizer puts around a text.
const MOST: usize = 64;

/// What stands around a text: what the post-processor of `tokenizer.json` adds. Where it adds nothing, `add_bos_token` of
/// `tokenizer_config.json` counts, as in transformers 5.
pub(super) struct Around {
    /// Before it.
    pub(super) before: Vec<u32>,
    /// Whether anything stands before or after it.
    pub(super) any: bool,
}

impl Around {
    /// Asks the post-processor what it does with a text of one token.
    ///
    /// # Errors
    /// When it gives the text never or twice, or adds more tokens than any does, or the configuration names a token that is none.
    pub(super) fn of(tokenizer: &Tokenizer, config: &Value, bos_token: Option<&str>) -> Result<Self> {
        const MARK: u32 = u32::MAX;
        let text = Encoding::from_tokens(vec![Token::new(MARK, "a".to_owned(), (0, 1))], 0);
        let processed = tokenizer
            .post_process(text, None, true)
            .map_err(|error| anyhow!("the post_processor of tokenizer.json cannot be used: {error}"))?;
        let ids = processed.get_ids();
        let count = ids.iter().filter(|id| **id == MARK).count();
        ensure!(count == 1, "the post_processor of tokenizer.json gives a text {count} times, expected once");
        ensure!(ids.len() <= MOST, "the post_processor of tokenizer.json adds {} tokens, expected fewer than {MOST}", ids.len() - 1);
        let mut before: Vec<u32> = ids.iter().copied().take_while(|id| *id != MARK).collect();
        if ids.len() == 1
            && config.get("add_bos_token") == Some(&Value::Bool(true))
            && let Some(token) = bos_token
        {
            let id = tokenizer.token_to_id(token);
            before.push(id.with_context(|| format!("bos_token {token:?} of tokenizer_config.json is no token of tokenizer.json"))?);
        }
        Ok(Self { any: ids.len() > 1 || !before.is_empty(), before })
    }
}
