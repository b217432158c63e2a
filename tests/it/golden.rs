//! Compares scoring and training with PyTorch: log-probabilities, gradients of the whole objective, and ten optimizer steps, on small
//! random checkpoints from transformers (`scripts/golden/make.py` writes `tests/golden` and records the versions).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::fixture::{bytes, json, json_lines, repository, stdout_json, succeed};

/// The checkpoints to train. `qwen2-linear` is only scored.
const TRAINED: [&str; 3] = ["qwen2-tied", "qwen2-untied", "llama"];
/// The number of rollouts in the first recorded step.
const FIRST_STEP: usize = 8;

fn golden(path: &str) -> PathBuf {
    repository("tests/golden").join(path)
}

fn tensors(path: &Path) -> BTreeMap<String, Vec<f32>> {
    let bytes = bytes(path);
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let values = |data: &[u8]| data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    file.iter().map(|(name, tensor)| (name.to_owned(), values(tensor.data()))).collect()
}

/// Trains a golden checkpoint on its recorded rollouts.
fn replay(name: &str, out: &Path, settings: &Value, more: &[&str]) {
    let path = |part: &str| golden(&format!("{name}/{part}")).to_str().unwrap().to_owned();
    let mut arguments: Vec<String> = ["train", "--model", &path("policy"), "--reference", &path("reference")].map(str::to_owned).into();
    arguments.extend(["--replay", &path("rollouts.jsonl"), "--out", out.to_str().unwrap()].map(str::to_owned));
    for (key, value) in settings.as_object().unwrap() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        arguments.extend(["--set".to_owned(), format!("{key}={value}")]);
    }
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    succeed(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
}

/// Checks that `found` has exactly the tensors of `expected`, each within `tolerance` relative to its norm, and that no norm is zero.
fn assert_close(label: &str, found: &BTreeMap<String, Vec<f32>>, expected: &BTreeMap<String, Vec<f32>>, tolerance: f64) {
    assert!(found.keys().eq(expected.keys()), "{label}: tensors {:?}", found.keys());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let mut worst = (0.0, "");
    for (name, expected) in expected {
        let size = norm(&mut expected.iter().map(|x| f64::from(*x)));
        assert!(size > 0.0, "{label}: {name} is expected to be 0");
        assert_eq!(found[name].len(), expected.len(), "{label}: {name}");
        let distance = norm(&mut found[name].iter().zip(expected).map(|(f, e)| f64::from(f - e))) / size;
        assert!(distance <= tolerance, "{label}: {name} is off by {distance:.1e} of its norm");
        worst = if distance > worst.0 { (distance, name) } else { worst };
    }
    eprintln!("{label}: largest distance {:.1e} of the norm, {}", worst.0, worst.1);
}

#[test]
fn scores_match_pytorch() {
    for name in TRAINED.into_iter().chain(["qwen2-linear"]) {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("pairs.jsonl");
        let rollouts = json_lines(&golden(&format!("{name}/rollouts.jsonl")));
        let pair = |line: &Value| json!({"id": [line["group"], line["sample"]], "prompt_ids": line["prompt_ids"], "completion_ids": line["completion_ids"]});
        let pairs: Vec<String> = rollouts.iter().take(FIRST_STEP).map(|line| pair(line).to_string()).collect();
        std::fs::write(&input, pairs.join("\n")).unwrap();
        let model = golden(&format!("{name}/policy"));
        let output = succeed(&["score", "--model", model.to_str().unwrap(), "--input", input.to_str().unwrap()]);

        let expected = json(&golden(&format!("{name}/scores.json")));
        let found = stdout_json(&output);
        assert_eq!(found.len(), FIRST_STEP);
        let mut worst = 0.0f64;
        for (line, expected) in found.iter().zip(expected.as_array().unwrap()) {
            for key in ["logprobs", "entropies"] {
                let (found, expected) = (line[key].as_array().unwrap(), expected[key].as_array().unwrap());
                assert_eq!(found.len(), expected.len());
                let distances = found.iter().zip(expected).map(|(f, e)| (f.as_f64().unwrap() - e.as_f64().unwrap()).abs());
                worst = distances.fold(worst, f64::max);
            }
        }
        assert!(worst <= 1e-5, "{name}: off by {worst:.1e} nats");
        eprintln!("{name}: largest distance {worst:.1e} nats");
    }
}

#[test]
fn gradients_of_the_objective_match_pytorch() {
    let cases = json(&golden("cases.json"));
    for name in TRAINED {
        for (case, settings) in cases["gradients"].as_object().unwrap() {
            let folder = tempfile::tempdir().unwrap();
            let dump = folder.path().join("gradients.safetensors");
            replay(name, &folder.path().join("run"), settings, &["--steps", "1", "--dump-gradients", dump.to_str().unwrap()]);
            let expected = tensors(&golden(&format!("{name}/{case}.safetensors")));
            assert_close(&format!("{name}, {case}"), &tensors(&dump), &expected, 1e-4);
        }
    }
}

#[test]
fn ten_optimizer_steps_match_pytorch() {
    let settings = &json(&golden("cases.json"))["ten-steps"];
    for name in TRAINED {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        replay(name, &out, settings, &[]);
        let before = tensors(&golden(&format!("{name}/policy/model.safetensors")));
        let mut updates = tensors(&out.join("checkpoints/00010/model.safetensors"));
        for (name, after) in &mut updates {
            after.iter_mut().zip(&before[name]).for_each(|(after, before)| *after -= before);
        }
        assert_close(&format!("{name}, ten steps"), &updates, &tensors(&golden(&format!("{name}/ten-steps.safetensors"))), 1e-4);
    }
}
