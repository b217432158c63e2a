//! Hugging Face's tensor names and layout, as data: which tensors of a checkpoint make up each of ours.

use std::ops::Range;

use super::config::ModelConfig;
use crate::kernels::layout::{self, Columns};

/// One tensor of a checkpoint and its place in ours.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Its name in the checkpoint.
    pub name: String,
    /// Its shape in the checkpoint: `[out, in]` for projections.
    pub shape: Vec<usize>,
    /// The columns of our tensor that it fills.
    pub columns: Range<usize>,
    /// Whether ours is its transpose.
    pub transposed: bool,
}

/// The parts of our tensor `name` (see `Weights::entries`).
pub fn parts(config: &ModelConfig, name: &str) -> Vec<Part> {
    let (w, f, d) = (config.hidden, config.feed_forward, config.heads.width);
    let plain = |name: &str, shape: Vec<usize>| {
        let columns = 0..shape[shape.len() - 1];
        vec![Part { name: name.to_owned(), shape, columns, transposed: false }]
    };
    let Some((layer, field)) = name.strip_prefix("layers.").and_then(|rest| rest.split_once('.')) else {
        return match name {
            "embedding" => plain("model.embed_tokens.weight", vec![config.vocabulary, w]),
            "norm" => plain("model.norm.weight", vec![w]),
            _ => plain("lm_head.weight", vec![config.vocabulary, w]),
        };
    };
    let at = |suffix: &str| format!("model.layers.{layer}.{suffix}");
    // Projections side by side in our tensor, `(name, width)`.
    let projections = |input: usize, list: &[(&str, usize)]| {
        let mut start = 0;
        let part = |(suffix, width): &(&str, usize)| {
            let columns = start..start + width;
            start += width;
            Part { name: at(&format!("{suffix}.weight")), shape: vec![*width, input], columns, transposed: true }
        };
        list.iter().map(part).collect::<Vec<_>>()
    };
    let (queries, keys) = (config.heads.query * d, config.heads.key_value * d);
    let qkv = [("self_attn.q_proj", queries), ("self_attn.k_proj", keys), ("self_attn.v_proj", keys)];
    match field {
        "attention_norm" => plain(&at("input_layernorm.weight"), vec![w]),
        "mlp_norm" => plain(&at("post_attention_layernorm.weight"), vec![w]),
        "qkv" => projections(w, &qkv),
        "qkv_bias" => {
            let bias =
                |part: Part| Part { name: part.name.replace(".weight", ".bias"), shape: vec![part.shape[0]], transposed: false, ..part };
            projections(w, &qkv).into_iter().map(bias).collect()
        }
        "output" => projections(queries, &[("self_attn.o_proj", w)]),
        "gate_up" => projections(w, &[("mlp.gate_proj", f), ("mlp.up_proj", f)]),
        _ => projections(f, &[("mlp.down_proj", w)]),
    }
}

impl Part {
    /// Copies rows of the checkpoint's tensor, from row `first` on, into our tensor of `width` columns.
    pub fn place(&self, first: usize, values: &[f32], ours: &mut [f32], width: usize) {
        let (_, columns) = self.rows_and_columns();
        let start = self.columns.start;
        if self.transposed {
            return layout::put_transposed(values, columns, ours, Columns { width, start: start + first });
        }
        for (row, values) in values.chunks_exact(columns).enumerate() {
            ours[(first + row) * width + start..][..columns].copy_from_slice(values);
        }
    }

    /// Fills `target` with rows of the checkpoint's tensor, from row `first` on, out of our tensor of `width` columns.
    pub fn take(&self, first: usize, ours: &[f32], width: usize, target: &mut [f32]) {
        let (_, columns) = self.rows_and_columns();
        let start = self.columns.start;
        if self.transposed {
            return layout::take_transposed(ours, Columns { width, start: start + first }, target, columns);
        }
        for (row, target) in target.chunks_exact_mut(columns).enumerate() {
            target.copy_from_slice(&ours[(first + row) * width + start..][..columns]);
        }
    }

    /// The checkpoint's tensor as a matrix; a vector is one row.
    pub fn rows_and_columns(&self) -> (usize, usize) {
        let columns = self.shape[self.shape.len() - 1];
        (self.shape.iter().product::<usize>() / columns, columns)
    }
}
