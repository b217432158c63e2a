//! Tests that settings outside their range are rejected by name, from every source, before anything is written.

use std::path::Path;

use crate::fixture::{self, repository, rlvr, stderr, stdout, succeed, text};

/// Checks that the command exits with 2 (wrong usage) and this message.
fn refused(arguments: &[&str], expected: &str) {
    let output = rlvr(arguments);
    let stderr = stderr(&output) + &stdout(&output);
    assert!(stderr.contains(expected), "{arguments:?}: expected {expected:?}, found {stderr}");
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
}

/// Out-of-range values as (group, assignment, expected message).
const OUT_OF_RANGE: [(&str, &str, &str); 24] = [
    ("optim", "weight_decay = nan", "optim.weight_decay is NaN; it must be a number of at least 0"),
    ("optim", "weight_decay = -0.1", "optim.weight_decay is -0.1; it must be a number of at least 0"),
    ("optim", "eps = inf", "optim.eps is inf; it must be a number above 0"),
    ("optim", "eps = 0.0", "optim.eps is 0; it must be a number above 0"),
    ("optim", "clip_norm = -1", "optim.clip_norm is -1; it must be a number of at least 0"),
    ("optim", "lr = nan", "optim.lr is NaN; it must be a number of at least 0"),
    ("optim", "beta2 = 1.0", "optim.beta2 is 1; it must be a number of at least 0 and below 1"),
    ("optim", "schedule = \"cosin\"", "optim.schedule is \"cosin\"; it must be one of constant, linear, cosine (did you mean cosine?)"),
    ("rollout", "temperature = inf", "rollout.temperature is inf; it must be a number from 0.001 to 1000"),
    ("rollout", "groups = -1", "rollout.groups is -1; it must be a whole number from 1 to 100000"),
    ("rollout", "groups = 0.5", "rollout.groups is 0.5; it must be a whole number from 1 to 100000"),
    ("rollout", "top_p = 0", "rollout.top_p is 0; it must be a number above 0 and at most 1"),
    ("rollout", "top_k = -5", "rollout.top_k is -5; it must be a whole number from 0 to 1000000000"),
    ("loss", "kl = -1", "loss.kl is -1; it must be a number of at least 0"),
    ("loss", "clip_high = inf", "loss.clip_high is inf; it must be a number above 0"),
    ("loss", "entropy = nan", "loss.entropy is NaN; it must be a finite number"),
    ("loss", "aggregation = \"mean\"", "loss.aggregation: unknown aggregation \"mean\"; expected one of token-mean"),
    ("advantage", "baseline = \"gruop\"", "it must be one of group, leave-one-out, critic, none (did you mean group?)"),
    ("critic", "clip_norm = -1", "critic.clip_norm is -1; it must be a number of at least 0"),
    ("reward", "command_timeout_s = inf", "reward.command_timeout_s is inf; it must be a number above 0 and at most 1000000"),
    ("train", "workers = 5000", "train.workers is 5000; it must be a whole number from 0 to 1024"),
    ("eval", "seed = -1", "eval.seed is -1; it must be a whole number from 0 to 9223372036854775807"),
    ("checkpoint", "keep_last = 0", "checkpoint.keep_last is 0; it must be a whole number from 1"),
    ("compute", "device = \"gpu\"", "compute.device: unknown device \"gpu\"; expected one of auto, cpu, cuda, cuda:N"),
];

#[test]
fn values_out_of_range_are_rejected_from_every_source() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (out, config, study, run) = (path("never"), path("config.toml"), path("study.toml"), path("run"));
    let complete = stdout(&rlvr(&["train", "--dry-run"]));
    std::fs::create_dir(&run).unwrap();
    for (group, line, expected) in OUT_OF_RANGE {
        let set = format!("{group}.{line}");
        refused(&["train", "--out", &out, "--set", &set], expected);
        std::fs::write(&config, format!("[{group}]\n{line}\n")).unwrap();
        refused(&["train", "--out", &out, "--config", &config], expected);
        std::fs::write(&study, format!("title = \"t\"\n[[arm]]\nlabel = \"a\"\nset = {{ {set} }}\n")).unwrap();
        refused(&["study", &study, "--dry-run"], expected);
        // A run with an edited config.toml.
        let key = line.split(' ').next().unwrap();
        let (before, after) = complete.split_once(&format!("\n[{group}]\n")).unwrap();
        let old = after.lines().find(|other| other.starts_with(&format!("{key} = "))).unwrap();
        std::fs::write(Path::new(&run).join("config.toml"), format!("{before}\n[{group}]\n{}", after.replacen(old, line, 1))).unwrap();
        refused(&["train", "--resume", &run], expected);
        assert!(!Path::new(&out).exists(), "{set}");
    }
}

#[test]
fn unknown_settings_suggest_the_nearest() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("never").to_str().unwrap().to_owned();
    let check = |set: &str, expected: &str| refused(&["train", "--out", &out, "--set", set], expected);
    check("lr=1", "unknown setting lr; the top level has ");
    check("lr=1", "(did you mean critic.lr or optim.lr?)");
    check("optim.lrr=1", "(did you mean optim.lr?)");
    check("rollouts.groups=1", "(did you mean rollout.groups?)");
    check("algo=gpro", "(did you mean grpo?)");
    check("reward.name=outcom", "(did you mean outcome?)");
    let init = |set: &str, expected: &str| refused(&["init", "--like", "qwen2.5-math-1.5b", "--out", &out, "--set", set], expected);
    init("foo=1", "unknown field \"foo\" of config.json; expected one of ");
    init("hidden_sise=64", "(did you mean hidden_size?)");
    refused(&["pretrain", "--out", &out, "--set", "mixture.bold=1.5"], "mixture.bold is 1.5; it must be a number from 0 to 1");
    refused(&["pretrain", "--out", &out, "--set", "workers=0"], "workers is 0; it must be a whole number from 1 to 1024");
    assert!(!Path::new(&out).exists());
}

#[test]
fn lora_rank_above_the_model_width_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("never").to_str().unwrap().to_owned();
    for rank in ["65", "10000"] {
        let expected = format!("lora.rank is {rank}, above the width 64 of tiny");
        refused(&["train", "--out", &out, "--lora", rank], &expected);
        refused(&["train", "--out", &out, "--dry-run", "--lora", rank], &expected);
        refused(&["plan", "--lora", rank], &expected);
    }
    assert!(!Path::new(&out).exists());
    succeed(&["train", "--out", &out, "--dry-run", "--lora", "64"]);
}

/// Planning with the largest allowed values does not overflow.
#[test]
fn plan_accepts_the_largest_allowed_values() {
    let sets = [
        "rollout.groups=100000",
        "rollout.group_size=100000",
        "rollout.max_new_tokens=10000000",
        "train.steps=1000000000",
        "eval.max_new_tokens=1",
    ];
    let arguments: Vec<&str> = ["train", "--dry-run"].into_iter().chain(sets.iter().flat_map(|set| ["--set", set])).collect();
    let output = rlvr(&arguments);
    let stderr = stderr(&output);
    assert!(matches!(output.status.code(), Some(0..=2)), "{stderr}");
}

#[test]
fn kl_estimator_k1_in_the_loss_prints_a_warning() {
    let output = rlvr(&["train", "--dry-run", "--set", "loss.kl_estimator=k1"]);
    let stderr = stderr(&output);
    assert!(output.status.success() && stderr.contains("warning: loss.kl_estimator is k1"), "{stderr}");
    assert!(!fixture::stderr(&rlvr(&["train", "--dry-run"])).contains("warning"), "the default settings print a warning");
}

#[test]
fn help_settings_prints_every_setting_of_docs_settings_md() {
    let printed = stdout(&rlvr(&["train", "--help-settings"]));
    let page = text(&repository("docs/settings.md"));
    let (page, _) = page.split_once("## Renamed settings").unwrap();
    let paths = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | ")).map(|(path, _)| path).collect::<Vec<_>>();
    let is_printed = |path: &&str| printed.lines().any(|line| line == *path);
    let missing: Vec<&&str> = paths.iter().filter(|path| !is_printed(path)).collect();
    assert!(paths.len() > 100 && missing.is_empty(), "{missing:?} of {}", paths.len());
}
