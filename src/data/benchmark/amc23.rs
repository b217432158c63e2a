//! AMC 2023: 40 problems whose answers are numbers; the file has them as floats, here they read as people write them.

use anyhow::Result;

use super::{Benchmark, Decoding, Pinned};
use crate::data::rows::Row;
use crate::flow::Problem;

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "amc23",
    title: "AMC23",
    file: Pinned::of_the_paper(
        "Qwen2.5-Eval/evaluation/data/amc23/test.jsonl",
        "test/amc23/test.jsonl",
        "43707e1ca784602d8479de24ee8ce36609dbebc46dd152b0b12a46611aa898a4",
    ),
    rows: 40,
    decoding: Decoding::MEAN_OF_EIGHT,
    problem,
};

fn problem(row: &Row) -> Result<Problem> {
    Ok(Problem {
        id: format!("amc23/{}", row.text(&["id"])?),
        question: row.text(&["problem"])?.trim().to_owned(),
        answer: row.text(&["answer"])?,
        ..Problem::default()
    })
}
