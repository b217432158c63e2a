//! Imports go down the layers, never up and never in circles: the order that `src/lib.rs` draws, held against every `crate::` in the sources.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Rooms from the bottom up; rooms of one layer do not know each other.
const LAYERS: [&[&str]; 14] = [
    &["input", "interrupt", "output", "usage"],
    &["draw", "flow", "lanes", "config"],
    &["data", "text", "verify", "kernels"],
    &["objective"],
    &["model", "reward"],
    &["optim", "rollout"],
    &["checkpoint", "metrics"],
    &["tiny"],
    &["eval", "source"],
    &["report"],
    &["train"],
    &["bench", "study"],
    &["cli"],
    &["testing"],
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The room of a file: its first folder or its own name.
fn room(root: &Path, file: &Path) -> String {
    let first = file.strip_prefix(root).unwrap().components().next().unwrap();
    Path::new(first.as_os_str()).with_extension("").to_string_lossy().into_owned()
}

/// Every room that a source text names after `crate::`, test modules left out.
fn mentioned(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut rooms = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        let names = match after.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or_default().split(',').map(str::trim).collect(),
            None => vec![after],
        };
        for name in names {
            rooms.insert(name.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect());
        }
    }
    rooms
}

#[test]
fn imports_go_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let layer: BTreeMap<&str, usize> =
        LAYERS.iter().enumerate().flat_map(|(height, rooms)| rooms.iter().map(move |room| (*room, height))).collect();
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong = Vec::new();
    for file in &files {
        let own = room(&root, file);
        if matches!(own.as_str(), "main" | "lib" | "testing") || file.to_string_lossy().ends_with("tests.rs") {
            continue;
        }
        let height = *layer.get(own.as_str()).unwrap_or_else(|| panic!("{own} stands in no layer: add it to LAYERS and to src/lib.rs"));
        for other in mentioned(&std::fs::read_to_string(file).unwrap()) {
            let Some(other_height) = layer.get(other.as_str()) else { continue };
            if other != own && *other_height >= height {
                wrong.push(format!("{}: {own} may not use {other}", file.strip_prefix(&root).unwrap().display()));
            }
        }
    }
    assert!(files.len() > 50, "the sources were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn mentions_are_found_in_every_spelling() {
    let text = "use crate::model::Decoder;\nuse crate::{eval, train::Run};\nlet x = crate::draw::Draw;\n// crate::cli\n#[cfg(test)]\nuse crate::bench;";
    assert_eq!(mentioned(text), ["model", "eval", "train", "draw"].map(String::from).into());
}

/// Exactly one module may hold unsafe code.
#[test]
fn unsafe_code_lives_in_the_kernels() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let holds = |file: &&PathBuf| std::fs::read_to_string(file).unwrap().contains("unsafe {");
    let outside: Vec<String> = files.iter().filter(holds).map(|file| room(&root, file)).filter(|room| room != "kernels").collect();
    assert!(outside.is_empty(), "{outside:?}");
}
