//! Computes the sizes of a prepared run, and checks whether it fits on this machine.

use std::sync::Arc;

use anyhow::{Error, Result, anyhow};

use super::{Prepared, messages};
use crate::checkpoint::disk::{folder_bytes, free_bytes};
use crate::flow::Problem;
use crate::kernels::{Kernels, Target};
use crate::model::ModelConfig;
use crate::output::Level;
use crate::rollout::limits::EngineLoad;
use crate::source::{self, Shape};
use crate::text::Text;
use crate::train::RunSettings;
use crate::train::plan::{Links, Plan, Ranks, RunWorkload, machine};
use crate::usage::usage;

/// The approximate number of characters per token in English and mathematics, for models whose tokenizer is not available.
const CHARACTERS_PER_TOKEN: usize = 3;

/// The inputs of a plan, known before weights load.
pub struct Sizes {
    /// The model's shape.
    pub config: ModelConfig,
    /// The settings to plan with. In a replay, `rollout.max_new_tokens` is the length of the longest recorded response.
    pub settings: RunSettings,
    /// The run's workload.
    pub work: RunWorkload,
}

/// Whether a run fits on this machine, and the kernels to run it with.
pub struct MachineCheck {
    /// The kernels of the run.
    pub kernels: Arc<dyn Kernels>,
    /// A description of the machine and the kernels.
    pub computed_on: String,
    /// Why the run does not fit; `None` if it fits, or if the model's shape is unknown before a download.
    pub refusal: Option<Error>,
}

impl Prepared<'_> {
    /// Returns the inputs of a plan; `None` if the model's shape is unknown before a download.
    ///
    /// # Errors
    /// If the model's files are invalid, or its template cannot render a problem.
    pub fn sizes(&self) -> Result<Option<Sizes>> {
        let shape = source::shape(&self.settings.model, &self.chat)?;
        shape.map(|shape| self.sizes_of(shape)).transpose()
    }

    fn sizes_of(&self, shape: Shape) -> Result<Sizes> {
        let work = self.work(&shape)?;
        let mut settings = self.settings.clone();
        settings.rollout.max_new_tokens = self.replay.as_ref().map_or(settings.rollout.max_new_tokens, |replay| replay.lengths().1);
        Ok(Sizes { config: shape.config, settings, work })
    }

    /// Checks whether the run fits on this machine. Prints its needs in one line.
    ///
    /// # Errors
    /// If this machine lacks what `compute` requests, the settings do not suit the model, or its files are invalid. A run that does not fit
    /// is not an error but a [`MachineCheck::refusal`].
    pub fn check_machine(&self) -> Result<MachineCheck> {
        let (settings, print) = (&self.settings, self.request.print);
        let kernels = source::open(&settings.compute, &settings.model)?;
        let (target, memory) = machine::device_memory(&*kernels, self.request.world.ranks_on_host());
        // No rank may load weights before all have seen how much memory is free.
        self.request.world.wait_for_all()?;
        let computed_on = source::compute(&settings.compute, &settings.model)?.describe();
        let before = &self.invocation.computed_on;
        if !before.is_empty() && *before != computed_on {
            let text = format!("the run was computed on {before} and continues on {computed_on}: from here on, it is not bit-identical");
            print(Level::Warning, &text);
        }
        let shape = source::shape(&settings.model, &self.chat)?;
        messages::formats(self, shape.as_ref().and_then(|shape| shape.text.as_ref()))?.iter().for_each(|(level, line)| print(*level, line));
        let Some(shape) = shape else { return Ok(MachineCheck { kernels, computed_on, refusal: None }) };
        let sizes = self.sizes_of(shape)?;
        let (plan, disk) = (sizes.plan(target)?, free_bytes(&self.root));
        print(Level::Detail, &plan.summary(memory, disk));
        let in_use = kernels.memory().and_then(|memory| memory.held_by_others());
        let refusal = plan.check(memory, disk).err().map(|error| match in_use {
            Some(in_use) if memory < Some(plan.memory.peak()) => anyhow!("{error:#}; {in_use}"),
            _ => error,
        });
        Ok(MachineCheck { kernels, computed_on, refusal })
    }

    fn work(&self, shape: &Shape) -> Result<RunWorkload> {
        let settings = &self.settings;
        let tokens = |problem: &Problem, instruction: &str| match &shape.text {
            Some(text) => prompt_tokens(text, problem, instruction),
            None => Ok((problem.question.len() + instruction.len()).div_ceil(CHARACTERS_PER_TOKEN) + 20),
        };
        let training_tokens = |problem: &Problem| tokens(problem, settings.prompt.instruction_for(&problem.question));
        let prompts = match &self.replay {
            Some(replay) => replay.lengths().0,
            None => self.problems.iter().map(training_tokens).collect::<Result<_>>()?,
        };
        let mut evaluations = Vec::new();
        for set in &self.sets {
            let prompts = set.problems.iter().map(|problem| tokens(problem, "")).collect::<Result<Vec<_>>>()?;
            // Prompts that leave no room for `eval.max_new_tokens` are not evaluated.
            let longest = shape.config.context_length.saturating_sub(settings.eval.max_new_tokens);
            let prompts: Vec<usize> = prompts.into_iter().filter(|tokens| *tokens <= longest).collect();
            let load = |samples: usize| EngineLoad {
                requests: prompts.len() * samples,
                prompts: prompts.clone(),
                max_new_tokens: settings.eval.max_new_tokens,
            };
            evaluations.extend(set.decodings.iter().map(|decoding| load(decoding.samples)).filter(|load| load.requests > 0));
        }
        let done = self.resumed.as_ref().map_or(0, |resumption| resumption.from);
        let vocabulary = shape.text.as_ref().map_or(shape.config.vocabulary, Text::vocabulary);
        let exact = shape.text.is_some() || self.replay.is_some();
        let checkpoint_bytes = folder_bytes(&self.root.join("checkpoints"));
        let ranks = Ranks::of(&self.request.world);
        Ok(RunWorkload { prompts, evaluations, vocabulary, exact, done, checkpoint_bytes, ranks, links: Links::default() })
    }
}

fn prompt_tokens(text: &Text, problem: &Problem, instruction: &str) -> Result<usize> {
    Ok(text.prompt(Arc::new(problem.clone()), instruction)?.ids.len())
}

impl Sizes {
    /// Divides the run among ranks. Sets `train.shards` to their number if it is 0.
    ///
    /// # Errors
    /// If the ranks cannot share the run; the error is marked as a usage error.
    pub fn divide(&mut self, ranks: Ranks, links: Links) -> Result<()> {
        let train = &mut self.settings.train;
        if train.shards == 0 && ranks.are_several() {
            train.shards = ranks.count.next_power_of_two();
        }
        if ranks.are_several() {
            usage(self.settings.validate())?;
        }
        usage(self.settings.validate_for_processes(ranks.count))?;
        (self.work.ranks, self.work.links) = (ranks, links);
        Ok(())
    }

    /// Plans the run for a device.
    ///
    /// # Errors
    /// If [`Plan::of`] fails; the error is marked as a usage error.
    pub fn plan(&self, target: Target) -> Result<Plan<'_>> {
        usage(Plan::of(&self.config, &self.settings, &self.work, target))
    }
}
