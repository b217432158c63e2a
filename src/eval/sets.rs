//! Sets by name: published benchmarks, the embedded model's own problems, and files of the user.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow, ensure};

use super::settings::PUBLISHED;
use crate::data::benchmark::{self, BENCHMARKS, Benchmark, Decoding, Source};
use crate::data::tiny::{self, Split};
use crate::data::{Library, sha256_of};
use crate::flow::Problem;

/// The embedded model's sets, as `(name, split)`.
const TINY: [(&str, Split); 2] = [("tiny", Split::Test), ("tiny-validation", Split::Validation)];

/// Decodings of the embedded model's sets.
const OF_TINY: [Decoding; 2] = [Decoding::GREEDY, Decoding { samples: 1, ..Decoding::AVG_AT_8 }];

/// A set of problems and its decodings.
#[derive(Clone)]
pub struct EvalSet {
    /// Its name.
    pub name: String,
    /// The problems.
    pub problems: Vec<Arc<Problem>>,
    /// sha256 of the file with the problems; empty if they are not from a file.
    pub data_sha256: String,
    /// The decodings; each makes one pass.
    pub decodings: Vec<Decoding>,
    /// Classifies the answer style of a response; `None` for sets without styles.
    pub classify: Option<fn(&str) -> &'static str>,
}

impl EvalSet {
    /// Returns the name of a pass, which also names its files and metrics: "math500-greedy", "aime24-t0.6x8".
    pub fn pass_name(&self, decoding: Decoding) -> String {
        format!("{}-{decoding}", self.name)
    }
}

/// Loads the sets in a comma-separated list of names, with at most `limit` problems each (0: all). Published sets use their published
/// decoding; the embedded model's sets are decoded greedily and with one sample at temperature 0.6; other sets greedily. `classify`
/// classifies the embedded model's answer styles. `paper` stands for the six benchmarks of the paper, `all` for every set that is available
/// or can be downloaded; a name that ends in `.jsonl` is a file.
///
/// # Errors
/// If a name is unknown (the message lists the known ones), or the data cannot be read or downloaded (the message says what to do).
pub fn by_name(names: &str, limit: usize, library: &Library, classify: fn(&str) -> &'static str) -> Result<Vec<EvalSet>> {
    let mut sets: Vec<EvalSet> = Vec::new();
    for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()).flat_map(|name| members(name, library)) {
        if sets.iter().any(|set| set.name == name) {
            continue; // listed twice, evaluated once
        }
        if let Some((name, split)) = TINY.iter().find(|(tiny, _)| *tiny == name) {
            let problems = tiny::problems(*split, split.default_count(), 0)?;
            sets.push(EvalSet { decodings: OF_TINY.to_vec(), classify: Some(classify), ..set(name, problems, limit) });
        } else if name.ends_with(".jsonl") {
            add_file(&mut sets, Path::new(name), limit)?;
        } else {
            for benchmark in benchmark::select(name).map_err(|error| anyhow!("{error}, {}", others()))? {
                let problems = set(benchmark.name, benchmark.load(library)?, limit);
                sets.push(EvalSet { data_sha256: benchmark.sha256(library)?, decodings: vec![benchmark.decoding], ..problems });
            }
        }
    }
    Ok(sets)
}

/// Resolves a list of names to sets without loading or downloading their problems. Only files are read.
///
/// # Errors
/// If a name is unknown (the message lists the known ones), or a file cannot be read.
pub fn check(names: &str, library: &Library) -> Result<Vec<EvalSet>> {
    let mut sets: Vec<EvalSet> = Vec::new();
    for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()).flat_map(|name| members(name, library)) {
        if name.ends_with(".jsonl") {
            add_file(&mut sets, Path::new(name), 1)?;
        } else {
            let decodings = if TINY.iter().any(|(tiny, _)| *tiny == name) {
                OF_TINY.to_vec()
            } else {
                let known = benchmark::select(name).map_err(|error| anyhow!("{error}, {}", others()))?;
                known.iter().map(|benchmark| benchmark.decoding).collect()
            };
            sets.push(EvalSet { decodings, ..set(name, Vec::new(), 0) });
        }
    }
    Ok(sets)
}

/// Adds a set from a JSON Lines file of the user, named after the file and decoded greedily.
///
/// # Errors
/// If the file is not a valid set (the message gives file and line), or a set of that name is already in the list.
pub fn add_file(sets: &mut Vec<EvalSet>, path: &Path, limit: usize) -> Result<()> {
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    ensure!(!sets.iter().any(|set| set.name == name), "{}: a set named {name} is already selected; rename the file", path.display());
    sets.push(EvalSet { data_sha256: sha256_of(path)?, ..set(&name, benchmark::from_file(path)?, limit) });
    Ok(())
}

/// Gives all sets the same decoding instead of their own; `published` leaves them unchanged.
///
/// # Errors
/// If `way` is neither `published` nor a valid decoding.
pub fn decode(sets: &mut [EvalSet], way: &str) -> Result<()> {
    if way != PUBLISHED {
        let decoding: Decoding = way.parse().map_err(|error| anyhow!("{error}, or {PUBLISHED} (each set its own)"))?;
        sets.iter_mut().for_each(|set| set.decodings = vec![decoding]);
    }
    Ok(())
}

/// Checks that the context length leaves room for prompts. Otherwise every problem would count as wrong.
///
/// # Errors
/// If `max_new_tokens` tokens fill the whole context length `context_length`.
pub fn ensure_prompt_fits(max_new_tokens: usize, context_length: usize, sets: &[EvalSet]) -> Result<()> {
    ensure!(
        max_new_tokens < context_length || sets.is_empty(),
        "responses of up to {max_new_tokens} tokens leave no room for a prompt in the context length of {context_length}: lower eval.max_new_tokens (--max-new-tokens of eval)"
    );
    Ok(())
}

/// Expands a group of sets into its members.
fn members<'a>(name: &'a str, library: &Library) -> Vec<&'a str> {
    let names =
        |belongs: &dyn Fn(&&Benchmark) -> bool| BENCHMARKS.iter().filter(belongs).map(|benchmark| benchmark.name).collect::<Vec<_>>();
    if name != "all" {
        let tagged = names(&|benchmark| benchmark.tags.contains(&name));
        return if tagged.is_empty() { vec![name] } else { tagged };
    }
    let published = names(&|benchmark| matches!(benchmark.source, Source::Pinned { .. }));
    let own = names(&|benchmark| {
        let Source::Own { local, .. } = benchmark.source else { return false };
        let is_there = library.own(local).is_some();
        if !is_there {
            tracing::warn!("skipping {}: it needs a file of yours, {local} in the data folder", benchmark.name);
        }
        is_there
    });
    [published, vec![TINY[0].0], own].concat()
}

/// Lists every known name, for help texts.
pub fn known() -> String {
    format!("{}, {}", benchmark::known(), others())
}

/// Lists the known names other than benchmarks.
fn others() -> String {
    format!("{}, all, and files that end in .jsonl", TINY.map(|(name, _)| name).join(", "))
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
        let sets = by_name(specification, 2, &Library::open(Some(folder))?, |_| "")?;
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
        check("maths", "arc_challenge, paper (the six that the paper averages), tiny, tiny-validation, all, and files that end in .jsonl");
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
