//! A response depends only on its address: batch size, workers, a small cache and other sequences change no bit of it.
#![allow(clippy::unwrap_used)] // a test that cannot continue has failed

use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::DType;

use super::*;
use crate::flow::SamplingMask;
use crate::kernels::fused::emulated::Emulator;
use crate::kernels::{Filter, Fused, HookedKernels, OperationHooks, OutOfMemory};
use crate::model::{ModelConfig, init};
use crate::rng::Purpose;

fn decoder() -> Decoder {
    decoder_with_head_dim(8)
}

fn decoder_with_head_dim(width: usize) -> Decoder {
    let config = ModelConfig::parse(&format!(
        r#"{{"model_type": "qwen2", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": {width}, "vocab_size": 61, "max_position_embeddings": 200, "rms_norm_eps": 1e-6,
        "rope_theta": 1e4, "tie_word_embeddings": true}}"#,
    ))
    .unwrap();
    let weights = init::random(&config, 1, 0.3).unwrap();
    Decoder::new(config, weights).unwrap()
}

fn requests() -> Vec<Request> {
    let prompts: [Arc<[u32]>; 3] = [vec![1, 2, 3].into(), vec![4; 35].into(), vec![5; 16].into()];
    let request = |r: u32| Request {
        ids: prompts[r as usize % 3].clone(),
        max_new_tokens: 40,
        purpose: Purpose::Sampling,
        step: 7,
        prompt: r % 3,
        sample: r / 3,
    };
    (0..24).map(request).collect()
}

/// Few enough requests to emulate in a few seconds.
fn few_requests() -> Vec<Request> {
    requests().into_iter().take(6).map(|request| Request { max_new_tokens: 20, ..request }).collect()
}

fn generate(decoder: &Decoder, requests: &[Request], workers: usize, settings: EngineSettings, temperature: f32) -> Vec<Completion> {
    let sampling = SamplingSettings { temperature, filter: Filter::default(), records_sampling_mask: false, seed: 3 };
    let workers = Workers::new(workers).unwrap();
    let engine =
        Engine { decoder, workers: &workers, settings: &settings, end_tokens: &[0, 9], vocabulary: 60, interrupt: &Interrupt::default() };
    engine.generate(requests, &sampling, &|_| ()).unwrap()
}

/// The same model on emulated fused kernels, where the host reads sampled tokens late. `None` without an emulator.
fn emulated() -> Option<Decoder> {
    on_emulator(&decoder(), DType::F32)
}

fn on_emulator(decoder: &Decoder, dtype: DType) -> Option<Decoder> {
    let emulator = Emulator::new()?;
    let kernels = Fused::new(Arc::new(emulator), dtype).unwrap();
    Some(decoder.on(Arc::new(kernels)).unwrap())
}

/// Batch size, workers, order, and a cache so small that sequences are preempted change no token and no bit of a log-probability.
#[test]
fn generate_depends_on_addresses_only() {
    let decoder = decoder();
    check_addresses(&decoder, &requests());
    if let Some(emulated) = emulated() {
        let requests = &few_requests();
        check_addresses(&emulated, requests);
        let ids = |decoder| -> Vec<Vec<u32>> {
            generate(decoder, requests, 1, EngineSettings::default(), 0.8).into_iter().map(|completion| completion.ids).collect()
        };
        assert_eq!(ids(&emulated), ids(&decoder), "tokens that are read late are the same");
    }
}

fn check_addresses(decoder: &Decoder, requests: &[Request]) {
    let expected = generate(decoder, requests, 1, EngineSettings::default(), 0.8);
    assert!(expected.iter().any(|c| c.finish == FinishReason::Stop) && expected.iter().any(|c| c.finish == FinishReason::Length));
    assert!(expected.iter().all(|c| c.ids.iter().all(|id| *id < 60)), "ids without text are never sampled");
    let (one, tight) = (
        EngineSettings { max_running: 1, ..Default::default() },
        EngineSettings { prefill_tokens: 1, max_running: 7, ..Default::default() },
    );
    for (workers, settings) in [(1, one), (3, tight), (2, EngineSettings::default())] {
        assert_eq!(generate(decoder, requests, workers, settings.clone(), 0.8), expected, "{workers} workers, {settings:?}");
    }
    let mut reversed = requests.to_vec();
    reversed.reverse();
    let mut found = generate(decoder, &reversed, 2, EngineSettings::default(), 0.8);
    found.reverse();
    assert_eq!(found, expected);
}

#[test]
fn generate_changes_no_token_under_preemption() {
    check_preemption(&decoder(), &requests());
    if let Some(emulated) = emulated() {
        check_preemption(&emulated, &requests()[..6]);
    }
}

fn check_preemption(decoder: &Decoder, requests: &[Request]) {
    let expected = generate(decoder, requests, 1, EngineSettings::default(), 0.8);
    assert_eq!(generate_with_preemption(decoder, requests), expected);
}

/// Generates with a cache so small that sequences are preempted.
fn generate_with_preemption(decoder: &Decoder, requests: &[Request]) -> Vec<Completion> {
    let sampling = SamplingSettings { temperature: 0.8, filter: Filter::default(), records_sampling_mask: false, seed: 3 };
    let (workers, settings) = (Workers::new(1).unwrap(), EngineSettings::default());
    let engine =
        Engine { decoder, workers: &workers, settings: &settings, end_tokens: &[0, 9], vocabulary: 60, interrupt: &Interrupt::default() };
    let indices: Vec<usize> = (0..requests.len()).collect();
    let mut worker = Worker::new(&engine, requests, &indices, &sampling, &|_| ()).unwrap();
    let lengths: Vec<usize> = worker.prompts.iter().map(|prompt| prompt.len()).collect();
    let prompt_of_request: Vec<usize> = (0..requests.len()).map(|r| r % 3).collect();
    worker.scheduler = Scheduler::new(9, 16, &lengths, &prompt_of_request);
    worker.run().unwrap();
    assert!(worker.scheduler.preemptions > 0, "the cache was small enough to preempt");
    worker.completions
}

/// With many different prompts in one batch, each response is the same as for its prompt alone.
#[test]
fn generate_keeps_different_prompts_apart() {
    let decoder = decoder();
    let request = |r: u32| {
        let ids: Vec<u32> = (0..3 + r % 30).map(|i| (i * 7 + r * 3) % 60).collect();
        Request { ids: ids.into(), max_new_tokens: 40, purpose: Purpose::Evaluation, step: 0, prompt: r, sample: 0 }
    };
    let requests: Vec<Request> = (0..50).map(request).collect();
    let together = generate(&decoder, &requests, 2, EngineSettings::default(), 0.8);
    for (request, expected) in requests.iter().zip(together) {
        assert_eq!(generate(&decoder, std::slice::from_ref(request), 1, EngineSettings::default(), 0.8), [expected]);
    }
}

/// With the same weights, sampler and trainer compute bit-identical log-probabilities. If they differ, RL training silently goes off
/// policy.
#[test]
fn score_equals_the_logprobs_that_generate_recorded() {
    check_scores(&decoder(), &requests());
    if let Some(emulated) = emulated() {
        check_scores(&emulated, &few_requests());
    }
    if let Some(emulated) = on_emulator(&decoder_with_head_dim(64), DType::BF16) {
        check_scores(&emulated, &few_requests()[..3]);
    }
}

fn check_scores(decoder: &Decoder, requests: &[Request]) {
    let completions = generate(decoder, requests, 2, EngineSettings::default(), 0.8);
    let groups = requests.iter().zip(&completions).map(|(request, completion)| (&*request.ids, vec![completion.ids.as_slice()]));
    let scores = decoder.score(&Packed::of_responses(groups), 0.8).unwrap();
    let recorded: Vec<f32> = completions.iter().flat_map(|completion| completion.logprobs.clone()).collect();
    assert_eq!(scores.logprobs, recorded);
}

/// With top-k, top-p and min-p, alone and together, log-probabilities are also bit-identical: the trainer gets the sampling masks.
#[test]
fn score_equals_the_logprobs_that_a_truncated_sampler_recorded() {
    let off = Filter::default();
    let filters = [
        off,
        Filter { top_p: 0.9, ..off },
        Filter { top_k: 5, ..off },
        Filter { min_p: 0.05, ..off },
        Filter { top_k: 1, ..off },
        Filter { top_p: 0.9, top_k: 5, min_p: 0.05 },
    ];
    let emulated = emulated();
    for (filter, temperature) in filters.into_iter().flat_map(|filter| [0.6, 1.0, 1.3].map(|temperature| (filter, temperature))) {
        check_mask(&decoder(), &requests(), filter, temperature);
        if let Some(emulated) = emulated.as_ref().filter(|_| filter.top_k == 5 && filter.top_p < 1.0 && temperature == 0.6) {
            check_mask(emulated, &few_requests()[..2], filter, temperature);
        }
    }
}

fn check_mask(decoder: &Decoder, requests: &[Request], filter: Filter, temperature: f32) {
    let sampling = SamplingSettings { temperature, filter, records_sampling_mask: true, seed: 3 };
    let (workers, settings) = (Workers::new(2).unwrap(), EngineSettings::default());
    let engine =
        Engine { decoder, workers: &workers, settings: &settings, end_tokens: &[0, 9], vocabulary: 60, interrupt: &Interrupt::default() };
    let completions = engine.generate(requests, &sampling, &|_| ()).unwrap();
    let unrecorded = engine.generate(requests, &SamplingSettings { records_sampling_mask: false, ..sampling }, &|_| ()).unwrap();
    let (mut mask, mut sampled) = (SamplingMask::default(), Vec::new());
    for (completion, unrecorded) in completions.iter().zip(&unrecorded) {
        assert_eq!((&completion.ids, &completion.logprobs), (&unrecorded.ids, &unrecorded.logprobs), "recording changes nothing");
        let masked = completion.masked.as_ref().unwrap();
        assert!(completion.ids.iter().enumerate().all(|(at, id)| masked.mask.contains(at, *id)));
        assert!((0..completion.ids.len()).all(|at| !masked.mask.contains(at, 60)), "ids without text are never in a mask");
        mask.append(&masked.mask);
        sampled.extend_from_slice(completion.sampled_logprobs());
    }
    assert!(filter.top_k != 1 || sampled.iter().all(|logprob| *logprob == 0.0), "a single candidate has probability 1");
    let groups = requests.iter().zip(&completions).map(|(request, completion)| (&*request.ids, vec![completion.ids.as_slice()]));
    let unmasked = Packed::of_responses(groups);
    let scores = decoder.score(&Packed { mask, ..unmasked.clone() }, temperature).unwrap();
    assert_eq!(scores.logprobs, sampled, "{filter:?} at {temperature}");
    let full = decoder.score(&unmasked, temperature).unwrap();
    assert!(scores.logprobs.iter().zip(&full.logprobs).all(|(masked, full)| *masked > full - 1e-5), "renormalizing lowers no probability");
    assert_ne!(scores.logprobs, full.logprobs);
}

#[test]
fn generate_at_temperature_0_takes_the_most_likely_token() {
    let (decoder, requests) = (decoder(), requests());
    let completions = generate(&decoder, &requests, 2, EngineSettings::default(), 0.0);
    assert_eq!(completions[0], completions[3], "same prompt, different sample");
    let hidden = {
        let mut packed = Packed::new();
        packed.push_segment(&requests[0].ids, 0, 0..0);
        decoder.hidden(&packed).unwrap()
    };
    let logits = decoder.logits(&hidden, &[2]).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let best = (0..60).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
    assert_eq!(completions[0].ids[0], best as u32);
}

/// Simulates a device that is out of memory in some calls of one operation.
#[derive(Debug)]
struct OutOfMemoryAt {
    operation: &'static str,
    /// Indices of the calls that fail, from 0.
    failing: Vec<usize>,
    calls: AtomicUsize,
}

impl OperationHooks for OutOfMemoryAt {
    fn before(&self, operation: &'static str) -> candle_core::Result<()> {
        if operation == self.operation && self.failing.contains(&self.calls.fetch_add(1, Ordering::Relaxed)) {
            return Err(OutOfMemory::new("no memory").into());
        }
        Ok(())
    }
}

/// If a forward pass, sampling or the allocation of the cache runs out of memory, the batch shrinks and no token changes.
#[test]
fn generate_out_of_memory_changes_no_token() {
    let (decoder, requests) = (decoder(), requests());
    let expected = generate(&decoder, &requests, 1, EngineSettings::default(), 0.8);
    let check = |decoder: &Decoder, operation: &'static str, failing: &[usize]| {
        let short = OutOfMemoryAt { operation, failing: failing.to_vec(), calls: AtomicUsize::new(0) };
        let short = Arc::new(short);
        let kernels = HookedKernels::new(decoder.shared_kernels(), short.clone());
        let completions = generate(&decoder.on(Arc::new(kernels)).unwrap(), &requests[..], 1, EngineSettings::default(), 0.8);
        assert!(short.calls.load(Ordering::Relaxed) > failing[0], "no call of {operation} has failed");
        completions
    };
    assert_eq!(check(&decoder, "attend_cached", &[7, 20, 41]), expected);
    assert_eq!(check(&decoder, "attend_packed", &[0, 1]), expected, "in the first prefill");
    assert_eq!(check(&decoder, "sample", &[1, 9]), expected);
    assert_eq!(check(&decoder, "cache", &[0, 3]), expected);
}

/// The tests above on a GPU, with batch-invariant products.
#[cfg(feature = "cuda")]
#[test]
fn generate_on_a_gpu_depends_on_addresses_only() {
    use crate::kernels::fused::cuda::Gpu;
    if crate::kernels::tests::gpu().is_none() {
        return;
    }
    for (dtype, decoder) in [(DType::F32, decoder()), (DType::BF16, decoder_with_head_dim(64))] {
        let kernels = Fused::new(Arc::new(Gpu::new(0, true).unwrap()), dtype).unwrap();
        let decoder = decoder.on(Arc::new(kernels)).unwrap();
        check_addresses(&decoder, &few_requests());
        check_preemption(&decoder, &requests()[..6]);
        check_scores(&decoder, &few_requests());
    }
}

/// Passes recorded as CUDA graphs return the same tokens and bits as passes computed operation by operation, which hooks enforce. This
/// covers sequences that end, sequences that are preempted and restored, and a second call with another cache.
#[cfg(feature = "cuda")]
#[test]
fn generate_with_recorded_passes_on_a_gpu_changes_no_bit() {
    use crate::kernels::fused::cuda::{Gpu, counts::emulated_counts};

    #[derive(Debug)]
    struct NoHooks;
    impl OperationHooks for NoHooks {}

    if crate::kernels::tests::gpu().is_none() {
        return;
    }
    for (dtype, decoder) in [(DType::F32, decoder()), (DType::BF16, decoder_with_head_dim(64))] {
        for invariant in [false, true] {
            let kernels = Arc::new(Fused::new(Arc::new(Gpu::new(0, invariant).unwrap()), dtype).unwrap());
            let recorded = decoder.on(kernels.clone()).unwrap();
            let plain = decoder.on(Arc::new(HookedKernels::new(kernels, Arc::new(NoHooks)))).unwrap();
            let graphs = || emulated_counts().map(|counts| counts.graphs);
            let all = |decoder: &Decoder| {
                let settings = EngineSettings { max_running: 4, ..EngineSettings::default() };
                let first = generate(decoder, &few_requests(), 1, EngineSettings::default(), 0.8);
                let compact = generate(decoder, &few_requests(), 1, settings, 0.8);
                [first, compact, generate_with_preemption(decoder, &requests()[..6])].concat()
            };
            let before = graphs();
            let expected = all(&plain);
            assert_eq!(graphs(), before, "hooks must see every operation");
            assert!(expected.iter().any(|c| c.finish == FinishReason::Stop) && expected.iter().any(|c| c.finish == FinishReason::Length));
            assert_eq!(all(&recorded), expected, "{dtype:?}, batch-invariant {invariant}");
            assert!(graphs() > before.map(|before| before + 20), "most passes must be recorded");
        }
    }
}
