//! A response depends only on its address: batch size, workers, a small cache and other sequences change no bit.
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
    with_heads(8)
}

fn with_heads(width: usize) -> Decoder {
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

/// A number of requests that can be emulated in a few seconds.
fn few() -> Vec<Request> {
    requests().into_iter().take(6).map(|request| Request { max_new_tokens: 20, ..request }).collect()
}

fn generate(decoder: &Decoder, requests: &[Request], workers: usize, settings: EngineSettings, temperature: f32) -> Vec<Completion> {
    let sampling = SamplingSettings { temperature, filter: Filter::default(), records_sampling_mask: false, seed: 3 };
    let workers = Workers::new(workers).unwrap();
    let engine =
        Engine { decoder, workers: &workers, settings: &settings, end_tokens: &[0, 9], vocabulary: 60, interrupt: &Interrupt::default() };
    engine.generate(requests, &sampling, &|_| ()).unwrap()
}

/// The same model on emulated fused kernels, which sample tokens before the host has read the previous ones. `None` without an emulator.
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
        let requests = &few();
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
fn preemption_changes_no_token() {
    check_preemption(&decoder(), &requests());
    if let Some(emulated) = emulated() {
        check_preemption(&emulated, &requests()[..6]);
    }
}

fn check_preemption(decoder: &Decoder, requests: &[Request]) {
    let expected = generate(decoder, requests, 1, EngineSettings::default(), 0.8);
    assert_eq!(preempted(decoder, requests), expected);
}

/// Generates with a cache so small that sequences are preempted.
fn preempted(decoder: &Decoder, requests: &[Request]) -> Vec<Completion> {
    let sampling = SamplingSettings { temperature: 0.8, filter: Filter::default(), records_sampling_mask: false, seed: 3 };
    let (workers, settings) = (Workers::new(1).unwrap(), EngineSettings::default());
    let engine =
        Engine { decoder, workers: &workers, settings: &settings, end_tokens: &[0, 9], vocabulary: 60, interrupt: &Interrupt::default() };
    let indices: Vec<usize> = (0..requests.len()).collect();
    let mut worker = Worker::new(&engine, requests, &indices, &sampling, &|_| ()).unwrap();
    let lengths: Vec<usize> = worker.prompts.iter().map(|prompt| prompt.len()).collect();
    let of_request: Vec<usize> = (0..requests.len()).map(|r| r % 3).collect();
    worker.scheduler = Scheduler::new(9, 16, &lengths, &of_request);
    worker.run().unwrap();
    assert!(worker.scheduler.preemptions > 0, "the cache was small enough to preempt");
    worker.completions
}

/// Many different prompts in one batch: each response is the same as for its prompt alone.
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

/// The smoke alarm of RL training: with the same weights, sampler and trainer agree to the bit.
#[test]
fn score_equals_the_logprobs_that_generate_recorded() {
    check_scores(&decoder(), &requests());
    if let Some(emulated) = emulated() {
        check_scores(&emulated, &few());
    }
    if let Some(emulated) = on_emulator(&with_heads(64), DType::BF16) {
        check_scores(&emulated, &few()[..3]);
    }
}

fn check_scores(decoder: &Decoder, requests: &[Request]) {
    let completions = generate(decoder, requests, 2, EngineSettings::default(), 0.8);
    let groups = requests.iter().zip(&completions).map(|(request, completion)| (&*request.ids, vec![completion.ids.as_slice()]));
    let scores = decoder.score(&Packed::of_responses(groups), 0.8).unwrap();
    let recorded: Vec<f32> = completions.iter().flat_map(|completion| completion.logprobs.clone()).collect();
    assert_eq!(scores.logprobs, recorded);
}

/// The same with top-k, top-p and min-p, alone and together: the trainer gets the sampling masks.
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
            check_mask(emulated, &few()[..2], filter, temperature);
        }
    }
}

fn check_mask(decoder: &Decoder, requests: &[Request], filter: Filter, temperature: f32) {
    let sampling = SamplingSettings { temperature, filter, records_sampling_mask: true, seed: 3 };
    let (workers, settings) = (Workers::new(2).unwrap(), EngineSettings::default());
    let engine =
        Engine { decoder, workers: &workers, settings: &settings, end_tokens: &[0, 9], vocabulary: 60, interrupt: &Interrupt::default() };
    let completions = engine.generate(requests, &sampling, &|_| ()).unwrap();
    let plain = engine.generate(requests, &SamplingSettings { records_sampling_mask: false, ..sampling }, &|_| ()).unwrap();
    let (mut kept, mut sampled) = (SamplingMask::default(), Vec::new());
    for (completion, plain) in completions.iter().zip(&plain) {
        assert_eq!((&completion.ids, &completion.logprobs), (&plain.ids, &plain.logprobs), "recording changes nothing");
        let truncated = completion.truncated.as_ref().unwrap();
        assert!(completion.ids.iter().enumerate().all(|(at, id)| truncated.kept.contains(at, *id)));
        assert!((0..completion.ids.len()).all(|at| !truncated.kept.contains(at, 60)), "ids without text are never in a mask");
        kept.append(&truncated.kept);
        sampled.extend_from_slice(completion.sampled_logprobs());
    }
    assert!(filter.top_k != 1 || sampled.iter().all(|logprob| *logprob == 0.0), "a single candidate has probability 1");
    let groups = requests.iter().zip(&completions).map(|(request, completion)| (&*request.ids, vec![completion.ids.as_slice()]));
    let whole = Packed::of_responses(groups);
    let scores = decoder.score(&Packed { kept, ..whole.clone() }, temperature).unwrap();
    assert_eq!(scores.logprobs, sampled, "{filter:?} at {temperature}");
    let of_all = decoder.score(&whole, temperature).unwrap();
    assert!(
        scores.logprobs.iter().zip(&of_all.logprobs).all(|(among_kept, of_all)| *among_kept > of_all - 1e-5),
        "renormalising lowers no probability"
    );
    assert_ne!(scores.logprobs, of_all.logprobs);
}

#[test]
fn greedy_ignores_the_seed_and_takes_the_likeliest_token() {
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

/// A device that is out of memory in some calls of one operation.
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

/// Running out of memory in a forward pass, in sampling or while the cache is allocated reduces the batch and changes no token.
#[test]
fn generate_out_of_memory_changes_no_token() {
    let (decoder, requests) = (decoder(), requests());
    let expected = generate(&decoder, &requests, 1, EngineSettings::default(), 0.8);
    let check = |decoder: &Decoder, operation: &'static str, failing: &[usize]| {
        let short = OutOfMemoryAt { operation, failing: failing.to_vec(), calls: AtomicUsize::new(0) };
        let kernels = HookedKernels::new(decoder.shared_kernels(), Arc::new(short));
        generate(&decoder.on(Arc::new(kernels)).unwrap(), &requests[..], 1, EngineSettings::default(), 0.8)
    };
    assert_eq!(check(&decoder, "attend_cached", &[7, 20, 41]), expected);
    assert_eq!(check(&decoder, "attend_packed", &[0, 1]), expected, "in the first prefill");
    assert_eq!(check(&decoder, "sample", &[1, 9]), expected);
    assert_eq!(check(&decoder, "cache", &[0, 3]), expected);
}

/// The same on a GPU, with batch-invariant products.
#[cfg(feature = "cuda")]
#[test]
fn responses_on_a_gpu_depend_on_their_addresses_alone() {
    use crate::kernels::fused::cuda::Gpu;
    if crate::kernels::tests::gpu().is_none() {
        return;
    }
    for (dtype, decoder) in [(DType::F32, decoder()), (DType::BF16, with_heads(64))] {
        let kernels = Fused::new(Arc::new(Gpu::new(0, true).unwrap()), dtype).unwrap();
        let decoder = decoder.on(Arc::new(kernels)).unwrap();
        check_addresses(&decoder, &few());
        check_preemption(&decoder, &requests()[..6]);
        check_scores(&decoder, &few());
    }
}

/// Recorded passes give the same tokens and bits as passes computed operation by operation, which a watch enforces. This includes sequences
/// that end, sequences that are preempted and resumed, and a second call with another cache.
#[cfg(feature = "cuda")]
#[test]
fn recorded_passes_on_a_gpu_change_no_bit() {
    use crate::kernels::fused::cuda::{Gpu, counts::emulated_counts};

    #[derive(Debug)]
    struct Nothing;
    impl OperationHooks for Nothing {}

    if crate::kernels::tests::gpu().is_none() {
        return;
    }
    for (dtype, decoder) in [(DType::F32, decoder()), (DType::BF16, with_heads(64))] {
        for invariant in [false, true] {
            let kernels = Arc::new(Fused::new(Arc::new(Gpu::new(0, invariant).unwrap()), dtype).unwrap());
            let recorded = decoder.on(kernels.clone()).unwrap();
            let plain = decoder.on(Arc::new(HookedKernels::new(kernels, Arc::new(Nothing)))).unwrap();
            let graphs = || emulated_counts().map(|counts| counts.graphs);
            let all = |decoder: &Decoder| {
                let settings = EngineSettings { max_running: 4, ..EngineSettings::default() };
                let first = generate(decoder, &few(), 1, EngineSettings::default(), 0.8);
                let compact = generate(decoder, &few(), 1, settings, 0.8);
                [first, compact, preempted(decoder, &requests()[..6])].concat()
            };
            let none = graphs();
            let expected = all(&plain);
            assert_eq!(graphs(), none, "a watch must see every operation");
            assert!(expected.iter().any(|c| c.finish == FinishReason::Stop) && expected.iter().any(|c| c.finish == FinishReason::Length));
            assert_eq!(all(&recorded), expected, "{dtype:?}, batch-invariant {invariant}");
            assert!(graphs() > none.map(|none| none + 20), "most passes must be recorded");
        }
    }
}
