//! Evaluation sets by name: published benchmarks, the embedded model's problems, and the user's files.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow, ensure};

use super::settings::PUBLISHED;
use crate::config::nearest;
use crate::data::benchmark::{self, BENCHMARKS, Benchmark, Decoding, Source};
use crate::data::tiny::{self, Split};
use crate::data::{DataStore, sha256_of};
use crate::flow::Problem;

/// The embedded model's sets, as `(name, split)`.
const TINY: [(&str, Split); 2] = [("tiny", Split::Test), ("tiny-validation", Split::Validation)];

/// The decodings of the embedded model's sets.
const TINY_DECODINGS: [Decoding; 2] = [Decoding::GREEDY, Decoding { samples: 1, ..Decoding::AVG_AT_8 }];

/// A set of problems and its decodings.
#[derive(Clone)]
pub struct EvalSet {
    /// The set's name.
    pub name: String,
    /// The problems.
    pub problems: Vec<Arc<Problem>>,
    /// SHA-256 of the file with the problems; empty if they are not from a file.
    pub data_sha256: String,
    /// The decodings; there is one pass for each.
    pub decodings: Vec<Decoding>,
    /// Classifies the answer style of a response; `None` for sets without styles.
    pub classify: Option<fn(&str) -> &'static str>,
}

impl EvalSet {
    /// Returns the name of a pass, such as `math500-greedy` or `aime24-t0.6x8`. Its files and metrics have the same name.
    pub fn pass_name(&self, decoding: Decoding) -> String {
        format!("{}-{decoding}", self.name)
    }
}

/// Loads the sets in a comma-separated list of names, with at most `limit` problems each (0: all). Each set is loaded once.
///
/// `paper` selects the paper's six benchmarks, and `all` the sets that are available or can be downloaded; a name that ends in `.jsonl` is
/// a file. Published sets use their published decoding, the embedded model's sets greedy decoding and one sample at temperature 0.6, and
/// files greedy decoding. `classify` returns the answer style of a response to the embedded model's sets.
///
/// # Errors
/// If a name is unknown (the message lists the known ones), or the data cannot be read or downloaded (the message says what to do).
pub fn by_name(names: &str, limit: usize, store: &DataStore, classify: fn(&str) -> &'static str) -> Result<Vec<EvalSet>> {
    let mut sets: Vec<EvalSet> = Vec::new();
    for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()).flat_map(|name| members(name, store)) {
        if sets.iter().any(|set| set.name == name) {
            continue;
        }
        if let Some((name, split)) = TINY.iter().find(|(tiny, _)| *tiny == name) {
            let problems = tiny::problems(*split, split.default_count(), 0)?;
            sets.push(EvalSet { decodings: TINY_DECODINGS.to_vec(), classify: Some(classify), ..set(name, problems, limit) });
        } else if name.ends_with(".jsonl") {
            add_file(&mut sets, Path::new(name), limit)?;
        } else {
            for benchmark in benchmarks(name)? {
                let problems = set(benchmark.name, benchmark.load(store)?, limit);
                sets.push(EvalSet { data_sha256: benchmark.sha256(store)?, decodings: vec![benchmark.decoding], ..problems });
            }
        }
    }
    Ok(sets)
}

/// Checks a list of names and returns their sets without problems. Neither loads nor downloads benchmarks; reads only the user's files, and
/// keeps one problem of each.
///
/// # Errors
/// If a name is unknown (the message lists the known ones), or a file cannot be read.
pub fn check(names: &str, store: &DataStore) -> Result<Vec<EvalSet>> {
    let mut sets: Vec<EvalSet> = Vec::new();
    for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()).flat_map(|name| members(name, store)) {
        if name.ends_with(".jsonl") {
            add_file(&mut sets, Path::new(name), 1)?;
        } else {
            let decodings = if TINY.iter().any(|(tiny, _)| *tiny == name) {
                TINY_DECODINGS.to_vec()
            } else {
                benchmarks(name)?.iter().map(|benchmark| benchmark.decoding).collect()
            };
            sets.push(EvalSet { decodings, ..set(name, Vec::new(), 0) });
        }
    }
    Ok(sets)
}

/// Adds a set from a user's JSON Lines file, named after the file and decoded greedily, with at most `limit` problems (0: all).
///
/// # Errors
/// If the file is not a valid set (the message gives the file and line), or a set with that name is already in the list.
pub fn add_file(sets: &mut Vec<EvalSet>, path: &Path, limit: usize) -> Result<()> {
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    ensure!(!sets.iter().any(|set| set.name == name), "{}: a set named {name} is already selected: rename the file", path.display());
    sets.push(EvalSet { data_sha256: sha256_of(path)?, ..set(&name, benchmark::from_file(path)?, limit) });
    Ok(())
}

/// Sets the decoding of all sets; `published` leaves each set's own decodings unchanged.
///
/// # Errors
/// If `decoding` is neither `published` nor a valid decoding.
pub fn decode(sets: &mut [EvalSet], decoding: &str) -> Result<()> {
    if decoding != PUBLISHED {
        let decoding: Decoding = decoding.parse().map_err(|error| anyhow!("{error}, or {PUBLISHED} (each set's own)"))?;
        sets.iter_mut().for_each(|set| set.decodings = vec![decoding]);
    }
    Ok(())
}

/// Checks that the context length leaves room for prompts; otherwise every problem would count as wrong. Both lengths are in tokens.
///
/// # Errors
/// If `max_new_tokens` is not less than `context_length`, and there are sets.
pub fn ensure_prompt_fits(max_new_tokens: usize, context_length: usize, sets: &[EvalSet]) -> Result<()> {
    ensure!(
        max_new_tokens < context_length || sets.is_empty(),
        "responses of up to {max_new_tokens} tokens leave no room for a prompt in the context length of {context_length}: lower eval.max_new_tokens (--max-new-tokens of eval)"
    );
    Ok(())
}

/// Expands `all` or a benchmark tag to the names of its sets; any other name stands for itself. Warns about sets in `all` that need a file
/// from the user.
fn members<'a>(name: &'a str, store: &DataStore) -> Vec<&'a str> {
    let names =
        |belongs: &dyn Fn(&&Benchmark) -> bool| BENCHMARKS.iter().filter(belongs).map(|benchmark| benchmark.name).collect::<Vec<_>>();
    if name != "all" {
        let tagged = names(&|benchmark| benchmark.tags.contains(&name));
        return if tagged.is_empty() { vec![name] } else { tagged };
    }
    let published = names(&|benchmark| matches!(benchmark.source, Source::Pinned { .. }));
    let own = names(&|benchmark| {
        let Source::Own { local, .. } = benchmark.source else { return false };
        let is_available = store.user_file(local).is_some();
        if !is_available {
            tracing::warn!("skipping {}: it needs your own file, {local} in the data folder", benchmark.name);
        }
        is_available
    });
    [published, vec![TINY[0].0], own].concat()
}

/// Returns the benchmarks with a name or tag.
///
/// # Errors
/// If the name is unknown.
fn benchmarks(name: &str) -> Result<Vec<&'static Benchmark>> {
    benchmark::select(name).map_err(|_| {
        let names = BENCHMARKS.iter().map(|benchmark| benchmark.name).chain(TINY.map(|(name, _)| name));
        let near = nearest(name, names).map_or(String::new(), |near| format!(" (did you mean {near}?)"));
        anyhow!("unknown benchmark {name:?}; expected one of {}{near}", known())
    })
}

/// Returns all known names, for help texts and errors.
pub fn known() -> String {
    format!("{}, {}, all, or a file that ends in .jsonl", benchmark::known(), TINY.map(|(name, _)| name).join(", "))
}

/// Creates a set of the first `limit` problems (0: all), decoded greedily.
fn set(name: &str, problems: Vec<Problem>, limit: usize) -> EvalSet {
    let limit = if limit == 0 { problems.len() } else { limit };
    EvalSet {
        name: name.to_owned(),
        problems: problems.into_iter().take(limit).map(Arc::new).collect(),
        data_sha256: String::new(),
        decodings: vec![Decoding::GREEDY],
        classify: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(specification: &str, folder: &Path) -> Result<Vec<String>> {
        let sets = by_name(specification, 2, &DataStore::open(Some(folder))?, |_| "")?;
        Ok(sets.into_iter().map(|set| format!("{} {}", set.name, set.problems.len())).collect())
    }

    #[test]
    fn by_name_accepts_files_and_multiple_choice_sets() {
        let folder = tempfile::tempdir().unwrap();
        let arc = folder.path().join("test/arc_easy/test.jsonl");
        std::fs::create_dir_all(arc.parent().unwrap()).unwrap();
        std::fs::write(&arc, r#"{"question": "Which?", "choices": ["salt", "sand"], "answer": "B"}"#).unwrap();
        let own = folder.path().join("mine.jsonl");
        std::fs::write(&own, "{\"question\": \"q\", \"answer\": \"1\"}\n".repeat(3)).unwrap();
        let own = own.to_str().unwrap();
        assert_eq!(names(&format!("arc_easy,{own}, tiny,tiny"), folder.path()).unwrap(), ["arc_easy 1", "mine 2", "tiny 2"]);
        let check = |specification: &str, expected: &str| {
            let error = format!("{:#}", names(specification, folder.path()).unwrap_err());
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        };
        check(&format!("{own},{own}"), "a set named mine is already selected");
        check("arc_challenge", "DIR/test/arc_challenge/test.jsonl");
        check("maths", "arc_challenge, paper (the six that the paper averages), tiny, tiny-validation, all, or a file that ends in .jsonl");
        check("math50", "or a file that ends in .jsonl (did you mean math500?)");
        check("none.jsonl", "cannot read none.jsonl");
    }

    #[test]
    fn by_name_expands_paper_and_all() {
        let Some(folder) = crate::testing::shared("data") else { return };
        let paper = ["math500", "aime24", "amc23", "minerva_math", "olympiadbench", "aime25"].map(|name| format!("{name} 2"));
        assert_eq!(names("paper", &folder).unwrap(), paper);
        let pinned = BENCHMARKS.iter().filter(|benchmark| matches!(benchmark.source, Source::Pinned { .. }));
        let expected: Vec<String> = pinned.map(|benchmark| benchmark.name).chain(["tiny"]).map(|name| format!("{name} 2")).collect();
        assert_eq!(names("all", &folder).unwrap(), expected);
    }
}
