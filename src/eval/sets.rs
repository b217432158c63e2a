//! Sets by name: the published benchmarks, and the embedded model's own problems.

use std::sync::Arc;

use anyhow::Result;

use super::run::EvalSet;
use crate::data::Library;
use crate::data::benchmark::{self, Decoding};
use crate::data::tiny::{self, Split};

/// The embedded model's sets, `(name, split)`.
const TINY: [(&str, Split); 2] = [("tiny", Split::Test), ("tiny-validation", Split::Validation)];

/// The sets of a comma-separated list of names, at most `limit` problems each (0: all). Published sets are decoded as published, the embedded
/// model's greedily and by one sample at temperature 0.6; `classify` tells its ways of answering.
///
/// # Errors
/// An unknown name lists the known ones; data that cannot be had says what to do.
pub fn by_name(names: &str, limit: usize, library: &Library, classify: fn(&str) -> &'static str) -> Result<Vec<EvalSet>> {
    let mut sets = Vec::new();
    for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if sets.iter().any(|set: &EvalSet| set.name == name) {
            continue; // named twice, it is answered once
        }
        if let Some((name, split)) = TINY.iter().find(|(tiny, _)| *tiny == name) {
            let problems = tiny::problems(*split, split.default_count(), 0)?;
            let sampled = Decoding { temperature: 0.6, samples: 1 };
            sets.push(set(name, problems, vec![Decoding::GREEDY, sampled], Some(classify), limit));
            continue;
        }
        let selected = benchmark::select(name).map_err(|error| anyhow::anyhow!("{error}, {}", TINY.map(|(name, _)| name).join(", ")))?;
        for benchmark in selected {
            if sets.iter().any(|set| set.name == benchmark.name) {
                continue;
            }
            sets.push(set(benchmark.name, benchmark.load(library)?, vec![benchmark.decoding], None, limit));
        }
    }
    Ok(sets)
}

fn set(
    name: &str,
    problems: Vec<crate::flow::Problem>,
    decodings: Vec<Decoding>,
    classify: Option<fn(&str) -> &'static str>,
    limit: usize,
) -> EvalSet {
    let limit = if limit == 0 { problems.len() } else { limit };
    EvalSet { name: name.to_owned(), problems: problems.into_iter().take(limit).map(Arc::new).collect(), decodings, classify }
}
