//! `rlvr plan` as users see it, and the refusal of runs that do not fit.

use std::io::Write;
use std::path::Path;

use serde_json::json;

use crate::fixture::{rlvr, stderr, stdout};

fn check(arguments: &[&str], code: i32, expected: &[&str]) {
    let output = rlvr(arguments);
    let messages = stdout(&output) + &stderr(&output);
    assert_eq!(output.status.code(), Some(code), "rlvr {}: {messages}", arguments.join(" "));
    expected.iter().for_each(|part| assert!(messages.contains(part), "rlvr {}: no {part:?} in {messages}", arguments.join(" ")));
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
    check(&seven, 0, &["7,615,616,512 parameters", "reference (loss.kl is 0.001)", "prompts: about", "= 3,145,728", "no evaluation"]);
    let unknown = ["plan", "--model", "nobody/nothing", "--example", "tiny/addition/334+556", "--set", "eval.benchmarks="];
    check(&unknown, 2, &["is unknown until it is downloaded", "qwen2.5-math-7b"]);
    // Without the paper's data, a question of typical length replaces the default example.
    check(&["plan", "--model", "qwen2.5-math-1.5b"], 0, &["planned with a question of 480 characters", "1,543,714,304 parameters"]);
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
    check(&["train", "--dry-run", "--out", &out], 0, &["227,392 parameters: up to", "on disk"]);
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
    // Its settings are still valid, so a dry run succeeds.
    check(&[&arguments[..], &["--dry-run"]].concat(), 0, &["this machine would refuse the run: ", expected]);
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
