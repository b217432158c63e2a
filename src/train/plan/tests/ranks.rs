//! Plans of runs with several ranks. The counts come from the rules in `docs/processes.md`, worked out by hand or by a script of a few lines.

use super::*;
use crate::train::plan::cards::Card;

fn with_ranks(ranks: Ranks) -> RunWorkload {
    RunWorkload { ranks, ..work() }
}

fn sharded(shards: usize) -> RunSettings {
    settings(|s| s.train.shards = shards)
}

/// Plans the 1.5B model on H100s, and calls `check` with the plan and its times at a mean of 814 tokens. The activation checkpointing is set:
/// `auto` plans for one process with all its sets of gradients, which leave less memory for activations.
fn on_h100s(settings: &RunSettings, work: &RunWorkload, check: impl FnOnce(&Plan, Times)) {
    let config = known_models::by_name("qwen2.5-math-1.5b").unwrap().read().unwrap();
    let mut settings = RunSettings { compute: fused().compute, ..settings.clone() };
    settings.train.activation_checkpointing = ActivationCheckpointing::Selective;
    let card = Card::by_name("h100").unwrap();
    let target = settings.compute.on(Some(0)).unwrap().target(Some(card.usable_bytes()));
    let plan = Plan::of(&config, &settings, work, target).unwrap();
    check(&plan, plan.times_on(card, 814).unwrap());
}

fn fused() -> RunSettings {
    settings(|s| s.compute.kernels = Backend::Fused)
}

/// 12 bytes of masters and moments per parameter: 85.1 GiB for 7.6 billion. Whole tensors go to the emptiest rank, largest first: of 8 ranks,
/// the fullest has 954,204,160 parameters, and of 64 it has the embedding (545 million), far more than its 64th.
#[test]
fn plan_divides_f32_states_of_the_7b_model_by_whole_tensors() {
    let config = known_models::by_name("qwen2.5-math-7b").unwrap().read().unwrap();
    let target = Target { is_gpu: true, element_bytes: 2, ..Target::cpu() };
    let check = |count: usize, fullest: u64, emptiest: u64| {
        let of = |ranks| {
            let memory = Memory::of(&config, &sharded(count), &with_ranks(ranks), &target).unwrap();
            state_bytes(&memory, "masters") + state_bytes(&memory, "optimizer")
        };
        let ranks = Ranks::new(count, 8);
        assert_eq!((of(ranks), of(ranks.emptiest())), (12 * fullest, 12 * emptiest), "{count} ranks");
    };
    check(1, 7_615_616_512, 7_615_616_512);
    check(8, 954_204_160, 950_616_576);
    check(64, 544_997_376, 68_060_160);
    let gib = |parameters: u64| (12 * parameters) as f64 / f64::from(1 << 30);
    assert_eq!((format!("{:.1}", gib(7_615_616_512)), format!("{:.2}", gib(954_204_160))), ("85.1".to_owned(), "10.66".to_owned()));
}

#[test]
fn plan_of_eight_ranks_divides_requests_and_gradients_but_not_weights() {
    let config = known_models::by_name("qwen2.5-math-1.5b").unwrap().read().unwrap();
    let work = with_ranks(Ranks::new(8, 8));
    let memory = |shards, work: &RunWorkload| Memory::of(&config, &sharded(shards), work, &Target::cpu()).unwrap();
    let set = 4 * 1_543_714_304;
    let (eight, alone) = (memory(8, &work), memory(0, &super::work()));
    for name in ["weights", "reference", "gradients"] {
        assert_eq!(state_bytes(&eight, name), state_bytes(&alone, name), "{name}");
    }
    // Each doubling of the shards of a rank needs another set: one process adds up eight shards with four sets.
    assert_eq!(state_bytes(&memory(8, &super::work()), "gradients"), 4 * set);
    assert_eq!(state_bytes(&memory(32, &work), "gradients"), 3 * set);
    assert_eq!(state_bytes(&eight, "optimizer"), 8 * 233_373_696, "the fullest rank has the embedding");
    // 500 questions are dealt to eight ranks: 63 for the fullest. Each needs (200 + 3072) / 16 = 204.5 blocks of 16 tokens, and one more.
    let settings = settings(|s| (s.train.shards, s.rollout.engine.kv_cache_mib) = (8, 1 << 20));
    let evaluation = Memory::of(&config, &settings, &work, &Target::cpu()).unwrap();
    let evaluation = evaluation.phases.iter().find(|phase| phase.name == "evaluation").unwrap();
    assert_eq!(evaluation.parts[0].1, (63 * (205 + 1) + 63 * 13) * 16 * 57_344);
    // A shard has 128 responses in 24 micro-batches of at most 6, with the prompt once in each.
    assert_eq!(eight.micro_batch_rows, 6 * 3071 + 184);
    // Messages have 64 MiB and up to a tensor more; the embedding is the largest. Sent, received, and a copy of a tensor of each.
    let exchange = eight.phases.iter().find(|phase| phase.name == "exchange").unwrap();
    assert_eq!(exchange.parts[0].1, 2 * ((64 << 20) + 2 * 4 * 151_936 * 1536));
    // Only the rank that writes checkpoints receives tensors of others: at most the embedding.
    let tensor = ("a tensor of another process", 4 * 151_936 * 1536);
    assert_eq!(eight.phases.last().unwrap().parts[1], tensor);
    let emptiest = RunWorkload { ranks: work.ranks.emptiest(), ..work.clone() };
    assert!(memory(8, &emptiest).phases.iter().all(|phase| phase.name != "checkpoint"));
    let least = Plan::of(&config, &settings, &work, Target::cpu()).unwrap();
    assert!(least.least_peak < least.memory.peak());
}

/// One process plans as if there were no ranks, and shards do not change its times beyond the prompts of partial micro-batches.
#[test]
fn plan_of_one_rank_has_no_exchange_and_no_loss() {
    on_h100s(&fused(), &work(), |plan, alone| {
        assert_eq!((alone.exchange, alone.efficiency, plan.least_peak), (0.0, Some(1.0), plan.memory.peak()));
        on_h100s(&sharded(8), &work(), |_, shards| assert!((shards.update / alone.update - 1.0).abs() < 0.01));
    });
}

/// The rates and links are those of `scripts/simulate_processes.py`, whose table has 0.026 s and 45% for 8 GPUs, and 0.123 s and 8% for 64.
#[test]
fn times_of_ranks_agree_with_the_simulation() {
    let check = |count: usize, exchange_s: f64, efficiency: f64, update_part: f64| {
        on_h100s(&fused(), &work(), |_, alone| {
            on_h100s(&sharded(count), &with_ranks(Ranks::new(count, 8)), |_, times| {
                assert!((times.exchange - exchange_s).abs() < 0.0006, "{count}: {times:?}");
                assert!((times.efficiency.unwrap() - efficiency).abs() < 0.12, "{count}: {times:?}");
                assert!((times.update / alone.update / update_part - 1.0).abs() < 0.1, "{count}: {times:?}");
                assert!(times.rollouts < alone.rollouts && times.rollouts > 3072.0 * 2e-3, "each rank may have the longest response");
            });
        });
    };
    check(8, 0.026, 0.45, 1.0 / 8.0);
    check(64, 0.123, 0.08, 1.0 / 64.0);
}

/// Processes on one host without GPUs share its processors; on eight hosts, each has one of its own.
#[test]
fn times_of_ranks_on_one_host_are_no_shorter_than_those_of_one() {
    let config = known_models::by_name("qwen2.5-math-1.5b").unwrap().read().unwrap();
    let rates = Rates { decoding_flops: 1e12, alone_decoding_flops: 1e12, training_flops: 2e12, bandwidth: 1e10 };
    let (settings, alone) = (sharded(8), work());
    let times = |work: &RunWorkload| Plan::of(&config, &settings, work, Target::cpu()).unwrap().times(rates, 1000);
    let (one, shared, apart) = (times(&alone), times(&with_ranks(Ranks::new(8, 8))), times(&with_ranks(Ranks::new(8, 1))));
    let close = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 0.01, "{found} {expected}");
    close(shared.update, one.update);
    close(apart.update, one.update / 8.0);
    close(shared.efficiency.unwrap(), one.step() / shared.step());
    close(apart.efficiency.unwrap(), one.step() / (8.0 * apart.step()));
    // Halving sends 7/8 of 4 bytes per parameter, and the broadcast as many, at 1 GB/s.
    close(apart.exchange, 2.0 * 4.0 * 1_543_714_304.0 * 7.0 / 8.0 / 1e9);
    let links = Links { bytes_per_s: Some(1e10) };
    close(times(&RunWorkload { links, ..with_ranks(Ranks::new(8, 1)) }).exchange, apart.exchange / 10.0);
}

#[test]
fn dealt_requests_have_a_prompt_each_or_all_prompts() {
    let load = |prompts: Vec<usize>, requests| EngineLoad { prompts, requests, max_new_tokens: 9 };
    let check = |count, prompts: &[usize], requests, expected: (&[usize], usize), least| {
        let ranks = Ranks::new(count, count);
        assert_eq!(ranks.dealt(&load(prompts.into(), requests)), load(expected.0.into(), expected.1));
        assert_eq!(ranks.emptiest().dealt(&load(prompts.into(), requests)).requests, least);
    };
    check(1, &[3, 5], 4, (&[3, 5], 4), 4);
    check(2, &[3, 5], 8, (&[5, 3], 4), 4);
    check(4, &[3, 5, 4], 6, (&[5, 4], 2), 1);
}

#[test]
fn plan_refuses_ranks_that_cannot_share_the_shards() {
    let config = known_models::by_name("qwen2.5-math-1.5b").unwrap().read().unwrap();
    let (settings, work) = (sharded(8), with_ranks(Ranks::new(3, 3)));
    let error = Plan::of(&config, &settings, &work, Target::cpu()).map(drop).unwrap_err().to_string();
    assert!(error.contains("train.shards is 8, which 3 processes cannot share equally"), "{error}");
    let error = settings.validate_for_processes(16).unwrap_err().to_string();
    assert!(error.ends_with("or set train.shards to 16"), "{error}");
}

/// A suggestion must be a setting that a run with shards accepts.
#[test]
fn changes_of_ranks_do_not_set_workers() {
    let config = known_models::by_name("qwen2.5-math-1.5b").unwrap().read().unwrap();
    let (settings, work) = (sharded(8), with_ranks(Ranks::new(8, 8)));
    let plan = Plan::of(&config, &settings, &work, Target::cpu()).unwrap();
    for gib in [12, 16, 20, 24] {
        if let Some((changed, _)) = plan.changes_that_fit(gib << 30, Effect::Experiment) {
            changed.validate().unwrap();
        }
    }
}
