//! What goes over the wire and comes back: the bodies of `/v1/completions` and `/v1/chat/completions`, as plain data.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::flow::Finish;
use crate::text::Message;

/// A prompt, in the form in which the server gets it.
pub enum Wording {
    /// Rendered here, tokenized there.
    Text(String),
    /// Rendered and tokenized here.
    Ids(Arc<[u32]>),
    /// Rendered there.
    Messages(Vec<Message>),
}

/// How one response is sampled.
pub struct Sampling<'a> {
    /// 0 takes the likeliest token each time.
    pub temperature: f64,
    /// Only the likeliest tokens that together reach this probability; 1 is all.
    pub top_p: f64,
    /// Most tokens in the response.
    pub max_new: usize,
    /// Seed of its draws.
    pub seed: u32,
    /// Tokens that end it.
    pub end_tokens: &'a [u32],
    /// The same as text.
    pub end_texts: &'a [String],
}

/// The body of a request. Servers fill what is left out from the checkpoint's `generation_config.json` or from a default of their own (llama.cpp
/// keeps 40 tokens), so everything that shapes the distribution is said; `standard` leaves out what OpenAI's own interface does not know.
pub fn body(model: &str, wording: &Wording, sampling: &Sampling, standard: bool) -> Value {
    let mut body = json!({
        "model": model,
        "n": 1,
        "max_tokens": sampling.max_new,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "stream": false,
    });
    match wording {
        Wording::Text(text) => body["prompt"] = json!(text),
        Wording::Ids(ids) => body["prompt"] = json!(ids[..]),
        Wording::Messages(messages) => body["messages"] = json!(messages),
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

/// A response, as the server gave it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The response.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// Its length in tokens, where the server says.
    pub tokens: Option<usize>,
    /// The prompt's length in tokens, where the server says.
    pub prompt_tokens: Option<usize>,
}

/// Why a body is no response.
#[derive(Clone, Debug, PartialEq)]
pub enum Unusable {
    /// Damaged or unfinished: another attempt may give one.
    Broken(String),
    /// Withheld: no attempt will give one.
    Withheld(String),
}

/// Reads the answer to a request of either kind.
pub fn read(body: &[u8]) -> Result<Reply, Unusable> {
    let broken = |what: &str| Unusable::Broken(what.to_owned());
    let body: Value = serde_json::from_slice(body).map_err(|error| Unusable::Broken(format!("the answer is not JSON: {error}")))?;
    if body.get("error").is_some_and(|error| !error.is_null()) {
        return Err(Unusable::Broken(complaint(body.to_string().as_bytes())));
    }
    let choice = body.pointer("/choices/0").ok_or_else(|| broken("the answer has no choices"))?;
    let message = choice.get("message");
    let text = match (choice.get("text").and_then(Value::as_str), message) {
        (Some(text), _) => text.to_owned(),
        (None, Some(message)) => said(message),
        (None, None) => return Err(broken("the answer's choice has neither text nor message")),
    };
    let finish = match choice.get("finish_reason").and_then(Value::as_str) {
        Some("stop" | "eos" | "eos_token" | "stop_sequence" | "end_turn") => Finish::Stop,
        Some("length" | "max_tokens") => Finish::Length,
        None | Some("abort" | "error") => return Err(broken("the server broke the response off")),
        Some(other) => return Err(Unusable::Withheld(format!("the response ended by {:?}, expected stop or length", cut(other)))),
    };
    let count = |name: &str| body.get("usage")?.get(name)?.as_u64().map(|count| count as usize);
    Ok(Reply { text, finish, tokens: count("completion_tokens"), prompt_tokens: count("prompt_tokens") })
}

/// What a chat message says. Servers that set a model's reasoning apart give it in a field of its own; it is part of the response.
fn said(message: &Value) -> String {
    let field = |name: &str| message.get(name).and_then(Value::as_str).unwrap_or_default();
    let reasoning = [field("reasoning_content"), field("reasoning")].into_iter().find(|text| !text.is_empty());
    match reasoning {
        Some(reasoning) => format!("<think>\n{reasoning}\n</think>\n\n{}", field("content")),
        None => field("content").to_owned(),
    }
}

/// The sentence in the body of an error, on one line.
pub fn complaint(body: &[u8]) -> String {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let found = ["/error/message", "/message", "/detail", "/error"].iter().find_map(|path| json.pointer(path)?.as_str());
    let text = found.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    cut(&line)
}

/// The beginning of what a server said: it may say very much.
fn cut(said: &str) -> String {
    const LONGEST: usize = 300;
    if said.chars().count() > LONGEST { format!("{} ...", said.chars().take(LONGEST).collect::<String>()) } else { said.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let check = |body: &str, expected: Result<(&str, Finish, Option<usize>), Unusable>| {
            let got = read(body.as_bytes());
            let got = got.as_ref().map(|reply| (reply.text.as_str(), reply.finish, reply.tokens)).map_err(Clone::clone);
            assert_eq!(got, expected, "{body}");
        };
        let broken = |what: &str| Err(Unusable::Broken(what.to_owned()));
        check(
            r#"{"choices": [{"text": "a", "finish_reason": "stop"}], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}"#,
            Ok(("a", Finish::Stop, Some(2))),
        );
        check(r#"{"choices": [{"text": "", "finish_reason": "length"}], "usage": null, "error": null}"#, Ok(("", Finish::Length, None)));
        check(r#"{"choices": [{"message": {"content": "b"}, "finish_reason": "stop"}]}"#, Ok(("b", Finish::Stop, None)));
        check(
            r#"{"choices": [{"message": {"content": null, "reasoning_content": "hm"}, "finish_reason": "length"}]}"#,
            Ok(("<think>\nhm\n</think>\n\n", Finish::Length, None)),
        );
        check(r#"{"choices": [{"text": "a", "finish_reason": null}]}"#, broken("the server broke the response off"));
        check(r#"{"choices": [{"text": "a", "finish_reason": "abort"}]}"#, broken("the server broke the response off"));
        check(
            r#"{"choices": [{"text": "a", "finish_reason": "content_filter"}]}"#,
            Err(Unusable::Withheld("the response ended by \"content_filter\", expected stop or length".into())),
        );
        check(r#"{"choices": []}"#, broken("the answer has no choices"));
        check(r#"{"choices": [{}]}"#, broken("the answer's choice has neither text nor message"));
        check(r#"{"error": {"message": "out of  memory"}}"#, broken("out of memory"));
        check(r#"{"choices": [{"te"#, broken("the answer is not JSON: EOF while parsing a string at line 1 column 17"));
    }

    #[test]
    fn complaints_are_one_line() {
        let check = |body: &str, expected: &str| assert_eq!(complaint(body.as_bytes()), expected);
        check(r#"{"error": {"message": "too\nlong", "code": 400}}"#, "too long");
        check(r#"{"object": "error", "message": "no such model"}"#, "no such model");
        check(r#"{"detail": "Not Found"}"#, "Not Found");
        check(r#"{"error": "busy"}"#, "busy");
        check("<html>\n<b>Bad Gateway</b>", "<html> <b>Bad Gateway</b>");
        check("", "");
        assert_eq!(complaint("é".repeat(1000).as_bytes()).chars().count(), 304);
    }

    #[test]
    fn everything_that_shapes_the_distribution_is_said() {
        let ends = ["<end>".to_owned()];
        let sampling = Sampling { temperature: 0.6, top_p: 0.95, max_new: 7, seed: 3, end_tokens: &[2], end_texts: &ends };
        let full = body("m", &Wording::Text("p".into()), &sampling, false);
        let expected = json!({"model": "m", "prompt": "p", "n": 1, "max_tokens": 7, "temperature": 0.6, "top_p": 0.95, "seed": 3, "stream": false,
            "stop": ["<end>"], "stop_token_ids": [2], "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0});
        assert_eq!(full, expected);
        let standard = body("m", &Wording::Ids([4, 5].into()), &sampling, true);
        let expected = json!({"model": "m", "prompt": [4, 5], "n": 1, "max_tokens": 7, "temperature": 0.6, "top_p": 0.95, "seed": 3, "stream": false,
            "stop": ["<end>"]});
        assert_eq!(standard, expected);
        let chat = body("m", &Wording::Messages(vec![Message::new("user", "q")]), &sampling, true);
        assert_eq!((&chat["messages"], chat.get("prompt")), (&json!([{"role": "user", "content": "q"}]), None));
    }
}
