//! Loads checkpoints with one defect, each made from a valid one by a small edit. The error is one sentence that names the file, the tensor
//! or field, what was found and what was expected.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use crate::fixture::{rlvr, stderr, succeed};

/// Creates a copy of the embedded base model and edits it.
pub fn edited_model(folder: &Path, edit: impl FnOnce(&Path)) -> PathBuf {
    let model = folder.join("tiny");
    succeed(&["init", "--like", "tiny", "--out", model.to_str().unwrap()]);
    edit(&model);
    model
}

/// Edits a copy of the embedded base model and checks that the error of `rlvr score` contains every part of `expected`.
fn check(edit: impl FnOnce(&Path), expected: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let model = edited_model(folder.path(), edit);
    let pairs = folder.path().join("pairs.jsonl");
    std::fs::write(&pairs, "{\"prompt\": \"1+1\", \"completion\": \"=2\"}\n").unwrap();
    let output = rlvr(&["score", "--model", model.to_str().unwrap(), "--input", pairs.to_str().unwrap()]);
    let text = stderr(&output);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{expected:?}: {:?} {text}", output.status);
    assert!(output.stdout.is_empty() && text.starts_with("error: ") && text.lines().count() == 1, "{text}");
    for part in expected {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

/// Like `check`, and also checks the error of `rlvr train --dry-run`.
pub fn check_dry(edit: impl Fn(&Path), expected: &[&str]) {
    check(&edit, expected);
    let folder = tempfile::tempdir().unwrap();
    let model = edited_model(folder.path(), edit);
    let output = rlvr(&["train", "--model", model.to_str().unwrap(), "--question", "1+1", "--answer", "2", "--dry-run"]);
    let text = stderr(&output);
    let error = text.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("no error, {:?}: {text}", output.status));
    assert_eq!(output.status.code(), Some(2), "{text}");
    for part in expected {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}

/// Edits a copy of the embedded base model and returns the output of `rlvr score` for `prompt` and the completion `=2`.
pub fn score(edit: impl FnOnce(&Path), prompt: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let model = edited_model(folder.path(), edit);
    let pairs = folder.path().join("pairs.jsonl");
    std::fs::write(&pairs, json!({"prompt": prompt, "completion": "=2"}).to_string()).unwrap();
    let output = rlvr(&["score", "--model", model.to_str().unwrap(), "--input", pairs.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Returns an edit that changes a JSON file.
pub fn change_json(file: &'static str, change: impl Fn(&mut Value)) -> impl Fn(&Path) {
    move |model| {
        let path = model.join(file);
        let mut fields: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut fields);
        std::fs::write(path, fields.to_string()).unwrap();
    }
}

/// Returns an edit that sets a field of a JSON file, or removes it if `value` is null.
fn set_field(file: &'static str, name: &'static str, value: Value) -> impl FnOnce(&Path) {
    move |model| {
        let path = model.join(file);
        let mut fields: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        match value {
            Value::Null => drop(fields.as_object_mut().unwrap().remove(name)),
            value => fields[name] = value,
        }
        std::fs::write(path, fields.to_string()).unwrap();
    }
}

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// Returns an edit that changes the tensors in a folder's weights.
fn change_tensors(change: impl Fn(&mut Tensors)) -> impl Fn(&Path) {
    move |model| {
        let path = model.join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        let read = SafeTensors::deserialize(&bytes).unwrap();
        let to_owned = |(name, view): (String, TensorView)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()));
        let mut tensors: Tensors = read.tensors().into_iter().map(to_owned).collect();
        change(&mut tensors);
        let views =
            tensors.iter().map(|(name, (dtype, shape, bytes))| (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
        std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
    }
}

pub fn weights(model: &Path) -> PathBuf {
    model.join("model.safetensors")
}

const NORM: &str = "model.layers.1.input_layernorm.weight";

#[test]
fn load_rejects_invalid_weights_files() {
    check(|model| std::fs::remove_file(weights(model)).unwrap(), &["tiny has neither model.safetensors nor model.safetensors.index.json"]);
    check(|model| std::fs::write(weights(model), b"").unwrap(), &["model.safetensors", "too short to be a safetensors file", "0 bytes"]);
    check(
        |model| std::fs::write(weights(model), [255; 64]).unwrap(),
        &["model.safetensors is truncated or not a safetensors file", "64 bytes"],
    );
    let cut = |bytes: usize| {
        move |model: &Path| {
            let whole = std::fs::read(weights(model)).unwrap();
            std::fs::write(weights(model), &whole[..bytes]).unwrap();
        }
    };
    check(cut(300_000), &["model.safetensors is truncated: it has 300000 bytes, expected 4"]);
    check(cut(100), &["model.safetensors is truncated or not a safetensors file"]);
    let overwrite_header = |model: &Path| {
        let mut whole = std::fs::read(weights(model)).unwrap();
        whole[8..40].fill(b'x');
        std::fs::write(weights(model), whole).unwrap();
    };
    check(overwrite_header, &["model.safetensors is corrupt: its safetensors header is not valid"]);
    check(
        |model| std::fs::write(weights(model), b"<!DOCTYPE html><html>Not found</html>").unwrap(),
        &["model.safetensors", "not a safetensors file"],
    );
}

#[test]
fn load_rejects_tensors_that_do_not_match_the_configuration() {
    check(change_tensors(|all| drop(all.remove(NORM))), &[NORM, "is missing from", "model.safetensors", "with shape [64]"]);
    check(
        change_tensors(|all| {
            let norm = all[NORM].clone();
            all.insert("model.layers.9.input_layernorm.weight".to_owned(), norm);
        }),
        &["model.safetensors", "tensors that config.json does not describe", "model.layers.9.input_layernorm.weight"],
    );
    check(
        change_tensors(|all| {
            let norm = all.get_mut(NORM).unwrap();
            norm.1 = vec![32, 2];
        }),
        &[NORM, "model.safetensors has shape [32, 2]", "expected [64] according to config.json"],
    );
    check(set_field("config.json", "hidden_size", json!(128)), &["model.safetensors has shape [", "64]", "expected [", "128]"]);
    check(set_field("config.json", "num_hidden_layers", json!(1000)), &["model.layers.", "is missing from", "model.safetensors"]);
    let integers = |all: &mut Tensors| {
        let norm = all.get_mut(NORM).unwrap();
        (norm.0, norm.2) = (Dtype::I64, vec![0; 64 * 8]);
    };
    check(change_tensors(integers), &[NORM, "model.safetensors has dtype I64", "expected F32, BF16 or F16"]);
    // The embedded base model is tied, so a different head is an error.
    let other_head = |all: &mut Tensors| {
        let mut head = all["model.embed_tokens.weight"].clone();
        head.2[0] ^= 1;
        all.insert("lm_head.weight".to_owned(), head);
    };
    check(change_tensors(other_head), &["ties lm_head.weight to model.embed_tokens.weight", "the two differ", "tie_word_embeddings"]);
}

#[test]
fn load_rejects_weights_that_are_not_finite() {
    for (number, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let set_element = move |all: &mut Tensors| {
            let norm = all.get_mut(NORM).unwrap();
            (norm.0, norm.2) = (Dtype::F32, [1.0_f32; 64].iter().flat_map(|x| x.to_le_bytes()).collect());
            norm.2[7 * 4..8 * 4].copy_from_slice(&number.to_le_bytes());
        };
        check(change_tensors(set_element), &[NORM, "model.safetensors has a value that is not finite", shown, "element 7"]);
    }
}

#[test]
fn from_folder_rejects_invalid_configurations() {
    check(
        |model| std::fs::remove_file(model.join("config.json")).unwrap(),
        &["has no config.json; expected a folder in Hugging Face layout"],
    );
    check(|model| std::fs::write(model.join("config.json"), "{\"a\": ").unwrap(), &["cannot use", "config.json is not a JSON object"]);
    check(set_field("config.json", "model_type", json!("mamba")), &["config.json", "\"mamba\" is not supported; expected qwen2 or llama"]);
    check(set_field("config.json", "hidden_size", json!("48")), &["hidden_size in config.json is \"48\", expected a positive integer"]);
    check(set_field("config.json", "vocab_size", Value::Null), &["config.json has no vocab_size"]);
    check(set_field("config.json", "rms_norm_eps", json!(true)), &["rms_norm_eps in config.json is true, expected a number"]);
}

#[test]
fn from_folder_rejects_tokenizers_of_other_models() {
    check(
        set_field("config.json", "vocab_size", json!(64)),
        &["vocab_size in config.json is 64, but tokenizer.json has tokens up to", "which needs at least"],
    );
    check(|model| std::fs::remove_file(model.join("tokenizer.json")).unwrap(), &["tiny: no tokenizer.json"]);
    check(|model| std::fs::write(model.join("tokenizer.json"), "{}").unwrap(), &["tokenizer.json is not a valid tokenizer"]);
    check(|model| std::fs::write(model.join("tokenizer_config.json"), "{").unwrap(), &["tokenizer_config.json is not JSON"]);
    check(|model| std::fs::write(model.join("generation_config.json"), "{").unwrap(), &["generation_config.json is not JSON"]);
    check(set_field("generation_config.json", "eos_token_id", json!("end")), &["eos_token_id", "generation_config.json", "\"end\""]);
    check(set_field("generation_config.json", "eos_token_id", json!(9_999_999)), &["eos_token_id [9999999] in generation_config.json"]);
}

#[test]
fn weight_files_rejects_invalid_indexes() {
    let index = |content: &'static str| {
        move |model: &Path| {
            std::fs::remove_file(weights(model)).unwrap();
            std::fs::write(model.join("model.safetensors.index.json"), content).unwrap();
        }
    };
    check(index("{"), &["model.safetensors.index.json is not JSON"]);
    check(index("{}"), &["model.safetensors.index.json has no weight_map"]);
    check(
        index("{\"weight_map\": {\"model.norm.weight\": \"model-1.safetensors\"}}"),
        &["lists 1 files, of which 1 are missing (model-1.safetensors): the download may be incomplete"],
    );
    check(
        index("{\"weight_map\": {\"model.norm.weight\": \"../model.safetensors\"}}"),
        &["model.safetensors.index.json lists \"../model.safetensors\""],
    );
}

#[test]
fn from_folder_rejects_headers_and_files_that_are_too_large() {
    // A sparse file of 5 GB whose header claims 4 GB of it.
    let claims = |model: &Path| {
        let file = std::fs::File::create(weights(model)).unwrap();
        std::io::Write::write_all(&mut &file, &4_000_000_000_u64.to_le_bytes()).unwrap();
        file.set_len(5_000_000_000).unwrap();
    };
    check_dry(claims, &["model.safetensors is not a safetensors file: its header claims 4000000000 bytes, expected at most 100000000"]);
    let large = |model: &Path| {
        let file = std::fs::OpenOptions::new().write(true).open(model.join("tokenizer_config.json")).unwrap();
        file.set_len(5_000_000_000).unwrap();
    };
    check(large, &["tokenizer_config.json is larger than 268435456 bytes"]);
}

#[test]
fn limits_reject_sizes_in_config_json() {
    for (name, value) in [
        ("num_hidden_layers", json!(100_000_000)),
        ("num_hidden_layers", json!(9_223_372_036_854_775_808_u64)),
        ("max_position_embeddings", json!(1_000_000_000_000_u64)),
        ("max_position_embeddings", json!(4_294_967_296_u64)),
        ("hidden_size", json!(u64::MAX)),
        ("num_attention_heads", json!(1_u64 << 62)),
        ("vocab_size", json!(1_u64 << 40)),
    ] {
        check_dry(
            change_json("config.json", |config| config[name] = value.clone()),
            &["config.json", &format!("{name} in config.json is {value}, expected at most")],
        );
    }
    // The largest context length costs nothing as long as sequences are short.
    let long_context = score(change_json("config.json", |config| config["max_position_embeddings"] = json!(1 << 24)), "1+1");
    assert_eq!(long_context, score(|_| {}, "1+1"));
}

#[test]
fn layout_check_recognizes_other_folders_and_says_what_to_do() {
    let with_only = |name: &'static str, content: &'static str| {
        move |model: &Path| {
            std::fs::remove_file(weights(model)).unwrap();
            std::fs::write(model.join(name), content).unwrap();
        }
    };
    let advice = "AutoModelForCausalLM.from_pretrained";
    check_dry(with_only("pytorch_model.bin", ""), &["has neither model.safetensors", "PyTorch's pickle format", advice]);
    check_dry(with_only("pytorch_model-00001-of-00002.bin", ""), &["PyTorch's pickle format", advice]);
    check_dry(with_only("consolidated.00.pth", ""), &["Meta's own releases", "Hugging Face layout"]);
    check_dry(with_only("tiny-q4_0.gguf", ""), &["GGUF, llama.cpp's format", "Hugging Face layout"]);
    check_dry(
        with_only(
            "model.safetensors.index.json",
            r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-3.safetensors", "d": "model-1.safetensors"}}"#,
        ),
        &[
            "lists 3 files, of which 3 are missing (model-1.safetensors, model-2.safetensors, model-3.safetensors)",
            "download may be incomplete",
        ],
    );
    let adapter = |model: &Path| {
        std::fs::remove_file(model.join("config.json")).unwrap();
        std::fs::write(model.join("adapter_config.json"), r#"{"base_model_name_or_path": "org/base"}"#).unwrap();
    };
    check_dry(adapter, &["tiny is an adapter of org/base, not a model", "merge_and_unload"]);
    let only_gguf = |model: &Path| {
        std::fs::remove_file(model.join("config.json")).unwrap();
        std::fs::write(model.join("Tiny.Q4_0.GGUF"), "").unwrap();
    };
    check_dry(only_gguf, &["tiny has no config.json, and its weights are in GGUF, llama.cpp's format, which is not supported"]);
    let run = |model: &Path| {
        let empty = |path: PathBuf| {
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("config.json"), "{}").unwrap();
        };
        std::fs::remove_file(model.join("config.json")).unwrap();
        std::fs::write(model.join("config.toml"), "").unwrap();
        ["00010", "00020", "best"].into_iter().for_each(|name| empty(model.join("checkpoints").join(name)));
    };
    check_dry(run, &["tiny is a run folder, not a model: use ", "tiny/checkpoints/best or ", "tiny/checkpoints/00020 (the newest)"]);
    let nested = |model: &Path| {
        std::fs::create_dir(model.join("inside")).unwrap();
        std::fs::rename(model.join("config.json"), model.join("inside/config.json")).unwrap();
    };
    check_dry(nested, &["tiny has no config.json; expected a folder in Hugging Face layout", "tiny/inside has one"]);
    // A run writes its adapter into the folder of the merged model.
    let folder = tempfile::tempdir().unwrap();
    let model = edited_model(folder.path(), |model| {
        std::fs::create_dir(model.join("adapter")).unwrap();
        std::fs::write(model.join("adapter/adapter_config.json"), r#"{"base_model_name_or_path": "tiny"}"#).unwrap();
    });
    for (path, expected) in [
        (model.join("adapter"), format!("is an adapter of tiny, not a model: the merged model is {}", model.display())),
        (weights(&model), "model.safetensors is a file; expected a folder in Hugging Face layout".to_owned()),
    ] {
        let output = rlvr(&["sample", "--model", path.to_str().unwrap(), "--prompt", "1+1"]);
        let text = stderr(&output);
        assert!(output.status.code() == Some(1) && text.contains(&expected), "{text}");
    }
}

#[test]
fn from_folder_rejects_git_lfs_pointers() {
    const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32\nsize 12345\n";
    for name in ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        check_dry(|model| std::fs::write(model.join(name), POINTER).unwrap(), &[name, "is a Git LFS pointer", "git lfs pull"]);
    }
}

#[test]
fn load_rejects_a_missing_head_and_unsupported_attention() {
    for value in [json!(false), Value::Null] {
        let untied = move |model: &Path| {
            change_json("config.json", |config| {
                match value {
                    Value::Null => drop(config.as_object_mut().unwrap().remove("tie_word_embeddings")),
                    _ => config["tie_word_embeddings"] = value.clone(),
                };
            })(model);
            change_tensors(|all| drop(all.remove("lm_head.weight")))(model);
        };
        check_dry(untied, &["lm_head.weight is missing", "tie_word_embeddings in config.json is not true", "set it to true"]);
    }
    check_dry(change_json("config.json", |config| config["rope_scaling"] = json!({"factor": 2.0})), &["has factor but no rope_type"]);
    let sliding_window = change_json("config.json", |config| {
        config["use_sliding_window"] = json!(true);
        config["sliding_window"] = json!(16);
        config["max_window_layers"] = json!(0);
    });
    check_dry(sliding_window, &["attend to the last 16 of 8192 tokens", "use_sliding_window"]);
}
