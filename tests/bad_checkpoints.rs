//! Checkpoints that are broken in one place, each made from a good one by a small edit: found at load, in one sentence that names the file, the
//! tensor or field, what was found and what was expected.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

fn rlvr(arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_rlvr")).args(arguments).env_remove("RUST_LOG").env_remove("RUST_BACKTRACE").output().unwrap()
}

/// Edits a fresh copy of the embedded base, and holds the message of `rlvr score` against all that it must say.
fn check(edit: impl FnOnce(&Path), expected: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("tiny");
    assert!(rlvr(&["init", "--like", "tiny", "--out", model.to_str().unwrap()]).status.success());
    edit(&model);
    let pairs = folder.path().join("pairs.jsonl");
    std::fs::write(&pairs, "{\"prompt\": \"1+1\", \"completion\": \"=2\"}\n").unwrap();
    let output = rlvr(&["score", "--model", model.to_str().unwrap(), "--input", pairs.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{expected:?}: {:?} {text}", output.status);
    assert!(output.stdout.is_empty() && text.starts_with("error: ") && text.lines().count() == 1, "{text}");
    for part in expected {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

/// One field of a JSON file set, or removed.
fn field(file: &'static str, name: &'static str, value: Value) -> impl FnOnce(&Path) {
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

/// The tensors of a folder's weights, changed.
fn tensors(change: impl FnOnce(&mut Tensors)) -> impl FnOnce(&Path) {
    move |model| {
        let path = model.join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        let read = SafeTensors::deserialize(&bytes).unwrap();
        let own = |(name, view): (String, TensorView)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()));
        let mut tensors: Tensors = read.tensors().into_iter().map(own).collect();
        change(&mut tensors);
        let views =
            tensors.iter().map(|(name, (dtype, shape, bytes))| (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
        std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
    }
}

fn weights(model: &Path) -> PathBuf {
    model.join("model.safetensors")
}

const NORM: &str = "model.layers.1.input_layernorm.weight";

#[test]
fn a_weights_file_that_is_no_weights_file() {
    check(|model| std::fs::remove_file(weights(model)).unwrap(), &["tiny has neither model.safetensors nor model.safetensors.index.json"]);
    check(|model| std::fs::write(weights(model), b"").unwrap(), &["model.safetensors", "too short to be a safetensors file", "0 bytes"]);
    check(
        |model| std::fs::write(weights(model), [255; 64]).unwrap(),
        &["model.safetensors is truncated or no safetensors file", "64 bytes"],
    );
    let cut = |bytes: usize| {
        move |model: &Path| {
            let whole = std::fs::read(weights(model)).unwrap();
            std::fs::write(weights(model), &whole[..bytes]).unwrap();
        }
    };
    check(cut(300_000), &["model.safetensors is truncated: 300000 bytes, its header promises 4"]);
    check(cut(100), &["model.safetensors is truncated or no safetensors file"]);
    let scribble = |model: &Path| {
        let mut whole = std::fs::read(weights(model)).unwrap();
        whole[8..40].fill(b'x');
        std::fs::write(weights(model), whole).unwrap();
    };
    check(scribble, &["model.safetensors has a broken safetensors header"]);
    check(
        |model| std::fs::write(weights(model), b"<!DOCTYPE html><html>Not found</html>").unwrap(),
        &["model.safetensors", "no safetensors file"],
    );
}

#[test]
fn tensors_that_do_not_fit_the_configuration() {
    check(tensors(|all| drop(all.remove(NORM))), &[NORM, "is missing from", "model.safetensors", "with shape [64]"]);
    check(
        tensors(|all| {
            let norm = all[NORM].clone();
            all.insert("model.layers.9.input_layernorm.weight".to_owned(), norm);
        }),
        &["model.safetensors", "tensors that config.json does not ask for", "model.layers.9.input_layernorm.weight"],
    );
    check(
        tensors(|all| {
            let norm = all.get_mut(NORM).unwrap();
            norm.1 = vec![32, 2];
        }),
        &[NORM, "model.safetensors has shape [32, 2]", "config.json says [64]"],
    );
    check(field("config.json", "hidden_size", json!(128)), &["model.safetensors has shape [", "64]", "config.json says [", "128]"]);
    check(field("config.json", "num_hidden_layers", json!(1000)), &["model.layers.", "is missing from", "model.safetensors"]);
    let integers = |all: &mut Tensors| {
        let norm = all.get_mut(NORM).unwrap();
        (norm.0, norm.2) = (Dtype::I64, vec![0; 64 * 8]);
    };
    check(tensors(integers), &[NORM, "model.safetensors is I64", "known are F32, BF16 and F16"]);
    // The embedded base is tied; a head of its own would otherwise be passed over.
    let other_head = |all: &mut Tensors| {
        let mut head = all["model.embed_tokens.weight"].clone();
        head.2[0] ^= 1;
        all.insert("lm_head.weight".to_owned(), head);
    };
    check(tensors(other_head), &["ties lm_head.weight to model.embed_tokens.weight", "two different ones", "tie_word_embeddings"]);
}

#[test]
fn weights_that_are_no_numbers() {
    for (number, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let spoil = move |all: &mut Tensors| {
            let norm = all.get_mut(NORM).unwrap();
            (norm.0, norm.2) = (Dtype::F32, [1.0_f32; 64].iter().flat_map(|x| x.to_le_bytes()).collect());
            norm.2[7 * 4..8 * 4].copy_from_slice(&number.to_le_bytes());
        };
        check(tensors(spoil), &[NORM, "model.safetensors has a value that is not finite", shown, "element 7"]);
    }
}

#[test]
fn a_configuration_that_is_none() {
    check(|model| std::fs::remove_file(model.join("config.json")).unwrap(), &["cannot read", "config.json"]);
    check(|model| std::fs::write(model.join("config.json"), "{\"a\": ").unwrap(), &["cannot use", "config.json is not a JSON object"]);
    check(field("config.json", "model_type", json!("mamba")), &["config.json", "\"mamba\" is not supported; known are qwen2 and llama"]);
    check(field("config.json", "hidden_size", json!("48")), &["hidden_size in config.json is \"48\", expected a positive integer"]);
    check(field("config.json", "vocab_size", Value::Null), &["config.json has no vocab_size"]);
    check(field("config.json", "rms_norm_eps", json!(true)), &["rms_norm_eps in config.json is true, expected a number"]);
}

#[test]
fn a_tokenizer_that_does_not_belong() {
    check(
        field("config.json", "vocab_size", json!(64)),
        &["tokenizer.json has tokens up to", "vocab_size in config.json is 64, expected at least"],
    );
    check(|model| std::fs::remove_file(model.join("tokenizer.json")).unwrap(), &["tiny: no tokenizer.json"]);
    check(|model| std::fs::write(model.join("tokenizer.json"), "{}").unwrap(), &["tokenizer.json is not a tokenizer that can be read"]);
    check(|model| std::fs::write(model.join("tokenizer_config.json"), "{").unwrap(), &["tokenizer_config.json is not JSON"]);
    check(|model| std::fs::write(model.join("generation_config.json"), "{").unwrap(), &["generation_config.json is not JSON"]);
    check(field("generation_config.json", "eos_token_id", json!("end")), &["eos_token_id", "generation_config.json", "\"end\""]);
    check(field("generation_config.json", "eos_token_id", json!(9_999_999)), &["eos_token_id [9999999] in generation_config.json"]);
}

#[test]
fn an_index_that_names_what_is_not_there() {
    let index = |content: &'static str| {
        move |model: &Path| {
            std::fs::remove_file(weights(model)).unwrap();
            std::fs::write(model.join("model.safetensors.index.json"), content).unwrap();
        }
    };
    check(index("{"), &["model.safetensors.index.json is not JSON"]);
    check(index("{}"), &["model.safetensors.index.json has no weight_map"]);
    check(index("{\"weight_map\": {\"model.norm.weight\": \"model-1.safetensors\"}}"), &["cannot open", "model-1.safetensors"]);
    check(
        index("{\"weight_map\": {\"model.norm.weight\": \"../model.safetensors\"}}"),
        &["model.safetensors.index.json names \"../model.safetensors\""],
    );
}
