//! The command line. Each command has one file, which parses arguments, makes one library call and prints the result. Results go to stdout;
//! messages for people go to stderr.

/// Writes a line of results to stdout. Ignores a closed pipe, as after `head`, so that the command can finish saving.
macro_rules! print_result {
    ($($text:tt)*) => {
        $crate::output::print_result(&format!($($text)*))
    };
}

mod arguments;
mod bench;
mod compare;
mod completions;
mod data;
mod endpoint;
mod eval;
mod examples;
mod init;
mod logging;
mod numbers;
mod plan;
mod pretrain;
mod processes;
mod report;
mod runs;
mod sample;
mod score;
mod scores;
mod select;
mod settings_help;
mod show;
mod signals;
mod study;
mod train;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::dist::launch;
use crate::{reward, version};
pub use logging::parse;

/// Reinforcement learning with verifiable rewards from one training example.
///
/// `rlvr train` without arguments trains the embedded base model on one example and shows how its accuracy on unseen problems changes.
#[derive(Debug, Parser)]
#[command(version, long_version = version::long(), propagate_version = true, after_help = examples::RLVR)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    logging: logging::LoggingArgs,
    /// The name of the command, for messages.
    #[arg(skip)]
    name: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a model on one or a few examples, with evaluations along the way
    #[command(after_help = examples::TRAIN)]
    Train(train::TrainCommand),
    /// Run a grid of training runs and summarize them in one table
    #[command(after_help = examples::STUDY)]
    Study(study::StudyArgs),
    /// Estimate a run's memory, disk space, tokens and time without loading weights
    #[command(after_help = examples::PLAN)]
    Plan(plan::PlanArgs),
    /// List runs with their state and last numbers
    #[command(after_help = examples::RUNS)]
    Runs(runs::RunsArgs),
    /// Show what a run recorded: rollouts, and responses to held-out problems with their verdicts
    #[command(after_help = examples::SHOW)]
    Show(show::ShowArgs),
    /// Evaluate a model on benchmarks
    #[command(after_help = examples::EVAL)]
    Eval(eval::EvalArgs),
    /// Write or serve a report about runs or a study: one HTML file with pictures, tables and responses
    #[command(after_help = examples::REPORT)]
    Report(report::ReportArgs),
    /// Compare two evaluations problem by problem
    #[command(after_help = examples::COMPARE)]
    Compare(compare::CompareArgs),
    /// List, download and check the published data files
    #[command(after_help = examples::DATA)]
    Data(data::DataCommand),
    /// Rank examples by how much their accuracy varied in training
    ///
    /// Ranks by the standard deviation of the accuracy, largest first. Without arguments, ranks the published history: pi1, pi2, ...,
    /// pi1209.
    #[command(after_help = examples::SELECT)]
    Select(select::SelectArgs),
    /// Sample responses to prompts
    #[command(after_help = examples::SAMPLE)]
    Sample(sample::SampleArgs),
    /// Compute log-probabilities and entropies of given completions
    #[command(after_help = examples::SCORE)]
    Score(score::ScoreArgs),
    /// Grade responses against gold answers
    #[command(after_help = examples::VERIFY)]
    Verify(verify::VerifyArgs),
    /// Pre-train a small base model, like the embedded one, from scratch
    #[command(after_help = examples::PRETRAIN)]
    Pretrain(pretrain::PretrainArgs),
    /// Write a model folder: the embedded base model or random weights
    #[command(after_help = examples::INIT)]
    Init(init::InitArgs),
    /// Measure the speed of rollouts, updates and training steps on this machine
    #[command(after_help = examples::BENCH)]
    Bench(bench::BenchArgs),
    /// Print a completion script for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions(completions::CompletionsArgs),
    /// Write the manual pages
    #[command(after_help = examples::MAN)]
    Man(completions::ManArgs),
    /// Run a program that is killed when its parent ends, as runs do with their reward command
    #[command(hide = true, name = reward::parent_guard::SUBCOMMAND)]
    WithParent {
        /// Process id of the parent
        pid: u32,
        /// The program and its arguments
        #[arg(last = true, required = true)]
        program: Vec<String>,
    },
}

impl Command {
    /// True if the command may be one of several ranks, or does not care.
    fn knows_ranks(&self) -> bool {
        match self {
            Self::Train(_) | Self::Study(_) | Self::Eval(_) | Self::Completions(_) | Self::WithParent { .. } => true,
            Self::Bench(args) => args.knows_ranks(),
            _ => false,
        }
    }
}

/// Runs the parsed command. Returns the exit code.
///
/// # Errors
/// If logging cannot start, or the command fails. Wrong usage is a [`crate::usage::Usage`].
pub fn run(cli: Cli) -> Result<ExitCode> {
    logging::start(&cli.logging)?;
    let done = |()| ExitCode::SUCCESS;
    if !cli.command.knows_ranks() {
        launch::refuse_ranks(&cli.name)?;
    }
    match cli.command {
        Command::Train(args) => train::run(args),
        Command::Study(args) => study::run(args),
        Command::Plan(args) => plan::run(args).map(done),
        Command::Runs(args) => runs::run(args).map(done),
        Command::Show(args) => show::run(args).map(done),
        Command::Eval(args) => eval::run(args),
        Command::Report(args) => report::run(args),
        Command::Compare(args) => compare::run(args).map(done),
        Command::Data(args) => data::run(args),
        Command::Select(args) => select::run(args).map(done),
        Command::Sample(args) => sample::run(args).map(done),
        Command::Score(args) => score::run(args).map(done),
        Command::Verify(args) => verify::run(args),
        Command::Pretrain(args) => pretrain::run(args).map(done),
        Command::Init(args) => init::run(args).map(done),
        Command::Bench(args) => bench::run(args).map(done),
        Command::Completions(args) => completions::run(args).map(done),
        Command::Man(args) => completions::man(args).map(done),
        Command::WithParent { pid, program } => Err(reward::parent_guard::exec_with_parent_guard(pid, &program)),
    }
}
