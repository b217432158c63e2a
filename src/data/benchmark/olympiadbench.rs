//! OlympiadBench: 675 competition problems in English with answers that can be checked; 94 of them have several.

use anyhow::{Context, Result};

use super::{Benchmark, Decoding, Pinned};
use crate::data::rows::Row;
use crate::flow::Problem;

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "olympiadbench",
    title: "OlympiadBench",
    file: Pinned::of_the_paper(
        "Qwen2.5-Eval/evaluation/data/olympiadbench/test.jsonl",
        "test/olympiadbench/test.jsonl",
        "bb8c1e38a16ea9eacb77530315a674d883f267fbff79183effc53681b4fcc416",
    ),
    rows: 675,
    decoding: Decoding::GREEDY,
    problem,
};

fn problem(row: &Row) -> Result<Problem> {
    // A list, of one text in every row; several answers stand in that text with commas between them.
    let answers = row.fields.get("final_answer").and_then(|answers| answers.as_list());
    let answers: Option<Vec<&str>> = answers.and_then(|list| list.iter().map(|answer| answer.as_text()).collect());
    let answers = answers.with_context(|| format!("{}: `final_answer` is not a list of texts", row.place))?;
    Ok(Problem {
        id: format!("olympiadbench/{}", row.text(&["id"])?),
        question: row.text(&["question"])?.trim().to_owned(),
        answer: answers.join(", "),
        unit: row.unit()?,
        tolerance: row.tolerance("error")?,
        subject: row.text(&["subfield"])?,
        ..Problem::default()
    })
}
