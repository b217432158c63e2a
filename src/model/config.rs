//! What `config.json` says of a model. Everything that changes a number is read from it, by the rules of transformers 5.23; what cannot be
//! honoured is an error, never ignored, and what changes no number loads.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use crate::input::json;
use crate::kernels::Heads;

mod limits;
mod rope;

pub use rope::RopeScaling;

/// A family of models that the decoder computes. Families differ only in data: here, and in the table of `parameters`.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// What `architectures` calls its language model.
    pub architecture: &'static str,
    /// Bias on query, key and value, whatever `attention_bias` says; a family without it is refused where `attention_bias` is true.
    pub qkv_bias: bool,
    /// Whether some layers may look back a limited number of tokens (`use_sliding_window`, `layer_types`).
    pub slides: bool,
}

/// All that are known: Qwen2 and Qwen2.5; Llama 2, 3 and their like.
pub static FAMILIES: [Family; 2] = [
    Family { model_type: "qwen2", architecture: "Qwen2ForCausalLM", qkv_bias: true, slides: true },
    Family { model_type: "llama", architecture: "LlamaForCausalLM", qkv_bias: false, slides: false },
];

/// The shape of a model, from its `config.json`.
#[derive(Clone, Debug)]
pub struct ModelConfig {
    /// Family, by `model_type`.
    pub family: &'static Family,
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
        let source: Map<String, Value> = serde_json::from_str(&json(text)).context("config.json is not a JSON object")?;
        let fields = Fields(&source);
        let family = fields.family()?;
        fields.refuse_what_changes_numbers(family)?;
        let layers = fields.size("num_hidden_layers")?;
        let window = fields.size("max_position_embeddings")?;
        if family.slides {
            fields.full_attention(layers, window)?;
        }
        let hidden = fields.size("hidden_size")?;
        let heads = fields.heads(hidden)?;
        let (rope_theta, rope_scaling) = rope::read(&source, window)?;
        let norm_eps = fields.number("rms_norm_eps")?;
        ensure!((0.0..1.0).contains(&norm_eps), "rms_norm_eps in config.json is {norm_eps}, expected a small number such as 1e-6");
        let config = Self {
            family,
            hidden,
            feed_forward: fields.size("intermediate_size")?,
            layers,
            heads,
            vocabulary: fields.size("vocab_size")?,
            window,
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

/// `eos_token_id` of a file: one number, a list, or nothing.
pub fn end_tokens(file: &str, value: Option<&Value>) -> Result<Vec<u32>> {
    let one = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.with_context(|| format!("eos_token_id in {file} is {}, expected a token id or a list of them", shown(value)))
    };
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(ids)) => ids.iter().map(one).collect(),
        Some(id) => Ok(vec![one(id)?]),
    }
}

/// A value as messages show it: of a long one its beginning.
fn shown(value: &Value) -> String {
    const CHARACTERS: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(CHARACTERS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    /// A field that is there and not null.
    fn given(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn size(&self, name: &str) -> Result<usize> {
        let value = self.0.get(name).with_context(|| format!("config.json has no {name}"))?;
        let size = value
            .as_u64()
            .filter(|size| *size > 0)
            .with_context(|| format!("{name} in config.json is {}, expected a positive integer", shown(value)))?;
        limits::check_size(name, size)
    }

    fn number(&self, name: &str) -> Result<f64> {
        let value = self.0.get(name).with_context(|| format!("config.json has no {name}"))?;
        value.as_f64().with_context(|| format!("{name} in config.json is {}, expected a number", shown(value)))
    }

    /// False where it is not given: the default of every flag that is asked for.
    fn flag(&self, name: &str) -> Result<bool> {
        let Some(value) = self.given(name) else { return Ok(false) };
        value.as_bool().with_context(|| format!("{name} in config.json is {}, expected true or false", shown(value)))
    }

    fn family(&self) -> Result<&'static Family> {
        let known = || {
            let [others @ .., last] = FAMILIES.each_ref().map(|family| family.model_type);
            format!("{} and {last}", others.join(", "))
        };
        let name = self.0.get("model_type").and_then(Value::as_str);
        let name = name.with_context(|| format!("config.json has no model_type; known are {}", known()))?;
        let family = FAMILIES.iter().find(|family| family.model_type == name);
        family.with_context(|| format!("model_type \"{name}\" is not supported; known are {}", known()))
    }

    /// What the decoder does not compute. `pretraining_tp`, dropout and `use_cache` change no number.
    fn refuse_what_changes_numbers(&self, family: &Family) -> Result<()> {
        if let Some(names) = self.given("architectures").and_then(Value::as_array).filter(|names| !names.is_empty()) {
            let known = FAMILIES.each_ref().map(|family| family.architecture);
            let is_known = names.iter().any(|name| name.as_str().is_some_and(|name| known.contains(&name)));
            ensure!(
                is_known,
                "architectures {} in config.json are not supported; known are {}",
                Value::from(names.clone()),
                known.join(", ")
            );
        }
        if let Some(quantization) = self.given("quantization_config") {
            let method = quantization.get("quant_method").and_then(Value::as_str).unwrap_or("unnamed");
            bail!("quantization_config in config.json (quant_method \"{method}\") is not supported; expected weights in f32, bf16 or f16");
        }
        if let Some(activation) = self.given("hidden_act") {
            ensure!(activation == "silu", "hidden_act {activation} in config.json is not supported; known is \"silu\"");
        }
        ensure!(!self.flag("mlp_bias")?, "mlp_bias true in config.json is not supported");
        let has_other_bias = !family.qkv_bias && self.flag("attention_bias")?;
        ensure!(!has_other_bias, "attention_bias true in config.json is not supported for {}", family.model_type);
        Ok(())
    }

    /// Qwen2's layers from `max_window_layers` on look back `sliding_window` tokens only, if `use_sliding_window` says so; `layer_types`, where
    /// it is given, says for each layer what it does. A window as long as the model's own changes nothing.
    fn full_attention(&self, layers: usize, window: usize) -> Result<()> {
        let sliding = match (self.flag("use_sliding_window")?, self.0.get("sliding_window")) {
            (false, _) | (true, Some(Value::Null)) => None,
            (true, None) => Some(4096),
            (true, Some(_)) => Some(self.size("sliding_window")?),
        };
        let slides = match self.given("layer_types").and_then(Value::as_array) {
            Some(kinds) => {
                ensure!(
                    kinds.len() == layers,
                    "layer_types in config.json has {} entries, expected one for each of {layers} layers",
                    kinds.len()
                );
                if let Some(other) = kinds.iter().find(|kind| *kind != "full_attention" && *kind != "sliding_attention") {
                    bail!("layer_types in config.json has {other}, which is not supported; known is \"full_attention\"");
                }
                kinds.iter().any(|kind| kind == "sliding_attention")
            }
            None => {
                let first = if self.given("max_window_layers").is_some() { self.number("max_window_layers")? } else { 28.0 };
                sliding.is_some() && first < layers as f64
            }
        };
        let shown = sliding.map_or_else(|| "null".to_owned(), |tokens| tokens.to_string());
        ensure!(
            !slides || sliding.is_some_and(|tokens| tokens >= window),
            "sliding-window attention is not supported: config.json has layers that look back {shown} of {window} tokens \
             (use_sliding_window, sliding_window, max_window_layers and layer_types say so)"
        );
        Ok(())
    }

    fn heads(&self, hidden: usize) -> Result<Heads> {
        let query = self.size("num_attention_heads")?;
        let key_value = if self.given("num_key_value_heads").is_some() { self.size("num_key_value_heads")? } else { query };
        let given = self.given("head_dim").map(|_| self.size("head_dim")).transpose()?;
        // With a head width of its own a model needs no such multiple. transformers 4 computes it; transformers 5 refuses llamas, not Qwen2.
        ensure!(
            hidden.is_multiple_of(query) || given.is_some(),
            "hidden_size {hidden} in config.json is not a multiple of num_attention_heads {query}, and there is no head_dim"
        );
        let width = given.unwrap_or(hidden / query);
        ensure!(
            key_value <= query && query % key_value == 0,
            "{query} query heads cannot share {key_value} key/value heads evenly (num_attention_heads and num_key_value_heads in config.json)"
        );
        ensure!(width % 2 == 0, "a head width of {width} in config.json cannot be rotated in halves");
        Ok(Heads { query, key_value, width })
    }
}

#[cfg(test)]
mod tests;
