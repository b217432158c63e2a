//! What a prepared run will need, and whether this machine has it.

use std::sync::Arc;

use anyhow::{Error, Result, anyhow};

use super::{Prepared, words};
use crate::checkpoint::disk::free_bytes;
use crate::flow::Problem;
use crate::kernels::{Kernels, Target};
use crate::model::ModelConfig;
use crate::rollout::limits::Load;
use crate::source::{self, Shape};
use crate::text::Text;
use crate::train::RunSettings;
use crate::train::plan::{Plan, Work, machine};
use crate::usage::usage;

/// Characters of English and mathematics in a token, about: where no tokenizer is at hand.
const CHARACTERS_PER_TOKEN: usize = 3;

/// A run in numbers, before any weight is read.
pub struct Sizes {
    /// The model's shape.
    pub config: ModelConfig,
    /// The settings that are planned with: recorded responses are as long as they are.
    pub settings: RunSettings,
    /// What the run works on.
    pub work: Work,
}

/// Where a run computes, and whether it fits there.
pub struct Fit {
    /// The operations.
    pub kernels: Arc<dyn Kernels>,
    /// Machine and operations in words.
    pub computed_on: String,
    /// Why it does not fit; none where it does, or where the model's shape is not known before a download.
    pub refusal: Option<Error>,
}

impl Prepared<'_> {
    /// The run in numbers; none where the model's shape is not known before a download.
    ///
    /// # Errors
    /// When the model's files cannot be used, or its template cannot render a problem.
    pub fn sizes(&self) -> Result<Option<Sizes>> {
        let shape = source::shape(&self.settings.model, &self.chat)?;
        shape.map(|shape| self.sizes_of(shape)).transpose()
    }

    fn sizes_of(&self, shape: Shape) -> Result<Sizes> {
        let work = self.work(&shape)?;
        let mut settings = self.settings.clone();
        settings.rollout.max_new = self.replay.as_ref().map_or(settings.rollout.max_new, |replay| replay.lengths().1);
        Ok(Sizes { config: shape.config, settings, work })
    }

    /// Holds the run against this machine, and tells in a line what it will need.
    ///
    /// # Errors
    /// When this machine has not what `compute` names, or the model's files cannot be used.
    pub fn fit(&self) -> Result<Fit> {
        let (settings, tell) = (&self.settings, self.request.tell);
        let kernels = source::open(&settings.compute, &settings.model)?;
        let computed_on = source::compute(&settings.compute, &settings.model)?.describe();
        let before = &self.launch.computed_on;
        if !before.is_empty() && *before != computed_on {
            tell(&format!("the run was computed on {before} and goes on with {computed_on}: from here on it is not the same to the bit"));
        }
        let shape = source::shape(&settings.model, &self.chat)?;
        words::formats(self, shape.as_ref().and_then(|shape| shape.text.as_ref()))?.iter().for_each(|line| tell(line));
        let Some(shape) = shape else { return Ok(Fit { kernels, computed_on, refusal: None }) };
        let sizes = self.sizes_of(shape)?;
        let (target, memory) = machine::room(&*kernels);
        let (plan, disk) = (sizes.plan(target)?, free_bytes(&self.root));
        tell(&plan.short(memory, disk));
        let held = kernels.memory().and_then(|memory| memory.held_by_others());
        let refusal = plan.check(memory, disk).err().map(|error| match held {
            Some(held) if memory < Some(plan.memory.peak()) => anyhow!("{error:#}. Also, {held}"),
            _ => error,
        });
        Ok(Fit { kernels, computed_on, refusal })
    }

    fn work(&self, shape: &Shape) -> Result<Work> {
        let settings = &self.settings;
        let tokens = |problem: &Problem, instruction: &str| match &shape.text {
            Some(text) => exact(text, problem, instruction),
            None => Ok((problem.question.len() + instruction.len()).div_ceil(CHARACTERS_PER_TOKEN) + 20),
        };
        let asked = |problem: &Problem| tokens(problem, settings.prompt.instruction_for(&problem.question));
        let prompts = match &self.replay {
            Some(replay) => replay.lengths().0,
            None => self.problems.iter().map(asked).collect::<Result<_>>()?,
        };
        let mut evaluations = Vec::new();
        for set in &self.sets {
            let prompts = set.problems.iter().map(|problem| tokens(problem, "")).collect::<Result<Vec<_>>>()?;
            // What does not fit the window is not answered.
            let room = shape.config.window.saturating_sub(settings.eval.max_new);
            let prompts: Vec<usize> = prompts.into_iter().filter(|tokens| *tokens <= room).collect();
            let load =
                |samples: usize| Load { requests: prompts.len() * samples, prompts: prompts.clone(), max_new: settings.eval.max_new };
            evaluations.extend(set.decodings.iter().map(|decoding| load(decoding.samples)).filter(|load| load.requests > 0));
        }
        let done = self.resumed.as_ref().map_or(0, |resumption| resumption.from);
        let vocabulary = shape.text.as_ref().map_or(shape.config.vocabulary, Text::vocabulary);
        Ok(Work { prompts, evaluations, vocabulary, exact: shape.text.is_some() || self.replay.is_some(), done })
    }
}

fn exact(text: &Text, problem: &Problem, instruction: &str) -> Result<usize> {
    Ok(text.prompt(Arc::new(problem.clone()), instruction)?.ids.len())
}

impl Sizes {
    /// The plan for a device.
    ///
    /// # Errors
    /// As [`Plan::of`].
    pub fn plan(&self, target: Target) -> Result<Plan<'_>> {
        usage(Plan::of(&self.config, &self.settings, &self.work, target))
    }
}
