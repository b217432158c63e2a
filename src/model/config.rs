//! What `config.json` says of a model. Everything that changes a number is read from it; what cannot be honoured is an error, never ignored.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use crate::kernels::attention::Heads;

/// The families that the decoder computes; they differ only in data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Qwen2 and Qwen2.5: bias on query, key and value.
    Qwen2,
    /// Llama 2, 3 and their like: no bias unless `attention_bias` says so.
    Llama,
}

/// How positions are stretched beyond the trained window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Positions as they are.
    None,
    /// All positions divided by a factor.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3: low frequencies divided by a factor, high ones kept, a smooth passage between.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Wavelengths above `original / low` are low frequencies.
        low: f64,
        /// Wavelengths below `original / high` are high frequencies.
        high: f64,
        /// The window that the model was first trained with.
        original: f64,
    },
}

/// The shape of a model, from its `config.json`.
#[derive(Clone, Debug)]
pub struct ModelConfig {
    /// Family, by `model_type`.
    pub family: Family,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the gated unit.
    pub feed_forward: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads, key/value heads and their width.
    pub heads: Heads,
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// Longest sequence, in tokens.
    pub window: usize,
    /// RMSNorm's epsilon.
    pub norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Stretching of positions.
    pub rope_scaling: RopeScaling,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// Bias on query, key and value.
    pub qkv_bias: bool,
    /// Tokens that end a response, from `config.json` (`generation_config.json` wins where it is there).
    pub end_tokens: Vec<u32>,
    /// The file as it was read, for export.
    pub source: Map<String, Value>,
}

impl ModelConfig {
    /// Parses the text of a `config.json`.
    pub fn parse(text: &str) -> Result<Self> {
        let source: Map<String, Value> = serde_json::from_str(text).context("config.json is not a JSON object")?;
        let family = match source.get("model_type").and_then(Value::as_str) {
            Some("qwen2") => Family::Qwen2,
            Some("llama") => Family::Llama,
            Some(other) => bail!("model_type \"{other}\" is not supported; known are qwen2 and llama"),
            None => bail!("config.json has no model_type; known are qwen2 and llama"),
        };
        let fields = Fields(&source);
        if let Some(activation) = source.get("hidden_act").and_then(Value::as_str) {
            ensure!(activation == "silu", "hidden_act \"{activation}\" is not supported; known is silu");
        }
        if source.get("mlp_bias").and_then(Value::as_bool) == Some(true) {
            bail!("mlp_bias true is not supported");
        }
        let layers = fields.size("num_hidden_layers")?;
        let window = fields.size("max_position_embeddings")?;
        if source.get("use_sliding_window").and_then(Value::as_bool) == Some(true) {
            let sliding = fields.size("sliding_window")?;
            ensure!(sliding >= window, "sliding-window attention ({sliding} of {window} tokens) is not supported");
        }
        let (hidden, query) = (fields.size("hidden_size")?, fields.size("num_attention_heads")?);
        let key_value =
            if source.get("num_key_value_heads").is_some_and(|v| !v.is_null()) { fields.size("num_key_value_heads")? } else { query };
        let width = match source.get("head_dim") {
            Some(Value::Null) | None => hidden / query,
            Some(_) => fields.size("head_dim")?,
        };
        ensure!(query % key_value == 0, "{query} query heads cannot share {key_value} key/value heads evenly");
        ensure!(width % 2 == 0, "a head width of {width} cannot be rotated in halves");
        let attention_bias = source.get("attention_bias").and_then(Value::as_bool).unwrap_or(false);
        ensure!(!(family == Family::Llama && attention_bias), "attention_bias true is not supported for llama");
        let (rope_theta, rope_scaling) = rope(&source)?;
        Ok(Self {
            family,
            hidden,
            feed_forward: fields.size("intermediate_size")?,
            layers,
            heads: Heads { query, key_value, width },
            vocabulary: fields.size("vocab_size")?,
            window,
            norm_eps: fields.number("rms_norm_eps")? as f32,
            rope_theta,
            rope_scaling,
            tied: source.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(false),
            qkv_bias: family == Family::Qwen2,
            end_tokens: end_tokens("config.json", source.get("eos_token_id"))?,
            source,
        })
    }

    /// Parameters, counted once where they are tied.
    pub fn parameters(&self) -> usize {
        let (h, d) = (self.hidden, self.heads.width);
        let attention = h * self.heads.row() + if self.qkv_bias { self.heads.row() } else { 0 } + self.heads.query * d * h;
        let block = attention + 3 * h * self.feed_forward + 2 * h;
        self.vocabulary * h * if self.tied { 1 } else { 2 } + self.layers * block + h
    }
}

impl ModelConfig {
    /// Bytes of activations that a packed forward pass keeps for each token, in f32 (see `block::Kept`).
    pub fn activation_bytes(&self) -> usize {
        let attention = self.heads.row() + self.heads.query * (self.heads.width + 1);
        self.layers * (4 * self.hidden + attention + 3 * self.feed_forward + 2) * size_of::<f32>()
    }
}

/// `eos_token_id` of a file: one number, a list, or nothing.
pub fn end_tokens(file: &str, value: Option<&Value>) -> Result<Vec<u32>> {
    let one = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.with_context(|| format!("eos_token_id in {file} is {value}, expected a token id or a list of them"))
    };
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(ids)) => ids.iter().map(one).collect(),
        Some(id) => Ok(vec![one(id)?]),
    }
}

struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn size(&self, name: &str) -> Result<usize> {
        let value = self.0.get(name).with_context(|| format!("config.json has no {name}"))?;
        let size = value
            .as_u64()
            .filter(|size| *size > 0)
            .with_context(|| format!("{name} in config.json is {value}, expected a positive integer"))?;
        Ok(usize::try_from(size)?)
    }

    fn number(&self, name: &str) -> Result<f64> {
        let value = self.0.get(name).with_context(|| format!("config.json has no {name}"))?;
        value.as_f64().with_context(|| format!("{name} in config.json is {value}, expected a number"))
    }
}

/// Theta and scaling in either spelling: `rope_theta` with `rope_scaling`, or transformers 5's `rope_parameters`.
fn rope(source: &Map<String, Value>) -> Result<(f64, RopeScaling)> {
    let present = |name: &str| source.get(name).filter(|value| !value.is_null());
    let parameters = present("rope_parameters");
    let theta = parameters.and_then(|p| p.get("rope_theta")).or_else(|| present("rope_theta"));
    let theta = theta
        .and_then(Value::as_f64)
        .context("config.json has neither rope_theta nor rope_parameters.rope_theta; one of them must be given")?;
    let Some(scaling) = parameters.or_else(|| present("rope_scaling")).and_then(Value::as_object) else {
        return Ok((theta, RopeScaling::None));
    };
    let kind = scaling.get("rope_type").or_else(|| scaling.get("type")).and_then(Value::as_str).unwrap_or("default");
    let fields = Fields(scaling);
    let scaling = match kind {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: fields.number("factor")? },
        "llama3" => RopeScaling::Llama3 {
            factor: fields.number("factor")?,
            low: fields.number("low_freq_factor")?,
            high: fields.number("high_freq_factor")?,
            original: fields.number("original_max_position_embeddings")?,
        },
        other => bail!("rope scaling \"{other}\" is not supported; known are default, linear and llama3"),
    };
    Ok((theta, scaling))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r#""hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 100, "max_position_embeddings": 128, "rms_norm_eps": 1e-6"#;

    fn check(extra: &str, expected: Result<(f64, RopeScaling), &str>) {
        let found = ModelConfig::parse(&format!("{{{BASE}, {extra}}}")).map(|config| (config.rope_theta, config.rope_scaling));
        match expected {
            Ok(expected) => assert_eq!(found.unwrap(), expected),
            Err(message) => assert!(found.unwrap_err().to_string().contains(message), "{extra}"),
        }
    }

    #[test]
    fn both_rope_spellings_are_read_and_unknown_kinds_refused() {
        check(r#""model_type": "qwen2", "rope_theta": 1e4"#, Ok((1e4, RopeScaling::None)));
        check(r#""model_type": "qwen2", "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}"#, Ok((5e5, RopeScaling::None)));
        let llama3 = r#"{"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}"#;
        let expected = RopeScaling::Llama3 { factor: 32.0, low: 1.0, high: 4.0, original: 8192.0 };
        check(&format!(r#""model_type": "llama", "rope_theta": 5e5, "rope_scaling": {llama3}"#), Ok((5e5, expected)));
        check(
            r#""model_type": "qwen2", "rope_theta": 1e4, "rope_scaling": {"type": "yarn", "factor": 4}"#,
            Err("\"yarn\" is not supported"),
        );
        check(r#""model_type": "qwen2""#, Err("neither rope_theta nor rope_parameters"));
        check(r#""model_type": "mamba", "rope_theta": 1e4"#, Err("\"mamba\" is not supported; known are qwen2 and llama"));
        check(r#""model_type": "qwen2", "rope_theta": 1e4, "use_sliding_window": true, "sliding_window": 64"#, Err("sliding-window"));
    }

    #[test]
    fn parameters_are_counted() {
        let config =
            ModelConfig::parse(&format!(r#"{{{BASE}, "model_type": "qwen2", "rope_theta": 1e4, "tie_word_embeddings": true}}"#)).unwrap();
        let block = 64 * 128 + 128 + 64 * 64 + 3 * 64 * 192 + 128;
        assert_eq!(config.parameters(), 100 * 64 + 2 * block + 64);
    }
}
