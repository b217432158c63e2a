//! PPO as users run it: training with a critic improves untrained problems, is bit-identical after a resume, and can warm up the critic.
//! Contradictory settings are reported.

use std::path::Path;

use serde_json::Value;

use crate::fixture::{self, command, json, metrics, rlvr, stderr, steps_of, succeed, wait_for};

/// The arguments that select PPO.
const PPO: [&str; 2] = ["--algo", "ppo"];

fn train(out: &Path, settings: &[&str]) {
    succeed(&[&["train", "--out", out.to_str().unwrap()][..], &PPO, settings].concat());
}

fn bytes(out: &Path, part: &str) -> Vec<u8> {
    fixture::bytes(&out.join("checkpoints").join(part))
}

#[test]
fn ppo_improves_untrained_problems() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    train(&out, &["--steps", "40", "--set", "eval.limit=200", "--set", "eval.every=20"]);
    let summary: Value = json(&out.join("summary.json"));
    let greedy = |which: &str| summary[which]["greedy"].as_f64().unwrap();
    assert!(greedy("last") >= greedy("base") + 0.3, "greedy {} to {}", greedy("base"), greedy("last"));
    let metrics = metrics(&out);
    for line in &metrics {
        for name in ["critic/vf_loss", "critic/grad_norm", "critic/values/mean", "critic/returns/mean", "critic/vf_explained_var"] {
            assert!(line[name].as_f64().is_some_and(f64::is_finite), "{name} in {line}");
        }
        assert!(line["critic/advantages/mean"].as_f64().unwrap().abs() < 1e-5, "whitened: {line}");
        // With one update per step, values have not changed since the estimates, so nothing is clipped.
        assert_eq!((&line["critic/vf_clipfrac"], &line["critic/lr"]), (&Value::from(0.0), &Value::from(1e-3)), "{line}");
        let (score, max_return) = (line["train/accuracy"].as_f64().unwrap(), line["critic/returns/max"].as_f64().unwrap());
        // Returns include the KL penalty of the reward, 0.001 times a few nats.
        assert!((0.0..=1.0).contains(&score) && (-0.01..=1.01).contains(&max_return), "{line}");
    }
    let explained =
        |part: &[Value]| part.iter().map(|line| line["critic/vf_explained_var"].as_f64().unwrap()).sum::<f64>() / part.len() as f64;
    assert!(explained(&metrics[30..]) > 0.15, "values predict rewards: {}", explained(&metrics[30..]));
}

#[test]
fn ppo_resume_restores_policy_and_critic_bit_identically() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let settings = ["--steps", "14", "--set", "eval.every=0", "--set", "eval.benchmarks=", "--set", "checkpoint.every=4"];
    // With several updates per step, the critic's values are clipped around those from before the first update.
    let settings = [&settings[..], &["--set", "train.updates_per_rollout=2", "--set", "optim.schedule=constant"]].concat();
    train(&whole, &settings);
    let arguments = [&["train", "--out", killed.to_str().unwrap()][..], &PPO, &settings].concat();
    let mut child = command(&arguments).spawn().unwrap();
    wait_for("nine steps", || steps_of(&killed) >= 9);
    child.kill().unwrap();
    child.wait().unwrap();
    succeed(&["train", "--resume", killed.to_str().unwrap()]);
    for part in
        ["model.safetensors", "state/first_moments.safetensors", "state/critic/weights.safetensors", "state/critic/moments.safetensors"]
    {
        let part = format!("00014/{part}");
        assert!(bytes(&killed, &part) == bytes(&whole, &part), "{part} differs");
    }
    assert_ne!(bytes(&whole, "00012/state/critic/weights.safetensors"), bytes(&whole, "00014/state/critic/weights.safetensors"));
    let clipped = metrics(&whole).iter().all(|line| line["critic/vf_clipfrac"].as_f64().is_some());
    assert!(clipped && metrics(&killed).len() == 14);

    std::fs::remove_dir_all(killed.join("checkpoints/00014/state/critic")).unwrap();
    let output = rlvr(&["train", "--resume", killed.to_str().unwrap(), "--steps", "15"]);
    let messages = stderr(&output);
    assert!(output.status.success() && messages.contains("skipped the checkpoint of step 14"), "{messages}");
    assert!(messages.contains("state/critic/moments.safetensors is missing") && messages.contains("resumed after step 12"), "{messages}");
}

#[test]
fn critic_warmup_leaves_the_policy_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let settings = ["--steps", "4", "--set", "critic.warmup_steps=2", "--set", "eval.benchmarks=", "--set", "checkpoint.every=1"];
    train(&out, &[&settings[..], &["--set", "checkpoint.keep_last=4"]].concat());
    assert_eq!(bytes(&out, "00001/model.safetensors"), bytes(&out, "00002/model.safetensors"), "the policy is unchanged");
    assert_ne!(bytes(&out, "00002/model.safetensors"), bytes(&out, "00003/model.safetensors"));
    let critic = |step: &str| bytes(&out, &format!("{step}/state/critic/weights.safetensors"));
    assert_ne!(critic("00001"), critic("00002"));
    for line in metrics(&out) {
        let is_warmup = line["step"].as_u64().unwrap() <= 2;
        assert_eq!(line["actor/grad_norm"].is_null(), is_warmup, "{line}");
        assert!(line["critic/grad_norm"].as_f64().is_some_and(|norm| norm > 0.0), "{line}");
    }
}

#[test]
fn ppo_trains_a_full_critic_with_adapters() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    train(&out, &["--steps", "2", "--lora", "4", "--set", "eval.benchmarks=", "--set", "optim.states=8bit"]);
    assert!(metrics(&out).iter().all(|line| line["critic/grad_norm"].as_f64().is_some_and(|norm| norm > 0.0)));
    // The state has all weights of the critic, including the embedding, not only adapters.
    let weights = candle_core::safetensors::load(out.join("checkpoints/00002/state/critic/weights.safetensors"), &candle_core::Device::Cpu);
    assert!(weights.unwrap().contains_key("embedding"));
}

#[test]
fn ppo_settings_that_contradict_each_other_are_reported_before_weights_load() {
    for (settings, expected) in [
        (["advantage.baseline=critic", "advantage.scale=batch"], "critic.lr is 0: set it to the critic's learning rate"),
        (
            ["advantage.baseline=critic", "critic.lr=1e-5"],
            "advantage.scale is group, which needs the baseline group or leave-one-out: set it to batch or none",
        ),
        (["critic.lr=1e-5", "advantage.scale=group"], "no critic is used: set advantage.baseline=critic"),
    ] {
        let output = rlvr(&["train", "--dry-run", "--set", settings[0], "--set", settings[1]]);
        let messages = stderr(&output);
        assert!(output.status.code() == Some(2) && messages.contains(expected), "{messages}");
    }
}
