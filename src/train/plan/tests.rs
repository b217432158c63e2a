mod ranks;

use super::*;
use crate::kernels::Backend;
use crate::model::decoder::ActivationCheckpointing;
use crate::model::{known_models, parameters};
use crate::objective::{Baseline, Scale};
use crate::optim::MomentDtype;

fn work() -> RunWorkload {
    let evaluation = EngineLoad { prompts: vec![200; 500], requests: 500, max_new_tokens: 3072 };
    RunWorkload { prompts: vec![184], evaluations: vec![evaluation], vocabulary: 151_665, exact: true, ..RunWorkload::default() }
}

fn settings(change: impl FnOnce(&mut RunSettings)) -> RunSettings {
    let mut settings = RunSettings::published();
    change(&mut settings);
    settings
}

fn state_bytes(memory: &Memory, name: &str) -> u64 {
    memory.model_states.iter().filter(|(state, _)| state.starts_with(name)).map(|(_, bytes)| bytes).sum()
}

#[test]
fn plan_of_the_published_run_matches_counts_by_hand() {
    let config = known_models::by_name("qwen2.5-math-1.5b").unwrap().read().unwrap();
    let (settings, work) = (settings(|_| ()), work());
    let plan = Plan::of(&config, &settings, &work, Target::cpu()).unwrap();
    let set = 4 * 1_543_714_304;
    let rotary = 4096 * 128 * 4;
    assert_eq!(plan.workers, 1);
    assert_eq!((state_bytes(&plan.memory, "weights"), state_bytes(&plan.memory, "reference")), (set + rotary, set));
    assert_eq!((state_bytes(&plan.memory, "optimizer"), state_bytes(&plan.memory, "gradients")), (2 * set, set));
    // 28 layers of 2 key/value heads of 128: 57,344 bytes per token in f32; 4 GiB fit 4,681 blocks of 16 tokens.
    let cache = plan.memory.phases[0].parts[0];
    assert_eq!(cache, ("key/value cache", 4681 * 16 * 57_344));
    // 1024 responses with 3072 tokens in 192 micro-batches: the largest has 6 of them, and the prompt once.
    assert_eq!(plan.memory.micro_batch_rows, 6 * 3071 + 184);
    assert_eq!(plan.memory.activations, ActivationPlan { micro_batch_tokens: 16384, checkpointing: ActivationCheckpointing::Full });
    let rows = plan.memory.micro_batch_rows;
    let block = 4 * (4 * 1536 + 2048 + 12 * 129 + 3 * 8960 + 2);
    let saved = plan.memory.phases[1].parts[0].1;
    assert_eq!(saved as usize, rows * (28 * 4 * 1536 + block + 2 * 4 * 1536));
    // Of 100 checkpoints: 8 spaced, 4 with a state (2 newest, the last good, the one being written), and 4 that the summary names. Then the
    // best checkpoint with its successor.
    assert_eq!((plan.disk.written, plan.disk.checkpoints, plan.disk.states, plan.disk.weights), (100, 16, 4, set));
    assert_eq!(plan.disk.total(), 16 * set + 4 * 2 * set + 2 * set + plan.disk.rollouts);
    assert_eq!(plan.evaluations(), 101);
    let rates = Rates { decoding_flops: 1e12, alone_decoding_flops: 1e12, training_flops: 2e12, bandwidth: 1e10 };
    let times = plan.times(rates, 1000);
    let forward = 2.0 * 1_543_714_304.0;
    let cached = 1_024_000.0 * (184.0 + 500.0) * 57_344.0 / 1e10;
    assert!((times.rollouts - forward * (1_024_000.0 + 184.0) / 1e12 - cached).abs() < 1e-6);
    assert!((times.update - 5.0 * forward * (1_024_000.0 + 63.0 * 184.0) / 2e12).abs() < 1e-6);
    assert!((times.run - 2000.0 * (times.rollouts + times.update) - 101.0 * times.evaluation).abs() < 1e-3);
}

/// A GPU prefers smaller micro-batches to recomputing whole blocks, unless they would be too small. The choice depends on its total memory,
/// not its free memory.
#[test]
fn activation_plan_of_a_gpu_prefers_smaller_micro_batches_to_recomputation() {
    let config = known_models::by_name("qwen2.5-math-1.5b").unwrap().read().unwrap();
    let check = |kernels: Backend, gib: u64, micro_batch_tokens: usize, checkpointing: ActivationCheckpointing| {
        let settings = settings(|s| s.compute.kernels = kernels);
        let target = settings.compute.on(Some(0)).unwrap().target(Some(gib << 30));
        for free in [gib << 30, 1 << 30] {
            let memory = Memory::of(&config, &settings, &work(), &Target { free: Some(free), ..target }).unwrap();
            assert_eq!(memory.activations, ActivationPlan { micro_batch_tokens, checkpointing }, "{gib} GiB");
        }
        Memory::of(&config, &settings, &work(), &target).unwrap()
    };
    let memory = check(Backend::Fused, 78, 16384, ActivationCheckpointing::Selective);
    // In bf16. Saved in each block: two rows of the stream, queries, keys and values, attention, gate and up, and the log-sum-exp of 12
    // heads. Recomputed in one block: two norms and SwiGLU. Then the stream and its gradient.
    let block = 2 * (2 * 1536 + 2048 + 1536 + 2 * 8960) + 4 * 12;
    let cheap = 2 * (2 * 1536 + 8960) + 2 * 4;
    assert_eq!((memory.micro_batch_rows, block), (18610, 49_200));
    assert_eq!(memory.phases[1].parts[0].1, 18610 * (28 * block + cheap + 2 * 2 * 1536));
    check(Backend::Fused, 60, 8192, ActivationCheckpointing::Selective);
    check(Backend::Fused, 44, 16384, ActivationCheckpointing::Full);
    // For stock operations, only half of the memory counts.
    check(Backend::Stock, 78, 8192, ActivationCheckpointing::Selective);
}

#[test]
fn memory_counts_only_what_settings_use() {
    let config = known_models::by_name("qwen2.5-math-7b").unwrap().read().unwrap();
    let whole = Memory::of(&config, &settings(|_| ()), &work(), &Target::cpu()).unwrap();
    let check = |change: fn(&mut RunSettings), less: u64| {
        let memory = Memory::of(&config, &settings(change), &work(), &Target::cpu()).unwrap();
        assert_eq!(whole.peak() - memory.peak(), less);
        let phase = memory.largest_phase().bytes();
        assert_eq!(memory.peak(), memory.model_states.iter().map(|(_, bytes)| bytes).sum::<u64>() + phase + phase / 16);
    };
    let set = 4 * config.parameter_count() as u64;
    check(|s| s.loss.kl = 0.0, set);
    let shapes = parameters::shapes(&config);
    let (small, large): (Vec<u64>, Vec<u64>) = shapes.iter().map(|(_, shape)| shape.elem_count() as u64).partition(|count| *count < 4096);
    // Of 8 bytes per parameter, 2 remain, and two f32 scales for every 256 parameters.
    let quantized: u64 = large.iter().map(|count| 2 * (count + 4 * count.div_ceil(256))).sum();
    assert_eq!(
        state_bytes(
            &Memory::of(&config, &settings(|s| s.optim.states = MomentDtype::Quantized), &work(), &Target::cpu()).unwrap(),
            "optimizer"
        ),
        quantized + 8 * small.iter().sum::<u64>()
    );
    check(|s| s.optim.states = MomentDtype::Quantized, 8 * large.iter().sum::<u64>() - quantized);
    let block: u64 = shapes.iter().filter(|(name, _)| name.starts_with("layers.3.")).map(|(_, shape)| shape.elem_count() as u64).sum();
    check(|s| s.optim.freeze = vec!["layers.3".into()], 8 * block);
    check(|_| (), 0);
    let smaller = Memory::of(&config, &settings(|s| s.train.micro_batch_tokens = 4096), &work(), &Target::cpu()).unwrap();
    assert!(smaller.phases[1].bytes() < whole.phases[1].bytes() / 2 && smaller.phases[0] == whole.phases[0]);
    let rounded = settings(|s| s.checkpoint.dtype = crate::train::settings::ExportDtype::Bf16);
    let disk = Disk::of(&config, &rounded, &work(), &Target::cpu());
    assert_eq!((disk.weights, disk.state), (set / 2, 3 * set), "a rounded export stores the masters in the state");
    let disk = Disk::of(&config, &settings(|s| s.optim.states = MomentDtype::Quantized), &work(), &Target::cpu());
    assert_eq!(disk.state, quantized + 8 * small.iter().sum::<u64>());
}

#[test]
fn memory_of_adapters_counts_their_own_moments_and_gradients() {
    let config = known_models::by_name("qwen2.5-math-1.5b").unwrap().read().unwrap();
    let lora = settings(|s| s.lora.rank = 8);
    let memory = Memory::of(&config, &lora, &work(), &Target::cpu()).unwrap();
    // The adapter of a projection from `i` to `o` numbers has rank * (i + o) numbers. Queries and output are 1536 x 1536, keys and values
    // 1536 x 256, and the three projections of the feed-forward network 1536 x 8960.
    let adapters = 4 * 28 * 8 * (2 * 3072 + 2 * 1792 + 3 * 10496);
    let projections = 4 * (2 * 1536 * 1536 + 2 * 1536 * 256 + 3 * 1536 * 8960);
    let block = projections + 4 * (2 * 1536 + 2048);
    assert_eq!((state_bytes(&memory, "projections"), state_bytes(&memory, "adapters")), (28 * projections, adapters));
    assert_eq!((state_bytes(&memory, "optimizer"), state_bytes(&memory, "gradients")), (2 * adapters, adapters + block));
    assert_eq!(state_bytes(&memory, "reference"), 0, "the base weights serve as the reference");
    let named = settings(|s| (s.lora.rank, s.reference) = (8, "other".into()));
    assert!(state_bytes(&Memory::of(&config, &named, &work(), &Target::cpu()).unwrap(), "reference") > 0);
    assert_eq!(Disk::of(&config, &lora, &work(), &Target::cpu()).state, 3 * adapters);
}

/// The critic has the policy's parameters with a head of one column and a bias instead of the head for logits. It needs memory for weights,
/// two moments and gradients.
#[test]
fn plan_counts_the_critic_as_a_second_trained_model() {
    for (name, head) in [("qwen2.5-math-1.5b", 0), ("qwen2.5-math-7b", 152_064 * 3584)] {
        let config = known_models::by_name(name).unwrap().read().unwrap();
        let ppo = |settings: &mut RunSettings| {
            (settings.advantage.baseline, settings.advantage.scale) = (Baseline::Critic, Scale::Batch);
            settings.critic.lr = 1e-5;
        };
        let critic = settings(ppo);
        critic.validate().unwrap();
        let set = 4 * (config.parameter_count() - head + config.hidden + 1) as u64;
        let memory = Memory::of(&config, &critic, &work(), &Target::cpu()).unwrap();
        assert_eq!(state_bytes(&memory, "critic: weights") + state_bytes(&memory, "critic: masters"), set);
        assert_eq!((state_bytes(&memory, "critic: two moments"), state_bytes(&memory, "critic: gradients")), (2 * set, set));
        let without = Memory::of(&config, &settings(|_| ()), &work(), &Target::cpu()).unwrap();
        assert_eq!(memory.peak() - without.peak(), 4 * set);
        let gpu = Target { is_gpu: true, element_bytes: 2, ..Target::cpu() };
        let memory = Memory::of(&config, &critic, &work(), &gpu).unwrap();
        assert_eq!((state_bytes(&memory, "critic: weights"), state_bytes(&memory, "critic: masters")), (set / 2, set));
        // Adapters save memory only for the policy.
        let lora = settings(|s| {
            ppo(s);
            s.lora.rank = 8;
        });
        assert_eq!(state_bytes(&Memory::of(&config, &lora, &work(), &Target::cpu()).unwrap(), "critic"), 4 * set);
        let disk = |settings: &RunSettings| Disk::of(&config, settings, &work(), &Target::cpu()).state;
        assert_eq!(disk(&critic) - disk(&settings(|_| ())), 3 * set);
        let (frozen, mut small) = (settings(|s| s.optim.freeze = vec!["layers".into()]), critic.clone());
        small.optim = frozen.optim.clone();
        assert_eq!(disk(&small) - disk(&frozen), 3 * set, "the critic trains parameters that the policy freezes");
        let work = work();
        let passes = |settings: &RunSettings| Plan::of(&config, settings, &work, Target::cpu()).unwrap().passes();
        assert_eq!((passes(&settings(|_| ())), passes(&critic)), (5.0, 9.0));
    }
}

#[test]
fn check_suggests_settings_that_would_fit() {
    let config = known_models::by_name("qwen2.5-math-1.5b").unwrap().read().unwrap();
    let (settings, work) = (settings(|s| s.checkpoint.every = 500), work());
    let plan = Plan::of(&config, &settings, &work, Target::cpu()).unwrap();
    let check = |memory: u64, disk: u64, expected: &[&str]| {
        let message = plan.check(Some(memory << 30), Some(disk << 30)).map_or_else(|error| error.to_string(), |()| String::new());
        assert!(expected.iter().all(|part| message.contains(part)) && message.is_empty() == expected.is_empty(), "{message}");
    };
    check(200, 2000, &[]);
    check(32, 2000, &["it would fit with", "--set train.micro_batch_tokens=", "available"]);
    check(26, 2000, &["--set optim.states=8bit"]);
    check(20, 2000, &["--set optim.states=8bit", "--set loss.kl=0"]);
    check(14, 2000, &["no setting makes it fit"]);
    check(200, 85, &["the run needs", "free some space", "--set checkpoint.keep_last=1, which does not change the training"]);
    check(200, 70, &["--set checkpoint.every=1000 --set checkpoint.keep_spaced=1 --set checkpoint.keep_last=1"]);
    check(200, 20, &["the run needs", "free some space, or choose an --out on another disk"]);
    plan.check(None, None).unwrap();
}
