//! Loads checkpoints with an unusual or hostile tokenizer or chat template, each made from a valid one by a small edit.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::bad_checkpoints::{change_json, check_dry, edited_model, score, weights};
use crate::fixture::{rlvr, stderr};

/// Returns an edit that adds a token to the tokenizer of the embedded base model, whose embedding has 464 rows.
fn add_token(content: &'static str, id: u32, special: bool) -> impl Fn(&Path) {
    change_json("tokenizer.json", move |tokenizer| {
        let token = json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": special});
        tokenizer["added_tokens"].as_array_mut().unwrap().push(token);
    })
}

#[test]
fn sample_never_returns_an_added_token_beyond_the_embedding() {
    assert_eq!(score(add_token("[PAD]", 464, true), "1+1"), score(|_| {}, "1+1"));
    let folder = tempfile::tempdir().unwrap();
    let model = edited_model(folder.path(), add_token("[PAD]", 464, true));
    let model = model.to_str().unwrap();
    let dry = rlvr(&["train", "--model", model, "--question", "1+1", "--answer", "2", "--set", "eval.benchmarks=''", "--dry-run"]);
    assert!(dry.status.success(), "{}", stderr(&dry));
    let hot = rlvr(&["sample", "--model", model, "--prompt", "1+1", "--temperature", "50", "--max-new-tokens", "64", "-n", "8", "--json"]);
    assert!(hot.status.success(), "{}", stderr(&hot));
    let ids = String::from_utf8(hot.stdout).unwrap();
    let ids = ids.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["completion_ids"].clone());
    let ids: Vec<Value> = ids.flat_map(|ids| ids.as_array().unwrap().clone()).collect();
    assert!(ids.len() > 100 && ids.iter().all(|id| id.as_u64().unwrap() < 464));
    let used = rlvr(&["sample", "--model", model, "--prompt", "1+1[PAD]"]);
    let text = stderr(&used);
    assert!(
        used.status.code() == Some(2) && text.contains("vocabulary of 464 (\"[PAD]\")") && text.contains("resize_token_embeddings"),
        "{text}"
    );
}

#[test]
fn score_and_sample_raw_add_the_tokenizers_bos_token() {
    let adds_bos = |model: &Path| {
        // `<bos>` has the id of an existing token, because the embedding has no free row.
        change_json("tokenizer.json", |tokenizer| {
            tokenizer["post_processor"] = json!({"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<bos>", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
                "special_tokens": {"<bos>": {"id": "<bos>", "ids": [463], "tokens": ["<bos>"]}}});
        })(model);
    };
    let folder = tempfile::tempdir().unwrap();
    let model = edited_model(folder.path(), adds_bos);
    let score_line = |model: &str, line: Value| {
        let pairs = folder.path().join("pairs.jsonl");
        std::fs::write(&pairs, line.to_string()).unwrap();
        let output = rlvr(&["score", "--model", model, "--input", pairs.to_str().unwrap()]);
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let tokenizer: Value = serde_json::from_slice(&std::fs::read(model.join("tokenizer.json")).unwrap()).unwrap();
    let id = |token: &str| tokenizer["model"]["vocab"][token].as_u64().unwrap();
    let ids = [id("1"), id("+"), id("1")];
    let completion = [id("="), id("2")];
    let model = model.to_str().unwrap();
    let ids_with_bos = [[463].as_slice(), &ids].concat();
    let with = json!({"prompt_ids": ids_with_bos, "completion_ids": completion});
    let without = json!({"prompt_ids": ids, "completion_ids": completion});
    let text = json!({"prompt": "1+1", "completion": "=2"});
    assert_eq!(score_line(model, text.clone()), score_line(model, with));
    assert_eq!(score_line("tiny", text), score_line("tiny", without));
    // `sample --raw` adds it, too; with the chat template, `sample` does not.
    let sampled = |arguments: &[&str]| {
        let output =
            rlvr(&[["sample", "--model", model, "--temperature", "0", "--max-new-tokens", "4", "--json"].as_slice(), arguments].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["logprobs"].clone()
    };
    let line = |ids: Vec<u64>| {
        let path = folder.path().join("ids.jsonl");
        std::fs::write(&path, json!({ "prompt_ids": ids }).to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    assert_eq!(sampled(&["--raw", "--prompt", "1+1"]), sampled(&["--input", &line(ids_with_bos)]));
    let plain = rlvr(&["sample", "--model", "tiny", "--temperature", "0", "--max-new-tokens", "4", "--json", "--prompt", "1+1"]);
    assert_eq!(sampled(&["--prompt", "1+1"]), serde_json::from_slice::<Value>(&plain.stdout).unwrap()["logprobs"]);
}

#[test]
fn from_folder_ignores_byte_order_marks_and_line_separators() {
    let expected = score(|_| {}, "1+1");
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        let marked = |model: &Path| {
            let text = std::fs::read_to_string(model.join(name)).unwrap();
            std::fs::write(model.join(name), format!("\u{FEFF}{}\u{2028}", text.replacen('{', "{\u{2028}", 1))).unwrap();
        };
        assert_eq!(score(marked, "1+1"), expected, "{name}");
    }
    let index = |model: &Path| {
        std::fs::rename(weights(model), model.join("model-1.safetensors")).unwrap();
        let bytes = std::fs::read(model.join("model-1.safetensors")).unwrap();
        let map: BTreeMap<String, &str> =
            SafeTensors::deserialize(&bytes).unwrap().names().into_iter().map(|name| (name.to_owned(), "model-1.safetensors")).collect();
        std::fs::write(model.join("model.safetensors.index.json"), format!("\u{FEFF}{}", json!({ "weight_map": map }))).unwrap();
    };
    assert_eq!(score(index, "1+1"), expected);
}

#[test]
fn from_folder_rejects_tokenizers_that_grow_or_panic() {
    let doubling = vec![json!({"type": "Replace", "pattern": {"String": "1"}, "content": "11"}); 60];
    check_dry(
        change_json("tokenizer.json", |tokenizer| tokenizer["normalizer"] = json!({"type": "Sequence", "normalizers": doubling})),
        &["tokenizer.json could turn", "expected at most"],
    );
    let many = vec![json!({"type": "NFC"}); 1000];
    check_dry(
        change_json("tokenizer.json", |tokenizer| tokenizer["normalizer"] = json!({"type": "Sequence", "normalizers": many})),
        &["normalizer of tokenizer.json has a list of 1000 entries, expected at most 64"],
    );
    // This Strip decoder of the tokenizers library panics, because it removes more characters from the end of a token than the token has.
    let strips =
        change_json("tokenizer.json", |tokenizer| tokenizer["decoder"] = json!({"type": "Strip", "content": "0", "start": 0, "stop": 90}));
    let folder = tempfile::tempdir().unwrap();
    let model = edited_model(folder.path(), strips);
    // The temperature is high enough to sample the token `0`.
    let hot = ["--max-new-tokens", "64", "--temperature", "50", "-n", "64"];
    let output = rlvr(&[["sample", "--model", model.to_str().unwrap(), "--prompt", "0"].as_slice(), &hot].concat());
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("tiny/tokenizer.json is corrupt") && !text.contains("panicked"), "{text}");
    let flipped = |model: &Path| {
        let path = model.join("tokenizer.json");
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] = 0xC3;
        std::fs::write(path, bytes).unwrap();
    };
    check_dry(flipped, &["tokenizer.json is not UTF-8 text (invalid byte at offset "]);
}

#[test]
fn sample_rejects_a_chat_template_that_does_not_end() {
    let template = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}";
    let folder = tempfile::tempdir().unwrap();
    let model = edited_model(folder.path(), |model| std::fs::write(model.join("chat_template.jinja"), template).unwrap());
    let output = rlvr(&["sample", "--model", model.to_str().unwrap(), "--prompt", "1+1"]);
    let text = stderr(&output);
    assert!(
        output.status.code() == Some(2) && text.contains("the chat template cannot render") && text.contains("it does not end"),
        "{text}"
    );
}
