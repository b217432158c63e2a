//! The paper's example as the paper's model reads it: example, template and tokenizer together.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rlvr::data::{Library, example};
use rlvr::text::Text;

fn shared() -> PathBuf {
    std::env::var_os("RLVR_SHARED_DIR").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from)
}

/// Lengths and checksums (the sum of position times id, positions from 1) come from a separate byte-pair encoder written in Python from
/// `tokenizer.json`.
#[test]
fn pi1_has_its_real_tokens_for_training_and_for_evaluation() {
    let (data, model) = (shared().join("data"), shared().join("models/qwen2.5-math-1.5b"));
    if !data.exists() || !model.exists() {
        eprintln!("DID NOT RUN: {} is not there (set RLVR_SHARED_DIR to the folder that has data and models)", shared().display());
        return;
    }
    let library = Library::open(Some(&data)).unwrap();
    let problem = Arc::new(example::resolve("pi1", &library).unwrap().remove(0));
    let text = Text::from_folder(&model).unwrap();
    let check = |instruction: &str, length: usize, checksum: u64| {
        let prompt = text.prompt(Arc::clone(&problem), instruction).unwrap();
        let found: u64 = prompt.ids.iter().zip(1..).map(|(&id, position)| u64::from(id) * position).sum();
        assert_eq!((prompt.ids.len(), found), (length, checksum), "{}", prompt.text);
    };
    check(example::PUBLISHED_INSTRUCTION, 140, 122_540_038);
    check("", 125, 96_346_311);
}
