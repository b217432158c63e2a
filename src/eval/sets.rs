//! Sets by name: the published benchmarks, the embedded model's own problems, and files of the user's.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow, ensure};

use super::settings::PUBLISHED;
use crate::data::benchmark::{self, BENCHMARKS, Benchmark, Decoding, Source};
use crate::data::tiny::{self, Split};
use crate::data::{Library, sha256_of};
use crate::flow::Problem;

/// The embedded model's sets, `(name, split)`.
const TINY: [(&str, Split); 2] = [("tiny", Split::Test), ("tiny-validation", Split::Validation)];

/// How the embedded model's sets are decoded.
const OF_TINY: [Decoding; 2] = [Decoding::GREEDY, Decoding { samples: 1, ..Decoding::MEAN_OF_EIGHT }];

/// A set of problems with the ways in which it is decoded.
#[derive(Clone)]
pub struct EvalSet {
    /// Its name.
    pub name: String,
    /// The problems.
    pub problems: Vec<Arc<Problem>>,
    /// The sha256 of the file that they are from; empty where they are from none.
    pub data_sha256: String,
    /// One pass each.
    pub decodings: Vec<Decoding>,
    /// Tells the way of answering from a response.
    pub classify: Option<fn(&str) -> &'static str>,
}

impl EvalSet {
    /// "math500-greedy", "aime24-t0.6x8": names files and metrics.
    pub fn pass_name(&self, decoding: Decoding) -> String {
        format!("{}-{decoding}", self.name)
    }
}

/// The sets of a comma-separated list of names, at most `limit` problems each (0: all). Published sets are decoded as published, the embedded
/// model's greedily and by one sample at temperature 0.6, others greedily; `classify` tells the embedded model's ways of answering. `paper` is
/// the six of the paper, `all` is every set that is at hand or can be had; a name that ends in `.jsonl` is a file.
///
/// # Errors
/// An unknown name lists the known ones; data that cannot be had says what to do.
pub fn by_name(names: &str, limit: usize, library: &Library, classify: fn(&str) -> &'static str) -> Result<Vec<EvalSet>> {
    let mut sets: Vec<EvalSet> = Vec::new();
    for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()).flat_map(|name| members(name, library)) {
        if sets.iter().any(|set| set.name == name) {
            continue; // named twice, it is answered once
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

/// The sets that a list of names comes to, without their problems and so without a download: names are known, files are read.
///
/// # Errors
/// An unknown name lists the known ones; a file that cannot be read is named.
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

/// Adds a set of the user's own, JSON lines, under the name of its file; it is decoded greedily.
///
/// # Errors
/// When the file is not such a set, naming file and line, or a set of its name is there already.
pub fn add_file(sets: &mut Vec<EvalSet>, path: &Path, limit: usize) -> Result<()> {
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    ensure!(!sets.iter().any(|set| set.name == name), "{}: there is a set called {name} already; rename the file", path.display());
    sets.push(EvalSet { data_sha256: sha256_of(path)?, ..set(&name, benchmark::from_file(path)?, limit) });
    Ok(())
}

/// Has all sets decoded in one way instead of their own: `published` leaves them as they are.
///
/// # Errors
/// When it is neither that nor a way of decoding.
pub fn decode(sets: &mut [EvalSet], way: &str) -> Result<()> {
    if way != PUBLISHED {
        let decoding: Decoding = way.parse().map_err(|error| anyhow!("{error}, or {PUBLISHED} (each set its own)"))?;
        sets.iter_mut().for_each(|set| set.decodings = vec![decoding]);
    }
    Ok(())
}

/// An evaluation that leaves no room for its prompts would count every problem as wrong.
///
/// # Errors
/// When responses of `max_new` tokens fill the model's `window`.
pub fn room_to_answer(max_new: usize, window: usize, sets: &[EvalSet]) -> Result<()> {
    ensure!(
        max_new < window || sets.is_empty(),
        "responses of up to {max_new} tokens leave no room for a prompt in the model's window of {window}: lower eval.max_new (--max-new of eval)"
    );
    Ok(())
}

/// What a name stands for, groups taken apart.
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
            tracing::warn!("without {}: it is read from a file of yours, {local} in the data folder", benchmark.name);
        }
        is_there
    });
    [published, vec![TINY[0].0], own].concat()
}

/// Every name that can be given, for help texts.
pub fn known() -> String {
    format!("{}, {}", benchmark::known(), others())
}

/// Known names beside those of the benchmarks.
fn others() -> String {
    format!("{}, all, and files that end in .jsonl", TINY.map(|(name, _)| name).join(", "))
}

/// The first `limit` problems (0: all), answered greedily.
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
    fn files_and_lettered_sets_stand_beside_the_known_ones() {
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
        check(&format!("{own},{own}"), "there is a set called mine already");
        check("arc_challenge", "DIR/test/arc_challenge/test.jsonl");
        check("maths", "arc_challenge, paper (the six that the paper averages), tiny, tiny-validation, all, and files that end in .jsonl");
        check("none.jsonl", "cannot read none.jsonl");
    }

    #[test]
    fn all_is_everything_that_can_be_had() {
        let Some(folder) = crate::testing::shared("data") else { return };
        let paper = ["math500", "aime24", "amc23", "minerva_math", "olympiadbench", "aime25"].map(|name| format!("{name} 2"));
        assert_eq!(names("paper", &folder).unwrap(), paper);
        let pinned = BENCHMARKS.iter().filter(|benchmark| matches!(benchmark.source, Source::Pinned { .. }));
        let expected: Vec<String> = pinned.map(|benchmark| benchmark.name).chain(["tiny"]).map(|name| format!("{name} 2")).collect();
        assert_eq!(names("all", &folder).unwrap(), expected);
    }
}
