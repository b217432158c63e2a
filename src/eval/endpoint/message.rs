//! Builds request bodies and parses response bodies of `/v1/completions` and `/v1/chat/completions`. Sends nothing.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::flow::FinishReason;
use crate::text::Message;

/// A prompt in the form that is sent to the server.
pub enum PromptInput {
    /// Text rendered here and tokenized by the server.
    Text(String),
    /// Token ids, from text rendered and tokenized here.
    Ids(Arc<[u32]>),
    /// Messages, rendered and tokenized by the server.
    Messages(Vec<Message>),
}

/// The sampling parameters of one response.
pub struct Sampling<'a> {
    /// The sampling temperature; 0 is greedy decoding.
    pub temperature: f64,
    /// Nucleus sampling: keeps the most likely tokens that together reach this probability; 1 keeps all.
    pub top_p: f64,
    /// The maximum number of tokens in the response.
    pub max_new_tokens: usize,
    /// The seed for sampling.
    pub seed: u32,
    /// The ids of the tokens that end the response.
    pub end_tokens: &'a [u32],
    /// The same tokens as text.
    pub end_texts: &'a [String],
}

/// Builds the body of a request. Sets every field that affects the distribution, because servers fill missing fields from the checkpoint's
/// `generation_config.json` or from their own defaults (llama.cpp uses top-k 40). `standard` leaves out fields that are not part of
/// OpenAI's API.
pub fn body(model: &str, input: &PromptInput, sampling: &Sampling, standard: bool) -> Value {
    let mut body = json!({
        "model": model,
        "n": 1,
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "stream": false,
    });
    match input {
        PromptInput::Text(text) => body["prompt"] = json!(text),
        PromptInput::Ids(ids) => body["prompt"] = json!(ids[..]),
        PromptInput::Messages(messages) => body["messages"] = json!(messages),
    }
    if !sampling.end_texts.is_empty() {
        body["stop"] = json!(sampling.end_texts);
    }
    if !standard {
        body["top_k"] = json!(-1);
        body["min_p"] = json!(0.0);
        body["repetition_penalty"] = json!(1.0);
        if !sampling.end_tokens.is_empty() {
            body["stop_token_ids"] = json!(sampling.end_tokens);
        }
    }
    body
}

/// A server's response.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The text.
    pub text: String,
    /// Why generation ended.
    pub finish: FinishReason,
    /// The length in tokens; `None` if the server does not report it.
    pub tokens: Option<usize>,
    /// The length of the prompt in tokens; `None` if the server does not report it.
    pub prompt_tokens: Option<usize>,
}

/// The reason why a body contains no usable response.
#[derive(Clone, Debug, PartialEq)]
pub enum BodyError {
    /// Malformed or incomplete; another attempt may succeed.
    Malformed(String),
    /// Withheld by the server, for example by a content filter; no attempt will succeed.
    Withheld(String),
}

/// Parses the body of a response from either path.
///
/// # Errors
/// If the body is not JSON, reports an error, has no choice with text or a message, or contains an aborted or withheld response.
pub fn read(body: &[u8]) -> Result<Reply, BodyError> {
    let malformed = |what: &str| BodyError::Malformed(what.to_owned());
    let body: Value = serde_json::from_slice(body).map_err(|error| BodyError::Malformed(format!("the response is not JSON: {error}")))?;
    if body.get("error").is_some_and(|error| !error.is_null()) {
        return Err(BodyError::Malformed(error_text(body.to_string().as_bytes())));
    }
    let choice = body.pointer("/choices/0").ok_or_else(|| malformed("the response has no choices"))?;
    let message = choice.get("message");
    let text = match (choice.get("text").and_then(Value::as_str), message) {
        (Some(text), _) => text.to_owned(),
        (None, Some(message)) => message_text(message),
        (None, None) => return Err(malformed("the first choice has neither text nor message")),
    };
    let finish = match choice.get("finish_reason").and_then(Value::as_str) {
        Some("stop" | "eos" | "eos_token" | "stop_sequence" | "end_turn") => FinishReason::Stop,
        Some("length" | "max_tokens") => FinishReason::Length,
        None | Some("abort" | "error") => return Err(malformed("the server aborted the response")),
        Some(other) => return Err(BodyError::Withheld(format!("the finish reason is {:?}, expected stop or length", truncated(other)))),
    };
    let count = |name: &str| body.get("usage")?.get(name)?.as_u64().map(|count| count as usize);
    Ok(Reply { text, finish, tokens: count("completion_tokens"), prompt_tokens: count("prompt_tokens") })
}

/// Returns the text of a chat message. If the server sends the model's reasoning in a separate field, the text includes it, in `<think>`
/// tags.
fn message_text(message: &Value) -> String {
    let field = |name: &str| message.get(name).and_then(Value::as_str).unwrap_or_default();
    let reasoning = [field("reasoning_content"), field("reasoning")].into_iter().find(|text| !text.is_empty());
    match reasoning {
        Some(reasoning) => format!("<think>\n{reasoning}\n</think>\n\n{}", field("content")),
        None => field("content").to_owned(),
    }
}

/// Returns the message in the body of an error, on one line, truncated to 300 characters.
pub fn error_text(body: &[u8]) -> String {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let found = ["/error/message", "/message", "/detail", "/error"].iter().find_map(|path| json.pointer(path)?.as_str());
    let text = found.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    truncated(&line)
}

/// Truncates a server's message, which may be very long.
fn truncated(text: &str) -> String {
    const MAX_CHARS: usize = 300;
    if text.chars().count() > MAX_CHARS { format!("{} ...", text.chars().take(MAX_CHARS).collect::<String>()) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_parses_responses() {
        let check = |body: &str, expected: Result<(&str, FinishReason, Option<usize>), BodyError>| {
            let got = read(body.as_bytes());
            let got = got.as_ref().map(|reply| (reply.text.as_str(), reply.finish, reply.tokens)).map_err(Clone::clone);
            assert_eq!(got, expected, "{body}");
        };
        let malformed = |what: &str| Err(BodyError::Malformed(what.to_owned()));
        check(
            r#"{"choices": [{"text": "a", "finish_reason": "stop"}], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}"#,
            Ok(("a", FinishReason::Stop, Some(2))),
        );
        check(
            r#"{"choices": [{"text": "", "finish_reason": "length"}], "usage": null, "error": null}"#,
            Ok(("", FinishReason::Length, None)),
        );
        check(r#"{"choices": [{"message": {"content": "b"}, "finish_reason": "stop"}]}"#, Ok(("b", FinishReason::Stop, None)));
        check(
            r#"{"choices": [{"message": {"content": null, "reasoning_content": "hm"}, "finish_reason": "length"}]}"#,
            Ok(("<think>\nhm\n</think>\n\n", FinishReason::Length, None)),
        );
        check(r#"{"choices": [{"text": "a", "finish_reason": null}]}"#, malformed("the server aborted the response"));
        check(r#"{"choices": [{"text": "a", "finish_reason": "abort"}]}"#, malformed("the server aborted the response"));
        check(
            r#"{"choices": [{"text": "a", "finish_reason": "content_filter"}]}"#,
            Err(BodyError::Withheld("the finish reason is \"content_filter\", expected stop or length".into())),
        );
        check(r#"{"choices": []}"#, malformed("the response has no choices"));
        check(r#"{"choices": [{}]}"#, malformed("the first choice has neither text nor message"));
        check(r#"{"error": {"message": "out of  memory"}}"#, malformed("out of memory"));
        check(r#"{"choices": [{"te"#, malformed("the response is not JSON: EOF while parsing a string at line 1 column 17"));
    }

    #[test]
    fn error_text_is_one_line() {
        let check = |body: &str, expected: &str| assert_eq!(error_text(body.as_bytes()), expected);
        check(r#"{"error": {"message": "too\nlong", "code": 400}}"#, "too long");
        check(r#"{"object": "error", "message": "no such model"}"#, "no such model");
        check(r#"{"detail": "Not Found"}"#, "Not Found");
        check(r#"{"error": "busy"}"#, "busy");
        check("<html>\n<b>Bad Gateway</b>", "<html> <b>Bad Gateway</b>");
        check("", "");
        assert_eq!(error_text("é".repeat(1000).as_bytes()).chars().count(), 304);
    }

    #[test]
    fn body_sets_every_sampling_field() {
        let ends = ["<end>".to_owned()];
        let sampling = Sampling { temperature: 0.6, top_p: 0.95, max_new_tokens: 7, seed: 3, end_tokens: &[2], end_texts: &ends };
        let full = body("m", &PromptInput::Text("p".into()), &sampling, false);
        let expected = json!({"model": "m", "prompt": "p", "n": 1, "max_tokens": 7, "temperature": 0.6, "top_p": 0.95, "seed": 3, "stream": false,
            "stop": ["<end>"], "stop_token_ids": [2], "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0});
        assert_eq!(full, expected);
        let standard = body("m", &PromptInput::Ids([4, 5].into()), &sampling, true);
        let expected = json!({"model": "m", "prompt": [4, 5], "n": 1, "max_tokens": 7, "temperature": 0.6, "top_p": 0.95, "seed": 3, "stream": false,
            "stop": ["<end>"]});
        assert_eq!(standard, expected);
        let chat = body("m", &PromptInput::Messages(vec![Message::new("user", "q")]), &sampling, true);
        assert_eq!((&chat["messages"], chat.get("prompt")), (&json!([{"role": "user", "content": "q"}]), None));
    }
}
