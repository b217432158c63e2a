//! Tests the prompt of the paper's example for the paper's model: example, template and tokenizer together.

use std::sync::Arc;

use rlvr::data::{DataStore, example};
use rlvr::text::Text;

use crate::fixture::shared;

/// The expected lengths and checksums (the sum of position times id, positions from 1) come from an independent byte-pair encoder in Python
/// that reads `tokenizer.json`.
#[test]
fn prompt_of_pi1_has_the_expected_tokens() {
    let (Some(data), Some(model)) = (shared("data"), shared("models/qwen2.5-math-1.5b")) else { return };
    let store = DataStore::open(Some(&data)).unwrap();
    let problem = Arc::new(example::resolve("pi1", &store).unwrap().remove(0));
    let text = Text::from_folder(&model).unwrap();
    let check = |instruction: &str, length: usize, checksum: u64| {
        let prompt = text.prompt(Arc::clone(&problem), instruction).unwrap();
        let found: u64 = prompt.ids.iter().zip(1..).map(|(&id, position)| u64::from(id) * position).sum();
        assert_eq!((prompt.ids.len(), found), (length, checksum), "{}", prompt.text);
    };
    check(example::PUBLISHED_INSTRUCTION, 140, 122_540_038);
    check("", 125, 96_346_311);
}
