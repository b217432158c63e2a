//! A run on a GPU launches only this program's kernels. candle's kernels are compiled for one generation of GPUs, ours for all.

use super::*;
use crate::dist::World;
use crate::interrupt::Interrupt;
use crate::kernels::on_host;
use crate::kernels::tests::{gpu, launched_by_candle};
use crate::model::lora::{AdapterGradients, Lora, LoraSettings};
use crate::model::value::ValueModel;
use crate::optim::MomentDtype;
use crate::output::Progress;
use crate::rng::Purpose;
use crate::rollout::limits::EngineSettings;
use crate::rollout::{Engine, Request, SamplingSettings};
use crate::workers::Workers;

#[test]
fn training_on_a_gpu_launches_no_candle_kernels() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    for dtype in [DType::F32, DType::BF16] {
        let kernels: Arc<dyn Kernels> = Arc::new(Fused::new(gpu.clone(), dtype)?);
        let policy = decoder()?;
        let check = |part: &str, work: &dyn Fn(&Decoder) -> Result<()>| -> Result<()> {
            let launched = launched_by_candle(|| work(&policy.on(kernels.clone())?))?;
            assert!(launched.is_empty(), "{part} in {dtype:?} launches {launched:?}");
            Ok(())
        };
        check("sampling", &sample)?;
        check("a reference", &score_with_reference)?;
        check("an update", &|policy| update(policy, MomentDtype::F32))?;
        check("an update in 8 bits", &|policy| update(policy, MomentDtype::Quantized))?;
        check("an update of adapters", &update_adapters)?;
        check("a critic", &update_critic)?;
    }
    Ok(())
}

fn sample(policy: &Decoder) -> Result<()> {
    let prompts: [Arc<[u32]>; 2] = [vec![1, 2, 3].into(), vec![4; 20].into()];
    let request = |r: u32| Request {
        ids: prompts[r as usize % 2].clone(),
        max_new_tokens: 3 + 2 * r as usize,
        purpose: Purpose::Sampling,
        step: 7,
        prompt: r % 2,
        sample: r / 2,
    };
    let requests: Vec<Request> = (0..5).map(request).collect();
    let (workers, interrupt) = (Workers::new(1)?, Interrupt::default());
    let settings = EngineSettings::default();
    for records_sampling_mask in [false, true] {
        let filter = Filter { top_k: if records_sampling_mask { 5 } else { 0 }, ..Filter::default() };
        let sampling = SamplingSettings { temperature: 0.8, filter, records_sampling_mask, seed: 3 };
        let engine =
            Engine { decoder: policy, workers: &workers, settings: &settings, end_tokens: &[0, 9], vocabulary: 83, interrupt: &interrupt };
        engine.generate(&requests, &sampling, &|_| ())?;
    }
    Ok(())
}

fn score_with_reference(policy: &Decoder) -> Result<()> {
    let batches = [packed()];
    let reference = policy.deep_copy()?;
    let progress = Progress::hidden();
    let resident = reference.score_all(&batches, TEMPERATURE, &progress)?;
    let offloaded = reference.offload_to_host()?;
    assert_eq!(offloaded.score_all(&batches, TEMPERATURE, &progress)?, resident);
    let average = policy.weights.map(&policy.config, |tensor| Ok(policy.kernels().cast(tensor, DType::F32)?))?;
    for ((_, average), (_, weight)) in average.entries().into_iter().zip(policy.weights.entries()) {
        policy.kernels().mix_in_place(average, weight, 0.9)?;
    }
    reference.weights.set(&average, policy.kernels())?;
    offloaded.weights.set(&policy.weights, policy.kernels())
}

fn update(policy: &Decoder, states: MomentDtype) -> Result<()> {
    let (kernels, weights) = (policy.kernels(), policy.weights.entries());
    let settings = OptimSettings { states, ..OptimSettings::default() };
    let mut optimizer = AdamW::new(settings, kernels, &weights, World::solo())?;
    let (_, _, gradients) = scores_and_gradient(policy, &packed())?;
    optimizer.step(kernels, &weights, &gradients.entries(), 1e-3)?;
    gradients.clear(kernels)?;
    // Save and restore the weights, like a checkpoint and a resumed run.
    let saved = policy.weights.on_host(&policy.config)?;
    policy.weights.set(&saved, kernels)?;
    optimizer.set_masters(kernels, &saved.entries())
}

fn update_adapters(policy: &Decoder) -> Result<()> {
    let lora = Lora::new(LoraSettings { rank: 4, alpha: 0.0 }, policy, 5)?;
    lora.merge(policy)?;
    let gradients: AdapterGradients = lora.gradients()?;
    let (hidden, saved) = policy.forward(&packed(), ActivationCheckpointing::Full)?;
    let objective = |_: usize, scores: &RowScores| TokenGradients {
        d_logprobs: vec![1.0; scores.logprobs.len()],
        d_entropies: vec![0.1; scores.logprobs.len()],
    };
    let (_, d_hidden) = policy.head_forward_backward(&hidden, &packed(), TEMPERATURE, None, objective)?;
    gradients.backward(policy, &packed(), saved, &d_hidden)?;
    for (_, tensor) in gradients.sums.entries() {
        assert!(values(&on_host(tensor)?)?.iter().all(|value| value.is_finite()));
    }
    Ok(())
}

fn update_critic(policy: &Decoder) -> Result<()> {
    let model = ValueModel::new(policy, 1, 0.1)?;
    let (gradients, packed) = (model.gradients()?, packed());
    let (hidden, saved) = model.body.forward(&packed, ActivationCheckpointing::Full)?;
    let values = model.values_of(&hidden, &packed)?;
    model.backward(&hidden, &packed, saved, &values, &gradients)
}
