//! Renders chat templates as transformers does. Owns the configuration of the template language. Independent of model families, which
//! differ only in their templates.

mod limits;

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, bail, ensure};
use jiff::civil::Date;
use minijinja::value::{Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, syntax::SyntaxConfig};
use sha2::{Digest, Sha256};

use super::date::{self, strftime};
use crate::flow::Message;

/// A parsed template with the functions and filters that it can use.
pub(super) struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    syntax: SyntaxConfig,
    /// The SHA-256 of the source with normalized line ends, in lowercase hexadecimal.
    pub(super) checksum: String,
    prints_date: bool,
}

impl ChatTemplate {
    /// Parses a template.
    ///
    /// # Errors
    /// If the source is too long, has large constants or does not parse.
    pub(super) fn new(source: String) -> Result<Self> {
        let limit = limits::SOURCE_BYTES;
        ensure!(
            source.len() <= limit,
            "the chat template has {} bytes, expected at most {limit}: check that it is the right file",
            source.len()
        );
        let source = with_plain_line_ends(&source);
        let syntax = transformers_syntax()?;
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_formatter(print_like_python);
        limits::install(&mut environment);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", |format: &str| strftime(format, date::now()));
        let prints_date = source.contains("strftime_now");
        let checksum = Sha256::digest(&source).iter().map(|byte| format!("{byte:02x}")).collect();
        let source = without_generation_tags(&source);
        limits::check(&source, &syntax).map_err(|error| anyhow!("the chat template does not parse: {}", error_line(&error)))?;
        Ok(Self { environment, source, syntax, checksum, prints_date })
    }

    /// True if the template prints the current date.
    pub(super) fn prints_date(&self) -> bool {
        self.prints_date
    }

    /// Makes the template print `date` as today's date.
    pub(super) fn fix_date(&mut self, date: Date) {
        self.environment.add_function("strftime_now", move |format: &str| strftime(format, date));
    }

    /// Renders a conversation. The special tokens are available in the template as variables named after their roles.
    ///
    /// # Errors
    /// If the template raises an error or exceeds a limit.
    pub(super) fn render(
        &self,
        messages: &[Message],
        special_tokens: &BTreeMap<String, String>,
        add_generation_prompt: bool,
    ) -> Result<String> {
        let mut variables: BTreeMap<&str, Value> =
            special_tokens.iter().map(|(role, token)| (role.as_str(), Value::from(token.as_str()))).collect();
        let turn = |message: &Message| Value::from_pairs([("role", message.role.as_str()), ("content", message.content.as_str())]);
        variables.insert("messages", messages.iter().map(turn).collect());
        variables.insert("add_generation_prompt", Value::from(add_generation_prompt));
        variables.insert("tools", Value::from(()));
        variables.insert("documents", Value::from(()));
        limits::render(&self.environment, &self.source, &self.syntax, Value::from_pairs(variables))
            .map_err(|error| anyhow!("the chat template cannot render these messages: {}", error_line(&error)))
    }
}

/// Reads `chat_template` from `tokenizer_config.json`: text, or the template named `default` in a list. `None` if there is none.
pub(super) fn template_from_config(config: &serde_json::Value) -> Result<Option<String>> {
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    match config.get("chat_template") {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::String(source)) => Ok(Some(source.clone())),
        Some(serde_json::Value::Array(named)) => {
            let names: Vec<&str> = named.iter().filter_map(|entry| entry.get("name")?.as_str()).collect();
            let default = named.iter().find(|entry| entry.get("name").and_then(|name| name.as_str()) == Some("default"));
            match default.and_then(|entry| text(entry.get("template")?)) {
                Some(source) => Ok(Some(source)),
                None => bail!("tokenizer_config.json has the chat templates {names:?}, but none named `default`"),
            }
        }
        Some(_) => bail!("tokenizer_config.json: `chat_template` is neither text nor a list of named templates"),
    }
}

/// Converts all line ends to `\n`, as Jinja does, and removes a byte order mark.
fn with_plain_line_ends(source: &str) -> String {
    source.strip_prefix('\u{FEFF}').unwrap_or(source).replace("\r\n", "\n").replace('\r', "\n")
}

/// Replaces the tags `generation` and `endgeneration`, which mark the assistant's part in transformers, with `if true` and `endif`. Both
/// pairs of tags print only their content, and handle white space in the same way.
fn without_generation_tags(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        result += before;
        let end = tag.find("%}").map_or(tag.len(), |end| end + 2);
        let (tag, after) = tag.split_at(end);
        let name = tag.trim_start_matches("{%").trim_end_matches("%}").trim_matches(['-', '+']).trim();
        match name {
            "generation" => result += &tag.replacen(name, "if true", 1),
            "endgeneration" => result += &tag.replacen(name, "endif", 1),
            _ => result += tag,
        }
        rest = after;
    }
    result + rest
}

fn transformers_syntax() -> Result<SyntaxConfig> {
    let mut builder = SyntaxConfig::builder();
    builder.trim_blocks(true).lstrip_blocks(true);
    builder.build().map_err(|error| anyhow!("template settings: {error}"))
}

/// Prints a value as Python does: `True`, `False` and `None`.
fn print_like_python(output: &mut Output, _: &mut State, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Bool if value.is_true() => output.write_str("True").map_err(Error::from),
        ValueKind::Bool => output.write_str("False").map_err(Error::from),
        ValueKind::None => output.write_str("None").map_err(Error::from),
        _ => limits::print(output, value),
    }
}

fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.to_owned()))
}

/// Describes an error on one line, with the line number in the template if known.
fn error_line(error: &Error) -> String {
    if error.kind() == ErrorKind::OutOfFuel {
        return "it does not end: it runs more instructions than any template needs".to_owned();
    }
    let what = error.detail().map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()));
    match error.line() {
        Some(line) => format!("{what} (line {line} of the template)"),
        None => what,
    }
}
