//! Implements [`Kernels`] with the plain loops on the CPU.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};
use rayon::prelude::*;

use super::{
    adamw, adamw_8bit, attention_cached, attention_packed, for_rows, head, product, read, rms_norm, rows, sample, sampling_mask, swiglu,
    update,
};
use crate::flow::SamplingMask;
use crate::kernels::copies;
use crate::kernels::logits::all_below;
use crate::kernels::shape::{BlockTables, Heads, Indices, LayerCache, Rotation, Segment};
use crate::kernels::{
    DeviceMemory, Kernels, Moments, Parameter, Pass, PendingSample, RowScores, SamplerOutput, SamplingParams, Step, pass,
};

/// The plain loops, in f32.
#[derive(Clone, Copy, Debug)]
pub struct Cpu;

impl Kernels for Cpu {
    fn backend(&self) -> &'static str {
        "plain"
    }

    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn memory(&self) -> Option<DeviceMemory> {
        None
    }

    fn indices<'a>(&self, rows: &'a [u32]) -> Result<Indices<'a>> {
        Ok(Indices::Host(rows))
    }

    fn tables<'a>(&self, blocks: &'a [&'a [u32]], counts: &'a [usize]) -> Result<BlockTables<'a>> {
        Ok(BlockTables::Host { blocks, counts })
    }

    fn gather(&self, table: &Tensor, rows: &Indices) -> Result<Tensor> {
        rows::gather(table, rows.on_host()?)
    }

    fn scatter_add_into(&self, target: &Tensor, rows: &[u32], values: &Tensor) -> Result<()> {
        rows::scatter_add_into(target, rows, values)
    }

    fn product(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        product::product(x, weight, bias)
    }

    fn add_product_into(&self, target: &Tensor, x: &Tensor, weight: &Tensor) -> Result<()> {
        product::add_product_into(target, x, weight)
    }

    fn add_product(&self, base: &Tensor, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let sum = base.copy()?;
        self.add_product_into(&sum, x, weight)?;
        Ok(sum)
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f32) -> Result<(Tensor, Tensor)> {
        rms_norm::forward(x, weight, eps)
    }

    fn rms_norm_backward_into(
        &self,
        dx: &Tensor,
        weight_gradient: &Tensor,
        dy: &Tensor,
        x: &Tensor,
        weight: &Tensor,
        inverse_rms: &Tensor,
    ) -> Result<()> {
        rms_norm::backward_into(dx, weight_gradient, dy, x, weight, inverse_rms)
    }

    fn rotate_in_place(&self, qkv: &Tensor, heads: Heads, rotation: &Rotation) -> Result<()> {
        rows::rotate_in_place(qkv, heads.query + heads.key_value, rotation)
    }

    fn rotate_back_in_place(&self, d_qkv: &Tensor, heads: Heads, rotation: &Rotation, bias_gradient: Option<&Tensor>) -> Result<()> {
        rows::rotate_back_in_place(d_qkv, heads.query + heads.key_value, rotation)?;
        bias_gradient.map_or(Ok(()), |gradient| product::add_column_sums_into(gradient, d_qkv))
    }

    fn attend_packed(&self, qkv: &Tensor, segments: &[Segment], heads: Heads) -> Result<(Tensor, Tensor)> {
        attention_packed::forward(qkv, segments, heads)
    }

    fn attend_packed_backward(
        &self,
        d_out: &Tensor,
        out: &Tensor,
        log_sum_exp: &Tensor,
        qkv: &Tensor,
        segments: &[Segment],
        heads: Heads,
    ) -> Result<Tensor> {
        attention_packed::backward(d_out, out, log_sum_exp, qkv, segments, heads)
    }

    fn cache(&self, blocks: usize, heads: Heads) -> Result<LayerCache> {
        attention_cached::cache(blocks, heads)
    }

    fn store(&self, cache: &LayerCache, qkv: &Tensor, slots: &Indices, heads: Heads) -> Result<()> {
        attention_cached::store(cache, qkv, slots.on_host()?, heads)
    }

    fn copy_blocks(&self, cache: &LayerCache, pairs: &[(u32, u32)], heads: Heads) -> Result<()> {
        attention_cached::copy_blocks(cache, pairs, heads)
    }

    fn attend_cached(&self, qkv: &Tensor, cache: &LayerCache, tables: &BlockTables, heads: Heads) -> Result<Tensor> {
        let (blocks, counts) = tables.on_host()?;
        attention_cached::forward(qkv, cache, blocks, counts, heads)
    }

    fn rotate_and_store_in_place(
        &self,
        qkv: &Tensor,
        heads: Heads,
        rotation: &Rotation,
        cache: &LayerCache,
        slots: &Indices,
    ) -> Result<()> {
        self.rotate_in_place(qkv, heads, rotation)?;
        self.store(cache, qkv, slots, heads)
    }

    fn swiglu(&self, gate_up: &Tensor) -> Result<Tensor> {
        swiglu::forward(gate_up)
    }

    fn swiglu_backward(&self, dy: &Tensor, gate_up: &Tensor) -> Result<Tensor> {
        swiglu::backward(dy, gate_up)
    }

    fn logits(&self, x: &Tensor, table: &Tensor) -> Result<Tensor> {
        product::product(x, &table.t()?, None)
    }

    fn head_scores_in_place(&self, logits: &Tensor, targets: &[u32], temperature: f32) -> Result<RowScores> {
        head::scale_in_place(logits, temperature)?;
        head::forward(logits, targets)
    }

    fn head_backward(
        &self,
        logits: Tensor,
        targets: &[u32],
        temperature: f32,
        scores: &RowScores,
        d_logprob: &[f32],
        d_entropy: &[f32],
    ) -> Result<Tensor> {
        head::backward_in_place(&logits, temperature, targets, scores, d_logprob, d_entropy)?;
        Ok(logits)
    }

    fn sample(&self, logits: Tensor, limit: usize, params: &SamplingParams) -> Result<PendingSample> {
        let tokens = sample_rows(&logits, params, |index, row| match params.temperature == 0.0 {
            true => sample::greedy(&row[..limit]),
            false => sample::sample(&row[..limit], &params.filter, params.uniforms[index]),
        })?;
        let scores = head::forward(&logits, &tokens)?;
        Ok(PendingSample::ready(SamplerOutput { tokens, logprobs: scores.logprobs, masked: None }))
    }

    fn sample_with_mask(&self, logits: Tensor, limit: usize, params: &SamplingParams) -> Result<PendingSample> {
        if params.filter.is_off() {
            let SamplerOutput { tokens, logprobs, .. } = self.sample(logits.clone(), limit, params)?.read()?;
            let mask = all_below(limit, logits.dims2()?);
            return sampling_mask::score(&logits, tokens, logprobs, mask);
        }
        let rows = sample_rows(&logits, params, |index, row| match params.temperature == 0.0 {
            true => sample::greedy_with_mask(&row[..limit], &params.filter),
            false => sample::sample_with_mask(&row[..limit], &params.filter, params.uniforms[index]),
        })?;
        let width = logits.dim(1)?;
        let (mut tokens, mut mask) = (Vec::with_capacity(rows.len()), SamplingMask::default());
        for (token, ids) in rows {
            tokens.push(token);
            // If logits are NaN, no token passes the filter. The log-probability is then NaN, too, which stops the run.
            if ids.is_empty() || ids.len() == width { mask.push_whole() } else { mask.push(ids) }
        }
        let scores = head::forward(&logits, &tokens)?;
        sampling_mask::score(&logits, tokens, scores.logprobs, mask)
    }

    fn mask_logits(&self, logits: Tensor, mask: &SamplingMask) -> Result<Tensor> {
        sampling_mask::mask_in_place(&logits, mask)?;
        Ok(logits)
    }

    fn sum_of_squares(&self, gradient: &Tensor) -> Result<f64> {
        adamw::sum_of_squares(gradient)
    }

    fn adamw_in_place(&self, parameter: &Parameter, step: &Step) -> Result<()> {
        let Parameter { weight, moments, gradient, .. } = *parameter;
        match moments {
            Moments::Full { first, second } => adamw::step_in_place(weight, first, second, gradient, step),
            Moments::Quantized { first, second } => adamw_8bit::step_in_place(weight, first, second, gradient, step),
        }
    }

    fn add_into(&self, target: &Tensor, source: &Tensor) -> Result<()> {
        update(target, [source], |target, [source]| {
            for_rows(target, 1, |first, target| target.iter_mut().zip(&source[first..]).for_each(|(t, s)| *t += s));
        })
    }

    fn clear(&self, target: &Tensor) -> Result<()> {
        update(target, [], |values, []| for_rows(values, 1, |_, values| values.fill(0.0)))
    }

    fn cast(&self, x: &Tensor, dtype: DType) -> Result<Tensor> {
        copies::cast(x, dtype, &Device::Cpu)
    }

    fn set(&self, target: &Tensor, source: &Tensor) -> Result<()> {
        copies::set(target, source)
    }

    fn columns(&self, matrix: &Tensor, columns: Range<usize>) -> Result<Tensor> {
        copies::columns(matrix, columns)
    }

    fn set_columns(&self, target: &Tensor, first: usize, source: &Tensor) -> Result<()> {
        copies::set_columns(target, first, source)
    }

    fn stack(&self, parts: &[&Tensor]) -> Result<Tensor> {
        copies::stack(parts)
    }

    fn scaled(&self, x: &Tensor, factor: f64) -> Result<Tensor> {
        copies::scaled(x, factor)
    }

    fn mix_in_place(&self, average: &Tensor, x: &Tensor, decay: f64) -> Result<()> {
        copies::mix_in_place(average, x, decay)
    }

    fn read(&self, x: &Tensor) -> Result<Vec<f32>> {
        x.flatten_all()?.to_vec1()
    }

    fn run_pass(&self, step: &pass::Step, pass: &dyn Pass) -> Result<Tensor> {
        pass::run_eagerly(self, step, pass)
    }
}

/// Scales the logits in place and returns the results of `sample(row number, row)` in row order.
fn sample_rows<T: Send>(logits: &Tensor, params: &SamplingParams, sample: impl Fn(usize, &[f32]) -> T + Sync) -> Result<Vec<T>> {
    if params.temperature != 0.0 {
        head::scale_in_place(logits, params.temperature)?;
    }
    let (_, width) = logits.dims2()?;
    read([logits], |[logits]| {
        let sample = |(index, row): (usize, &[f32])| sample(index, row);
        if rayon::current_num_threads() == 1 {
            return logits.chunks_exact(width).enumerate().map(sample).collect();
        }
        logits.par_chunks_exact(width).enumerate().map(sample).collect()
    })
}
