//! Training as users run it: a small demonstration with its records, interruption and resumption, the paper's example with a real
//! tokenizer, and mistakes.

use std::path::Path;

#[allow(dead_code)] // its `main`
#[path = "../../examples/one_example.rs"]
mod one_example;

use crate::fixture::{
    self, command, json, json_lines, metrics, repository, rlvr, shared, stderr, stdout, stdout_json, steps_of, succeed, text, wait_for,
    weights,
};

/// The settings of a run that takes seconds.
const SMALL: [&str; 8] = ["--set", "eval.limit=200", "--set", "eval.every=20", "--set", "checkpoint.every=20", "--set", "loss.kl=0.001"];

#[test]
fn train_on_one_example_improves_untrained_problems() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let output = succeed(&[&["train", "--steps", "40", "--out", out.to_str().unwrap()][..], &SMALL].concat());
    let messages = stderr(&output);
    assert!(messages.contains("\nexample    Compute 334+556. -> 890 (tiny/addition/334+556)\n"), "{messages}");

    let summary = json(&out.join("summary.json"));
    let greedy = |which: &str| summary[which]["greedy"].as_f64().unwrap();
    assert!(greedy("last") >= greedy("base") + 0.3, "greedy {} to {}", greedy("base"), greedy("last"));
    assert!(summary["last"]["sampled"].as_f64() >= summary["base"]["sampled"].as_f64().map(|base| base * 2.0));
    assert_eq!(summary["last"]["by_subject"].as_object().unwrap().len(), 10);
    assert_eq!((summary["steps"].as_u64(), summary["last"]["step"].as_u64()), (Some(40), Some(40)));
    assert!(summary["best"]["greedy"].as_f64() >= summary["last"]["greedy"].as_f64());

    let metrics = metrics(&out);
    assert_eq!(metrics.len(), 40);
    for line in &metrics {
        assert_eq!(line["rollout/logprob_gap_max"], 0.0, "sampler and trainer agree to the bit on the CPU");
        for name in ["actor/pg_loss", "actor/entropy", "actor/kl_loss", "actor/grad_norm", "train/accuracy", "response_length/mean"] {
            assert!(line[name].as_f64().is_some_and(f64::is_finite), "{name} in {line}");
        }
        // Only the lines of evaluated steps have held-out accuracy.
        assert_eq!(line["val/tiny-greedy"].is_f64(), line["step"].as_u64().unwrap().is_multiple_of(20), "{line}");
    }
    assert_eq!(metrics[39]["val/tiny-greedy"], summary["last"]["greedy"]);
    assert!(messages.contains("step 20: tiny-greedy ") && messages.contains("; train "), "{messages}");
    let conditions = json(&out.join("eval/00040/conditions.json"))["tiny-greedy"].clone();
    let revision = conditions["revision"].as_str().unwrap();
    assert!(revision.starts_with("sha256:") && revision.ends_with(", step 40"), "{conditions}");
    assert!(text(&out.join("curves.svg")).contains("<svg") && out.join("rollouts/00001.jsonl.gz").exists());
    assert!(std::fs::read_dir(&out).unwrap().any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with("events.out.tfevents")));
    assert_eq!(json_lines(&out.join("eval/00040/tiny-greedy.jsonl")).len(), 200);

    // Evaluating the last checkpoint reproduces the run's evaluation, response by response.
    let again = folder.path().join("again");
    let checkpoint = out.join("checkpoints/00040");
    succeed(&["eval", "--model", checkpoint.to_str().unwrap(), "--benchmarks", "tiny", "--limit", "200", "--out", again.to_str().unwrap()]);
    for pass in ["tiny-greedy.jsonl", "tiny-t0.6x1.jsonl"] {
        assert_eq!(text(&again.join(pass)), text(&out.join("eval/00040").join(pass)), "{pass}");
    }

    // Training again with the recorded configuration gives bit-identical weights.
    let repeated = folder.path().join("repeated");
    let config = out.join("config.toml");
    succeed(&["train", "--config", config.to_str().unwrap(), "--out", repeated.to_str().unwrap()]);
    assert!(weights(&out, 40) == weights(&repeated, 40), "the same settings gave other weights");
}

#[test]
fn one_example_trains_through_the_library() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = one_example::train(&folder.path().join("run")).unwrap();
    assert_eq!(metrics.len(), 10);
    assert!(metrics.iter().all(|line| line["rollout/logprob_gap_max"] == 0.0 && line["actor/grad_norm"].as_f64().is_some()), "{metrics:?}");
    assert!(folder.path().join("run/checkpoints/00010/model.safetensors").exists());
}

#[test]
fn train_with_8_bit_optimizer_states_learns() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let arguments = ["train", "--steps", "40", "--out", out.to_str().unwrap(), "--set", "optim.states=8bit"];
    succeed(&[&arguments[..], &SMALL].concat());
    let summary = json(&out.join("summary.json"));
    let greedy = |which: &str| summary[which]["greedy"].as_f64().unwrap();
    assert!(greedy("last") >= greedy("base") + 0.3, "greedy {} to {}", greedy("base"), greedy("last"));
    let state = out.join("checkpoints/00040/state");
    let bytes = |name: &str| std::fs::metadata(state.join(name)).map_or(0, |file| file.len());
    // Two bytes for each of 227,392 parameters, two f32 scales for every 256 of them, and vectors in f32.
    assert!((460_000..490_000).contains(&bytes("moments_8bit.safetensors")) && bytes("first_moments.safetensors") == 0);
}

#[test]
fn resume_of_a_killed_or_interrupted_run_is_bit_identical() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let settings = ["--steps", "30", "--set", "eval.limit=20", "--set", "eval.every=10", "--set", "checkpoint.every=5"];
    succeed(&[&["train", "--out", path("whole").to_str().unwrap()][..], &settings].concat());
    for (name, signal, code) in [("killed", "KILL", None), ("interrupted", "INT", Some(130)), ("terminated", "TERM", Some(143))] {
        let out = path(name);
        let mut child = command(&["train", "--out", out.to_str().unwrap()]).args(settings).spawn().unwrap();
        wait_for("twelve steps", || steps_of(&out) >= 12);
        fixture::signal(&child, signal);
        let status = child.wait().unwrap();
        assert_eq!(status.code(), code, "{name}");
        succeed(&["train", "--resume", out.to_str().unwrap()]);
        assert!(weights(&out, 30) == weights(&path("whole"), 30), "{name}: the resumed run ended with other weights");
        let steps: Vec<u64> = metrics(&out).iter().map(|line| line["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, (1..=30).collect::<Vec<_>>(), "{name}: each step is recorded once");
        let summaries = [&out, &path("whole")].map(|run| json(&run.join("summary.json"))["last"].clone());
        assert_eq!(summaries[0], summaries[1], "{name}");
    }
    let whole = path("whole");
    let whole = whole.to_str().unwrap();
    let messages = stderr(&rlvr(&["train", "--resume", whole]));
    assert!(messages.contains("has done all of its 30 steps: add --steps N"), "{messages}");
    succeed(&["train", "--resume", whole, "--steps", "31"]);
    assert_eq!(json(&path("whole").join("summary.json"))["steps"], 31);
    let states =
        std::fs::read_dir(path("whole").join("checkpoints")).unwrap().filter(|entry| entry.as_ref().unwrap().path().join("state").exists());
    assert_eq!(states.count(), 2, "only the last two checkpoints are resumable");
}

/// Returns the seconds that a metrics line assigns to each phase.
fn phases(line: &serde_json::Value) -> std::collections::BTreeMap<&str, f64> {
    let all = line.as_object().unwrap().iter();
    all.filter_map(|(key, value)| Some((key.strip_prefix("perf/phase/")?.strip_suffix("_s")?, value.as_f64()?))).collect()
}

#[test]
fn metrics_lines_have_phase_times_that_add_up() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let small = ["--set", "eval.limit=20", "--set", "eval.every=0", "--set", "checkpoint.every=1"];
    let output = succeed(&[&["train", "--steps", "3", "--out", out.to_str().unwrap()][..], &small].concat());
    let messages = stderr(&output);
    assert!(stdout(&output).contains("where the time went") && !messages.contains("s: sample"), "{messages}");
    let lines = metrics(&out);
    let names = ["critic", "evaluate", "optimizer", "reference", "reward", "sample", "save", "update"];
    let (mut before, mut total) = (0.0, 0.0);
    for line in &lines {
        let phases = phases(line);
        assert!(phases.keys().eq(&names), "{phases:?}");
        for name in ["optimizer", "reference", "reward", "sample", "save", "update"] {
            assert!(phases[name] > 0.0, "{name} in {phases:?}");
        }
        // The base model is evaluated before step 1, and the policy after the last step.
        assert_eq!((phases["evaluate"] > 0.0, phases["critic"]), (line["step"] != 2, 0.0), "{phases:?}");
        let (elapsed, sum) = (line["perf/elapsed_s"].as_f64().unwrap(), phases.values().sum::<f64>());
        total += sum;
        // No time counts twice. On an idle machine, the phases account for nearly all of it.
        assert!(total <= elapsed && sum >= 0.5 * (elapsed - before), "{sum} of {} s: {phases:?}", elapsed - before);
        before = elapsed;
    }
    // The summary of a resumed run includes the times of earlier lines, and `-v` prints the phases of each step.
    let output = succeed(&["-v", "train", "--resume", out.to_str().unwrap(), "--steps", "4"]);
    let messages = stderr(&output);
    let step = messages.lines().find(|line| line.starts_with("step 4/4")).unwrap_or_else(|| panic!("{messages}"));
    assert!(step.contains(" s: sample "), "{step}");
    let sampled: f64 = lines.iter().map(|line| phases(line)["sample"]).sum();
    let tables = stdout(&output);
    // The row may be to the right of another table.
    let row = tables.lines().find_map(|line| Some(line.split_once("sample ")?.1)).unwrap_or_else(|| panic!("{tables}"));
    assert!(row.split_whitespace().next().unwrap().parse::<f64>().unwrap() + 0.05 >= sampled, "{row}, {sampled} s before");
}

#[test]
fn lora_trains_only_adapters_and_resumes_bit_identically() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let run = out.to_str().unwrap();
    let settings = ["--lora", "4", "--steps", "6", "--set", "optim.lr=0.001", "--set", "loss.kl=0.001", "--set", "checkpoint.every=3"];
    let evaluation = ["--set", "eval.limit=40", "--set", "eval.every=6", "--set", "checkpoint.dtype=bf16"];
    let output = succeed(&[&["train", "--out", run][..], &settings, &evaluation].concat());
    assert!(stderr(&output).contains("algorithm  grpo with LoRA (rank 4, alpha 8), 8 groups x 8 responses"));
    for line in metrics(&out) {
        assert_eq!(line["rollout/logprob_gap_max"], 0.0, "sampler and trainer use the same merged weights");
        assert!(line["actor/grad_norm"].as_f64().is_some_and(|norm| norm > 0.0), "{line}");
        // The base model is the reference: KL is 0 before the first update and positive afterwards.
        assert_eq!(line["actor/kl_loss"] == 0.0, line["step"] == 1, "{line}");
    }
    let files = ["model.safetensors", "adapter/adapter_model.safetensors", "state/weights.safetensors", "state/second_moments.safetensors"];
    let bytes = || files.map(|file| std::fs::read(out.join("checkpoints/00006").join(file)).unwrap());
    let whole = bytes();
    std::fs::remove_dir_all(out.join("checkpoints/00006")).unwrap();
    succeed(&["train", "--resume", run]);
    for ((file, resumed), whole) in files.iter().zip(bytes()).zip(&whole) {
        assert!(resumed == *whole, "{file} of the resumed run differs");
    }
    let config = json(&out.join("checkpoints/00006/adapter/adapter_config.json"));
    assert_eq!((config["r"].as_u64(), config["lora_alpha"].as_u64()), (Some(4), Some(8)));
    assert_eq!(config["target_modules"].as_array().map(Vec::len), Some(7));

    // The number of workers and the micro-batch size change the gradient only by rounding.
    let norm = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let one = ["train", "--lora", "4", "--steps", "1", "--set", "eval.benchmarks=", "--out", out.to_str().unwrap()];
        succeed(&[&one[..], more].concat());
        metrics(&out)[0]["actor/grad_norm"].as_f64().unwrap()
    };
    let gradients = folder.path().join("gradients.safetensors");
    let expected = norm("two", &["--dump-gradients", gradients.to_str().unwrap()]);
    for (name, set) in [("one", "train.workers=1"), ("three", "train.workers=3"), ("small", "train.micro_batch_tokens=100")] {
        let found = norm(name, &["--set", set]);
        assert!((found - expected).abs() < 1e-4 * expected, "{name}: {found} against {expected}");
    }
    let gradients = std::fs::read(gradients).unwrap();
    let gradients = safetensors::SafeTensors::deserialize(&gradients).unwrap();
    assert!(gradients.names().iter().all(|name| name.starts_with("base_model.model.model.layers.") && name.contains(".lora_")));
}

/// Workers, micro-batch size and activation checkpointing change the gradient only by rounding.
#[test]
fn train_gradient_does_not_depend_on_packing() {
    let folder = tempfile::tempdir().unwrap();
    let norm = |name: &str, settings: &[&str]| {
        let out = folder.path().join(name);
        succeed(&[&["train", "--steps", "1", "--out", out.to_str().unwrap(), "--set", "eval.benchmarks="][..], settings].concat());
        metrics(&out)[0]["actor/grad_norm"].as_f64().unwrap()
    };
    let whole = norm("whole", &[]);
    for (name, settings) in [
        ("small", ["--set", "train.micro_batch_tokens=100"]),
        ("workers", ["--set", "train.workers=3"]),
        ("again", ["--set", "train.activation_checkpointing=full"]),
    ] {
        let found = norm(name, &settings);
        assert!((found - whole).abs() < 1e-4 * whole, "{name}: {found} against {whole}");
    }
}

#[test]
fn train_on_pi1_uses_the_real_tokenizer_and_template() {
    let (Some(model), Some(data)) = (shared("models/qwen2.5-math-1.5b"), shared("data")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (small_model, out) = (folder.path().join("model").display().to_string(), folder.path().join("run").display().to_string());
    let shrunk = ["hidden_size=32", "intermediate_size=64", "num_hidden_layers=2", "num_attention_heads=4", "num_key_value_heads=2"];
    let sets = shrunk.iter().flat_map(|set| ["--set", set]);
    succeed(&["init", "--like", model.to_str().unwrap(), "--out", &small_model].into_iter().chain(sets).collect::<Vec<_>>());
    let small = [
        "rollout.groups=2",
        "rollout.group_size=2",
        "rollout.max_new_tokens=24",
        "eval.benchmarks=math500",
        "eval.limit=3",
        "eval.max_new_tokens=16",
    ];
    let small = small.iter().flat_map(|set| ["--set", set]);
    let run = ["train", "--example", "pi1", "--algo", "grpo", "--model", &small_model, "--steps", "2", "--out", &out, "--data-dir"];
    succeed(&run.into_iter().chain([data.to_str().unwrap()]).chain(small).collect::<Vec<_>>());
    for line in metrics(&folder.path().join("run")) {
        assert_eq!(line["prompt_length/mean"], 140.0, "the length of pi1's prompt with the real tokenizer");
        assert!(line["actor/loss"].as_f64().is_some_and(f64::is_finite), "{line}");
        assert_eq!(line["rollout/logprob_gap_max"], 0.0, "{line}");
    }
    let checkpoint = folder.path().join("run/checkpoints/00002");
    let input = folder.path().join("pairs.jsonl");
    std::fs::write(&input, "{\"id\": 1, \"prompt\": \"What is 2+2?\", \"completion\": \" It is 4.\"}\n").unwrap();
    let output = succeed(&["score", "--model", checkpoint.to_str().unwrap(), "--input", input.to_str().unwrap()]);
    let scored = &stdout_json(&output)[0];
    assert!(scored["sum"].as_f64().is_some_and(|sum| sum < 0.0), "{scored}");
}

#[test]
fn usage_mistakes_print_one_error_and_write_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        path(name)
    };
    std::fs::create_dir(folder.path().join("taken")).unwrap();
    std::fs::create_dir(folder.path().join("empty-model")).unwrap();
    let (taken, empty_model, new) = (path("taken"), path("empty-model"), path("new"));
    let (empty, unlabeled) = (write("empty.jsonl", ""), write("unlabeled.jsonl", "{\"question\": \"What?\"}\n"));
    let truncated = path("truncated");
    succeed(&["init", "--like", "tiny", "--out", &truncated]);
    let weights = folder.path().join("truncated/model.safetensors");
    std::fs::write(&weights, &std::fs::read(&weights).unwrap()[..1000]).unwrap();
    let config = write("typo.toml", "[loss]\nentropi = 1\n");
    let cases: [(&[&str], i32, &str); 21] = [
        (&["train", "--set", "loss.entropi=1", "--out", &new], 2, "unknown setting loss.entropi; [loss] has"),
        (&["train", "--config", &config, "--out", &new], 2, "unknown setting loss.entropi"),
        (&["train", "--config", "nowhere.toml", "--out", &new], 2, "cannot read nowhere.toml"),
        (&["train", "--algo", "alchemy", "--out", &new], 2, "algo is \"alchemy\"; it must be one of grpo"),
        (&["train", "--set", "reward.name=gold", "--out", &new], 2, "unknown reward \"gold\"; expected one of outcome, format"),
        (&["train", "--set", "lora.alpha=16", "--out", &new], 2, "lora.alpha is 16 but lora.rank is 0: set a rank with --lora"),
        (&["train", "--lora", "8", "--set", "lora.alpha=-1", "--out", &new], 2, "lora.alpha is -1"),
        (&["train", "--set", "rollout.group_size=1", "--out", &new], 2, "rollout.group_size is 1"),
        (&["train", "--set", "loss.aggregation=mean", "--out", &new], 2, "unknown aggregation \"mean\"; expected one of token-mean"),
        (&["train", "--example", "pi0", "--out", &new], 2, "pi1 to pi1209"),
        (&["train", "--example", "tiny/chess/1", "--out", &new], 2, "subjects are addition"),
        (&["train", "--example", &empty, "--model", "tiny", "--out", &new], 2, "empty.jsonl"),
        (&["train", "--example", &unlabeled, "--model", "tiny", "--out", &new], 2, "unlabeled.jsonl, line 1"),
        (&["train", "--out", &taken], 2, "already exists and is never overwritten"),
        (&["train", "--set", "eval.benchmarks=maths", "--out", &new], 2, "unknown benchmark \"maths\"; expected one of math500"),
        (
            &["train", "--set", "eval.best_by=math500", "--out", &new],
            2,
            "eval.best_by is math500, which is not evaluated; expected one of tiny, tiny-greedy",
        ),
        (
            &["train", "--set", "eval.saturation_window=0", "--out", &new],
            2,
            "eval.saturation_window is 0; it must be a whole number from 1",
        ),
        (
            &["train", "--set", "rollout.max_new_tokens=8190", "--out", &new],
            1,
            "it exceeds the model's context length of 8192: set rollout.max_new_tokens to at most",
        ),
        (&["eval", "--model", &truncated, "--benchmarks", "tiny"], 1, "is truncated"),
        (&["eval", "--model", &empty_model, "--benchmarks", "tiny"], 1, "config.json"),
        (&["eval", "--model", "no-such-model", "--benchmarks", "tiny"], 2, "unknown model \"no-such-model\""),
    ];
    for (arguments, code, expected) in cases {
        let output = rlvr(arguments);
        let messages = stderr(&output);
        assert!(messages.contains(expected), "rlvr {}: expected \"{expected}\", found: {messages}", arguments.join(" "));
        assert_eq!(output.status.code(), Some(code), "rlvr {}: {messages}", arguments.join(" "));
        assert_eq!(messages.lines().filter(|line| line.starts_with("error:")).count(), 1, "{messages}");
        assert!(!Path::new(&new).exists(), "rlvr {} left a folder behind", arguments.join(" "));
    }
    assert_eq!(std::fs::read_dir(folder.path().join("taken")).unwrap().count(), 0);
}

/// Pre-training reproduces the recorded losses of the embedded model.
#[test]
fn pretraining_reproduces_the_first_losses_of_the_shipped_base() -> anyhow::Result<()> {
    let recorded = json(&repository("src/tiny/base/pretrain.json"));
    let settings = rlvr::config::read_recorded(&repository("src/tiny/base/pretrain.toml"))?;
    let mut pretraining = rlvr::tiny::pretrain::Pretraining::new(settings)?;
    for step in 0..5 {
        let (found, expected) = (pretraining.step()?, recorded["losses"][step].as_f64().unwrap());
        assert!((found - expected).abs() < 1e-5, "step {step}: loss {found}, recorded {expected}");
        if std::arch::is_x86_feature_detected!("avx512f") {
            assert_eq!(found, expected, "step {step}: recorded on this instruction set");
        }
    }
    Ok(())
}
