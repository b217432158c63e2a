//! Writes and reads checkpoint folders: reading and writing one again changes nothing, and a failed write leaves nothing behind.

use rlvr::checkpoint::Model;
use rlvr::model::export::{Format, WeightDtype};
use serde_json::{Value, json};

use crate::fixture::{bytes, command_under, files, json, rlvr, stderr, succeed};

/// Arguments that shrink a known model.
const SMALL: [&str; 10] = [
    "--set",
    "hidden_size=64",
    "--set",
    "intermediate_size=96",
    "--set",
    "num_hidden_layers=2",
    "--set",
    "num_attention_heads=4",
    "--set",
    "num_key_value_heads=2",
];

#[test]
fn model_from_folder_and_write_round_trip_byte_for_byte() {
    let root = tempfile::tempdir().unwrap();
    for (like, tied) in
        [("qwen2.5-math-1.5b", true), ("qwen2.5-math-7b", false), ("llama-3.2-3b-instruct", true), ("llama-3.2-3b-instruct", false)]
    {
        let source = root.path().join(format!("{like}-{tied}"));
        let (out, tied) = (source.to_str().unwrap(), format!("tie_word_embeddings={tied}"));
        let size = ["--set", "vocab_size=500", "--set", "head_dim=16", "--set", &tied];
        succeed(&[&["init", "--like", like, "--out", out, "--dtype", "f32"][..], &SMALL, &size].concat());
        for dtype in [WeightDtype::F32, WeightDtype::Bf16, WeightDtype::F16] {
            for max_shard_bytes in [u64::MAX, 100_000] {
                let format = Format { dtype, max_shard_bytes };
                let [first, second] = [&source, &root.path().join("first")].map(|from| {
                    let to = root.path().join(if from == &source { "first" } else { "second" });
                    let _ = std::fs::remove_dir_all(&to);
                    std::fs::create_dir(&to).unwrap();
                    Model::from_folder("test", from).unwrap().write(&to, format).unwrap();
                    files(&to)
                });
                assert!(first == second, "{like} {tied} in {dtype:?}: {:?} and {:?}", first.keys(), second.keys());
                assert_eq!(first.contains_key("model.safetensors.index.json"), max_shard_bytes < u64::MAX);
            }
        }
    }
}

#[test]
fn write_exports_dtype_and_rope_for_transformers_4_and_5() {
    let root = tempfile::tempdir().unwrap();
    let (source, export) = (root.path().join("source"), root.path().join("export"));
    succeed(&["init", "--like", "tiny", "--out", source.to_str().unwrap()]);
    std::fs::create_dir(&export).unwrap();
    let exported = |change: &dyn Fn(&mut Value)| {
        let mut config = json(&source.join("config.json"));
        change(&mut config);
        std::fs::write(source.join("config.json"), config.to_string()).unwrap();
        Model::from_folder("test", &source).unwrap().write(&export, Format::of(WeightDtype::F32)).unwrap();
        (config, json(&export.join("config.json")))
    };
    // Older fields alone stay alone, and nothing else changes.
    let (mut older, found) = exported(&|_| ());
    older["torch_dtype"] = "float32".into();
    assert_eq!(found, older);
    // Older fields are added to newer ones.
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64, "rope_theta": 5e5});
    let (_, found) = exported(&|config| {
        let fields = config.as_object_mut().unwrap();
        fields.remove("torch_dtype");
        fields.remove("rope_theta");
        fields.insert("dtype".into(), "bfloat16".into());
        fields.insert("rope_parameters".into(), llama3.clone());
    });
    assert_eq!((&found["dtype"], &found["torch_dtype"]), (&json!("float32"), &json!("float32")));
    assert_eq!((&found["rope_parameters"], &found["rope_theta"]), (&llama3, &json!(5e5)));
    assert_eq!((&found["rope_scaling"]["factor"], found["rope_scaling"].get("rope_theta")), (&json!(8.0), None));
    let (_, found) = exported(&|config| config["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 1e4}));
    assert_eq!((&found["rope_theta"], &found["rope_scaling"]), (&json!(1e4), &Value::Null));
    // This is how transformers 5 saves a tokenizer.
    std::fs::write(
        source.join("tokenizer_config.json"),
        r#"{"tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["<|endoftext|>"]}"#,
    )
    .unwrap();
    exported(&|_| ());
    let expected = json!({"tokenizer_class": "PreTrainedTokenizerFast", "additional_special_tokens": ["<|endoftext|>"]});
    assert_eq!(json(&export.join("tokenizer_config.json")), expected);
}

#[test]
fn init_lists_known_models_and_reports_the_tokenizer() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name).display().to_string();
    let message = stderr(&rlvr(&["init", "--like", "gpt2", "--out", &path("a")]));
    assert!(message.contains("expected one of tiny, qwen2.5-math-1.5b, qwen2.5-math-7b, llama-3.2-3b-instruct"), "{message}");
    let message = stderr(&rlvr(&["init", "--like", "qwen2.5-math-7b", "--out", &path("a"), "--set", "vocab_size=100"]));
    assert!(message.contains("use the files of one model"), "{message}");
    let message = stderr(&rlvr(&["init", "--like", "qwen2.5-math-7b", "--out", &path("a"), "--set", "num_hidden_layers=10000"]));
    assert!(message.contains(" needs ") && message.contains("free some space"), "{message}");

    let shrunk = [&SMALL[..], &["--set", "vocab_size=1000"]].concat();
    let sharded = ["init", "--like", "deepseek-r1-distill-qwen-1.5b", "--out", &path("b"), "--max-shard-bytes", "200000"];
    let message = stderr(&succeed(&[&sharded[..], &shrunk].concat()));
    assert!(message.contains("the embedded model's is used") && message.contains("random parameters"), "{message}");
    assert!(root.path().join("b/model.safetensors.index.json").exists());
    let with_tokenizer = ["init", "--like", "llama-3.2-3b-instruct", "--out", &path("c"), "--tokenizer", &path("b")];
    let message = stderr(&succeed(&[&with_tokenizer[..], &shrunk].concat()));
    assert!(!message.contains("embedded"), "{message}");
    succeed(&["sample", "--model", &path("b"), "--prompt", "1+1=", "--max-new-tokens", "4"]);
}

/// Simulates a full disk by a limit on the size of files.
#[cfg(unix)]
#[test]
fn init_on_a_full_disk_leaves_nothing_behind_and_reports_the_file() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("model");
    // The limit counts blocks of 512 or 1024 bytes, depending on the shell. Because the signal is ignored, the write fails instead.
    let limited = r#"trap '' XFSZ; ulimit -f 1000; exec "$0" "$@""#;
    let arguments =
        ["init", "--like", "qwen2.5-math-1.5b", "--out", out.to_str().unwrap(), "--set", "num_hidden_layers=1", "--set", "vocab_size=1000"];
    let output = command_under(&["sh", "-c", limited], &arguments).output().unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("was not written: cannot write") && message.contains("model.safetensors"), "{message}");
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0, "{message}");
}

#[test]
fn resume_after_a_bf16_export_continues_from_exact_weights() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name).display().to_string();
    let settings = [
        "--export-dtype",
        "bf16",
        "--set",
        "checkpoint.every=2",
        "--set",
        "eval.benchmarks=",
        "--set",
        "checkpoint.max_shard_bytes=200000",
        // The default learning-rate schedule depends on the number of steps, which changes on resuming.
        "--set",
        "optim.schedule=constant",
    ];
    succeed(&[&["train", "--steps", "4", "--out", &path("whole")][..], &settings].concat());
    succeed(&[&["train", "--steps", "2", "--out", &path("parts")][..], &settings].concat());
    succeed(&["train", "--resume", &path("parts"), "--steps", "4"]);
    let checkpoint = |run: &str| root.path().join(run).join("checkpoints/00004");
    assert_eq!(json(&checkpoint("whole").join("config.json"))["torch_dtype"], "bfloat16");
    assert!(checkpoint("whole").join("model-00001-of-00003.safetensors").exists());
    let weights = |run: &str| bytes(&checkpoint(run).join("state/weights.safetensors"));
    assert!(weights("whole") == weights("parts"), "the resumed run has different weights");
    std::fs::remove_dir_all(checkpoint("whole").join("state")).unwrap();
    std::fs::remove_dir_all(checkpoint("parts").join("state")).unwrap();
    assert!(files(&checkpoint("whole")) == files(&checkpoint("parts")));
    let message = stderr(&rlvr(&["train", "--export-dtype", "int8", "--dry-run"]));
    assert!(message.contains("int8") && message.contains("bf16"), "{message}");
}
