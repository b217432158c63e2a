//! The same numbers as PyTorch: log-probabilities, gradients of the whole objective and ten optimizer steps on small random checkpoints that
//! transformers made (`scripts/golden/make.py` writes `tests/golden` and says with which versions).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use safetensors::SafeTensors;
use serde_json::{Value, json};

/// The checkpoints that are trained; `qwen2-linear` is only scored.
const TRAINED: [&str; 3] = ["qwen2-tied", "qwen2-untied", "llama"];
/// Rollouts in the first recorded step.
const FIRST_STEP: usize = 8;

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

fn rlvr(arguments: &[String]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_rlvr")).args(arguments).env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert!(output.status.success(), "rlvr {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    output
}

fn json_file(path: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden(path)).unwrap()).unwrap()
}

fn tensors(path: &Path) -> BTreeMap<String, Vec<f32>> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let values = |data: &[u8]| data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    file.iter().map(|(name, tensor)| (name.to_owned(), values(tensor.data()))).collect()
}

/// Trains on the recorded rollouts of a golden checkpoint.
fn replay(name: &str, out: &Path, settings: &Value, more: &[&str]) {
    let path = |part: &str| golden(&format!("{name}/{part}")).to_str().unwrap().to_owned();
    let mut arguments: Vec<String> = ["train", "--model", &path("policy"), "--reference", &path("reference")].map(str::to_owned).into();
    arguments.extend(["--replay", &path("rollouts.jsonl"), "--out", out.to_str().unwrap()].map(str::to_owned));
    for (key, value) in settings.as_object().unwrap() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        arguments.extend(["--set".to_owned(), format!("{key}={value}")]);
    }
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    rlvr(&arguments);
}

/// Every tensor of `expected`, no other, each within `tolerance` of its norm, and none zero.
fn close(what: &str, found: &BTreeMap<String, Vec<f32>>, expected: &BTreeMap<String, Vec<f32>>, tolerance: f64) {
    assert!(found.keys().eq(expected.keys()), "{what}: tensors {:?}", found.keys());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let mut worst = (0.0, "");
    for (name, expected) in expected {
        let size = norm(&mut expected.iter().map(|x| f64::from(*x)));
        assert!(size > 0.0, "{what}: {name} is expected to be 0");
        assert_eq!(found[name].len(), expected.len(), "{what}: {name}");
        let distance = norm(&mut found[name].iter().zip(expected).map(|(f, e)| f64::from(f - e))) / size;
        assert!(distance <= tolerance, "{what}: {name} is off by {distance:.1e} of its norm");
        worst = if distance > worst.0 { (distance, name) } else { worst };
    }
    eprintln!("{what}: largest distance {:.1e} of the norm, {}", worst.0, worst.1);
}

#[test]
fn scores_equal_pytorchs() {
    for name in TRAINED.into_iter().chain(["qwen2-linear"]) {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("pairs.jsonl");
        let rollouts = std::fs::read_to_string(golden(&format!("{name}/rollouts.jsonl"))).unwrap();
        let pair = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            json!({"id": [line["group"], line["sample"]], "prompt_ids": line["prompt_ids"], "completion_ids": line["completion_ids"]})
        };
        let pairs: Vec<String> = rollouts.lines().take(FIRST_STEP).map(|line| pair(line).to_string()).collect();
        std::fs::write(&input, pairs.join("\n")).unwrap();
        let model = golden(&format!("{name}/policy"));
        let output = rlvr(&["score", "--model", model.to_str().unwrap(), "--input", input.to_str().unwrap()].map(str::to_owned));

        let expected = json_file(&format!("{name}/scores.json"));
        let found = String::from_utf8(output.stdout).unwrap();
        assert_eq!(found.lines().count(), FIRST_STEP);
        let mut worst = 0.0f64;
        for (line, expected) in found.lines().zip(expected.as_array().unwrap()) {
            let line: Value = serde_json::from_str(line).unwrap();
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
fn gradients_of_the_objective_equal_pytorchs() {
    let cases = json_file("cases.json");
    for name in TRAINED {
        for (case, settings) in cases["gradients"].as_object().unwrap() {
            let folder = tempfile::tempdir().unwrap();
            let dump = folder.path().join("gradients.safetensors");
            replay(name, &folder.path().join("run"), settings, &["--steps", "1", "--dump-gradients", dump.to_str().unwrap()]);
            let expected = tensors(&golden(&format!("{name}/{case}.safetensors")));
            close(&format!("{name}, {case}"), &tensors(&dump), &expected, 1e-4);
        }
    }
}

#[test]
fn ten_optimizer_steps_equal_pytorchs() {
    let settings = &json_file("cases.json")["ten-steps"];
    for name in TRAINED {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        replay(name, &out, settings, &[]);
        let before = tensors(&golden(&format!("{name}/policy/model.safetensors")));
        let mut updates = tensors(&out.join("checkpoints/00010/model.safetensors"));
        for (name, after) in &mut updates {
            after.iter_mut().zip(&before[name]).for_each(|(after, before)| *after -= before);
        }
        close(&format!("{name}, ten steps"), &updates, &tensors(&golden(&format!("{name}/ten-steps.safetensors"))), 1e-4);
    }
}
