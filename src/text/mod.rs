//! Renders conversations and converts text to tokens and back, with a checkpoint's own tokenizer and chat template. Never adds tokens or
//! template text that the checkpoint does not define. Independent of weights, sampling and grading.

mod added_tokens;
mod conversation;
mod date;
mod json;
mod length_bounds;
mod stream;
mod template;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tokenizers::Tokenizer;

pub use crate::flow::Message;
use crate::flow::{Problem, Prompt};
use crate::input::{self, catch_panics};
use added_tokens::AddedTokens;
pub use date::{check as check_date, today};
use length_bounds::Bounds;
pub use stream::TokenStream;
use template::ChatTemplate;

/// The checkpoint files that this module reads. Exported checkpoints copy them unchanged.
pub const FILE_NAMES: [&str; 3] = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"];

const NO_TEMPLATE: &str = "this tokenizer has no chat template: give one with --chat-template FILE (in training: --set prompt.chat_template=FILE), \
     or put a chat_template.jinja next to tokenizer.json; you can copy one from another model of the same family";

/// The contents of a checkpoint's tokenizer files.
pub struct TextFiles<'a> {
    /// `tokenizer.json`.
    pub tokenizer: &'a [u8],
    /// `tokenizer_config.json`: the names of the special tokens and often the chat template.
    pub tokenizer_config: Option<&'a [u8]>,
    /// `chat_template.jinja`, which overrides the template in `tokenizer_config.json`, as in transformers.
    pub chat_template: Option<&'a [u8]>,
}

/// The user's settings for a checkpoint's chat template.
#[derive(Clone, Debug, Default)]
pub struct ChatSettings {
    /// The source of a template that replaces the checkpoint's; `None` keeps the checkpoint's.
    pub template: Option<Vec<u8>>,
    /// The date, `YYYY-MM-DD`, that templates print as today's date; `None` uses the clock.
    pub date: Option<String>,
    /// True if conversations will be rendered, which makes a missing template an error.
    pub needed: bool,
}

impl ChatSettings {
    /// Reads the template file, if any, and checks the date.
    ///
    /// # Errors
    /// If the file cannot be read, or `date` is not a date.
    pub fn read(template: Option<&Path>, date: Option<String>, needed: bool) -> Result<Self> {
        let read =
            |path: &Path| input::read(path, input::TEXT_BYTES).with_context(|| format!("cannot read the chat template {}", path.display()));
        date.as_deref().map(check_date).transpose()?;
        Ok(Self { template: template.map(read).transpose()?, date, needed })
    }
}

/// A checkpoint's tokenizer with its special tokens and its chat template, if any.
pub struct Text {
    tokenizer: Tokenizer,
    /// The path of `tokenizer.json`, for messages.
    file: String,
    /// The highest token id plus one.
    vocabulary: usize,
    /// The length of the longest token in bytes.
    longest_token: usize,
    bounds: Bounds,
    added_tokens: AddedTokens,
    special_tokens: BTreeMap<String, String>,
    template: Option<ChatTemplate>,
}

impl Text {
    /// Creates the tokenizer from the contents of a checkpoint's files.
    ///
    /// # Errors
    /// If a file is malformed, or `bos_token` is needed but not in the vocabulary. The message names the file.
    pub fn from_files(files: TextFiles) -> Result<Self> {
        Self::from_named_files("tokenizer.json".to_owned(), files)
    }

    fn from_named_files(file: String, files: TextFiles) -> Result<Self> {
        let json = input::json_text("tokenizer.json", files.tokenizer)?;
        let bounds = Bounds::read(&json)?;
        let tokenizer = catch_panics(&file, || {
            let mut tokenizer =
                Tokenizer::from_bytes(json.as_bytes()).map_err(|error| anyhow!("tokenizer.json is not a valid tokenizer: {error}"))?;
            // Truncation and padding settings in the file would silently change prompts.
            tokenizer.with_truncation(None).map_err(|error| anyhow!("tokenizer.json: {error}"))?;
            tokenizer.with_padding(None);
            Ok(tokenizer)
        })?;
        let tokens = tokenizer.get_vocab(true);
        let vocabulary = tokens.values().max().map_or(0, |&highest| highest as usize + 1);
        let longest_token = tokens.keys().map(String::len).max().unwrap_or(0);
        if vocabulary == 0 {
            bail!("tokenizer.json has no tokens");
        }
        let config: serde_json::Value = match files.tokenizer_config {
            Some(bytes) => {
                serde_json::from_str(&input::json_text("tokenizer_config.json", bytes)?).context("tokenizer_config.json is not JSON")?
            }
            None => serde_json::Value::Null,
        };
        let source = match files.chat_template {
            Some(bytes) => Some(input::text("chat_template.jinja", bytes)?.to_owned()),
            None => template::template_from_config(&config)?,
        };
        let template = source.map(ChatTemplate::new).transpose()?;
        let special_tokens = special_tokens(&config);
        let bos_token = special_tokens.get("bos_token").map(String::as_str);
        let added_tokens = catch_panics(&file, || AddedTokens::of(&tokenizer, &config, bos_token))?;
        Ok(Self { tokenizer, file, vocabulary, longest_token, bounds, added_tokens, special_tokens, template })
    }

    /// Loads the tokenizer of a checkpoint folder in Hugging Face layout.
    ///
    /// # Errors
    /// If the folder or its `tokenizer.json` is missing, or a file is malformed. The message names the file and says what to do.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            bail!("{} is not a folder; expected a checkpoint in Hugging Face layout", folder.display());
        }
        let read = |name: &str| input::read_if_exists(&folder.join(name), input::TEXT_BYTES);
        let [tokenizer, tokenizer_config, chat_template] = FILE_NAMES.map(read);
        let (tokenizer_config, chat_template) = (tokenizer_config?, chat_template?);
        let tokenizer = tokenizer?.ok_or_else(|| {
            anyhow!(
                "{}: no tokenizer.json; create it from older formats with transformers: `AutoTokenizer.from_pretrained(...).save_pretrained(...)`",
                folder.display()
            )
        })?;
        let files =
            TextFiles { tokenizer: &tokenizer, tokenizer_config: tokenizer_config.as_deref(), chat_template: chat_template.as_deref() };
        Self::from_named_files(folder.join("tokenizer.json").display().to_string(), files)
            .with_context(|| format!("cannot use the tokenizer in {}", folder.display()))
    }

    /// Applies the user's template and date, if given, instead of the checkpoint's template and the clock.
    ///
    /// # Errors
    /// If the template does not parse, the date is not a date, or a needed template is missing.
    pub fn with_chat(mut self, chat: &ChatSettings) -> Result<Self> {
        if let Some(source) = &chat.template {
            self.template = Some(ChatTemplate::new(input::text("the chat template", source)?.to_owned())?);
        }
        if chat.needed && self.template.is_none() {
            bail!("{NO_TEMPLATE}");
        }
        match &chat.date {
            Some(date) => self.with_date(date),
            None => Ok(self),
        }
    }

    /// Sets the date, `YYYY-MM-DD`, that templates print as today's date, so that prompts do not change from day to day.
    ///
    /// # Errors
    /// If `date` is not a date.
    pub fn with_date(mut self, date: &str) -> Result<Self> {
        let date = date::parse(date)?;
        if let Some(template) = &mut self.template {
            template.fix_date(date);
        }
        Ok(self)
    }

    /// Tokenizes a text. Adds no special tokens, but parses special tokens in the text.
    ///
    /// # Errors
    /// If the tokenizer cannot represent the text, or the text is too long.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.bounds.check_text(text.len())?;
        catch_panics(&self.file, || {
            let encoding = self.tokenizer.encode_fast(text, false).map_err(|error| anyhow!("cannot tokenize: {error}"))?;
            Ok(encoding.get_ids().to_vec())
        })
    }

    /// Tokenizes a prompt without the chat template. Prepends the special tokens that the tokenizer adds before every text, such as `<s>`,
    /// unless the text already starts with them. Appends no tokens, because the response follows.
    ///
    /// # Errors
    /// As for [`Text::encode`].
    pub fn encode_with_bos(&self, text: &str) -> Result<Vec<u32>> {
        let (before, ids) = (&self.added_tokens.before, self.encode(text)?);
        Ok(if ids.starts_with(before) { ids } else { [before.as_slice(), &ids].concat() })
    }

    /// Decodes token ids. Drops special tokens and ids without a token; incomplete UTF-8 becomes U+FFFD.
    ///
    /// # Errors
    /// If the tokenizer's decoder fails, or the text could become too long.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        if !self.bounds.can_decode(ids.len(), ids.len().saturating_mul(self.longest_token)) {
            let bytes = ids.iter().filter_map(|id| Some(self.tokenizer.id_to_token(*id)?.len())).sum();
            ensure!(
                self.bounds.can_decode(ids.len(), bytes),
                "the decoder of {} could make the text of {} tokens too long",
                self.file,
                ids.len()
            );
        }
        catch_panics(&self.file, || self.tokenizer.decode(ids, true).map_err(|error| anyhow!("cannot decode token ids: {error}")))
    }

    /// Creates an incremental decoder, which never splits a character.
    pub fn stream(&self) -> TokenStream<'_> {
        TokenStream::new(self)
    }

    /// Returns the highest token id plus one. Embeddings often have more rows; the ids of these rows must never be sampled.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Returns the tokens for which an embedding with `rows` rows has no row, as `(id, token, is an added token)`, in order of ids.
    pub fn tokens_beyond(&self, rows: usize) -> Vec<(u32, String, bool)> {
        let added = self.tokenizer.get_added_tokens_decoder();
        let ids = u32::try_from(rows).map_or(0..0, |first| first..self.vocabulary as u32);
        ids.filter_map(|id| Some((id, self.token(id)?, added.contains_key(&id)))).collect()
    }

    /// True if the id has a token. Some tokenizers have gaps in their ids.
    pub fn has_token(&self, id: u32) -> bool {
        self.tokenizer.id_to_token(id).is_some()
    }

    /// Returns the token with this id, as written in `tokenizer.json`, or `None` if the id has no token.
    pub fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// True if the tokenizer adds special tokens around a text by default. [`Text::encode`] never adds them.
    pub fn adds_special_tokens(&self) -> bool {
        self.added_tokens.any
    }

    /// Returns the id of a token, as written in `tokenizer.json`, or `None` if there is no such token.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// Returns the token with a role such as `eos_token`, or `None` if `tokenizer_config.json` does not have it.
    pub fn special_token(&self, role: &str) -> Option<&str> {
        self.special_tokens.get(role).map(String::as_str)
    }

    /// True if the chat template prints the current date.
    pub fn prints_date(&self) -> bool {
        self.template.as_ref().is_some_and(ChatTemplate::prints_date)
    }

    /// Returns the SHA-256 of the chat template's source, with normalized line ends, in lowercase hexadecimal. `None` without a template.
    pub fn template_checksum(&self) -> Option<&str> {
        self.template.as_ref().map(|template| template.checksum.as_str())
    }

    /// True if there is a chat template.
    pub fn has_template(&self) -> bool {
        self.template.is_some()
    }

    /// Renders a conversation with the chat template. `add_generation_prompt` appends the opening of the assistant's turn.
    ///
    /// # Errors
    /// If there is no template, or it rejects the messages.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let template = self.template.as_ref().context(NO_TEMPLATE)?;
        template.render(messages, &self.special_tokens, add_generation_prompt)
    }

    /// Renders and tokenizes a problem: the turns before the question, the question followed by `instruction`, the opening of the
    /// assistant's turn, and the prefill, if any. `instruction` includes its leading space, and may be empty.
    ///
    /// # Errors
    /// As for [`Text::render`] and [`Text::encode`], or if the template leaves out a turn or cannot continue the prefill.
    pub fn prompt(&self, problem: Arc<Problem>, instruction: &str) -> Result<Prompt> {
        let text = conversation::render(self, &problem, instruction)?;
        let ids = self.encode(&text)?.into();
        Ok(Prompt { problem, text, ids })
    }
}

/// Renders a conversation with a template and special tokens (by role), without a tokenizer. The template prints `date` (`YYYY-MM-DD`) as
/// today's date; `None` uses the clock.
///
/// # Errors
/// If the template does not parse or rejects the messages, or `date` is not a date.
pub fn render_template(
    source: &str,
    special_tokens: &BTreeMap<String, String>,
    messages: &[Message],
    add_generation_prompt: bool,
    date: Option<&str>,
) -> Result<String> {
    let mut template = ChatTemplate::new(source.to_owned())?;
    if let Some(date) = date {
        template.fix_date(date::parse(date)?);
    }
    template.render(messages, special_tokens, add_generation_prompt)
}

/// Reads the special tokens from `tokenizer_config.json`, by role, such as `bos_token`. Each is text or an object with `content`. Leaves
/// out roles without a token, as transformers does.
fn special_tokens(config: &serde_json::Value) -> BTreeMap<String, String> {
    const ROLES: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
    let token = |role: &str| {
        let value = config.get(role)?;
        let content = value.as_str().or_else(|| value.get("content")?.as_str())?;
        Some((role.to_owned(), content.to_owned()))
    };
    ROLES.into_iter().filter_map(token).collect()
}
