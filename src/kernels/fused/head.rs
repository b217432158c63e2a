//! Launches the operations on logits: scores, their gradient, sampling, and sampling masks.

use candle_core::{DType, Result, Tensor, bail};

use super::Fused;
use super::launch::Argument::{Float, Int, Tensor as At};
use super::launch::Grid;
use crate::flow::{MaskedSample, SamplingMask};
use crate::kernels::logits::{all_below, check_mask};
use crate::kernels::{MASKED, PendingSample, RowScores, SamplerOutput, SamplingParams};

/// Threads per row of logits.
const HEAD_THREADS: usize = 512;

/// Returns the scores of the target token of each row of `logits [t, v]`.
///
/// # Errors
/// If a target is beyond the vocabulary, or a launch fails.
pub fn scores(fused: &Fused, logits: &Tensor, targets: &[u32], temperature: f32) -> Result<RowScores> {
    let (rows, width) = logits.dims2()?;
    if let Some(target) = targets.iter().find(|target| **target as usize >= width) {
        bail!("token {target} is beyond the model's vocabulary of {width}");
    }
    let scores = fused.empty_f32((rows, 3))?;
    let arguments = [At(&scores), At(logits), At(&fused.u32_tensor(targets)?), Int(width), Float(1.0 / temperature)];
    fused.launch_exactly("head_forward", Grid::of(rows, HEAD_THREADS), &arguments)?;
    let scores = fused.machine.fetch(&scores.flatten_all()?)?()?;
    let column = |column: usize| scores.iter().skip(column).step_by(3).copied().map(f32::from_bits).collect();
    Ok(RowScores { logprobs: column(0), entropies: column(1), log_sum_exp: column(2) })
}

/// Returns the gradient of `logits [t, v]`. In f32 it overwrites the logits; in bf16 it is a new tensor.
///
/// # Errors
/// If the device is out of memory, or a launch fails.
pub fn backward(
    fused: &Fused,
    logits: Tensor,
    targets: &[u32],
    temperature: f32,
    scores: &RowScores,
    d_logprob: &[f32],
    d_entropy: &[f32],
) -> Result<Tensor> {
    let (rows, width) = logits.dims2()?;
    let mut flat = Vec::with_capacity(rows * 3);
    for row in 0..rows {
        flat.extend([scores.logprobs[row], scores.entropies[row], scores.log_sum_exp[row]]);
    }
    let put = |values: &[f32]| fused.machine.put_floats(values);
    let lists = [put(&flat)?, put(d_logprob)?, put(d_entropy)?];
    let gradient = if fused.dtype == DType::F32 { logits.clone() } else { fused.empty((rows, width))? };
    let tensors = [At(&gradient), At(&logits), At(&fused.u32_tensor(targets)?), At(&lists[0]), At(&lists[1]), At(&lists[2])];
    fused.launch("head_backward", Grid::of(rows, HEAD_THREADS), &[&tensors[..], &[Int(width), Float(1.0 / temperature)]].concat())?;
    Ok(gradient)
}

/// Starts sampling a token from each row of `logits [n, v]`, among the tokens below `limit`.
///
/// # Errors
/// If the device is out of memory, or a launch fails.
pub fn sample(fused: &Fused, logits: &Tensor, limit: usize, params: &SamplingParams) -> Result<PendingSample> {
    let (rows, width) = logits.dims2()?;
    // The tokens, followed by the bits of their log-probabilities.
    let sampled = fused.machine.empty((2 * rows).into(), DType::U32)?;
    let (tokens, logprobs) = (sampled.narrow(0, 0, rows)?, sampled.narrow(0, rows, rows)?);
    let uniforms = if params.temperature == 0.0 { &vec![0.0; rows] } else { params.uniforms };
    let inverse = if params.temperature == 0.0 { 0.0 } else { 1.0 / params.temperature };
    let tensors = [At(&tokens), At(&logprobs), At(logits), At(&fused.machine.put_floats(uniforms)?)];
    let filter = [Int(params.filter.top_k), Float(params.filter.top_p), Float(params.filter.min_p)];
    let arguments = [&tensors[..], &[Int(width), Int(limit), Float(inverse)], &filter].concat();
    fused.launch_exactly("sample_tokens", Grid::of(rows, HEAD_THREADS), &arguments)?;
    let pending = fused.machine.fetch(&sampled)?;
    let read = move || {
        let mut tokens = pending()?;
        let logprobs = tokens.split_off(rows).into_iter().map(f32::from_bits).collect();
        Ok(SamplerOutput { tokens, logprobs, masked: None })
    };
    Ok(PendingSample::pending(tokens, read))
}

/// Starts sampling a token from each row of `logits [n, v]`, and recording the sampling mask. Masks the logits in place.
///
/// # Errors
/// If the device is out of memory, or a launch fails.
pub fn sample_with_mask(fused: &Fused, logits: &Tensor, limit: usize, params: &SamplingParams) -> Result<PendingSample> {
    let (rows, width) = logits.dims2()?;
    let sampled = sample(fused, logits, limit, params)?;
    let Some(tokens) = sampled.on_device().cloned() else { bail!("the sampled tokens are not on the device") };
    let temperature = if params.temperature == 0.0 { 1.0 } else { params.temperature };
    // The filters run twice: once to sample, and here to record the mask.
    let mask: Box<dyn FnOnce() -> Result<SamplingMask> + Send> = if params.filter.is_off() {
        let mask = all_below(limit, (rows, width));
        mask_in_place(fused, logits, &mask)?;
        Box::new(|| Ok(mask))
    } else {
        let words = width.div_ceil(32);
        let bits = fused.machine.empty((rows, words).into(), DType::U32)?;
        let filter = [Int(params.filter.top_k), Float(params.filter.top_p), Float(params.filter.min_p)];
        let arguments = [&[At(&bits), At(logits), Int(width), Int(limit), Float(1.0 / temperature)], &filter[..], &[Float(MASKED)]];
        fused.launch_exactly("filter_tokens", Grid::of(rows, HEAD_THREADS), &arguments.concat())?;
        let bits = fused.machine.fetch(&bits.flatten_all()?)?;
        Box::new(move || Ok(mask_of_bits(&bits()?, words, width)))
    };
    // The same kernel as the trainer's, so that the log-probabilities among the tokens in the mask have the same bits.
    let scores = fused.machine.empty((rows * 3).into(), DType::U32)?;
    let arguments = [At(&scores), At(logits), At(&tokens), Int(width), Float(1.0 / temperature)];
    fused.launch_exactly("head_forward", Grid::of(rows, HEAD_THREADS), &arguments)?;
    let scores = fused.machine.fetch(&scores)?;
    let read = move || {
        let logprobs = scores()?.into_iter().step_by(3).map(f32::from_bits).collect();
        Ok(SamplerOutput { masked: Some(MaskedSample { mask: mask()?, logprobs }), ..sampled.read()? })
    };
    Ok(PendingSample::pending(tokens, read))
}

/// Sets the logits `[t, v]` of tokens outside the sampling mask to [`MASKED`], in place.
///
/// # Errors
/// If the mask does not fit the logits, the device is out of memory, or the launch fails.
pub fn mask_in_place(fused: &Fused, logits: &Tensor, mask: &SamplingMask) -> Result<()> {
    let (rows, width) = logits.dims2()?;
    check_mask(mask, (rows, width))?;
    if mask.is_whole() {
        return Ok(());
    }
    let (mut offsets, mut runs) = (vec![0], Vec::new());
    for row in 0..rows {
        runs.extend(mask.runs(row).as_flattened());
        offsets.push(runs.len() as u32 / 2);
    }
    let arguments = [At(logits), At(&fused.u32_tensor(&offsets)?), At(&fused.u32_tensor(&runs)?), Int(width), Float(MASKED)];
    fused.launch_exactly("keep_tokens", Grid::of(rows, HEAD_THREADS), &arguments)
}

/// Converts a bit mask, with `words` words per row and one bit per token, to a sampling mask. A row of zeros, which comes from NaN logits,
/// counts as the whole vocabulary, like a row of ones.
fn mask_of_bits(bits: &[u32], words: usize, width: usize) -> SamplingMask {
    let mut mask = SamplingMask::default();
    for row in bits.chunks_exact(words) {
        let count: usize = row.iter().map(|word| word.count_ones() as usize).sum();
        if count == 0 || count == width {
            mask.push_whole();
            continue;
        }
        let of_word = |(at, word): (usize, &u32)| {
            let (first, word) = (at as u32 * 32, *word);
            (0..if word == 0 { 0 } else { 32 }).filter(move |bit| word >> bit & 1 == 1).map(move |bit| first + bit)
        };
        mask.push(row.iter().enumerate().flat_map(of_word));
    }
    mask
}
