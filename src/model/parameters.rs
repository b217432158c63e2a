//! The table of a model's parameters: their names, shapes, roles, and the tensors of a Hugging Face checkpoint that make them up. Loading,
//! export, random weights, gradients, optimizer states, adapters and the plan all read it. A new parameter needs a row here, a field in
//! `weights::BlockWeights`, and its use in `block`.

use std::ops::Range;

use candle_core::Shape;

use super::checkpoint_tensors::CheckpointTensor;
use super::config::ModelConfig;

/// The role of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The token embedding. In a tied model it also produces the logits.
    Embedding,
    /// The weight of an RMSNorm. Initially 1.
    Norm,
    /// The bias of a projection. Initially 0.
    Bias,
    /// A matrix of a block. LoRA adds adapters to these.
    Projection,
    /// Produces the logits. A tied model has none.
    Head,
}

/// A row of the table: one of our tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// The index of its block; `None` for embedding, final norm and head.
    pub layer: Option<usize>,
    /// Its field in `BlockWeights`; in `Weights` if `layer` is `None`.
    pub field: &'static str,
    /// Its role, which determines its initial values and whether it can have an adapter.
    pub role: Role,
    /// Its shape; `[in, out]` for projections.
    pub shape: Shape,
    /// The tensors of the checkpoint that make it up, side by side, in column order.
    pub parts: Vec<CheckpointTensor>,
}

/// Returns all parameters of a model. Weights, gradients, optimizer states and random streams share this order.
pub fn parameters(config: &ModelConfig) -> Vec<Parameter> {
    let mut all = vec![embedding(config)];
    all.extend((0..config.layers).flat_map(|layer| block(config, layer)));
    all.push(Scope::outside_blocks().norm("norm", ("model.norm", config.hidden)));
    all.extend((!config.tied).then(|| head(config)));
    all
}

/// Returns the parameters of one block, in the order of [`parameters`].
pub fn block(config: &ModelConfig, layer: usize) -> Vec<Parameter> {
    let (w, f, heads, at) = (config.hidden, config.feed_forward, config.heads, Scope::block(layer));
    let (queries, keys) = (heads.query * heads.width, heads.key_value * heads.width);
    let qkv = [("self_attn.q_proj", queries), ("self_attn.k_proj", keys), ("self_attn.v_proj", keys)];
    let rows = [
        Some(at.norm("attention_norm", ("input_layernorm", w))),
        Some(at.projection("qkv", w, &qkv)),
        config.qkv_bias.then(|| at.bias("qkv_bias", &qkv)),
        Some(at.projection("output", queries, &[("self_attn.o_proj", w)])),
        Some(at.norm("mlp_norm", ("post_attention_layernorm", w))),
        Some(at.projection("gate_up", w, &[("mlp.gate_proj", f), ("mlp.up_proj", f)])),
        Some(at.projection("down", f, &[("mlp.down_proj", w)])),
    ];
    rows.into_iter().flatten().collect()
}

/// Returns the row of the embedding.
pub fn embedding(config: &ModelConfig) -> Parameter {
    Scope::outside_blocks().vocabulary("embedding", Role::Embedding, "model.embed_tokens", config)
}

/// Returns the row of the head. A tied model has no such parameter, but its checkpoint may have the tensor.
pub fn head(config: &ModelConfig) -> Parameter {
    Scope::outside_blocks().vocabulary("head", Role::Head, "lm_head", config)
}

/// Returns names and shapes of all parameters, in the order of [`parameters`].
pub fn shapes(config: &ModelConfig) -> Vec<(String, Shape)> {
    parameters(config).into_iter().map(|parameter| (parameter.name(), parameter.shape)).collect()
}

/// Returns the number of elements in all parameters whose role satisfies `is_included`.
pub fn elements(config: &ModelConfig, is_included: impl Fn(Role) -> bool) -> usize {
    parameters(config).iter().filter(|row| is_included(row.role)).map(|row| row.shape.elem_count()).sum()
}

impl ModelConfig {
    /// Returns the number of parameters, where tied weights count once.
    pub fn parameter_count(&self) -> usize {
        elements(self, |_| true)
    }

    /// Returns the number of parameters, not counting the embedding of an untied model, which is only looked up. A forward pass takes
    /// 2 FLOP per such parameter and token.
    pub fn matmul_parameters(&self) -> usize {
        elements(self, |role| self.tied || role != Role::Embedding)
    }
}

impl Parameter {
    /// Returns the parameter's name in records, settings and optimizer states: `embedding`, `layers.0.qkv`.
    pub fn name(&self) -> String {
        self.layer.map_or_else(|| self.field.to_owned(), |layer| format!("layers.{layer}.{}", self.field))
    }

    /// Returns the number of columns: the last dimension of the shape.
    pub fn width(&self) -> usize {
        self.shape.dims()[self.shape.rank() - 1]
    }
}

/// Creates the rows of one block, or those outside blocks. Holds their layer and the prefix of their names in the checkpoint.
struct Scope {
    layer: Option<usize>,
    prefix: String,
}

impl Scope {
    fn outside_blocks() -> Self {
        Self { layer: None, prefix: String::new() }
    }

    fn block(layer: usize) -> Self {
        Self { layer: Some(layer), prefix: format!("model.layers.{layer}.") }
    }

    fn norm(&self, field: &'static str, module: (&str, usize)) -> Parameter {
        self.vectors(field, Role::Norm, "weight", &[module])
    }

    fn bias(&self, field: &'static str, modules: &[(&str, usize)]) -> Parameter {
        self.vectors(field, Role::Bias, "bias", modules)
    }

    /// Returns a row of concatenated vectors, given modules with their lengths.
    fn vectors(&self, field: &'static str, role: Role, suffix: &str, modules: &[(&str, usize)]) -> Parameter {
        let part = |(module, columns): (&str, Range<usize>)| CheckpointTensor {
            name: format!("{}{module}.{suffix}", self.prefix),
            shape: vec![columns.len()],
            columns,
            transposed: false,
        };
        let parts: Vec<CheckpointTensor> = side_by_side(modules).map(part).collect();
        Parameter { layer: self.layer, field, role, shape: width(modules).into(), parts }
    }

    /// Returns a row of projections with the same input, side by side, given modules with their output widths.
    fn projection(&self, field: &'static str, inputs: usize, modules: &[(&str, usize)]) -> Parameter {
        let part = |(module, columns): (&str, Range<usize>)| CheckpointTensor {
            name: format!("{}{module}.weight", self.prefix),
            shape: vec![columns.len(), inputs],
            columns,
            transposed: true,
        };
        let parts = side_by_side(modules).map(part).collect();
        Parameter { layer: self.layer, field, role: Role::Projection, shape: (inputs, width(modules)).into(), parts }
    }

    /// Returns a row with one vector per token of the vocabulary, in the checkpoint's layout.
    fn vocabulary(&self, field: &'static str, role: Role, module: &str, config: &ModelConfig) -> Parameter {
        let (v, w) = (config.vocabulary, config.hidden);
        let part =
            CheckpointTensor { name: format!("{}{module}.weight", self.prefix), shape: vec![v, w], columns: 0..w, transposed: false };
        Parameter { layer: self.layer, field, role, shape: (v, w).into(), parts: vec![part] }
    }
}

fn width(modules: &[(&str, usize)]) -> usize {
    modules.iter().map(|(_, width)| width).sum()
}

/// Returns each module with its columns.
fn side_by_side<'a>(modules: &'a [(&'a str, usize)]) -> impl Iterator<Item = (&'a str, Range<usize>)> {
    modules.iter().scan(0, |end, (module, width)| {
        let start = *end;
        *end += width;
        Some((*module, start..*end))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(family: &str, tied: bool) -> ModelConfig {
        let text = format!(
            r#"{{"model_type": "{family}", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 6, "vocab_size": 20, "max_position_embeddings": 32, "rms_norm_eps": 1e-6, "rope_theta": 1e4,
            "tie_word_embeddings": {tied}}}"#
        );
        ModelConfig::parse(&text).unwrap()
    }

    /// Optimizer states, gradient dumps and random streams depend on this order.
    #[test]
    fn parameters_have_a_fixed_order() {
        let table = parameters(&config("qwen2", false));
        let row = |row: &Parameter| format!("{} {:?} {:?}", row.name(), row.role, row.shape.dims());
        let rows: Vec<String> = table.iter().filter(|row| row.layer != Some(0)).map(row).collect();
        assert_eq!(
            rows,
            [
                "embedding Embedding [20, 8]",
                "layers.1.attention_norm Norm [8]",
                "layers.1.qkv Projection [8, 48]",
                "layers.1.qkv_bias Bias [48]",
                "layers.1.output Projection [24, 8]",
                "layers.1.mlp_norm Norm [8]",
                "layers.1.gate_up Projection [8, 24]",
                "layers.1.down Projection [12, 8]",
                "norm Norm [8]",
                "head Head [20, 8]",
            ]
        );
        let absent = ["layers.0.qkv_bias", "layers.1.qkv_bias", "head"];
        let smaller: Vec<String> = parameters(&config("llama", true)).iter().map(Parameter::name).collect();
        assert!(table.iter().map(Parameter::name).filter(|name| !absent.contains(&name.as_str())).eq(smaller));
    }

    #[test]
    fn parameters_are_filled_by_their_parts() {
        for row in parameters(&config("qwen2", false)) {
            let mut end = 0;
            for part in &row.parts {
                let (rows, columns) = part.rows_and_columns();
                assert_eq!((part.columns.start, part.columns.len()), (end, if part.transposed { rows } else { columns }), "{}", part.name);
                end = part.columns.end;
            }
            let elements: usize = row.parts.iter().map(|part| part.shape.iter().product::<usize>()).sum();
            assert_eq!((end, elements), (row.width(), row.shape.elem_count()), "{}", row.name());
        }
        let row = &block(&config("qwen2", false), 1)[2];
        let parts: Vec<(&str, Range<usize>)> = row.parts.iter().map(|part| (part.name.as_str(), part.columns.clone())).collect();
        let name = |projection: &str| format!("model.layers.1.self_attn.{projection}_proj.bias");
        assert_eq!(parts, [(&*name("q"), 0..24), (&*name("k"), 24..36), (&*name("v"), 36..48)]);
    }
}
