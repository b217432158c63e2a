//! MATH500: 500 problems of the MATH test set, by subject and level.

use anyhow::Result;

use super::{Benchmark, Decoding, Pinned, boxed};
use crate::data::rows::Row;
use crate::flow::Problem;

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "math500",
    title: "MATH500",
    file: Pinned::of_the_paper(
        "Qwen2.5-Eval/evaluation/data/math500/test.jsonl",
        "test/math500/test.jsonl",
        "35dc41080a3680858b27fa7e0533d2d547825316fc5dafe5d316f4ccc5a06132",
    ),
    rows: 500,
    decoding: Decoding::GREEDY,
    problem,
};

fn problem(row: &Row) -> Result<Problem> {
    Ok(Problem {
        id: format!("math500/{}", row.text(&["unique_id"])?),
        question: row.text(&["problem"])?.trim().to_owned(),
        answer: boxed::answer(row)?,
        subject: row.text(&["subject"])?,
        level: row.text(&["level"])?,
        ..Problem::default()
    })
}
