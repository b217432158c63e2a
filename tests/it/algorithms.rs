//! Algorithms as users run them: presets are printed and train the policy, schedules are restored on resume, steps without signal are
//! recorded, and contradictory settings are refused before weights load.

use std::path::Path;

use crate::fixture::{bytes, fail, metrics, repository, stderr, succeed};

/// Trains the embedded model without evaluation, with `sets` as settings. Returns the printed messages.
fn train(out: &Path, steps: u64, sets: &[&str]) -> String {
    let (steps, out) = (steps.to_string(), out.to_str().unwrap());
    let mut arguments = vec!["-v", "train", "--steps", &steps, "--out", out, "--set", "eval.benchmarks="];
    arguments.extend(sets.iter().flat_map(|set| ["--set", set]));
    stderr(&succeed(&arguments))
}

/// Returns a metric of each step.
fn column(out: &Path, name: &str) -> Vec<f64> {
    metrics(out).iter().map(|line| line[name].as_f64().unwrap_or_else(|| panic!("no {name} in {line}"))).collect()
}

#[test]
fn algo_presets_are_printed_and_change_the_policy() {
    let folder = tempfile::tempdir().unwrap();
    for (algo, part) in [
        ("grpo", "advantage.scale=group loss.ratio=token"),
        ("dr_grpo", "loss.aggregation=seq-mean-token-sum-norm(80)"),
        ("rloo", "advantage.baseline=leave-one-out"),
        ("reinforce++", "reward.kl=0.001"),
        ("dapo", "loss.clip_high=0.28"),
        ("gspo", "loss.ratio=sequence"),
        ("cispo", "loss.surrogate=cispo"),
    ] {
        let out = folder.path().join(algo);
        let messages = train(&out, 3, &[&format!("algo={algo}"), "train.updates_per_rollout=4", "train.epochs=2"]);
        assert!(messages.contains(&format!("{algo} (")) && messages.contains(part), "{messages}");
        assert!(messages.contains(" groups"), "{messages}");
        let norms = column(&out, "actor/grad_norm");
        assert!(norms.len() == 3 && norms.iter().all(|norm| norm.is_finite() && *norm > 0.0), "{algo}: {norms:?}");
        assert!(column(&out, "actor/ppo_kl").iter().any(|kl| *kl != 0.0), "{algo}: only the first update has a ratio of 1");
        assert_eq!(column(&out, "rollout/logprob_gap_max"), [0.0; 3], "{algo}");
    }
}

#[test]
fn resume_restores_schedules_and_references_bit_identically() {
    let folder = tempfile::tempdir().unwrap();
    let schedules = ["rollout.temperature_to=1.0", "rollout.temperature_steps=4", "loss.entropy_target=0.5", "loss.entropy_step=0.0007"];
    let common = ["checkpoint.every=3", "optim.schedule=constant", "rollout.groups=4", "loss.kl=0.1"];
    for (name, reference) in [("reset", "train.reference_every=2"), ("average", "train.reference_decay=0.7")] {
        let sets = [&schedules[..], &common, &[reference]].concat();
        let (whole, parts) = (folder.path().join(format!("{name}-whole")), folder.path().join(format!("{name}-parts")));
        train(&whole, 6, &sets);
        train(&parts, 3, &sets);
        succeed(&["train", "--resume", parts.to_str().unwrap(), "--steps", "6"]);
        for file in ["model.safetensors", "state/reference.safetensors", "state/course.json"] {
            let [whole, parts] = [&whole, &parts].map(|run| bytes(&run.join("checkpoints/00006").join(file)));
            assert!(whole == parts, "{name}: {file} differs");
        }
        let temperatures = column(&parts, "rollout/temperature");
        assert!(temperatures.iter().zip([0.6, 0.7, 0.8, 0.9, 1.0, 1.0]).all(|(f, e)| (f - e).abs() < 1e-6), "{temperatures:?}");
        let coefficients = column(&parts, "actor/entropy_coeff");
        assert!(
            coefficients.windows(2).all(|pair| (pair[1] - pair[0]).abs() > 1e-4),
            "the coefficient must change at each step: {coefficients:?}"
        );
        let kl = column(&parts, "actor/kl_loss");
        let fixed_reference = ["checkpoint.every=3", "optim.schedule=constant", "rollout.groups=4", "loss.kl=0.1"];
        let fixed = folder.path().join(format!("{name}-fixed"));
        train(&fixed, 6, &[&schedules[..], &fixed_reference].concat());
        assert_ne!(column(&fixed, "actor/kl_loss"), kl, "the reference must change");
    }
}

#[test]
fn steps_without_signal_are_recorded_and_apply_other_terms() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    // One token is not an answer, so every reward is 0.
    let messages = train(&out, 2, &["rollout.max_new_tokens=1", "loss.entropy=0.05"]);
    assert!(messages.contains("signal in 0 of 8 groups"), "{messages}");
    assert_eq!(column(&out, "reward/zero_std_groups"), [1.0, 1.0]);
    assert_eq!(column(&out, "actor/pg_loss"), [0.0, 0.0]);
    assert!(column(&out, "actor/grad_norm").iter().all(|norm| *norm > 0.0));
    assert!(column(&out, "actor/kl_loss")[1] > 0.0);
    // Groups without signal are replaced until the last attempt.
    let out = folder.path().join("replaced");
    train(&out, 1, &["rollout.max_new_tokens=1", "rollout.dynamic_sampling=2"]);
    assert_eq!(column(&out, "rollout/further_batches"), [2.0]);
}

#[test]
fn dynamic_sampling_replaces_groups_until_they_have_signal() {
    let folder = tempfile::tempdir().unwrap();
    let [without, with] = [0, 20].map(|limit| {
        let out = folder.path().join(limit.to_string());
        train(&out, 2, &[&format!("rollout.dynamic_sampling={limit}")]);
        column(&out, "reward/zero_std_groups")
    });
    assert!(with.iter().zip(&without).all(|(with, without)| with <= without) && with[0] < 0.5, "{without:?} and {with:?}");
}

#[test]
fn entropy_bonus_changes_entropy_without_a_policy_loss() {
    let folder = tempfile::tempdir().unwrap();
    let golden = repository("tests/golden/llama");
    let [model, rollouts] = ["policy", "rollouts.jsonl"].map(|part| golden.join(part).to_str().unwrap().to_owned());
    let run = |coefficient: &str| {
        let out = folder.path().join(coefficient);
        let sets = ["rollout.temperature=1.0", "loss.policy=0", "loss.kl=0", "optim.lr=0.001"].map(str::to_owned);
        let more = [format!("model={model}"), format!("rollout.replay={rollouts}"), format!("loss.entropy={coefficient}")];
        let sets: Vec<&str> = sets.iter().chain(&more).map(String::as_str).collect();
        train(&out, 11, &sets);
        let entropy = column(&out, "actor/entropy");
        // The recording has ten steps, so the eleventh repeats the first, token for token.
        entropy[10] - entropy[0]
    };
    let (up, down) = (run("0.1"), run("-0.1"));
    assert!(up > 0.05 && down < -0.05, "{up} and {down}");
}

#[test]
fn reward_kl_is_recorded_and_changes_rewards() {
    let folder = tempfile::tempdir().unwrap();
    let run = |coefficient: &str| {
        let out = folder.path().join(coefficient);
        let kl = format!("reward.kl={coefficient}");
        train(&out, 4, &["loss.kl=0", "loss.entropy=0", &kl, "rollout.groups=4", "optim.lr=0.001"]);
        let [scores, rewards] = ["critic/score/mean", "critic/rewards/mean"].map(|name| column(&out, name));
        scores.iter().zip(rewards).map(|(score, reward)| score - reward).collect::<Vec<f64>>()
    };
    assert_eq!(run("0"), [0.0; 4]);
    let penalties = run("0.5");
    assert!(penalties[0].abs() < 1e-6 && penalties[1..].iter().any(|penalty| penalty.abs() > 1e-3), "{penalties:?}");
}

#[test]
fn settings_that_contradict_each_other_are_refused_before_the_run_starts() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("never");
    let check = |sets: &[&str], expected: &str| {
        let mut arguments = vec!["-v", "train", "--model", "no/such-model", "--out", out.to_str().unwrap()];
        arguments.extend(sets.iter().flat_map(|set| ["--set", set]));
        let messages = fail(&arguments, 2);
        assert!(messages.contains(expected), "{sets:?}: {messages}");
        assert!(!out.exists());
    };
    check(&["algo=pro"], "algo is \"pro\"; it must be one of grpo, ppo, dr_grpo, rloo, reinforce++, dapo, gspo, cispo");
    check(&["reward.kl=0.1"], "loss.kl is 0.001 and reward.kl is 0.1, but KL belongs in one of them");
    check(&["rollout.group_size=1"], "rollout.group_size is 1, but a group's mean as the baseline needs at least 2");
    check(&["loss.clip_low=1"], "loss.clip_low is 1; it must be above 0 and below 1");
    check(&["algo=cispo", "loss.clip_low=1.5"], "loss.clip_low is 1.5; it must be a number above 0 and at most 1");
    check(&["algo=ppo", "critic.lr=0"], "critic.lr is 0: set it to the critic's learning rate");
    check(&["critic.lr=1e-5"], "no critic is used: set advantage.baseline=critic");
    check(&["advantage.baseline=none"], "advantage.scale is group, which needs the baseline group");
    let recording = format!("rollout.replay={}", repository("tests/golden/llama/rollouts.jsonl").display());
    check(&["rollout.dynamic_sampling=3", &recording], "recorded rollouts cannot be sampled again");
    check(&["rollout.temperature_steps=3", &recording], "the temperature of recorded rollouts is fixed");
    check(&["algo=reinforce++", "rollout.dynamic_sampling=3"], "rollout.dynamic_sampling replaces groups whose rewards are all equal");
    check(&["algo=ppo", "loss.policy=0"], "advantage.baseline is critic, but the policy loss that would use it is off");
    check(&["advantage.gamma=0.9"], "advantage.gamma is 0.9, but the baseline group does not use it");
    check(&["advantage.lambda=0.9"], "advantage.lambda is 0.9, but only a critic uses it");
    check(&["loss.entropy_to=0.01"], "loss.entropy_to is 0.01, but loss.entropy_steps is 0");
    check(&["rollout.temperature_to=0.9"], "rollout.temperature_to is 0.9, but rollout.temperature_steps is 0");
    check(&["loss.kl=0", "train.reference_every=5"], "update a reference model, but loss.kl and reward.kl are 0");
    check(&["train.reference_every=5", "train.reference_decay=0.5"], "both update the reference model");
    check(&["loss.entropy_target=0.4"], "loss.entropy_target is 0.4 and loss.entropy_step is 0");
    check(&["loss.entropy_target=0.4", "loss.entropy_step=0.1", "loss.entropy_steps=9"], "set loss.entropy_steps to 0");
    check(&["rollout.temperature_steps=9", "rollout.temperature_to=0"], "rollout.temperature_to is 0");
    check(&["train.updates_per_rollout=4", "train.epochs=3"], "must be a multiple of train.epochs (3)");
    check(
        &["rollout.groups=8", "train.updates_per_rollout=6", "train.epochs=2"],
        "3 updates per epoch; that number must divide rollout.groups (8)",
    );
    check(&["loss.policy=0", "loss.kl=0", "reward.kl=0.1"], "loss.policy is 0, which ignores rewards: use loss.kl");
}
