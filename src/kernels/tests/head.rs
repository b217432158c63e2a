//! Compares scores of rows of logits and their gradient with f64, over the whole vocabulary and within sampling masks, and checks sampled
//! tokens.

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

    /// Rows whose masks keep one token, the whole vocabulary, its start, its end, every third token, and a few scattered ones.
    pub fn head_of_kept(&mut self, vocabulary: usize, temperature: f32) -> Result<()> {
        let (v, mut kept) = (vocabulary as u32, SamplingMask::default());
        let targets = vec![v - 1, v / 2, 0, v - 1, v / 3 * 3 - 3, v / 2];
        kept.push([v - 1]);
        kept.push_whole();
        kept.push(0..v / 2 + 1);
        kept.push(v / 2..v);
        kept.push((0..v).step_by(3));
        kept.push([0, v / 2 - 1, v / 2, v - 2]);
        self.head_of("kept ", &targets, vocabulary, temperature, &kept)
    }

    fn head_of(&mut self, what: &str, targets: &[u32], vocabulary: usize, temperature: f32, kept: &SamplingMask) -> Result<()> {
        let (kernels, t) = (self.kernels, targets.len());
        let name = |operation: &str| format!("{what}{operation} of {t} x {vocabulary} at {temperature}");
        let logits = self.put(&(random((t, vocabulary), 1) * 8.0)?, DType::F32)?;
        let derivatives = |seed| random(t, seed).to_vec1::<f32>();
        let (d_logprob, d_entropy) = (derivatives(2)?, derivatives(3)?);
        let (mut logprobs, mut entropies, mut gradient) = (Vec::new(), Vec::new(), Vec::new());
        for (row, z) in logits.exact.chunks(vocabulary).enumerate() {
            let scaled: Vec<f64> = z.iter().map(|z| z / f64::from(temperature)).collect();
            let keeps = |i: usize| kept.contains(row, i as u32);
            let of_kept = || (0..vocabulary).filter(|i| keeps(*i));
            let total = of_kept().map(|i| scaled[i].exp()).sum::<f64>().ln();
            let log_p: Vec<f64> = scaled.iter().map(|z| z - total).collect();
            let entropy = -of_kept().map(|i| log_p[i].exp() * log_p[i]).sum::<f64>();
            let (a, b) = (f64::from(d_logprob[row]), f64::from(d_entropy[row]));
            gradient.extend(log_p.iter().enumerate().map(|(i, l)| {
                let chosen = if i == targets[row] as usize { 1.0 } else { 0.0 };
                let pull = if keeps(i) { a * (chosen - l.exp()) - b * l.exp() * (l + entropy) } else { 0.0 };
                pull / f64::from(temperature)
            }));
            logprobs.push(log_p[targets[row] as usize]);
            entropies.push(entropy);
        }
        let logits = kernels.mask_logits(logits.tensor, kept)?;
        let scores = kernels.head_scores_in_place(&logits, targets, temperature)?;
        self.listed(&name("log-probability"), logprobs, &scores.logprobs);
        self.listed(&name("entropy"), entropies, &scores.entropies);
        let found = kernels.head_backward(logits, targets, temperature, &scores, &d_logprob, &d_entropy)?;
        self.outcome(&name("head_backward"), vocabulary, gradient, &found)
    }
}

/// Every implementation samples the same tokens from the same logits, uniform numbers and filters.
pub fn choices(bench: &mut Bench) -> Result<()> {
    let filter = |top_k, top_p, min_p| Filter { top_k, top_p, min_p };
    let filters = [filter(0, 1.0, 0.0), filter(5, 1.0, 0.0), filter(0, 0.8, 0.0), filter(0, 1.0, 0.1), filter(20, 0.9, 0.01)];
    for (temperature, filter) in [0.0, 0.6, 1.0].into_iter().flat_map(|t| filters.map(|filter| (t, filter))) {
        bench.claim(&format!("choose of 64 x 300 at {temperature}, {filter:?}"), |bench| check_choice(bench.kernels, temperature, filter));
    }
    bench.claim("choose_kept of 64 x 300 without filters", |bench| check_whole(bench.kernels));
    Ok(())
}

/// Samples with all filters at once, and with none.
pub fn choices_once(bench: &mut Bench) {
    let filter = Filter { top_k: 20, top_p: 0.9, min_p: 0.01 };
    bench.claim("choose of 64 x 300 once", |bench| check_choice(bench.kernels, 0.6, filter));
    bench.claim("choose_kept of 64 x 300 once", |bench| check_whole(bench.kernels));
}

/// Rows of logits to sample from, and a number in [0, 1) for each.
fn rows_to_choose_from() -> Result<(Tensor, Vec<f32>)> {
    let (rows, vocabulary) = (64, 300);
    let uniforms = random(rows, 6).to_vec1::<f32>()?.iter().map(|u| (u + 1.0) / 2.0).collect();
    Ok(((random((rows, vocabulary), 5) * 6.0)?, uniforms))
}

fn check_choice(kernels: &dyn Kernels, temperature: f32, filter: Filter) -> Result<()> {
    let (limit, (logits, uniforms)) = (290, rows_to_choose_from()?);
    let choice = SamplingParams { temperature, filter, uniforms: &uniforms };
    let expected = Cpu.sample(logits.copy()?, limit, &choice)?.read()?;
    let found = kernels.sample(logits.to_device(kernels.device())?.copy()?, limit, &choice)?.read()?;
    check_near(&found, &expected, &choice);
    assert_eq!((&found.truncated, &expected.truncated), (&None, &None));
    if temperature == 1.0 {
        return Ok(());
    }
    let expected = Cpu.sample_with_mask(logits.copy()?, limit, &choice)?.read()?;
    let with_kept = kernels.sample_with_mask(logits.to_device(kernels.device())?.copy()?, limit, &choice)?.read()?;
    assert_eq!(
        (&with_kept.tokens, &with_kept.logprobs),
        (&found.tokens, &found.logprobs),
        "recording masks must not change the tokens, {choice:?}"
    );
    check_near(&with_kept, &expected, &choice);
    check_mask(&expected, &logits, limit, &choice)
}

/// If no token is filtered out, no ids are recorded.
fn check_whole(kernels: &dyn Kernels) -> Result<()> {
    let (logits, uniforms) = rows_to_choose_from()?;
    let all = SamplingParams { temperature: 0.6, filter: Filter::default(), uniforms: &uniforms };
    let drawn = kernels.sample_with_mask(logits.to_device(kernels.device())?.copy()?, logits.dim(1)?, &all)?.read()?;
    assert!(drawn.truncated.is_some_and(|truncated| truncated.kept.is_whole() && truncated.logprobs == drawn.logprobs));
    Ok(())
}

/// Checks that tokens and masks are equal, and that log-probabilities differ only by the order of summation.
fn check_near(found: &SamplerOutput, expected: &SamplerOutput, choice: &SamplingParams) {
    let sets = |drawn: &SamplerOutput| drawn.truncated.as_ref().map(|truncated| truncated.kept.clone());
    assert_eq!((&found.tokens, sets(found)), (&expected.tokens, sets(expected)), "{choice:?}");
    let logprobs = |drawn: &SamplerOutput| -> Vec<f32> {
        drawn.logprobs.iter().chain(drawn.truncated.iter().flat_map(|truncated| &truncated.logprobs)).copied().collect()
    };
    let (found, expected) = (logprobs(found), logprobs(expected));
    assert_eq!(found.len(), expected.len());
    let distance = found.iter().zip(&expected).fold(0.0f32, |far, (a, b)| far.max((a - b).abs()));
    assert!(distance < 1e-5, "log-probabilities differ by {distance}, {choice:?}");
}

/// Checks the masks against their definition, with a full sort in f64, and the log-probabilities within them.
fn check_mask(drawn: &SamplerOutput, logits: &Tensor, limit: usize, choice: &SamplingParams) -> Result<()> {
    let truncated = drawn.truncated.as_ref().expect("choose_kept records masks");
    let temperature = if choice.temperature == 0.0 { 1.0 } else { f64::from(choice.temperature) };
    for (row, z) in logits.to_vec2::<f32>()?.iter().enumerate() {
        let weights: Vec<f64> = z[..limit].iter().map(|z| (f64::from(*z) / temperature).exp()).collect();
        let mut order: Vec<usize> = (0..limit).collect();
        order.sort_by(|a, b| weights[*b].total_cmp(&weights[*a]));
        let Filter { top_k, top_p, min_p } = choice.filter;
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
        let kept: Vec<usize> = (0..z.len()).filter(|token| truncated.kept.contains(row, *token as u32)).collect();
        assert_eq!(kept, order, "row {row}, {choice:?}");
        let exact = (weights[drawn.tokens[row] as usize] / total).ln();
        assert!(
            (f64::from(truncated.logprobs[row]) - exact).abs() < 1e-5,
            "row {row}: found {}, expected {exact}",
            truncated.logprobs[row]
        );
    }
    Ok(())
}

/// The log-probability of a sampled token is bit-identical to the one that the trainer will compute.
pub fn scores_of_choices(bench: &mut Bench) -> Result<()> {
    bench.claim("head_scores_in_place of 9 x 301 chosen tokens", |bench| check_scores_of_choices(bench.kernels));
    Ok(())
}

fn check_scores_of_choices(kernels: &dyn Kernels) -> Result<()> {
    let logits = (random((9, 301), 7) * 6.0)?.to_device(kernels.device())?;
    let uniforms = vec![0.7; 9];
    for (temperature, top_p) in [(0.6, 1.0), (1.0, 0.9)] {
        let filter = Filter { top_k: 0, top_p, min_p: 0.0 };
        let choice = SamplingParams { temperature, filter, uniforms: &uniforms };
        let SamplerOutput { tokens, logprobs, .. } = kernels.sample(logits.copy()?, 290, &choice)?.read()?;
        assert_eq!(kernels.head_scores_in_place(&logits.copy()?, &tokens, temperature)?.logprobs, logprobs);
        let SamplerOutput { tokens, truncated, .. } = kernels.sample_with_mask(logits.copy()?, 290, &choice)?.read()?;
        let truncated = truncated.expect("choose_kept records masks");
        let kept = kernels.mask_logits(logits.copy()?, &truncated.kept)?;
        assert_eq!(kernels.head_scores_in_place(&kept, &tokens, temperature)?.logprobs, truncated.logprobs);
    }
    Ok(())
}
