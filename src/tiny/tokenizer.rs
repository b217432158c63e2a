//! The embedded model's tokenizer: byte-level BPE trained on the corpus, with Qwen2's pre-tokenization, so that each digit is one token.
//! Also creates the files from which other programs load it as a Qwen2 tokenizer. Independent of the model.

use anyhow::{Context, Result, anyhow};
use serde_json::json;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use super::corpus::{Corpus, Document};
use super::mixture::Mixture;

/// The token that ends a document, and the only special token. Its id is 0.
pub const END_TOKEN: &str = "<|endoftext|>";

/// The maximum number of tokens in a response, including the end token. Longer responses are truncated, also in the corpus.
pub const RESPONSE_TOKENS: usize = 80;

/// The context length in the configuration of the tokenizer and the model. Problems of real benchmarks have up to about 3,300 tokens.
pub const CONTEXT_LENGTH: usize = 8_192;

/// The maximum vocabulary size: the bytes, the end token, and merges that make every word of the corpus one token. The vocabulary is
/// smaller if a mixture lacks some of the words, so use the tokenizer's own size when building a model.
pub const VOCABULARY: usize = 464;

/// The number of documents from which the merges are learned.
const SAMPLE_DOCUMENTS: u64 = 4_000;
/// The seed of these documents. It is fixed, so that base models with different seeds share a tokenizer.
const SAMPLE_SEED: u64 = 0;

/// Qwen2's pre-tokenization: contractions, words with the character before them, single digits, punctuation, line ends, spaces.
const SPLITTING: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Renders a user message as `Q: ...` newline `A:`, followed by the assistant's message with a leading space. Drops other roles.
const CHAT_TEMPLATE: &str = "{%- for message in messages %}\
{%- if message['role'] == 'user' %}{{- 'Q: ' + message['content'] + '\\nA:' }}\
{%- elif message['role'] == 'assistant' %}{{- ' ' + (message['content'] | trim) + '\\n' }}\
{%- endif %}{%- endfor %}";

/// A tokenized document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The token ids of the prompt.
    pub prompt: Vec<u32>,
    /// The token ids of the response, at most [`RESPONSE_TOKENS`]. If the document ends within this limit, the last is the end token.
    pub response: Vec<u32>,
}

/// Trains the tokenizer on a sample of the corpus. The result depends only on the mixture, not on the seed of the base model.
///
/// # Errors
/// If the tokenizers library fails.
pub fn train(mixture: &Mixture) -> Result<Tokenizer> {
    let corpus = Corpus::new(mixture.clone(), SAMPLE_SEED);
    let mut tokenizer = Tokenizer::new(BPE::default());
    let split = Split::new(SplitPattern::Regex(SPLITTING.to_string()), SplitDelimiterBehavior::Isolated, false);
    let parts: Vec<PreTokenizerWrapper> = vec![split.map_err(plain).context("Qwen2's splitting pattern")?.into(), bytes().into()];
    tokenizer
        .with_normalizer(Some(NFC))
        .map_err(plain)?
        .with_pre_tokenizer(Some(Sequence::new(parts)))
        .with_post_processor(Some(bytes()))
        .with_decoder(Some(bytes()));
    let mut trainer: TrainerWrapper = BpeTrainer::builder()
        .vocab_size(VOCABULARY)
        .min_frequency(2)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![AddedToken::from(END_TOKEN, true).normalized(false)])
        .show_progress(false)
        .build()
        .into();
    let texts = (0..SAMPLE_DOCUMENTS).map(|index| corpus.document(index)).map(|document| document.prompt + &document.response);
    tokenizer.train(&mut trainer, texts).map_err(plain).context("training the tokenizer")?;
    Ok(tokenizer)
}

/// Tokenizes a document and truncates its response to [`RESPONSE_TOKENS`].
///
/// # Errors
/// If the tokenizer fails or has no end token.
pub fn encode(tokenizer: &Tokenizer, document: &Document) -> Result<Encoded> {
    let ids = |text: &str| tokenizer.encode_fast(text, false).map(|encoding| encoding.get_ids().to_vec()).map_err(plain);
    let (prompt, mut response) = (ids(&document.prompt)?, ids(&document.response)?);
    if document.ends {
        let end = tokenizer.token_to_id(END_TOKEN);
        response.push(end.with_context(|| format!("the tokenizer has no {END_TOKEN}: train it again"))?);
    }
    response.truncate(RESPONSE_TOKENS);
    Ok(Encoded { prompt, response })
}

/// Returns the names and contents of `tokenizer.json`, `tokenizer_config.json` and `generation_config.json`.
///
/// # Errors
/// If the tokenizer has no end token or cannot be serialized.
pub fn files(tokenizer: &Tokenizer) -> Result<[(&'static str, String); 3]> {
    let end = tokenizer.token_to_id(END_TOKEN).with_context(|| format!("the tokenizer has no {END_TOKEN}"))?;
    let configuration = json!({
        "tokenizer_class": "Qwen2Tokenizer",
        "model_max_length": CONTEXT_LENGTH,
        "bos_token": null,
        "eos_token": END_TOKEN,
        "pad_token": END_TOKEN,
        "unk_token": null,
        "add_prefix_space": false,
        "add_bos_token": false,
        "clean_up_tokenization_spaces": false,
        "errors": "replace",
        "split_special_tokens": false,
        "chat_template": CHAT_TEMPLATE,
    });
    let generation = json!({
        "eos_token_id": end,
        "pad_token_id": end,
        "do_sample": false,
        "max_new_tokens": RESPONSE_TOKENS,
    });
    Ok([
        ("tokenizer.json", tokenizer.to_string(true).map_err(plain)?),
        ("tokenizer_config.json", serde_json::to_string_pretty(&configuration)?),
        ("generation_config.json", serde_json::to_string_pretty(&generation)?),
    ])
}

/// Returns the byte-level encoding, without a leading space and without its own splitting.
fn bytes() -> ByteLevel {
    ByteLevel::new(false, false, false)
}

/// Converts a boxed error of the tokenizers library, which `anyhow` cannot convert.
fn plain(error: tokenizers::Error) -> anyhow::Error {
    anyhow!("{error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tiny::by_id;
    use crate::tiny::corpus::prompt;

    fn corpus() -> Corpus {
        Corpus::new(Mixture::default(), 1)
    }

    fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
        tokenizer.encode_fast(text, false).expect("any text has tokens").get_ids().to_vec()
    }

    #[test]
    fn train_is_deterministic_and_fills_the_vocabulary() {
        let tokenizer = train(&Mixture::default()).expect("trains");
        let again = train(&Mixture::default()).expect("trains");
        let text = tokenizer.to_string(true).expect("text");
        assert_eq!(text, again.to_string(true).expect("text"));
        assert_eq!(tokenizer.get_vocab_size(true), VOCABULARY);
        assert_eq!(tokenizer.token_to_id(END_TOKEN), Some(0));
        let loaded: Tokenizer = text.parse().expect("loads again");
        assert_eq!(ids(&loaded, "Q: What is 334+556?\nA:"), ids(&tokenizer, "Q: What is 334+556?\nA:"));
    }

    #[test]
    fn encode_round_trips_and_splits_after_the_prompt() {
        let (corpus, tokenizer) = (corpus(), train(&Mixture::default()).expect("trains"));
        let colon = tokenizer.token_to_id(":").expect("a byte");
        for document in (0..3_000).map(|index| corpus.document(index)) {
            let whole = document.prompt.clone() + &document.response;
            let both = [ids(&tokenizer, &document.prompt), ids(&tokenizer, &document.response)].concat();
            assert_eq!(both, ids(&tokenizer, &whole), "{whole}");
            assert_eq!(tokenizer.decode(&both, false).expect("decodes"), whole);
            let encoded = encode(&tokenizer, &document).expect("encodes");
            assert_eq!(encoded.prompt.last(), Some(&colon));
            assert_ne!(encoded.response.first(), Some(&colon));
            assert!(encoded.prompt.len() <= 26 && encoded.response.len() <= RESPONSE_TOKENS);
            assert!(document.ends || (encoded.response.len() == RESPONSE_TOKENS && encoded.response.last() != Some(&0)));
        }
        let other = "Ünïcödé \u{2264} 1,234.5 <b>\t\n\n x";
        assert_eq!(tokenizer.decode(&ids(&tokenizer, other), false).expect("decodes"), other);
    }

    #[test]
    fn encode_does_not_truncate_first_answers() {
        let (corpus, tokenizer) = (corpus(), train(&Mixture::default()).expect("trains"));
        for document in (0..20_000).map(|index| corpus.document(index)).filter(|document| document.ends) {
            let first = document.response.split('\n').next().unwrap_or_default();
            assert!(ids(&tokenizer, first).len() < RESPONSE_TOKENS, "{first}");
        }
    }

    #[test]
    fn train_makes_each_digit_a_token() {
        let tokenizer = train(&Mixture::default()).expect("trains");
        let vocabulary = tokenizer.get_vocab(true);
        let mixed: Vec<_> = vocabulary.keys().filter(|token| token.len() > 1 && token.contains(|c: char| c.is_ascii_digit())).collect();
        assert!(mixed.is_empty(), "{mixed:?}");
    }

    #[test]
    fn chat_template_renders_the_corpus_prompt() {
        let environment = minijinja::Environment::new();
        let question = by_id("tiny/addition/334+556").expect("a problem").questions[0].clone();
        let messages = [("system", "Be brief."), ("user", question.as_str())].map(|(role, content)| minijinja::context! { role, content });
        let context = minijinja::context! { messages => messages.to_vec(), add_generation_prompt => true };
        let rendered = environment.render_str(CHAT_TEMPLATE, context);
        assert_eq!(rendered.expect("renders"), prompt(&question));
    }
}
