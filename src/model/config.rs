//! Reads `config.json` by the rules of transformers 5.23. Uses every field that affects the numbers, or rejects it if it is unsupported.
//! Ignores fields that do not affect the numbers.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use crate::input::json;
use crate::kernels::Heads;

mod limits;
mod rope;

pub use rope::RopeScaling;

/// A supported model family. Families differ only in data: in this struct and in the table of `parameters`.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// The name of the language model in `architectures` of `config.json`.
    pub architecture: &'static str,
    /// True if query, key and value always have a bias, whatever `attention_bias` says. If false, a model with `attention_bias` is
    /// rejected.
    pub qkv_bias: bool,
    /// True if layers may use sliding-window attention (`use_sliding_window`, `layer_types`).
    pub supports_sliding_window: bool,
}

/// The supported families: Qwen2 and Qwen2.5; Llama 2, Llama 3 and models of the same architecture.
pub static FAMILIES: [Family; 2] = [
    Family { model_type: "qwen2", architecture: "Qwen2ForCausalLM", qkv_bias: true, supports_sliding_window: true },
    Family { model_type: "llama", architecture: "LlamaForCausalLM", qkv_bias: false, supports_sliding_window: false },
];

/// The shape and constants of a model, from its `config.json`.
#[derive(Clone, Debug)]
pub struct ModelConfig {
    /// The model family that `model_type` names.
    pub family: &'static Family,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the gated feed-forward layer (`intermediate_size`).
    pub feed_forward: usize,
    /// Number of blocks (transformer layers).
    pub layers: usize,
    /// Number of query heads, number of key/value heads, and head dimension.
    pub heads: Heads,
    /// Number of rows of the embedding (`vocab_size`). May be more or less than the number of tokens in the tokenizer.
    pub vocabulary: usize,
    /// Context length: the maximum number of tokens in a sequence (`max_position_embeddings`).
    pub context_length: usize,
    /// Epsilon of RMSNorm.
    pub norm_eps: f32,
    /// Base of the rotary frequencies (`rope_theta`).
    pub rope_theta: f64,
    /// Scaling of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// True if the output head shares the weights of the embedding (`tie_word_embeddings`).
    pub tied: bool,
    /// True if query, key and value have a bias.
    pub qkv_bias: bool,
    /// Ids of the tokens that end a response (`eos_token_id`). Those in `generation_config.json` take precedence.
    pub end_tokens: Vec<u32>,
    /// All fields of `config.json`, for export.
    pub source: Map<String, Value>,
}

impl ModelConfig {
    /// Parses the text of a `config.json`.
    ///
    /// # Errors
    /// If the text is not a JSON object; if a field is missing, has the wrong type or exceeds its limit; or if the model has a feature that
    /// the decoder does not support. The message names the field.
    pub fn parse(text: &str) -> Result<Self> {
        let source: Map<String, Value> = serde_json::from_str(&json(text)).context("config.json is not a JSON object")?;
        let fields = Fields(&source);
        let family = fields.family()?;
        fields.reject_unsupported(family)?;
        let layers = fields.size("num_hidden_layers")?;
        let context_length = fields.size("max_position_embeddings")?;
        if family.supports_sliding_window {
            fields.reject_sliding_window(layers, context_length)?;
        }
        let hidden = fields.size("hidden_size")?;
        let heads = fields.heads(hidden)?;
        let (rope_theta, rope_scaling) = rope::read(&source, context_length)?;
        let norm_eps = fields.number("rms_norm_eps")?;
        ensure!((0.0..1.0).contains(&norm_eps), "rms_norm_eps in config.json is {norm_eps}, expected a small number such as 1e-6");
        let config = Self {
            family,
            hidden,
            feed_forward: fields.size("intermediate_size")?,
            layers,
            heads,
            vocabulary: fields.size("vocab_size")?,
            context_length,
            norm_eps: norm_eps as f32,
            rope_theta,
            rope_scaling,
            tied: fields.flag("tie_word_embeddings")?,
            qkv_bias: family.qkv_bias,
            end_tokens: end_tokens("config.json", source.get("eos_token_id"))?,
            source,
        };
        limits::check_parameters(&config)?;
        Ok(config)
    }
}

/// Reads the value of `eos_token_id`: a token id, a list of ids, or nothing, which returns an empty list. Errors name `file`.
///
/// # Errors
/// If the value is not a token id or a list of them.
pub fn end_tokens(file: &str, value: Option<&Value>) -> Result<Vec<u32>> {
    let one = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.with_context(|| format!("eos_token_id in {file} is {}, expected a token id or a list of them", excerpt(value)))
    };
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(ids)) => ids.iter().map(one).collect(),
        Some(id) => Ok(vec![one(id)?]),
    }
}

/// Formats a value for a message, with at most 80 characters.
fn excerpt(value: &Value) -> String {
    const CHARACTERS: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(CHARACTERS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    /// Returns a field unless it is absent or null.
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn size(&self, name: &str) -> Result<usize> {
        let value = self.0.get(name).with_context(|| format!("config.json has no {name}"))?;
        let size = value
            .as_u64()
            .filter(|size| *size > 0)
            .with_context(|| format!("{name} in config.json is {}, expected a positive integer", excerpt(value)))?;
        limits::check_size(name, size)
    }

    fn number(&self, name: &str) -> Result<f64> {
        let value = self.0.get(name).with_context(|| format!("config.json has no {name}"))?;
        value.as_f64().with_context(|| format!("{name} in config.json is {}, expected a number", excerpt(value)))
    }

    /// Reads an optional flag. The default of every flag read here is false.
    fn flag(&self, name: &str) -> Result<bool> {
        let Some(value) = self.get(name) else { return Ok(false) };
        value.as_bool().with_context(|| format!("{name} in config.json is {}, expected true or false", excerpt(value)))
    }

    fn family(&self) -> Result<&'static Family> {
        let known = || {
            let [others @ .., last] = FAMILIES.each_ref().map(|family| family.model_type);
            format!("{} or {last}", others.join(", "))
        };
        let name = self.0.get("model_type").and_then(Value::as_str);
        let name = name.with_context(|| format!("config.json has no model_type; expected {}", known()))?;
        let family = FAMILIES.iter().find(|family| family.model_type == name);
        family.with_context(|| format!("model_type \"{name}\" is not supported; expected {}", known()))
    }

    /// Rejects features that the decoder does not support. Ignores `pretraining_tp`, dropout and `use_cache`, which do not affect the
    /// numbers.
    fn reject_unsupported(&self, family: &Family) -> Result<()> {
        if let Some(names) = self.get("architectures").and_then(Value::as_array).filter(|names| !names.is_empty()) {
            let known = FAMILIES.each_ref().map(|family| family.architecture);
            let is_known = names.iter().any(|name| name.as_str().is_some_and(|name| known.contains(&name)));
            ensure!(
                is_known,
                "architectures {} in config.json are not supported; expected {}",
                Value::from(names.clone()),
                known.join(" or ")
            );
        }
        if let Some(quantization) = self.get("quantization_config") {
            let method = quantization.get("quant_method").and_then(Value::as_str).unwrap_or("unnamed");
            bail!("quantization_config in config.json (quant_method \"{method}\") is not supported; expected weights in f32, bf16 or f16");
        }
        if let Some(activation) = self.get("hidden_act") {
            ensure!(activation == "silu", "hidden_act {activation} in config.json is not supported; expected \"silu\"");
        }
        ensure!(!self.flag("mlp_bias")?, "mlp_bias true in config.json is not supported");
        let has_other_bias = !family.qkv_bias && self.flag("attention_bias")?;
        ensure!(!has_other_bias, "attention_bias true in config.json is not supported for {}", family.model_type);
        Ok(())
    }

    /// Rejects sliding-window attention. In Qwen2, layers from `max_window_layers` on attend to the last `sliding_window` tokens if
    /// `use_sliding_window` is true. `layer_types`, if present, decides for each layer instead. A window at least as long as the context
    /// length has no effect and is accepted.
    fn reject_sliding_window(&self, layers: usize, context_length: usize) -> Result<()> {
        let window = match (self.flag("use_sliding_window")?, self.0.get("sliding_window")) {
            (false, _) | (true, Some(Value::Null)) => None,
            (true, None) => Some(4096),
            (true, Some(_)) => Some(self.size("sliding_window")?),
        };
        let has_sliding_layers = match self.get("layer_types").and_then(Value::as_array) {
            Some(kinds) => {
                ensure!(
                    kinds.len() == layers,
                    "layer_types in config.json has {} entries, expected one for each of {layers} layers",
                    kinds.len()
                );
                if let Some(other) = kinds.iter().find(|kind| *kind != "full_attention" && *kind != "sliding_attention") {
                    bail!("layer_types in config.json has {other}, which is not supported; expected \"full_attention\"");
                }
                kinds.iter().any(|kind| kind == "sliding_attention")
            }
            None => {
                let first = if self.get("max_window_layers").is_some() { self.number("max_window_layers")? } else { 28.0 };
                window.is_some() && first < layers as f64
            }
        };
        let shown = window.map_or_else(|| "null".to_owned(), |tokens| tokens.to_string());
        ensure!(
            !has_sliding_layers || window.is_some_and(|tokens| tokens >= context_length),
            "sliding-window attention is not supported: layers attend to the last {shown} of {context_length} tokens \
             (see use_sliding_window, sliding_window, max_window_layers and layer_types in config.json)"
        );
        Ok(())
    }

    fn heads(&self, hidden: usize) -> Result<Heads> {
        let query = self.size("num_attention_heads")?;
        let key_value = if self.get("num_key_value_heads").is_some() { self.size("num_key_value_heads")? } else { query };
        let head_dim = self.get("head_dim").map(|_| self.size("head_dim")).transpose()?;
        // With head_dim, hidden_size can be any number. transformers 4 accepts this; transformers 5 does for Qwen2, but not for Llama.
        ensure!(
            hidden.is_multiple_of(query) || head_dim.is_some(),
            "hidden_size {hidden} in config.json is not a multiple of num_attention_heads {query}, and head_dim is not set"
        );
        let head_dim = head_dim.unwrap_or(hidden / query);
        ensure!(
            key_value <= query && query % key_value == 0,
            "{query} query heads cannot share {key_value} key/value heads evenly (num_attention_heads and num_key_value_heads in config.json)"
        );
        ensure!(
            head_dim % 2 == 0,
            "the head dimension {head_dim} (head_dim, or hidden_size / num_attention_heads, in config.json) is odd, expected an even number"
        );
        Ok(Heads { query, key_value, width: head_dim })
    }
}

#[cfg(test)]
mod tests;
