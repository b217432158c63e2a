//! The command line: one file a command, each arguments in, one library call, output out. Results go to stdout, everything for people to stderr.

/// Writes a line of results to stdout. A reader who has gone, as `head` does, ends neither the command nor what it has still to save.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::output::result(&format!($($text)*))
    };
}

mod arguments;
mod bench;
mod compare;
mod data;
mod endpoint;
mod eval;
mod init;
mod logging;
mod numbers;
mod plan;
mod pretrain;
mod sample;
mod score;
mod scores;
mod select;
mod settings_help;
mod signals;
mod study;
mod train;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::reward;

/// Reinforcement learning with verifiable rewards from one training example.
///
/// `rlvr train` without arguments trains the embedded base model on one example and shows what happens to problems that it never saw.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    logging: logging::LoggingArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a model on one example (or a few), evaluating as it goes
    Train(train::TrainArgs),
    /// Run a grid of trainings into one folder, and tell them in one table
    Study(study::StudyArgs),
    /// What a run will need: memory, disk, tokens and time, before any weight is read
    Plan(plan::PlanArgs),
    /// Evaluate a model on benchmarks
    Eval(eval::EvalArgs),
    /// Compare two evaluations problem by problem
    Compare(compare::CompareArgs),
    /// The published files: what they are, fetching them, checking them
    Data(data::DataCommand),
    /// Rank examples by how much their accuracy varied in training
    Select(select::SelectArgs),
    /// Sample responses to prompts
    Sample(sample::SampleArgs),
    /// Log-probabilities and entropies of given completions
    Score(score::ScoreArgs),
    /// Judge answers against reference answers
    Verify(verify::VerifyArgs),
    /// Make an embedded base model from nothing
    Pretrain(pretrain::PretrainArgs),
    /// Write a model folder: the embedded base, or random weights in a known shape or that of another folder
    Init(init::InitArgs),
    /// Measure rollouts, updates and whole steps on this machine
    Bench(bench::BenchArgs),
    /// Becomes a program that ends with its parent: how a run starts the program of its rewards
    #[command(hide = true, name = reward::guard::SUBCOMMAND)]
    WithParent {
        /// The parent
        pid: u32,
        /// The program with its arguments
        #[arg(last = true, required = true)]
        program: Vec<String>,
    },
}

/// Runs the command.
pub fn run(cli: Cli) -> Result<ExitCode> {
    logging::start(&cli.logging)?;
    let done = |()| ExitCode::SUCCESS;
    match cli.command {
        Command::Train(args) => train::run(args),
        Command::Study(args) => study::run(args),
        Command::Plan(args) => plan::run(args).map(done),
        Command::Eval(args) => eval::run(args),
        Command::Compare(args) => compare::run(args).map(done),
        Command::Data(args) => data::run(args),
        Command::Select(args) => select::run(args).map(done),
        Command::Sample(args) => sample::run(args).map(done),
        Command::Score(args) => score::run(args).map(done),
        Command::Verify(args) => verify::run(args).map(done),
        Command::Pretrain(args) => pretrain::run(args).map(done),
        Command::Init(args) => init::run(args).map(done),
        Command::Bench(args) => bench::run(args).map(done),
        Command::WithParent { pid, program } => Err(reward::guard::become_program(pid, &program)),
    }
}
