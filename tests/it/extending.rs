//! Tests docs/extending.md: each block of Rust is part of a test in the file that the block names, so it compiles and works, and the files,
//! tables and tests that the page names exist. Rows of tables that other crates can build are tested here.

use rlvr::data::DataStore;
use rlvr::data::benchmark::{Benchmark, Decoding, Source};
use rlvr::model::ModelConfig;
use rlvr::model::config::Family;
use rlvr::model::parameters::parameters;

use crate::fixture::{repository, text};

fn page() -> String {
    text(&repository("docs/extending.md"))
}

/// Joins the words of a text with single spaces, so that indentation does not matter.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn rust_blocks_of_extending_md_are_in_the_files_that_they_name() {
    let page = page();
    let blocks: Vec<&str> = page.split("```rust\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 5);
    for block in blocks {
        let (file, lines) = block.split_once('\n').unwrap();
        let file = file.strip_prefix("// ").unwrap();
        assert!(one_line(&text(&repository(file))).contains(&one_line(lines)), "{file} lacks these lines of docs/extending.md:\n{block}");
    }
}

#[test]
fn files_of_extending_md_exist() {
    let page = page();
    let is_separator = |c: char| c.is_whitespace() || "`()[],;:".contains(c);
    let folders = ["src/", "tests/", "scripts/", "configs/"];
    let paths = page.split(is_separator).filter(|word| folders.iter().any(|folder| word.starts_with(folder)));
    let paths: Vec<&str> = paths.map(|path| path.trim_end_matches('.')).collect();
    assert!(paths.len() > 20, "found only {paths:?}");
    let missing: Vec<&&str> = paths.iter().filter(|path| !repository(path).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn tables_and_tests_of_extending_md_exist() {
    let page = page();
    let check = |file: &str, name: &str, definition: &str| {
        assert!(page.contains(&format!("`{file}`")) && page.contains(&format!("`{name}")), "the page does not name {name} in {file}");
        assert!(text(&repository(file)).contains(definition), "{file} has no {definition}");
    };
    check("src/reward/mod.rs", "REWARDS", "pub const REWARDS:");
    check("src/data/benchmark/mod.rs", "BENCHMARKS", "pub static BENCHMARKS:");
    check("src/train/settings/algorithm.rs", "ALGORITHMS", "pub const ALGORITHMS:");
    check("src/model/config.rs", "FAMILIES", "pub static FAMILIES:");
    check("src/data/tiny/subjects.rs", "SUBJECTS", "SUBJECTS:");
    check("src/objective/loss.rs", "LossSettings", "pub struct LossSettings");
    check("src/model/weights.rs", "BlockWeights", "pub struct BlockWeights");
    check("src/model/config.rs", "reject_unsupported", "fn reject_unsupported");
    check("src/reward/testing.rs", "check(", "fn check(");
    let test = "verify_gold_answer_accepts_every_gold_answer_in_a_box";
    check("tests/it/benchmarks.rs", test, &format!("fn {test}"));
    let test = "resolve_applies_presets_below_user_settings";
    check("src/train/settings/algorithm.rs", test, &format!("fn {test}"));
}

#[test]
fn benchmark_of_the_documented_example_loads() {
    let benchmark = Benchmark {
        name: "sums",
        tags: &[],
        source: Source::Own { local: "test/sums/test.jsonl", is_multiple_choice: false },
        decoding: Decoding::GREEDY,
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test/sums/test.jsonl");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, r#"{"question": "What is 12+34?", "answer": "46"}"#).unwrap();
    let store = DataStore::open(Some(folder.path())).unwrap();
    let problems = benchmark.load(&store).unwrap();
    assert_eq!(problems.iter().map(|problem| problem.answer.as_str()).collect::<Vec<_>>(), ["46"]);
}

/// A family with the parts of Llama has the same parameters. Without its row, its checkpoints are refused.
#[test]
fn family_of_the_documented_example_has_the_parameters_of_llama() {
    static SIBLING: Family =
        Family { model_type: "sibling", architecture: "SiblingForCausalLM", qkv_bias: false, supports_sliding_window: false };
    let parse = |model_type: &str| {
        ModelConfig::parse(&format!(
            r#"{{"model_type": "{model_type}", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 6, "vocab_size": 20, "max_position_embeddings": 32, "rms_norm_eps": 1e-6,
            "rope_theta": 1e4}}"#
        ))
    };
    let llama = parse("llama").unwrap();
    let sibling = ModelConfig { family: &SIBLING, qkv_bias: SIBLING.qkv_bias, ..llama.clone() };
    assert_eq!(parameters(&sibling), parameters(&llama));
    let refusal = parse(SIBLING.model_type).unwrap_err().to_string();
    assert_eq!(refusal, "model_type \"sibling\" is not supported; expected qwen2 or llama");
}
