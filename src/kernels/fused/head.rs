//! Launches the operations on logits: scores and their gradient, sampling, and sampling masks.

use candle_core::{DType, Result, Tensor, bail};

use super::Fused;
use super::launch::Argument::{Float, Int, Tensor as At};
use super::launch::Grid;
use crate::flow::{MaskedSample, SamplingMask};
use crate::kernels::logits::{all_below, check_mask};
use crate::kernels::{MASKED, PendingSample, RowScores, SamplerOutput, SamplingParams};

/// Threads per row of logits.
const HEAD_THREADS: usize = 512;

/// Scores the target token of each row of `logits [t, v]`: log-probability, entropy and log-sum-exp.
///
/// # Errors
/// If a target is beyond the vocabulary, or a launch fails.
pub fn scores(fused: &Fused, logits: &Tensor, targets: &[u32], temperature: f32) -> Result<RowScores> {
    let (rows, width) = logits.dims2()?;
    if let Some(target) = targets.iter().find(|target| **target as usize >= width) {
        bail!("token {target} is beyond the model's vocabulary of {width}");
    }
    let scores = fused.empty_f32((rows, 3))?;
    let arguments = [At(&scores), At(logits), At(&fused.numbers(targets)?), Int(width), Float(1.0 / temperature)];
    fused.launch_exactly("head_forward", Grid::of(rows, HEAD_THREADS), &arguments)?;
    let scores = fused.machine.fetch(&scores.flatten_all()?)?()?;
    let column = |column: usize| scores.iter().skip(column).step_by(3).copied().map(f32::from_bits).collect();
    Ok(RowScores { logprobs: column(0), entropies: column(1), log_sum_exp: column(2) })
}

/// The gradient of `logits [t, v]`. In f32 it overwrites the logits; in bf16 it is a new tensor.
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
    let tensors = [At(&gradient), At(&logits), At(&fused.numbers(targets)?), At(&lists[0]), At(&lists[1]), At(&lists[2])];
    fused.launch("head_backward", Grid::of(rows, HEAD_THREADS), &[&tensors[..], &[Int(width), Float(1.0 / temperature)]].concat())?;
    Ok(gradient)
}

/// Starts sampling a token from each row of `logits [n, v]`, among the tokens below `limit`.
///
/// # Errors
/// If the device is out of memory, or a launch fails.
pub fn sample(fused: &Fused, logits: &Tensor, limit: usize, choice: &SamplingParams) -> Result<PendingSample> {
    let (rows, width) = logits.dims2()?;
    // The tokens, then the bits of their log-probabilities.
    let chosen = fused.machine.empty((2 * rows).into(), DType::U32)?;
    let (tokens, logprobs) = (chosen.narrow(0, 0, rows)?, chosen.narrow(0, rows, rows)?);
    let uniforms = if choice.temperature == 0.0 { &vec![0.0; rows] } else { choice.uniforms };
    let inverse = if choice.temperature == 0.0 { 0.0 } else { 1.0 / choice.temperature };
    let tensors = [At(&tokens), At(&logprobs), At(logits), At(&fused.machine.put_floats(uniforms)?)];
    let filter = [Int(choice.filter.top_k), Float(choice.filter.top_p), Float(choice.filter.min_p)];
    let arguments = [&tensors[..], &[Int(width), Int(limit), Float(inverse)], &filter].concat();
    fused.launch_exactly("sample_tokens", Grid::of(rows, HEAD_THREADS), &arguments)?;
    let numbers = fused.machine.fetch(&chosen)?;
    let read = move || {
        let mut tokens = numbers()?;
        let logprobs = tokens.split_off(rows).into_iter().map(f32::from_bits).collect();
        Ok(SamplerOutput { tokens, logprobs, truncated: None })
    };
    Ok(PendingSample::pending(tokens, read))
}

/// Samples a token from each row of `logits [n, v]` and returns the sampling mask as well. Masks the logits of all other tokens in place.
///
/// # Errors
/// If the device is out of memory, or a launch fails.
pub fn sample_with_mask(fused: &Fused, logits: &Tensor, limit: usize, choice: &SamplingParams) -> Result<PendingSample> {
    let (rows, width) = logits.dims2()?;
    let chosen = sample(fused, logits, limit, choice)?;
    let Some(tokens) = chosen.on_device().cloned() else { bail!("the sampled tokens are not on the device") };
    let temperature = if choice.temperature == 0.0 { 1.0 } else { choice.temperature };
    // The filters run twice: once to sample, and here to record the mask.
    let kept: Box<dyn FnOnce() -> Result<SamplingMask> + Send> = if choice.filter.is_off() {
        let kept = all_below(limit, (rows, width));
        mask_in_place(fused, logits, &kept)?;
        Box::new(|| Ok(kept))
    } else {
        let words = width.div_ceil(32);
        let bits = fused.machine.empty((rows, words).into(), DType::U32)?;
        let filter = [Int(choice.filter.top_k), Float(choice.filter.top_p), Float(choice.filter.min_p)];
        let arguments = [&[At(&bits), At(logits), Int(width), Int(limit), Float(1.0 / temperature)], &filter[..], &[Float(MASKED)]];
        fused.launch_exactly("filter_tokens", Grid::of(rows, HEAD_THREADS), &arguments.concat())?;
        let bits = fused.machine.fetch(&bits.flatten_all()?)?;
        Box::new(move || Ok(of_bits(&bits()?, words, width)))
    };
    // The same bits as the trainer's log-probabilities among the kept tokens.
    let scores = fused.machine.empty((rows * 3).into(), DType::U32)?;
    let arguments = [At(&scores), At(logits), At(&tokens), Int(width), Float(1.0 / temperature)];
    fused.launch_exactly("head_forward", Grid::of(rows, HEAD_THREADS), &arguments)?;
    let scores = fused.machine.fetch(&scores)?;
    let read = move || {
        let logprobs = scores()?.into_iter().step_by(3).map(f32::from_bits).collect();
        Ok(SamplerOutput { truncated: Some(MaskedSample { kept: kept()?, logprobs }), ..chosen.read()? })
    };
    Ok(PendingSample::pending(tokens, read))
}

/// Sets the logits `[t, v]` of tokens outside the sampling mask to [`MASKED`], in place.
///
/// # Errors
/// If the mask does not fit the logits, or the launch fails.
pub fn mask_in_place(fused: &Fused, logits: &Tensor, kept: &SamplingMask) -> Result<()> {
    let (rows, width) = logits.dims2()?;
    check_mask(kept, (rows, width))?;
    if kept.is_whole() {
        return Ok(());
    }
    let (mut offsets, mut runs) = (vec![0], Vec::new());
    for row in 0..rows {
        runs.extend(kept.runs(row).as_flattened());
        offsets.push(runs.len() as u32 / 2);
    }
    let arguments = [At(logits), At(&fused.numbers(&offsets)?), At(&fused.numbers(&runs)?), Int(width), Float(MASKED)];
    fused.launch_exactly("keep_tokens", Grid::of(rows, HEAD_THREADS), &arguments)
}

/// Converts a bit mask to token sets: each row has `words` words with one bit per token. A row of zeros comes from logits that are NaN. It
/// keeps the whole vocabulary, as does a row of ones.
fn of_bits(bits: &[u32], words: usize, width: usize) -> SamplingMask {
    let mut kept = SamplingMask::default();
    for row in bits.chunks_exact(words) {
        let count: usize = row.iter().map(|word| word.count_ones() as usize).sum();
        if count == 0 || count == width {
            kept.push_whole();
            continue;
        }
        let of_word = |(at, word): (usize, &u32)| {
            let (first, word) = (at as u32 * 32, *word);
            (0..if word == 0 { 0 } else { 32 }).filter(move |bit| word >> bit & 1 == 1).map(move |bit| first + bit)
        };
        kept.push(row.iter().enumerate().flat_map(of_word));
    }
    kept
}
