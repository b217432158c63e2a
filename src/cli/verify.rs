//! `rlvr verify`

use std::io::{BufRead, Write};
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::data;
use crate::input::Lines;
use crate::metrics::jsonl;
use crate::verify::{self, Grader, Mode, Settings, Verifier};

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// reward: the last box or nothing; eval: the published fallback for unboxed answers too
    #[arg(long, value_enum, default_value = "reward")]
    mode: ModeArg,
    /// Whose notion of equality decides
    #[arg(long, value_enum, default_value = "strict")]
    grader: GraderArg,
    /// Judge only what follows the last </think>; a response without one is wrong
    #[arg(long)]
    after_think: bool,
    /// JSON lines {"id", "gold", "response"}; stdin by default. A gold is text, a number, or a list of these, any of which is right
    #[arg(long, value_name = "FILE", conflicts_with_all = ["gold", "answer"])]
    input: Option<PathBuf>,
    /// One reference answer, to be compared with --answer
    #[arg(long, requires = "answer", allow_hyphen_values = true)]
    gold: Option<String>,
    /// One answer, without a box
    #[arg(long, requires = "gold", allow_hyphen_values = true)]
    answer: Option<String>,
    /// Say how each side was read, which rungs were tried, and which decided
    #[arg(long, requires = "gold")]
    explain: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeArg {
    Reward,
    Eval,
}

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
}

pub fn run(args: VerifyArgs) -> Result<()> {
    let mode = match args.mode {
        ModeArg::Reward => Mode::Reward,
        ModeArg::Eval => Mode::Eval,
    };
    let verifier = Verifier::new(Settings { mode, grader: args.grader.into(), after_think: args.after_think });
    if let (Some(gold), Some(answer)) = (&args.gold, &args.answer) {
        let comparison = verifier.equal(gold, answer);
        if args.explain {
            // The rungs are those of our own grader; the verdict is the chosen one's.
            tell!("{}", verify::explain(gold, answer));
        }
        say!("{}", json!({"correct": comparison.equal, "method": comparison.method}));
        return Ok(());
    }
    let lines = match &args.input {
        Some(path) => Lines::open(path)?,
        None => Lines::over(Box::new(std::io::stdin().lock()) as Box<dyn BufRead>, "stdin".to_owned()),
    };
    let name = args.input.as_ref().map_or_else(|| "stdin".to_owned(), |path| path.display().to_string());
    let mut out = std::io::stdout().lock();
    let mut broken = 0;
    for line in lines {
        let line = line?;
        let judged = judge(&verifier, &line.text);
        let judged = judged.unwrap_or_else(|error| {
            broken += 1;
            json!({"error": format!("line {}: {error:#}", line.number)})
        });
        writeln!(out, "{judged}")?;
    }
    ensure!(broken == 0, "{name}: {broken} lines were not {{\"id\", \"gold\", \"response\"}}; the others were judged");
    Ok(())
}

/// The verdict on a line; of several golds any one that is met counts.
fn judge(verifier: &Verifier, line: &str) -> Result<Value> {
    let Line { id, response } = jsonl::record(line)?;
    let golds = data::answers(line, "gold")?;
    let mut verdicts = golds.iter().map(|gold| verifier.check(gold, &response));
    let own = verdicts.next().unwrap_or_else(|| verifier.check("", &response));
    let verdict = if own.correct { own } else { verdicts.find(|verdict| verdict.correct).unwrap_or(own) };
    let (extraction, method) = (verdict.extraction, verdict.method);
    Ok(json!({"id": id, "correct": verdict.correct, "extracted": verdict.extracted, "extraction": extraction, "method": method}))
}
