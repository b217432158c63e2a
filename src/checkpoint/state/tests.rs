use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::*;
use crate::dist::World;
use crate::kernels::cpu::testing::random;
use crate::kernels::{Cpu, Kernels, Quantized, Stock};
use crate::model::{Decoder, Weights, init};
use crate::optim::OptimSettings;

const PROGRESS: Progress = Progress { step: 3, updates: 3, elapsed_s: 1.5, exact_weights: None };

/// A model with parameters large enough for quantized moments, and smaller ones.
fn decoder() -> Decoder {
    let text = r#"{"model_type": "qwen2", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 83, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 1e4}"#;
    let config = ModelConfig::parse(text).unwrap();
    let weights = init::random(&config, 1, 0.05).unwrap();
    Decoder::new(config, weights).unwrap()
}

fn optimizer(decoder: &Decoder, states: MomentDtype, freeze: &[&str]) -> AdamW {
    let freeze = freeze.iter().map(|name| (*name).to_owned()).collect();
    let settings = OptimSettings { lr: 0.01, states, freeze, ..OptimSettings::default() };
    AdamW::new(settings, decoder.kernels(), &decoder.weights.entries(), World::solo()).unwrap()
}

/// Loads a state into a decoder and its optimizer. `rounds`: the exported model is rounded.
fn restore(folder: &Path, decoder: &Decoder, optimizer: &mut AdamW, rounds: bool) -> Result<Progress> {
    let trained = TrainedParameters::Weights(&decoder.config);
    load(folder, decoder.kernels(), optimizer, &trained, &decoder.weights.entries(), rounds, &output::Progress::hidden())
}

fn take_steps(decoder: &Decoder, optimizer: &mut AdamW, count: u64) {
    for _ in 0..count {
        let seed = optimizer.count * 100;
        let gradient = |(index, (name, tensor)): (usize, (String, &Tensor))| (name, random(tensor.shape(), seed + index as u64));
        let gradients: Vec<(String, Tensor)> = decoder.weights.entries().into_iter().enumerate().map(gradient).collect();
        let gradients: Vec<(String, &Tensor)> = gradients.iter().map(|(name, tensor)| (name.clone(), tensor)).collect();
        optimizer.step(decoder.kernels(), &decoder.weights.entries(), &gradients, 0.01).unwrap();
    }
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

/// Returns the bits of everything that the next step depends on.
fn all_bits(decoder: &Decoder, optimizer: &AdamW) -> Vec<Vec<u32>> {
    let weights = decoder.weights.entries().into_iter().map(|(_, tensor)| bits(tensor));
    let quantized = |moment: &Quantized| [bits(&moment.codes), bits(&moment.scales)].concat();
    let states = optimizer.states.iter().flat_map(|state| match &state.moments {
        Moments::Full { first, second } => [bits(first), bits(second)],
        Moments::Quantized { first, second } => [quantized(first), quantized(second)],
    });
    weights.chain(states).chain(optimizer.states.iter().filter_map(|state| state.master.as_ref().map(bits))).collect()
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn load_resumes_bit_identically() {
    let check = |kernels: Arc<dyn Kernels>, states, freeze: &[&str], rounds, expected: &[&str]| {
        let original = decoder().on(kernels.clone()).unwrap();
        let mut uninterrupted = optimizer(&original, states, freeze);
        take_steps(&original, &mut uninterrupted, 3);
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), &PROGRESS, &uninterrupted, &TrainedParameters::Weights(&original.config), &original.weights.entries(), rounds)
            .unwrap();
        assert_eq!(files(folder.path()), expected);
        let again = if rounds { decoder().on(kernels).unwrap() } else { original.deep_copy().unwrap() };
        let mut resumed = optimizer(&again, states, freeze);
        let found = restore(folder.path(), &again, &mut resumed, rounds).unwrap();
        assert_eq!(found, Progress { exact_weights: Some(expected.contains(&WEIGHTS)), ..PROGRESS });
        assert_eq!(resumed.count, 3);
        assert!(all_bits(&again, &resumed) == all_bits(&original, &uninterrupted), "{states:?}, {freeze:?}");
        take_steps(&original, &mut uninterrupted, 2);
        take_steps(&again, &mut resumed, 2);
        assert!(all_bits(&again, &resumed) == all_bits(&original, &uninterrupted), "{states:?}, {freeze:?}, two steps later");
    };
    let (full, quantized) =
        (["first_moments.safetensors", "progress.json", "second_moments.safetensors"], ["moments_8bit.safetensors", "progress.json"]);
    let with_weights = |names: &[&'static str]| [names, &["weights.safetensors"]].concat();
    let frozen = ["layers.0", "norm"];
    let bf16: Arc<dyn Kernels> = Arc::new(Stock::new(Device::Cpu, DType::BF16));
    for (states, names) in [(MomentDtype::F32, &full[..]), (MomentDtype::Quantized, &quantized)] {
        check(Arc::new(Cpu), states, &[], false, names);
        check(Arc::new(Cpu), states, &frozen, true, &with_weights(names));
        check(bf16.clone(), states, &frozen, true, &with_weights(names));
    }
}

/// Other programs can read these files: the moments of all parameters under the checkpoint's names, even if some are frozen.
#[test]
fn save_writes_f32_moments_in_the_layout_of_a_checkpoint() {
    for freeze in [&[][..], &["layers.1"]] {
        let decoder = decoder();
        let mut optimizer = optimizer(&decoder, MomentDtype::F32, freeze);
        take_steps(&decoder, &mut optimizer, 2);
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), &PROGRESS, &optimizer, &TrainedParameters::Weights(&decoder.config), &decoder.weights.entries(), false)
            .unwrap();
        for (which, name) in F32_MOMENTS.into_iter().enumerate() {
            let whole = Weights::build(&decoder.config, |row| match optimizer.state(&row.name()).map(|state| &state.moments) {
                Some(Moments::Full { first, second }) => Ok([first, second][which].clone()),
                _ => Ok(Tensor::zeros(&row.shape, DType::F32, &Device::Cpu)?),
            });
            let mut expected = Vec::new();
            export::to_writer(&mut expected, &whole.unwrap(), &decoder.config, WeightDtype::F32).unwrap();
            assert!(std::fs::read(folder.path().join(name)).unwrap() == expected, "{name}, {freeze:?}");
        }
    }
}

/// A parameter that was frozen when the state was saved gets zero moments; one that is frozen now has none.
#[test]
fn load_accepts_parameters_frozen_or_unfrozen_since_save() {
    for states in [MomentDtype::F32, MomentDtype::Quantized] {
        let decoder = decoder();
        let mut before = optimizer(&decoder, states, &["layers.0"]);
        take_steps(&decoder, &mut before, 1);
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), &PROGRESS, &before, &TrainedParameters::Weights(&decoder.config), &decoder.weights.entries(), false).unwrap();
        let mut after = optimizer(&decoder, states, &["layers.1"]);
        restore(folder.path(), &decoder, &mut after, false).unwrap();
        let first = |optimizer: &AdamW, name: &str| {
            optimizer.state(name).map(|state| match &state.moments {
                Moments::Full { first, .. } => bits(first),
                Moments::Quantized { first, .. } => bits(&first.scales),
            })
        };
        assert!(first(&after, "layers.0.qkv").unwrap().iter().all(|bits| *bits == 0));
        assert!(first(&after, "layers.1.qkv").is_none());
        assert_eq!(first(&after, "embedding"), first(&before, "embedding"));
        take_steps(&decoder, &mut after, 1);
    }
}

#[test]
fn load_rejects_states_with_other_moment_dtypes_and_corrupt_files() {
    let decoder = decoder();
    for (states, other, expected) in
        [(MomentDtype::F32, MomentDtype::Quantized, "= \"f32\""), (MomentDtype::Quantized, MomentDtype::F32, "= \"8bit\"")]
    {
        let folder = tempfile::tempdir().unwrap();
        let write = || {
            save(
                folder.path(),
                &PROGRESS,
                &optimizer(&decoder, states, &[]),
                &TrainedParameters::Weights(&decoder.config),
                &decoder.weights.entries(),
                false,
            )
            .unwrap()
        };
        let check = |states, expected: &str| {
            let mut optimizer = optimizer(&decoder, states, &[]);
            let message = format!("{:#}", restore(folder.path(), &decoder, &mut optimizer, false).unwrap_err());
            assert!(message.contains(expected), "{message}");
        };
        write();
        check(other, expected);
        let path = folder.path().join(if states == MomentDtype::F32 { F32_MOMENTS[0] } else { QUANTIZED_MOMENTS });
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 100]).unwrap();
        check(states, path.file_name().unwrap().to_str().unwrap());
    }
}

/// The exported model is rounded, so a run that resumed without its exact weights would silently diverge from the original.
#[test]
fn load_rejects_a_state_without_its_exact_weights() {
    let decoder = decoder();
    let (config, parameters) = (TrainedParameters::Weights(&decoder.config), decoder.weights.entries());
    for records_exact in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), &PROGRESS, &optimizer(&decoder, MomentDtype::F32, &[]), &config, &parameters, true).unwrap();
        std::fs::remove_file(folder.path().join(WEIGHTS)).unwrap();
        if !records_exact {
            // As an older version would have written it.
            std::fs::write(folder.path().join(PROGRESS_FILE), serde_json::to_string(&PROGRESS).unwrap()).unwrap();
        }
        let mut resumed = optimizer(&decoder, MomentDtype::F32, &[]);
        let message = restore(folder.path(), &decoder, &mut resumed, true).unwrap_err().to_string();
        assert!(message.contains("weights.safetensors is missing, and the exported model is rounded"), "{message}");
        if !records_exact {
            restore(folder.path(), &decoder, &mut resumed, false).unwrap();
        }
    }
}
