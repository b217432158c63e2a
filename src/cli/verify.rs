//! `rlvr verify`

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde_json::{Value, json};

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
    /// JSON lines {"id", "gold", "response"}; stdin by default
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
    gold: String,
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
    let (name, reader): (String, Box<dyn BufRead>) = match &args.input {
        Some(path) => {
            let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            (path.display().to_string(), Box::new(BufReader::new(file)))
        }
        None => ("stdin".to_owned(), Box::new(std::io::stdin().lock())),
    };
    let mut out = std::io::stdout().lock();
    let mut broken = 0;
    for (number, line) in reader.lines().enumerate() {
        let line = line.with_context(|| format!("cannot read {name}"))?;
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str::<Line>(&line) {
            Ok(Line { id, gold, response }) => {
                let verdict = verifier.check(&gold, &response);
                let (extraction, method) = (verdict.extraction, verdict.method);
                writeln!(
                    out,
                    "{}",
                    json!({"id": id, "correct": verdict.correct, "extracted": verdict.extracted, "extraction": extraction, "method": method})
                )?;
            }
            Err(error) => {
                broken += 1;
                writeln!(out, "{}", json!({"error": format!("line {}: {error}", number + 1)}))?;
            }
        }
    }
    ensure!(broken == 0, "{name}: {broken} lines were not {{\"id\", \"gold\", \"response\"}}; the others were judged");
    Ok(())
}
