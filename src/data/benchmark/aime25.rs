//! AIME 2025: 30 problems whose answers are integers below 1000; one is written in degrees. Rows have no ids: their number is theirs.

use anyhow::Result;

use super::{Benchmark, Decoding, Pinned};
use crate::data::rows::Row;
use crate::flow::Problem;

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "aime25",
    title: "AIME25",
    file: Pinned::of_the_paper(
        "Qwen2.5-Eval/evaluation/data/aime25/test.jsonl",
        "test/aime25/test.jsonl",
        "4613b7d3b5346f007625969f4380d932d6a2618fdcc9b89e5d39c7fbddc074b8",
    ),
    rows: 30,
    decoding: Decoding::MEAN_OF_EIGHT,
    problem,
};

fn problem(row: &Row) -> Result<Problem> {
    Ok(Problem {
        id: format!("aime25/{}", row.number),
        question: row.text(&["problem"])?.trim().to_owned(),
        answer: row.text(&["answer"])?,
        ..Problem::default()
    })
}
