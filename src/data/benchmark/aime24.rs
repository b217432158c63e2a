//! AIME 2024: 30 problems whose answers are integers below 1000, written with leading zeros.

use anyhow::Result;

use super::{Benchmark, Decoding, Pinned};
use crate::data::rows::Row;
use crate::flow::Problem;

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "aime24",
    title: "AIME24",
    file: Pinned::of_the_paper(
        "Qwen2.5-Eval/evaluation/data/aime24/test.jsonl",
        "test/aime24/test.jsonl",
        "af2b8bd2aa911b6333ad0df32f3ca05c7ae8ed10f1731f4372c8ae26990bf7ac",
    ),
    rows: 30,
    decoding: Decoding::MEAN_OF_EIGHT,
    problem,
};

fn problem(row: &Row) -> Result<Problem> {
    Ok(Problem {
        id: format!("aime24/{}", row.text(&["id"])?),
        question: row.text(&["problem"])?.trim().to_owned(),
        answer: row.text(&["answer"])?,
        ..Problem::default()
    })
}
