//! Minerva Math: 272 quantitative problems of undergraduate courses; the course is the subject.

use anyhow::Result;

use super::{Benchmark, Decoding, Pinned, boxed};
use crate::data::rows::Row;
use crate::flow::Problem;

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "minerva_math",
    title: "Minerva Math",
    file: Pinned::of_the_paper(
        "Qwen2.5-Eval/evaluation/data/minerva_math/test.jsonl",
        "test/minerva_math/test.jsonl",
        "0e656b430d3a0a1dab6aa853f453ba3805e28e2cabe4fc72486a897cc09d8ba2",
    ),
    rows: 272,
    decoding: Decoding::GREEDY,
    problem,
};

fn problem(row: &Row) -> Result<Problem> {
    Ok(Problem {
        id: format!("minerva_math/{}", row.text(&["idx"])?),
        question: row.text(&["problem"])?.trim().to_owned(),
        answer: boxed::answer(row)?,
        subject: row.text(&["type"])?,
        ..Problem::default()
    })
}
