//! Text in, tokens out, and back: the checkpoint's own tokenizer and its own chat template. This room owns what a model reads and what its
//! tokens say; it must never know weights, sampling or grading, and it never writes a token or a line of template of its own.

mod begin;
mod conversation;
mod date;
mod growth;
mod json;
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
use crate::input::{self, shield};
use begin::Around;
pub use date::{check as check_date, today};
use growth::Bounds;
pub use stream::TokenStream;
use template::ChatTemplate;

/// The files of a checkpoint folder that this room reads, and that an exported checkpoint takes along as they are.
pub const FILE_NAMES: [&str; 3] = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"];

const NO_TEMPLATE: &str = "this tokenizer has no chat template: give one with --chat-template FILE (in training: --set prompt.chat_template=FILE), \
     or put a chat_template.jinja beside tokenizer.json; a model of the same family has one to copy";

/// The files beside the weights, as bytes.
pub struct TextFiles<'a> {
    /// `tokenizer.json`.
    pub tokenizer: &'a [u8],
    /// `tokenizer_config.json`: names of the special tokens and, often, the chat template.
    pub tokenizer_config: Option<&'a [u8]>,
    /// `chat_template.jinja`; wins over the configuration's, as in transformers.
    pub chat_template: Option<&'a [u8]>,
}

/// What a user asks of a checkpoint's chat template.
#[derive(Clone, Debug, Default)]
pub struct ChatSettings {
    /// The contents of a template in place of the checkpoint's.
    pub template: Option<Vec<u8>>,
    /// The date that templates print as today's, `YYYY-MM-DD`; none leaves it to the clock.
    pub date: Option<String>,
    /// Whether conversations will be rendered, so that there must be a template.
    pub needed: bool,
}

impl ChatSettings {
    /// Reads the template, if one is given, and checks the date.
    ///
    /// # Errors
    /// When the file cannot be read, or the date is none.
    pub fn read(template: Option<&Path>, date: Option<String>, needed: bool) -> Result<Self> {
        let read =
            |path: &Path| input::read(path, input::TEXT_BYTES).with_context(|| format!("cannot read the chat template {}", path.display()));
        date.as_deref().map(check_date).transpose()?;
        Ok(Self { template: template.map(read).transpose()?, date, needed })
    }
}

/// A tokenizer with its special tokens and, where the checkpoint has one, its chat template.
pub struct Text {
    tokenizer: Tokenizer,
    /// Which file it is, for messages.
    file: String,
    vocabulary: usize,
    /// Bytes of the longest token.
    longest_token: usize,
    bounds: Bounds,
    around: Around,
    special_tokens: BTreeMap<String, String>,
    template: Option<ChatTemplate>,
}

impl Text {
    /// Builds it from the contents of the files.
    ///
    /// # Errors
    /// When a file is not what its name says; the message names the file.
    pub fn from_files(files: TextFiles) -> Result<Self> {
        Self::from_named_files("tokenizer.json".to_owned(), files)
    }

    fn from_named_files(file: String, files: TextFiles) -> Result<Self> {
        let json = input::json_text("tokenizer.json", files.tokenizer)?;
        let bounds = Bounds::read(&json)?;
        let tokenizer = shield(&file, || {
            let mut tokenizer = Tokenizer::from_bytes(json.as_bytes())
                .map_err(|error| anyhow!("tokenizer.json is not a tokenizer that can be read: {error}"))?;
            // Limits saved with a tokenizer would cut or pad prompts silently.
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
            None => template::configured(&config)?,
        };
        let template = source.map(ChatTemplate::new).transpose()?;
        let special_tokens = special_tokens(&config);
        let bos_token = special_tokens.get("bos_token").map(String::as_str);
        let around = shield(&file, || Around::of(&tokenizer, &config, bos_token))?;
        Ok(Self { tokenizer, file, vocabulary, longest_token, bounds, around, special_tokens, template })
    }

    /// Reads the files of a checkpoint folder in Hugging Face layout.
    ///
    /// # Errors
    /// When the folder or its `tokenizer.json` is missing or unreadable; the message names the file and says what to do.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            bail!("{}: no such folder; expected a checkpoint in Hugging Face layout", folder.display());
        }
        let read = |name: &str| input::read_if_there(&folder.join(name), input::TEXT_BYTES);
        let [tokenizer, tokenizer_config, chat_template] = FILE_NAMES.map(read);
        let (tokenizer_config, chat_template) = (tokenizer_config?, chat_template?);
        let tokenizer = tokenizer?.ok_or_else(|| {
            anyhow!(
                "{}: no tokenizer.json; `AutoTokenizer.from_pretrained(...).save_pretrained(...)` of transformers writes one from older formats",
                folder.display()
            )
        })?;
        let files =
            TextFiles { tokenizer: &tokenizer, tokenizer_config: tokenizer_config.as_deref(), chat_template: chat_template.as_deref() };
        Self::from_named_files(folder.join("tokenizer.json").display().to_string(), files)
            .with_context(|| format!("cannot use the tokenizer in {}", folder.display()))
    }

    /// With the user's template and date in place of the checkpoint's and the clock's.
    ///
    /// # Errors
    /// When they are no template and no date, or a template is needed and there is none.
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

    /// Fixes the date (`YYYY-MM-DD`) that templates print as today's, so that prompts do not differ from day to day.
    ///
    /// # Errors
    /// When it is not a date.
    pub fn with_date(mut self, date: &str) -> Result<Self> {
        let date = date::parse(date)?;
        if let Some(template) = &mut self.template {
            template.fix_date(date);
        }
        Ok(self)
    }

    /// The token ids of a text. Nothing is added; special tokens written in the text become their ids.
    ///
    /// # Errors
    /// When the tokenizer cannot represent the text, or it is too long.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.bounds.check_text(text.len())?;
        shield(&self.file, || {
            let encoding = self.tokenizer.encode_fast(text, false).map_err(|error| anyhow!("cannot tokenize: {error}"))?;
            Ok(encoding.get_ids().to_vec())
        })
    }

    /// The token ids of a text that goes through no chat template: it begins with the token that the tokenizer puts before every text, if it
    /// puts any, unless the text begins with that itself. What the tokenizer puts after a text is left out: a response comes there.
    ///
    /// # Errors
    /// As [`Text::encode`].
    pub fn encode_raw(&self, text: &str) -> Result<Vec<u32>> {
        let (before, ids) = (&self.around.before, self.encode(text)?);
        Ok(if ids.starts_with(before) { ids } else { [before.as_slice(), &ids].concat() })
    }

    /// The text of token ids, without special tokens. Ids without a token say nothing, incomplete UTF-8 becomes U+FFFD.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails, or the text would be too long.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        if !self.bounds.decodes(ids.len(), ids.len().saturating_mul(self.longest_token)) {
            let bytes = ids.iter().filter_map(|id| Some(self.tokenizer.id_to_token(*id)?.len())).sum();
            ensure!(
                self.bounds.decodes(ids.len(), bytes),
                "the decoder of {} could make too long a text of {} tokens",
                self.file,
                ids.len()
            );
        }
        shield(&self.file, || self.tokenizer.decode(ids, true).map_err(|error| anyhow!("cannot decode token ids: {error}")))
    }

    /// Decodes as tokens come, without ever splitting a character.
    pub fn stream(&self) -> TokenStream<'_> {
        TokenStream::new(self)
    }

    /// The highest token id plus one. Embeddings often have more rows: those are never to be sampled.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The tokens from the id `rows` on, with whether each was added to the vocabulary, as a `[PAD]` is: an embedding of so many rows does not
    /// have them.
    pub fn tokens_from(&self, rows: usize) -> Vec<(u32, String, bool)> {
        let added = self.tokenizer.get_added_tokens_decoder();
        let ids = u32::try_from(rows).map_or(0..0, |first| first..self.vocabulary as u32);
        ids.filter_map(|id| Some((id, self.token(id)?, added.contains_key(&id)))).collect()
    }

    /// Whether the id has a token; below [`Text::vocabulary`] a few tokenizers leave gaps.
    pub fn has_token(&self, id: u32) -> bool {
        self.tokenizer.id_to_token(id).is_some()
    }

    /// The token of an id, as it is written in `tokenizer.json`.
    pub fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// Whether the tokenizer puts special tokens around a text where nobody keeps it from that; [`Text::encode`] does.
    pub fn adds_special_tokens(&self) -> bool {
        self.around.any
    }

    /// The id of a token, as it is written in `tokenizer.json`.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// The token of a role such as `eos_token`, as `tokenizer_config.json` names it.
    pub fn special_token(&self, role: &str) -> Option<&str> {
        self.special_tokens.get(role).map(String::as_str)
    }

    /// Whether prompts say what day it is.
    pub fn prints_date(&self) -> bool {
        self.template.as_ref().is_some_and(ChatTemplate::prints_date)
    }

    /// The sha256 of the chat template's source, in hexadecimal.
    pub fn template_checksum(&self) -> Option<&str> {
        self.template.as_ref().map(|template| template.checksum.as_str())
    }

    /// Whether the checkpoint came with a chat template.
    pub fn has_template(&self) -> bool {
        self.template.is_some()
    }

    /// The conversation as the model reads it, by the checkpoint's own template.
    ///
    /// # Errors
    /// When there is no template, or it refuses the messages.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let template = self.template.as_ref().context(NO_TEMPLATE)?;
        template.render(messages, &self.special_tokens, add_generation_prompt)
    }

    /// The problem as a prompt: the turns before it, then one user message, the question followed directly by the instruction (which brings its
    /// own space, and may be empty), the opening of the answer, and the answer's beginning where the problem gives one.
    ///
    /// # Errors
    /// As [`Text::render`] and [`Text::encode`], and when the template leaves out a turn.
    pub fn prompt(&self, problem: Arc<Problem>, instruction: &str) -> Result<Prompt> {
        let text = conversation::render(self, &problem, instruction)?;
        let ids = self.encode(&text)?.into();
        Ok(Prompt { problem, text, ids })
    }
}

/// A template on its own, without a tokenizer: what a model with these special tokens would read.
///
/// # Errors
/// When the template does not parse or refuses the messages, or the date is none.
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

/// `bos_token` and its like, written as text or as an object with `content`; roles without a token are left out, as transformers does.
fn special_tokens(config: &serde_json::Value) -> BTreeMap<String, String> {
    const ROLES: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
    let token = |role: &str| {
        let value = config.get(role)?;
        let content = value.as_str().or_else(|| value.get("content")?.as_str())?;
        Some((role.to_owned(), content.to_owned()))
    };
    ROLES.into_iter().filter_map(token).collect()
}
