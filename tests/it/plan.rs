//! `rlvr plan` as users see it, and the refusal of runs that do not fit.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::fixture::{rlvr, stderr, stdout};

fn check(arguments: &[&str], code: i32, expected: &[&str]) {
    let output = rlvr(arguments);
    let messages = stdout(&output) + &stderr(&output);
    assert_eq!(output.status.code(), Some(code), "rlvr {}: {messages}", arguments.join(" "));
    expected.iter().for_each(|part| assert!(messages.contains(part), "rlvr {}: no {part:?} in {messages}", arguments.join(" ")));
}

/// Checks a plan for this machine, whose exit code depends on whether the run fits here: 1 with the reason if not.
fn check_here(arguments: &[&str], expected: &[&str]) {
    let refused = stderr(&rlvr(arguments)).contains("error: the run needs ");
    check(arguments, i32::from(refused), expected);
}

#[test]
fn plan_prints_memory_disk_tokens_and_time() {
    let parts = [
        "227,392 parameters",
        "optimizer: two moments",
        "key/value cache",
        "states to resume from",
        "= 5,120",
        "GFLOP/s",
        "20 evaluations",
    ];
    check(&["plan", "--set", "eval.every=16", "--set", "eval.limit=20"], 0, &parts);
    let seven = ["plan", "--model", "qwen2.5-math-7b", "--example", "tiny/addition/334+556", "--set", "eval.benchmarks="];
    check_here(&seven, &["7,615,616,512 parameters", "reference (loss.kl is 0.001)", "prompts: about", "= 3,145,728", "no evaluation"]);
    let unknown = ["plan", "--model", "nobody/nothing", "--example", "tiny/addition/334+556", "--set", "eval.benchmarks="];
    check(&unknown, 2, &["is unknown until it is downloaded", "qwen2.5-math-7b"]);
    // Without the paper's data, a question of typical length replaces the default example.
    check_here(&["plan", "--model", "qwen2.5-math-1.5b"], &["planned with a question of 480 characters", "1,543,714,304 parameters"]);
    check(&["plan", "--model", "qwen2.5-math-1.5b", "--example", "pi1"], 2, &["dsr_sub.parquet"]);
    // GPUs with enough memory to save activations, with enough for smaller micro-batches, and with too little.
    let on_a_gpu = |gib: &str, expected: &[&str]| {
        check(&["plan", "--model", "qwen2.5-math-1.5b", "--gpu-memory", gib, "--set", "compute.kernels=fused"], 0, expected);
    };
    on_a_gpu("78", &["activations are saved, and the backward pass recomputes norms and SwiGLU"]);
    on_a_gpu("60", &["activations are saved", "micro-batches have 8,192 tokens instead of 16,384, so that activations can be saved"]);
    on_a_gpu("44", &["the backward pass recomputes each block"]);
    check(&["plan", "--model", "nope"], 2, &["unknown model \"nope\""]);
    check(&["train", "--model", "qwen2.5-math-1.5b"], 2, &["is a shape without weights", "rlvr init --like qwen2.5-math-1.5b"]);
    check(
        &["plan", "--model", "qwen2.5-math-1.5b", "--set", "rollout.engine.kv_cache_mib=1"],
        2,
        &["raise rollout.engine.kv_cache_mib or lower"],
    );
}

#[test]
fn train_prints_its_needs_and_refuses_runs_that_do_not_fit() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("run").display().to_string();
    check(&["train", "--dry-run", "-v", "--out", &out], 0, &["227,392 parameters: up to", "on disk"]);
    // A model too large for any machine that runs tests.
    let large = root.path().join("large");
    rlvr(&["init", "--like", "tiny", "--out", large.to_str().unwrap()]);
    let config = r#"{"model_type": "qwen2", "hidden_size": 16384, "intermediate_size": 65536, "num_hidden_layers": 80, "num_attention_heads": 128,
        "num_key_value_heads": 8, "vocab_size": 152064, "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 1e4}"#;
    std::fs::write(large.join("config.json"), config).unwrap();
    write_sparse_weights(&large.join("model.safetensors"));
    let large = large.display().to_string();
    let arguments = ["train", "--model", &large, "--example", "tiny/addition/334+556", "--set", "eval.benchmarks=", "--out", &out];
    let expected = if cfg!(target_os = "linux") { "no setting makes it fit" } else { "the run writes" };
    check(&arguments, 2, &[expected]);
    check(&["plan", "--model", &large, "--example", "tiny/addition/334+556", "--set", "eval.benchmarks="], 1, &[expected]);
    // Its settings are still valid, so a dry run succeeds.
    check(&[&arguments[..], &["--dry-run"]].concat(), 0, &["this machine would refuse the run: ", expected]);
    assert!(!root.path().join("run").exists());
}

const SHAPE: [&str; 7] = ["plan", "--model", "qwen2.5-math-1.5b", "--example", "tiny/addition/334+556", "--set", "eval.benchmarks="];

/// Runs `rlvr plan` for the 1.5B shape. Returns its stdout as JSON, which must be all that it prints there.
fn plan_json(more: &[&str], code: i32) -> Value {
    let output = rlvr(&[&SHAPE[..], more, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(code), "{more:?}: {}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

#[test]
fn plan_for_a_named_gpu_says_that_its_times_are_estimates() {
    let on = |gpu: &str, code: i32, expected: &[&str]| check(&[&SHAPE[..], &["--gpu", gpu]].concat(), code, expected);
    on("h100", 0, &["time on H100 SXM (80 GiB, 3350 GB/s, 989 TFLOP/s in bf16: NVIDIA H100 data sheet)", "not measurements", "rollouts"]);
    let fits = [
        "it would fit with --set train.stream_reference=true",
        "the objective and the number of responses stay the same, but optim.states=8bit rounds",
    ];
    on("rtx-4090", 1, &fits);
    // Streaming the reference frees memory that the key/value cache then uses, so only the peak falls.
    let fits =
        ["it would fit with --set train.stream_reference=true --set train.micro_batch_tokens=", "which does not change the experiment"];
    on("rtx-5090", 1, &fits);
    on("rtx-4070", 1, &["no setting makes it fit", "--lora 16", "changes the experiment"]);
    on("t4-16", 1, &["the T4 has compute capability 7.5, but the kernels need 8.0"]);
    on("h1000", 2, &["unknown card \"h1000\" (did you mean h100?)"]);
    // Fused kernels in bf16 are all that the model describes.
    check(&[&SHAPE[..], &["--gpu", "h100", "--kernels", "stock"]].concat(), 0, &["unknown: the model describes only the fused kernels"]);
    let plan = plan_json(&["--gpu", "h200"], 0);
    assert_eq!((&plan["fits"], &plan["device"], &plan["parameters"]), (&json!(true), &json!("gpu"), &json!(1_543_714_304_u64)));
    assert!(plan["times_from"].as_str().unwrap().contains("not a measurement"), "{plan}");
    let runs: Vec<f64> = plan["times"].as_array().unwrap().iter().map(|times| times["run_s"].as_f64().unwrap()).collect();
    assert!(runs.len() == 3 && runs[0] > runs[1] && runs[1] > runs[2] && runs[2] > 0.0, "{runs:?}");
    let plan = plan_json(&["--gpu", "rtx-4090"], 1);
    assert!(plan["fits"] == false && plan["refusal"].as_str().unwrap().contains("it would fit with"), "{plan}");
}

/// Several processes: the memory of each, the time of their exchange, and the efficiency, with the shards that they need.
#[test]
fn plan_of_several_processes_prints_memory_and_efficiency() {
    let on_h100s = |more: &[&str], code: i32, expected: &[&str]| check(&[&SHAPE[..], &["--gpu", "h100"], more].concat(), code, expected);
    let eight = [
        "planned with --set train.shards=8",
        "8 processes with train.shards=8, at most 8 on a host",
        "memory of the fullest process",
        "in the emptiest process",
        ", efficiency ",
        "assumes 315 GB/s (--link changes it)",
        "8 GPUs serve a grid of runs (rlvr study) better than one run",
    ];
    on_h100s(&["--processes", "8"], 0, &eight);
    on_h100s(&["--processes", "16", "--set", "train.shards=64"], 0, &["train.shards=64", "assumes 315 GB/s, 35 GB/s to other hosts"]);
    on_h100s(&["--processes", "6"], 2, &["train.shards is 8, which 6 processes cannot share equally", "such as 4"]);
    on_h100s(&["--processes", "16", "--set", "train.shards=8"], 2, &["or set train.shards to 16"]);
    on_h100s(&["--link", "10"], 2, &["--processes"]);
    let (one, eight) = (plan_json(&["--gpu", "h200"], 0), plan_json(&["--gpu", "h200", "--processes", "8", "--link", "10"], 0));
    let time = |plan: &Value, name: &str| plan["times"][1][name].as_f64().unwrap();
    assert_eq!((&one["processes"], &eight["processes"], &eight["shards"]), (&json!(1), &json!(8), &json!(8)));
    assert_eq!((time(&one, "exchange_s"), time(&one, "efficiency")), (0.0, 1.0));
    // Gradients in f32 and weights in bf16, 7/8 of each, at 10 GB/s.
    assert!((time(&eight, "exchange_s") - 6.0 * 1_543_714_304.0 * 7.0 / 8.0 / 1e10).abs() < 1e-6, "{eight}");
    let step = |plan: &Value| ["rollouts_s", "update_s", "exchange_s"].map(|name| time(plan, name)).iter().sum::<f64>();
    assert!((time(&eight, "efficiency") - step(&one) / (8.0 * step(&eight))).abs() < 1e-9, "{eight}");
    let peak = |plan: &Value| plan["memory"]["peak_bytes"].as_u64().unwrap();
    assert_eq!(peak(&plan_json(&["--gpu", "h200", "--processes", "1"], 0)), peak(&one));
    // Here, the processes share the processors and the memory of one machine.
    check(&["plan", "--processes", "2", "--set", "eval.limit=20"], 0, &["no faster than one", "available to each process"]);
}

#[test]
fn plan_cards_lists_every_card_with_settings_that_keep_the_experiment() {
    check(&[&SHAPE[..], &["--cards"]].concat(), 0, &["rtx-3060-12", "does not fit", "h200", "not measurements", "--set optim.states=8bit"]);
    let survey = plan_json(&["--cards"], 0);
    let cards = survey["cards"].as_array().unwrap();
    let of_size = |gib: u64| cards.iter().filter(move |card| card["memory_gib"] == gib && card["fault"].is_null());
    assert!([12, 16].iter().all(|gib| of_size(*gib).all(|card| card["fits"] == false)), "{survey}");
    for gib in [24, 48, 80, 141] {
        assert!(of_size(gib).count() > 0, "{gib}");
        for card in of_size(gib) {
            assert!(card["fits"] == true && card["peak_bytes"].as_u64() <= card["usable_bytes"].as_u64(), "{card}");
            let effects: Vec<&str> = card["changes"].as_array().unwrap().iter().map(|change| change["effect"].as_str().unwrap()).collect();
            assert!(!effects.contains(&"changes the experiment") && effects.is_empty() == (gib > 24), "{card}");
            assert_eq!(card["times"].as_array().unwrap().len(), 3, "{card}");
        }
    }
}

#[test]
fn plan_json_here_is_all_that_is_printed() {
    let output = rlvr(&["plan", "--json", "--set", "eval.limit=20"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let plan: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(
        (&plan["model"], &plan["fits"], &plan["times_from"]),
        (&json!("tiny"), &json!(true), &json!("rates measured on this machine"))
    );
    let disk = &plan["disk"];
    let sum = ["checkpoints", "states"]
        .iter()
        .zip(["weights_bytes", "state_bytes"])
        .map(|(count, bytes)| disk[*count].as_u64().unwrap() * disk[bytes].as_u64().unwrap());
    let rest = disk["best_bytes"].as_u64().unwrap() + disk["rollouts_bytes"].as_u64().unwrap();
    assert_eq!(disk["needed_bytes"].as_u64().unwrap(), sum.sum::<u64>() + rest);
}

/// A run that would fill the disk is refused before it starts, and by its plan.
#[test]
fn train_and_plan_refuse_runs_that_need_more_disk_space_than_is_free() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("run").display().to_string();
    let sets = ["rollout.groups=1", "rollout.group_size=2", "rollout.max_new_tokens=1", "eval.benchmarks=", "checkpoint.every=1"];
    let sets = sets.iter().chain(&["checkpoint.keep_spaced=0"]).flat_map(|set| ["--set", set]);
    let arguments: Vec<&str> = ["--steps", "1000000000", "--out", &out].into_iter().chain(sets).collect();
    let expected = ["of disk space, but ", "free some space", "--set checkpoint.keep_spaced=8, which does not change the training"];
    check(&[&["train"], &arguments[..]].concat(), 2, &expected);
    check(&[&["plan"], &arguments[..]].concat(), 1, &expected);
    check(&[&["train", "--dry-run"], &arguments[..]].concat(), 0, &["this machine would refuse the run: ", expected[2]]);
    check(&[&["plan"], &arguments[..], &["--set", "checkpoint.keep_spaced=8"]].concat(), 0, &["of 1000000000 that the run writes"]);
    assert!(!root.path().join("run").exists());
}

/// Writes a sparse weights file for the large model: a complete header, and values that occupy no disk blocks.
fn write_sparse_weights(path: &Path) {
    let (hidden, feed_forward, narrow, vocabulary) = (16384, 65536, 1024, 152_064);
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![vocabulary, hidden]),
        ("model.norm.weight".to_owned(), vec![hidden]),
        ("lm_head.weight".to_owned(), vec![vocabulary, hidden]),
    ];
    for layer in 0..80 {
        let parts = [
            ("input_layernorm.weight", vec![hidden]),
            ("self_attn.q_proj.weight", vec![hidden, hidden]),
            ("self_attn.q_proj.bias", vec![hidden]),
            ("self_attn.k_proj.weight", vec![narrow, hidden]),
            ("self_attn.k_proj.bias", vec![narrow]),
            ("self_attn.v_proj.weight", vec![narrow, hidden]),
            ("self_attn.v_proj.bias", vec![narrow]),
            ("self_attn.o_proj.weight", vec![hidden, hidden]),
            ("post_attention_layernorm.weight", vec![hidden]),
            ("mlp.gate_proj.weight", vec![feed_forward, hidden]),
            ("mlp.up_proj.weight", vec![feed_forward, hidden]),
            ("mlp.down_proj.weight", vec![hidden, feed_forward]),
        ];
        tensors.extend(parts.map(|(name, shape)| (format!("model.layers.{layer}.{name}"), shape)));
    }
    let mut end = 0_u64;
    let entry = |(name, shape): (String, Vec<u64>)| {
        let start = end;
        end += 2 * shape.iter().product::<u64>();
        (name, json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}))
    };
    let header: serde_json::Map<String, serde_json::Value> = tensors.into_iter().map(entry).collect();
    let mut header = serde_json::to_vec(&header).unwrap();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    file.set_len(8 + header.len() as u64 + end).unwrap();
}
