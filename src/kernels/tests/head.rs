//! Compares the scores of rows of logits, and their gradient, with f64, over the whole vocabulary and within sampling masks. Also compares
//! sampled tokens and sampling masks.

use candle_core::{DType, Result, Tensor};

use super::Bench;
use crate::flow::SamplingMask;
use crate::kernels::cpu::testing::random;
use crate::kernels::logits::all_below;
use crate::kernels::{Cpu, Filter, Kernels, SamplerOutput, SamplingParams};

impl Bench<'_> {
    pub fn head(&mut self, t: usize, vocabulary: usize, temperature: f32) -> Result<()> {
        let targets: Vec<u32> = (0..t).map(|i| ((i * 31 + vocabulary - 1) % vocabulary) as u32).collect();
        let whole = all_below(vocabulary, (t, vocabulary));
        self.head_of("", &targets, vocabulary, temperature, &whole)
    }

    /// Checks rows whose masks contain one token, the whole vocabulary, its start, its end, every third token, and a few scattered ones.
    pub fn masked_head(&mut self, vocabulary: usize, temperature: f32) -> Result<()> {
        let (v, mut mask) = (vocabulary as u32, SamplingMask::default());
        let targets = vec![v - 1, v / 2, 0, v - 1, v / 3 * 3 - 3, v / 2];
        mask.push([v - 1]);
        mask.push_whole();
        mask.push(0..v / 2 + 1);
        mask.push(v / 2..v);
        mask.push((0..v).step_by(3));
        mask.push([0, v / 2 - 1, v / 2, v - 2]);
        // The name in `stock_errors.tsv`.
        self.head_of("kept ", &targets, vocabulary, temperature, &mask)
    }

    fn head_of(&mut self, what: &str, targets: &[u32], vocabulary: usize, temperature: f32, mask: &SamplingMask) -> Result<()> {
        let (kernels, t) = (self.kernels, targets.len());
        let name = |operation: &str| format!("{what}{operation} of {t} x {vocabulary} at {temperature}");
        let logits = self.put(&(random((t, vocabulary), 1) * 8.0)?, DType::F32)?;
        let derivatives = |seed| random(t, seed).to_vec1::<f32>();
        let (d_logprob, d_entropy) = (derivatives(2)?, derivatives(3)?);
        let (mut logprobs, mut entropies, mut gradient) = (Vec::new(), Vec::new(), Vec::new());
        for (row, z) in logits.exact.chunks(vocabulary).enumerate() {
            let scaled: Vec<f64> = z.iter().map(|z| z / f64::from(temperature)).collect();
            let is_allowed = |i: usize| mask.contains(row, i as u32);
            let allowed = || (0..vocabulary).filter(|i| is_allowed(*i));
            let total = allowed().map(|i| scaled[i].exp()).sum::<f64>().ln();
            let log_p: Vec<f64> = scaled.iter().map(|z| z - total).collect();
            let entropy = -allowed().map(|i| log_p[i].exp() * log_p[i]).sum::<f64>();
            let (a, b) = (f64::from(d_logprob[row]), f64::from(d_entropy[row]));
            gradient.extend(log_p.iter().enumerate().map(|(i, l)| {
                let is_target = if i == targets[row] as usize { 1.0 } else { 0.0 };
                let pull = if is_allowed(i) { a * (is_target - l.exp()) - b * l.exp() * (l + entropy) } else { 0.0 };
                pull / f64::from(temperature)
            }));
            logprobs.push(log_p[targets[row] as usize]);
            entropies.push(entropy);
        }
        let logits = kernels.mask_logits(logits.tensor, mask)?;
        let scores = kernels.head_scores_in_place(&logits, targets, temperature)?;
        self.outcome_of_slice(&name("log-probability"), logprobs, &scores.logprobs);
        self.outcome_of_slice(&name("entropy"), entropies, &scores.entropies);
        let found = kernels.head_backward(logits, targets, temperature, &scores, &d_logprob, &d_entropy)?;
        self.outcome(&name("head_backward"), vocabulary, gradient, &found)
    }
}

/// Checks that every backend samples the same tokens from the same logits, uniform numbers and filters.
pub fn samples(bench: &mut Bench) -> Result<()> {
    let filter = |top_k, top_p, min_p| Filter { top_k, top_p, min_p };
    let filters = [filter(0, 1.0, 0.0), filter(5, 1.0, 0.0), filter(0, 0.8, 0.0), filter(0, 1.0, 0.1), filter(20, 0.9, 0.01)];
    for (temperature, filter) in [0.0, 0.6, 1.0].into_iter().flat_map(|t| filters.map(|filter| (t, filter))) {
        bench.assertions(&format!("sample of 64 x 300 at {temperature}, {filter:?}"), |bench| {
            check_sample(bench.kernels, temperature, filter)
        });
    }
    bench.assertions("sample_with_mask of 64 x 300 without filters", |bench| check_whole(bench.kernels));
    Ok(())
}

/// Samples with all filters at once, and with none.
pub fn samples_once(bench: &mut Bench) {
    let filter = Filter { top_k: 20, top_p: 0.9, min_p: 0.01 };
    bench.assertions("sample of 64 x 300 once", |bench| check_sample(bench.kernels, 0.6, filter));
    bench.assertions("sample_with_mask of 64 x 300 once", |bench| check_whole(bench.kernels));
}

/// Returns rows of logits to sample from, and a uniform number in [0, 1) for each.
fn logits_and_uniforms() -> Result<(Tensor, Vec<f32>)> {
    let (rows, vocabulary) = (64, 300);
    let uniforms = random(rows, 6).to_vec1::<f32>()?.iter().map(|u| (u + 1.0) / 2.0).collect();
    Ok(((random((rows, vocabulary), 5) * 6.0)?, uniforms))
}

fn check_sample(kernels: &dyn Kernels, temperature: f32, filter: Filter) -> Result<()> {
    let (limit, (logits, uniforms)) = (290, logits_and_uniforms()?);
    let params = SamplingParams { temperature, filter, uniforms: &uniforms };
    let expected = Cpu.sample(logits.copy()?, limit, &params)?.read()?;
    let found = kernels.sample(logits.to_device(kernels.device())?.copy()?, limit, &params)?.read()?;
    check_near(&found, &expected, &params);
    assert_eq!((&found.masked, &expected.masked), (&None, &None));
    if temperature == 1.0 {
        return Ok(());
    }
    let expected = Cpu.sample_with_mask(logits.copy()?, limit, &params)?.read()?;
    let with_mask = kernels.sample_with_mask(logits.to_device(kernels.device())?.copy()?, limit, &params)?.read()?;
    assert_eq!(
        (&with_mask.tokens, &with_mask.logprobs),
        (&found.tokens, &found.logprobs),
        "recording masks must not change the tokens, {params:?}"
    );
    check_near(&with_mask, &expected, &params);
    check_mask(&expected, &logits, limit, &params)
}

/// Checks that no ids are recorded if no token is filtered out.
fn check_whole(kernels: &dyn Kernels) -> Result<()> {
    let (logits, uniforms) = logits_and_uniforms()?;
    let all = SamplingParams { temperature: 0.6, filter: Filter::default(), uniforms: &uniforms };
    let output = kernels.sample_with_mask(logits.to_device(kernels.device())?.copy()?, logits.dim(1)?, &all)?.read()?;
    assert!(output.masked.is_some_and(|masked| masked.mask.is_whole() && masked.logprobs == output.logprobs));
    Ok(())
}

/// Checks that tokens and masks are equal, and that log-probabilities differ only by the order of summation.
fn check_near(found: &SamplerOutput, expected: &SamplerOutput, params: &SamplingParams) {
    let masks = |output: &SamplerOutput| output.masked.as_ref().map(|masked| masked.mask.clone());
    assert_eq!((&found.tokens, masks(found)), (&expected.tokens, masks(expected)), "{params:?}");
    let logprobs = |output: &SamplerOutput| -> Vec<f32> {
        output.logprobs.iter().chain(output.masked.iter().flat_map(|masked| &masked.logprobs)).copied().collect()
    };
    let (found, expected) = (logprobs(found), logprobs(expected));
    assert_eq!(found.len(), expected.len());
    let distance = found.iter().zip(&expected).fold(0.0f32, |far, (a, b)| far.max((a - b).abs()));
    assert!(distance < 1e-5, "log-probabilities differ by {distance}, {params:?}");
}

/// Checks the mask against its definition, with a full sort in f64, and the log-probabilities within the mask.
fn check_mask(output: &SamplerOutput, logits: &Tensor, limit: usize, params: &SamplingParams) -> Result<()> {
    let masked = output.masked.as_ref().expect("sample_with_mask records a mask");
    let temperature = if params.temperature == 0.0 { 1.0 } else { f64::from(params.temperature) };
    for (row, z) in logits.to_vec2::<f32>()?.iter().enumerate() {
        let weights: Vec<f64> = z[..limit].iter().map(|z| (f64::from(*z) / temperature).exp()).collect();
        let mut order: Vec<usize> = (0..limit).collect();
        order.sort_by(|a, b| weights[*b].total_cmp(&weights[*a]));
        let Filter { top_k, top_p, min_p } = params.filter;
        let least = f64::from(min_p) * weights[order[0]];
        order.retain(|token| weights[*token] >= least);
        order.truncate(if top_k == 0 { limit } else { top_k });
        let total: f64 = order.iter().map(|token| weights[*token]).sum();
        let mut reached = 0.0;
        let last = order.iter().position(|token| {
            reached += weights[*token];
            top_p < 1.0 && reached >= f64::from(top_p) * total
        });
        order.truncate(last.map_or(order.len(), |last| last + 1));
        let total: f64 = order.iter().map(|token| weights[*token]).sum();
        order.sort_unstable();
        let allowed: Vec<usize> = (0..z.len()).filter(|token| masked.mask.contains(row, *token as u32)).collect();
        assert_eq!(allowed, order, "row {row}, {params:?}");
        let exact = (weights[output.tokens[row] as usize] / total).ln();
        assert!((f64::from(masked.logprobs[row]) - exact).abs() < 1e-5, "row {row}: found {}, expected {exact}", masked.logprobs[row]);
    }
    Ok(())
}

/// Checks that the log-probability of a sampled token is bit-identical to the one that the trainer computes.
pub fn scores_of_samples(bench: &mut Bench) -> Result<()> {
    bench.assertions("head_scores_in_place of 9 x 301 sampled tokens", |bench| check_scores_of_samples(bench.kernels));
    Ok(())
}

fn check_scores_of_samples(kernels: &dyn Kernels) -> Result<()> {
    let logits = (random((9, 301), 7) * 6.0)?.to_device(kernels.device())?;
    let uniforms = vec![0.7; 9];
    for (temperature, top_p) in [(0.6, 1.0), (1.0, 0.9)] {
        let filter = Filter { top_k: 0, top_p, min_p: 0.0 };
        let params = SamplingParams { temperature, filter, uniforms: &uniforms };
        let SamplerOutput { tokens, logprobs, .. } = kernels.sample(logits.copy()?, 290, &params)?.read()?;
        assert_eq!(kernels.head_scores_in_place(&logits.copy()?, &tokens, temperature)?.logprobs, logprobs);
        let SamplerOutput { tokens, masked, .. } = kernels.sample_with_mask(logits.copy()?, 290, &params)?.read()?;
        let masked = masked.expect("sample_with_mask records a mask");
        let masked_logits = kernels.mask_logits(logits.copy()?, &masked.mask)?;
        assert_eq!(kernels.head_scores_in_place(&masked_logits, &tokens, temperature)?.logprobs, masked.logprobs);
    }
    Ok(())
}
