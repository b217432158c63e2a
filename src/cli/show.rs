//! `rlvr show`: shows what a run recorded, in the terminal.

mod changed;
mod held_out;
mod overview;
mod page;
mod rollouts;
mod source;
mod verdict;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;

use super::numbers::{COUNT_FROM_1, within};
use crate::config::range::whole;
use crate::train::settings::table::MAX_COUNT;
use crate::usage::usage;
use page::Page;
use source::Source;

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Run folder, or a folder written by rlvr eval --out
    #[arg(value_name = "RUN")]
    folder: PathBuf,
    /// Show the rollouts of this step, or the nearest recorded one; with --problem, --changed, --pass or --subject, the evaluation
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = within::<u64>(whole(0, MAX_COUNT)))]
    step: Option<u64>,
    /// Show the responses to this held-out problem, given by its id or a part of it that no other id has
    #[arg(long, value_name = "ID", conflicts_with_all = ["changed", "subject"])]
    problem: Option<String>,
    /// Show held-out responses of this pass (default: the first)
    #[arg(long, value_name = "NAME")]
    pass: Option<String>,
    /// List the held-out problems whose verdict changed from the base model to the last evaluation, or to --step
    #[arg(long)]
    changed: bool,
    /// Show only wrong responses
    #[arg(long, conflicts_with = "right")]
    wrong: bool,
    /// Show only right responses
    #[arg(long)]
    right: bool,
    /// Show only held-out problems of this subject
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// Maximum number of responses, or of problems, in each part
    #[arg(short, value_name = "N", allow_negative_numbers = true, value_parser = within::<usize>(COUNT_FROM_1))]
    n: Option<usize>,
}

pub fn run(args: ShowArgs) -> Result<()> {
    let source = usage(Source::open(&args.folder))?;
    let mut page = Page::new();
    match &source {
        Source::Run(run) if args.problem.is_none() && !args.is_held_out() => {
            let step = match args.step {
                Some(step) => Some(step),
                None => {
                    overview::of_run(&mut page, run);
                    run.rollout_steps().last().copied()
                }
            };
            if let Some(step) = step {
                rollouts::show(&mut page, run, step, &args)?;
            }
            if args.step.is_none() {
                overview::next_commands(&mut page, run, &args.folder);
            }
        }
        Source::Evaluation(evaluation) => {
            usage(args.ensure_one_evaluation())?;
            if args.problem.is_none() && !args.is_held_out() {
                overview::of_evaluation(&mut page, evaluation, &args.folder);
            }
            held_out::show(&mut page, &source, &args)?;
        }
        Source::Run(_) => held_out::show(&mut page, &source, &args)?,
    }
    page.print();
    source.missing().iter().for_each(|sentence| message!("{sentence}"));
    Ok(())
}

impl ShowArgs {
    /// True if the arguments ask for a list of held-out responses.
    fn is_held_out(&self) -> bool {
        let is_filtered = (self.wrong || self.right) && self.step.is_none();
        self.changed || self.pass.is_some() || self.subject.is_some() || is_filtered
    }

    /// True for a response with this verdict, unless `--wrong` or `--right` excludes it.
    fn wants(&self, correct: bool) -> bool {
        if correct { !self.wrong } else { !self.right }
    }

    fn ensure_one_evaluation(&self) -> Result<()> {
        let folder = self.folder.display();
        ensure!(self.step.is_none(), "{folder} is a single evaluation, which has no steps: leave out --step, or give a run folder");
        ensure!(!self.changed, "{folder} is a single evaluation: rlvr compare A B compares two; --changed needs a run folder");
        Ok(())
    }
}
