//! `rlvr verify`: grades responses.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::data;
use crate::flow::Problem;
use crate::input::Lines;
use crate::metrics::jsonl;
use crate::usage::usage;
use crate::verify::{self, Grader, Mode, Settings, Trace, Verifier};

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// How to find the answer: reward reads only the last box; eval falls back to unboxed answers, as the published evaluation does
    #[arg(long, value_enum, default_value = "reward")]
    mode: ModeArg,
    /// Grader that decides whether an answer equals the gold answer
    #[arg(long, value_enum, default_value = "strict")]
    grader: GraderArg,
    /// Grade only the text after the last </think>; a response without one is wrong
    #[arg(long)]
    after_think: bool,
    /// JSON Lines {"id", "gold", "response"} (default: stdin), optionally with "unit" and "tolerance"; gold is a text, a number, or a list
    /// of acceptable ones
    #[arg(long, value_name = "FILE", conflicts_with_all = ["gold", "answer"])]
    input: Option<PathBuf>,
    /// Gold answer to compare with --answer
    #[arg(long, requires = "answer", allow_hyphen_values = true)]
    gold: Option<String>,
    /// Answer to compare with --gold, without a box; the exit code is 1 if they differ
    #[arg(long, requires = "gold", allow_hyphen_values = true)]
    answer: Option<String>,
    /// Explain each verdict on stderr: how both answers were parsed, and which stages were tried and which one decided
    #[arg(long)]
    explain: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeArg {
    Reward,
    Eval,
}

/// The values of `--grader`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum GraderArg {
    Strict,
    Deepscaler,
    Qwen,
}

impl From<GraderArg> for Grader {
    fn from(named: GraderArg) -> Self {
        match named {
            GraderArg::Strict => Self::Strict,
            GraderArg::Deepscaler => Self::Deepscaler,
            GraderArg::Qwen => Self::Qwen,
        }
    }
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    id: Value,
    response: String,
    #[serde(default)]
    unit: String,
    tolerance: Option<f64>,
}

pub fn run(args: VerifyArgs) -> Result<ExitCode> {
    let mode = match args.mode {
        ModeArg::Reward => Mode::Reward,
        ModeArg::Eval => Mode::Eval,
    };
    let verifier = Verifier::new(Settings { mode, grader: args.grader.into(), after_think: args.after_think });
    if let (Some(gold), Some(answer)) = (&args.gold, &args.answer) {
        let comparison = if args.explain {
            let (comparison, trace) = verifier.explain_equal(gold, answer);
            show(gold, "answer", answer, &trace);
            comparison
        } else {
            verifier.equal(gold, answer)
        };
        print_result!("{}", json!({"correct": comparison.equal, "method": comparison.method}));
        return Ok(if comparison.equal { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let lines = match &args.input {
        Some(path) => usage(Lines::open(path))?,
        None => Lines::over(Box::new(std::io::stdin().lock()) as Box<dyn BufRead>, "stdin".to_owned()),
    };
    let name = args.input.as_ref().map_or_else(|| "stdin".to_owned(), |path| path.display().to_string());
    let mut out = std::io::stdout().lock();
    let mut invalid = 0;
    for line in lines {
        let line = line?;
        let graded = grade(&verifier, &line.text, args.explain);
        let graded = graded.unwrap_or_else(|error| {
            invalid += 1;
            json!({"error": format!("line {}: {error:#}", line.number)})
        });
        writeln!(out, "{graded}")?;
    }
    ensure!(
        invalid == 0,
        "{name}: {} not {{\"id\", \"gold\", \"response\"}} (see the errors on stdout); all others were graded",
        if invalid == 1 { "1 line is".to_owned() } else { format!("{invalid} lines are") }
    );
    Ok(ExitCode::SUCCESS)
}

/// Grades a line. With several gold answers, a response is correct if it equals any of them.
fn grade(verifier: &Verifier, line: &str, explain: bool) -> Result<Value> {
    let Line { id, response, unit, tolerance } = jsonl::record(line)?;
    let mut golds = data::answers(line, "gold")?.into_iter();
    let problem =
        Problem { answer: golds.next().unwrap_or_default(), alternatives: golds.collect(), unit, tolerance, ..Problem::default() };
    let verdict = if explain {
        let (verdict, trace) = verify::explain_problem(&problem, &response, &verifier.settings);
        show(&problem.answer, "id", &id.to_string(), &trace);
        verdict
    } else {
        verify::verify_problem(&problem, &response, &verifier.settings)
    };
    let (extraction, method) = (verdict.extraction, verdict.method);
    Ok(json!({"id": id, "correct": verdict.correct, "extracted": verdict.extracted, "extraction": extraction, "method": method}))
}

/// Prints a verdict's trace: the gold answer, what it was compared with, and a line for each stage.
fn show(gold: &str, name: &str, compared: &str, trace: &Trace) {
    message!("{name:<10}{compared}\ngold      {gold}\n{trace}work      {} steps\n", trace.steps());
}
