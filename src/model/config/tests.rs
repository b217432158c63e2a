use super::*;
use crate::testing::shared;

/// A valid configuration. Test cases replace some of its fields; `!` before a name removes the field.
fn base() -> Map<String, Value> {
    let fields = serde_json::json!({
        "model_type": "qwen2", "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 100, "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "rope_theta": 1e4
    });
    fields.as_object().cloned().unwrap_or_default()
}

fn parsed(changes: &str) -> Result<ModelConfig> {
    let mut fields = base();
    let changes: Map<String, Value> = serde_json::from_str(&format!("{{{changes}}}"))?;
    for (name, value) in changes {
        match name.strip_prefix('!') {
            Some(name) => drop(fields.remove(name)),
            None => drop(fields.insert(name, value)),
        }
    }
    ModelConfig::parse(&Value::Object(fields).to_string())
}

/// Changes the configuration and checks the value of a field, or part of the error message.
fn check<T: PartialEq + std::fmt::Debug>(changes: &str, field: impl Fn(&ModelConfig) -> T, expected: Result<T, &str>) {
    match (parsed(changes), expected) {
        (Ok(config), Ok(expected)) => assert_eq!(field(&config), expected, "{changes}"),
        (Err(error), Err(message)) => assert!(format!("{error:#}").contains(message), "{changes}: {error:#}"),
        (Ok(config), Err(message)) => panic!("{changes}: loads as {config:?}, expected {message}"),
        (Err(error), Ok(expected)) => panic!("{changes}: {error:#}, expected {expected:?}"),
    }
}

fn accepted(changes: &str) {
    check(changes, |_| (), Ok(()));
}

fn rejected(changes: &str, message: &str) {
    check(changes, |_| (), Err(message));
}

/// The scaling of Llama 3.2, with a smaller original context length.
const LLAMA3: &str =
    r#"{"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}"#;

#[test]
fn rope_read_accepts_both_forms_and_rejects_unknown_types() {
    let rope = |changes: &str, expected| check(changes, |config| (config.rope_theta, config.rope_scaling), expected);
    let llama3 = |original| RopeScaling::Llama3 { factor: 32.0, low: 1.0, high: 4.0, original };
    rope("", Ok((1e4, RopeScaling::None)));
    rope(r#""rope_scaling": null, "rope_parameters": null"#, Ok((1e4, RopeScaling::None)));
    rope(r#""rope_scaling": {}"#, Ok((1e4, RopeScaling::None)));
    rope(r#""!rope_theta": 0, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}"#, Ok((5e5, RopeScaling::None)));
    rope(r#""rope_parameters": {"rope_theta": 5e5}"#, Ok((5e5, RopeScaling::None)));
    rope(r#""rope_scaling": {"type": "linear", "factor": 2}"#, Ok((1e4, RopeScaling::Linear { factor: 2.0 })));
    rope(r#""rope_scaling": {"rope_type": "linear", "type": "yarn", "factor": 2}"#, Ok((1e4, RopeScaling::Linear { factor: 2.0 })));
    rope(&format!(r#""rope_scaling": {LLAMA3}"#), Ok((1e4, llama3(64.0))));
    rope(&format!(r#""rope_parameters": {LLAMA3}"#), Ok((1e4, llama3(64.0))));
    rope(&format!(r#""rope_scaling": {LLAMA3}, "rope_parameters": {LLAMA3}"#), Ok((1e4, llama3(64.0))));
    rope(&format!(r#""rope_scaling": {LLAMA3}, "original_max_position_embeddings": 32"#), Ok((1e4, llama3(32.0))));
    rope(&format!(r#""rope_scaling": {}"#, LLAMA3.replace(r#", "original_max_position_embeddings": 64"#, "")), Ok((1e4, llama3(128.0))));

    rope(r#""!rope_theta": 0"#, Err("neither rope_theta nor rope_parameters.rope_theta"));
    rope(r#""!rope_theta": 0, "rope_scaling": {"type": "linear", "factor": 2}"#, Err("neither rope_theta nor rope_parameters.rope_theta"));
    rope(r#""rope_theta": null"#, Err("neither rope_theta nor"));
    rope(r#""rope_theta": "1e4""#, Err("rope_theta in config.json is \"1e4\", expected a positive number"));
    rope(r#""rope_theta": 0"#, Err("expected a positive number"));
    rope(
        r#""rope_scaling": {"type": "yarn", "factor": 4}"#,
        Err("\"yarn\" in config.json is not supported; expected default, linear or llama3"),
    );
    rope(r#""rope_parameters": {"rope_type": "dynamic", "factor": 4}"#, Err("\"dynamic\" in config.json is not supported"));
    rope(r#""rope_scaling": {"rope_type": null}"#, Err("rope_type in config.json is null"));
    rope(r#""rope_scaling": "linear""#, Err("rope_scaling in config.json is \"linear\", expected null or an object"));
    rope(r#""rope_scaling": {"type": "linear"}"#, Err("config.json has no factor"));
    rope(r#""rope_scaling": {"type": "linear", "factor": 0.5}"#, Err("expected at least 1"));
    rope(&format!(r#""rope_scaling": {LLAMA3}, "rope_parameters": {{"rope_theta": 1e4}}"#), Err("contradict each other"));
    rope(&format!(r#""rope_scaling": {}"#, LLAMA3.replace("4.0", "1.0")), Err("must be above low_freq_factor"));
    rope(r#""rope_parameters": {"full_attention": {"rope_theta": 1e4}}"#, Err("differ between layer types (full_attention)"));
    rope(r#""partial_rotary_factor": 0.5"#, Err("partial_rotary_factor 0.5 in config.json is not supported"));
    rope(r#""rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.25}"#, Err("partial_rotary_factor 0.25"));
    rope(r#""partial_rotary_factor": 1.0"#, Ok((1e4, RopeScaling::None)));
}

#[test]
fn heads_reads_or_derives_head_counts_and_head_dim() {
    let heads =
        |changes: &str, expected| check(changes, |config| (config.heads.query, config.heads.key_value, config.heads.width), expected);
    heads("", Ok((4, 2, 16)));
    heads(r#""num_key_value_heads": null"#, Ok((4, 4, 16)));
    heads(r#""!num_key_value_heads": 0"#, Ok((4, 4, 16)));
    heads(r#""head_dim": null"#, Ok((4, 2, 16)));
    heads(r#""head_dim": 32"#, Ok((4, 2, 32)));
    heads(r#""hidden_size": 66, "head_dim": 32"#, Ok((4, 2, 32)));
    heads(r#""hidden_size": 66"#, Err("hidden_size 66 in config.json is not a multiple of num_attention_heads 4"));
    heads(r#""hidden_size": 66, "head_dim": 32, "model_type": "llama""#, Ok((4, 2, 32)));
    heads(r#""hidden_size": 66, "model_type": "llama""#, Err("is not a multiple of num_attention_heads 4, and head_dim is not set"));
    heads(r#""num_key_value_heads": 3"#, Err("4 query heads cannot share 3 key/value heads evenly"));
    heads(r#""num_key_value_heads": 8"#, Err("4 query heads cannot share 8"));
    heads(r#""head_dim": 15"#, Err("the head dimension 15"));
    heads(r#""head_dim": 0"#, Err("head_dim in config.json is 0, expected a positive integer"));
}

#[test]
fn reject_sliding_window_accepts_windows_without_effect() {
    accepted(r#""use_sliding_window": false, "sliding_window": 16, "max_window_layers": 0"#);
    accepted(r#""use_sliding_window": true, "sliding_window": 16, "max_window_layers": 2"#);
    accepted(r#""use_sliding_window": true, "sliding_window": 128, "max_window_layers": 0"#);
    accepted(r#""use_sliding_window": true, "sliding_window": null, "max_window_layers": 0"#);
    accepted(r#""use_sliding_window": true, "max_window_layers": 0"#);
    accepted(r#""use_sliding_window": true, "sliding_window": 16"#);
    accepted(r#""layer_types": ["full_attention", "full_attention"]"#);
    accepted(r#""model_type": "llama", "use_sliding_window": true, "sliding_window": 16, "max_window_layers": 0"#);
    rejected(r#""use_sliding_window": true, "sliding_window": 16, "max_window_layers": 1"#, "attend to the last 16 of 128 tokens");
    rejected(r#""use_sliding_window": true, "max_window_layers": 0, "max_position_embeddings": 8192"#, "the last 4096 of 8192 tokens");
    rejected(
        r#""use_sliding_window": true, "sliding_window": 16, "layer_types": ["full_attention", "sliding_attention"]"#,
        "the last 16 of 128",
    );
    rejected(r#""layer_types": ["full_attention", "sliding_attention"]"#, "the last null of 128");
    rejected(r#""layer_types": ["full_attention", "linear_attention"]"#, "layer_types in config.json has \"linear_attention\"");
    rejected(r#""layer_types": ["full_attention"]"#, "layer_types in config.json has 1 entries, expected one for each of 2 layers");
}

#[test]
fn reject_unsupported_names_the_field_and_its_value() {
    rejected(r#""model_type": "mamba""#, "\"mamba\" is not supported; expected qwen2 or llama");
    rejected(r#""!model_type": 0"#, "config.json has no model_type; expected qwen2 or llama");
    rejected(
        r#""architectures": ["Qwen2ForSequenceClassification"]"#,
        r#"["Qwen2ForSequenceClassification"] in config.json are not supported; expected Qwen2ForCausalLM or LlamaForCausalLM"#,
    );
    rejected(r#""quantization_config": {"quant_method": "awq", "bits": 4}"#, "quantization_config in config.json (quant_method \"awq\")");
    rejected(r#""hidden_act": "gelu""#, "hidden_act \"gelu\" in config.json is not supported; expected \"silu\"");
    rejected(r#""hidden_act": 3"#, "hidden_act 3 in config.json");
    rejected(r#""mlp_bias": true"#, "mlp_bias true");
    rejected(r#""model_type": "llama", "attention_bias": true"#, "attention_bias true in config.json is not supported for llama");
    rejected(r#""tie_word_embeddings": "true""#, "tie_word_embeddings in config.json is \"true\", expected true or false");
    rejected(r#""rms_norm_eps": "1e-6""#, "rms_norm_eps in config.json is \"1e-6\", expected a number");
    rejected(r#""rms_norm_eps": -1"#, "rms_norm_eps in config.json is -1");
    rejected(r#""!vocab_size": 0"#, "config.json has no vocab_size");
    accepted(
        r#""architectures": ["Qwen2ForCausalLM"], "quantization_config": null, "hidden_act": null, "mlp_bias": false, "pretraining_tp": 2"#,
    );
    accepted(r#""torch_dtype": "bfloat16", "dtype": "float32", "attention_dropout": 0.1, "use_cache": false, "auto_map": {}"#);
}

#[test]
fn limits_reject_sizes_by_name_and_value() {
    for (field, value, max) in [
        ("hidden_size", "1000000000000", "1048576"),
        ("intermediate_size", "18446744073709551615", "16777216"),
        ("num_hidden_layers", "100000000", "10000"),
        ("num_hidden_layers", "9223372036854775808", "10000"),
        ("num_attention_heads", "4294967296", "16384"),
        ("num_key_value_heads", "16385", "16384"),
        ("head_dim", "1000000", "4096"),
        ("vocab_size", "9007199254740993", "67108864"),
        ("max_position_embeddings", "1000000000000", "16777216"),
        ("max_position_embeddings", "4294967296", "16777216"),
    ] {
        rejected(&format!(r#""{field}": {value}"#), &format!("{field} in config.json is {value}, expected at most {max}"));
    }
    for value in ["1e12", "-1", "1.5", "null", "[1]", "18446744073709551616"] {
        rejected(&format!(r#""num_hidden_layers": {value}"#), "num_hidden_layers in config.json is ");
    }
    let long = format!(r#""hidden_size": "{}""#, "9".repeat(1000));
    rejected(&long, "999..., expected a positive integer");
    rejected(r#""vocab_size": 67108864, "hidden_size": 1048576"#, "config.json describes a model of 147335775518720 parameters");
    rejected(r#""num_hidden_layers": 10000, "intermediate_size": 16777216, "hidden_size": 1048576"#, "expected at most 10000000000000 (");
    accepted(r#""max_position_embeddings": 16777216"#);
    rejected(r#""rope_theta": 1e-300"#, "rope_theta in config.json is 0.000");
    rejected(r#""rope_theta": 1e300"#, "expected 1 to 1e12");
    rejected(r#""rope_scaling": {"type": "linear", "factor": 1e300}"#, "expected at most 1e6");
    rejected(&format!(r#""rope_scaling": {}"#, LLAMA3.replace("1.0", "0.0")), "low_freq_factor in config.json is 0, expected 0.001 to 1e6");
}

#[test]
fn rope_read_rejects_a_scaling_without_type() {
    rejected(r#""rope_scaling": {"factor": 2}"#, "has factor but no rope_type");
    rejected(r#""rope_parameters": {"rope_theta": 1e4, "low_freq_factor": 1.0}"#, "has low_freq_factor but no rope_type");
    accepted(r#""rope_scaling": {"factor": null}"#);
    accepted(r#""rope_scaling": {"rope_type": "default", "factor": 2}"#);
}

#[test]
fn parse_ignores_byte_order_marks_and_line_separators() {
    let text = Value::Object(base()).to_string();
    assert!(ModelConfig::parse(&format!("\u{FEFF}{}\u{2028}", text.replace(',', ",\u{2028}"))).is_ok());
}

#[test]
fn parse_reads_bias_and_end_tokens() {
    let biased = |changes: &str, expected| check(changes, |config| config.qkv_bias, Ok(expected));
    biased("", true);
    biased(r#""attention_bias": false"#, true);
    biased(r#""model_type": "llama", "attention_bias": false"#, false);
    let ends = |changes: &str, expected| check(changes, |config| config.end_tokens.clone(), expected);
    ends("", Ok(vec![]));
    ends(r#""eos_token_id": 7"#, Ok(vec![7]));
    ends(r#""eos_token_id": [7, 9]"#, Ok(vec![7, 9]));
    ends(r#""eos_token_id": null"#, Ok(vec![]));
    ends(r#""eos_token_id": -1"#, Err("eos_token_id in config.json is -1, expected a token id or a list of them"));
    ends(r#""eos_token_id": [7, "x"]"#, Err("eos_token_id in config.json is \"x\""));
}

#[test]
fn parameter_count_counts_tied_weights_once() {
    let block = 64 * 128 + 128 + 64 * 64 + 3 * 64 * 192 + 128;
    check(r#""tie_word_embeddings": true"#, ModelConfig::parameter_count, Ok(100 * 64 + 2 * block + 64));
    check("", ModelConfig::parameter_count, Ok(2 * 100 * 64 + 2 * block + 64));
}

/// The expected parameter counts are from the model cards.
#[test]
fn parse_accepts_published_configurations() {
    let Some(folder) = shared("models") else { return };
    let check = |name: &str, millions: usize, theta: f64, tied: bool| {
        let text = std::fs::read_to_string(folder.join(name).join("config.json")).unwrap();
        let config = ModelConfig::parse(&text).unwrap();
        assert_eq!((config.parameter_count() / 1_000_000, config.rope_theta, config.tied), (millions, theta, tied), "{name}");
    };
    check("qwen2.5-math-1.5b", 1543, 1e4, true);
    check("qwen2.5-math-7b", 7615, 1e4, false);
    check("deepseek-r1-distill-qwen-1.5b", 1777, 1e4, false);
    check("llama-3.2-3b-instruct", 3212, 5e5, true);
}
