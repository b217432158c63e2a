//! Formats a plan as text.

use std::fmt::Write;

use super::cards::Card;
use super::memory::rollout_load;
use super::{Plan, Rates, Times, survey};
use crate::checkpoint::disk::format_bytes;
use crate::model::decoder::ActivationCheckpointing;

impl Plan<'_> {
    /// Summarizes the plan in one line, which `rlvr train` prints before it starts.
    pub fn summary(&self, free_memory: Option<u64>, free_disk: Option<u64>) -> String {
        let of = |free: Option<u64>| free.map_or_else(|| "unknown".to_owned(), format_bytes);
        format!(
            "{} parameters: up to {} of memory{} ({} available) in {}, {} on disk ({} free); rlvr plan shows details",
            grouped(self.config.parameter_count() as u64),
            format_bytes(self.memory.peak()),
            if self.work.ranks.are_several() { " for each process" } else { "" },
            of(free_memory),
            self.memory.largest_phase().name,
            format_bytes(self.disk.needed()),
            of(free_disk),
        )
    }

    /// Describes the complete plan on several lines, with estimated times if `rates` were measured.
    pub fn details(&self, free_memory: Option<u64>, free_disk: Option<u64>, rates: Option<Rates>) -> String {
        let mut text = String::new();
        self.write(&mut text, free_memory, free_disk, rates).map_or_else(|error| error.to_string(), |()| text)
    }

    /// Describes the complete plan for a card that is not here, with times by the card's model.
    pub fn details_on(&self, card: &Card) -> String {
        let times: Vec<Times> = self.means().into_iter().filter_map(|mean| self.times_on(card, mean)).collect();
        let times = if times.is_empty() {
            "  unknown: the model describes only the fused kernels in bf16\n".to_owned()
        } else {
            self.time_lines(&times)
        };
        format!(
            "{}\ntime on {} ({} GiB, {} GB/s, {} TFLOP/s in bf16: {})\n{times}{}",
            self.details(Some(card.usable_bytes()), None, None),
            card.title,
            card.memory_gib,
            card.bandwidth,
            card.tflops,
            card.source,
            survey::CAVEAT
        )
    }

    fn write(&self, out: &mut String, free_memory: Option<u64>, free_disk: Option<u64>, rates: Option<Rates>) -> std::fmt::Result {
        let (settings, workers) = (self.settings, self.workers);
        let plural = if workers == 1 { "" } else { "s" };
        let device = if self.target.is_gpu { "a GPU" } else { "the CPU" };
        let dtype = if self.target.element_bytes == size_of::<f32>() { "f32" } else { "bf16" };
        let parameters = grouped(self.config.parameter_count() as u64);
        writeln!(out, "{}: {parameters} parameters, {dtype} on {device}, {workers} worker{plural}", settings.model)?;
        let ranks = self.work.ranks;
        if ranks.are_several() {
            let (count, on_host, shards) = (ranks.count, ranks.on_host, settings.train.shards);
            writeln!(out, "{count} processes with train.shards={shards}, at most {on_host} on a host")?;
        }
        let of = if ranks.are_several() { " of the fullest process" } else { "" };
        writeln!(out, "\nmemory{of}, if every response has the maximum length")?;
        let mut row = |name: &str, bytes: u64, note: &str| writeln!(out, "  {name:<52} {:>9}{note}", format_bytes(bytes));
        for (name, bytes) in &self.memory.model_states {
            row(name, *bytes, "")?;
        }
        for phase in &self.memory.phases {
            let parts = phase.parts.iter().filter(|(_, bytes)| *bytes > 0);
            let parts: Vec<String> = parts.map(|(name, bytes)| format!("{name} {}", format_bytes(*bytes))).collect();
            row(&format!("+ {}", phase.name), phase.bytes(), &format!("  {}", parts.join(", ")))?;
        }
        row("+ retained by the allocator, about", self.memory.allocator_overhead(), "")?;
        let to_each = if ranks.are_several() { " to each process" } else { "" };
        let available = free_memory
            .map_or_else(|| "available memory is unknown here".to_owned(), |free| format!("{} available{to_each}", format_bytes(free)));
        row(&format!("= at most, in {}", self.memory.largest_phase().name), self.memory.peak(), &format!("  {available}"))?;
        if self.least_peak < self.memory.peak() {
            row("at most, in the emptiest process", self.least_peak, "")?;
        }
        let activations = match self.memory.activations.checkpointing {
            ActivationCheckpointing::Full => "the backward pass recomputes each block",
            ActivationCheckpointing::Selective => "activations are saved, and the backward pass recomputes norms and SwiGLU",
            ActivationCheckpointing::Auto | ActivationCheckpointing::None => "activations are saved",
        };
        writeln!(out, "  micro-batches of up to {} tokens; {activations}", grouped(self.memory.micro_batch_rows as u64))?;
        let (chosen, most) = (self.memory.activations.micro_batch_tokens, settings.train.micro_batch_tokens);
        if chosen < most {
            let (chosen, most) = (grouped(chosen as u64), grouped(most as u64));
            writeln!(
                out,
                "  micro-batches have {chosen} tokens instead of {most}, so that activations can be saved: products are just as fast, and no\n  \
                 block is recomputed"
            )?;
        }

        writeln!(out, "\ndisk")?;
        let disk = &self.disk;
        let mut row = |name: &str, bytes: u64, note: &str| writeln!(out, "  {name:<52} {:>9}{note}", format_bytes(bytes));
        let each = |what: &str, count: u64, bytes: u64| format!("{what}: {count}, {} each", format_bytes(bytes));
        let of_all = if disk.checkpoints < disk.written { format!("  of {} that the run writes", disk.written) } else { String::new() };
        row(&each("weights of checkpoints", disk.checkpoints, disk.weights), disk.checkpoints * disk.weights, &of_all)?;
        row(&each("states to resume from", disk.states, disk.state), disk.states * disk.state, "")?;
        if disk.best > 0 {
            row("best checkpoint, and its successor", disk.best, "")?;
        }
        row("recorded responses, about", disk.rollouts, "")?;
        let free = free_disk.map_or_else(|| "free space is unknown here".to_owned(), |free| format!("{} free", format_bytes(free)));
        if disk.present > 0 {
            row("- checkpoints that the run already has", disk.present, "")?;
        }
        row("= at most", disk.needed(), &format!("  {free}"))?;

        let load = rollout_load(settings, self.work);
        let about = if self.work.exact { "" } else { "about " };
        writeln!(out, "\ntokens per step")?;
        writeln!(
            out,
            "  prompts: {about}{} in {} distinct, each computed once per worker",
            load.prompts.iter().sum::<usize>(),
            load.prompts.len()
        )?;
        let most = (load.requests * load.max_new_tokens) as u64;
        writeln!(out, "  responses: at most {} x {} = {}", load.requests, load.max_new_tokens, grouped(most))?;
        for mean in self.shorter_means() {
            writeln!(out, "  at a mean of {mean} tokens: {}", grouped((load.requests * mean) as u64))?;
        }
        let Some(rates) = rates else { return Ok(()) };
        writeln!(out, "\ntime, estimated")?;
        let update_operations = 2.0 * self.passes();
        let times: Vec<Times> = self.means().into_iter().map(|mean| self.times(rates, mean)).collect();
        write!(out, "{}", self.time_lines(&times))?;
        writeln!(
            out,
            "  assumes 2 operations per token for each of {} computed parameters in\n  \
             rollouts and {update_operations:.0} in the update, at the {:.0} and {:.0} GFLOP/s just measured here for\n  \
             products of this model's width. Attention, sampling and the optimizer's\n  \
             pass are not included; {} steps and {} evaluations",
            grouped(self.config.matmul_parameters() as u64),
            rates.decoding_flops / 1e9,
            rates.training_flops / 1e9,
            settings.train.steps.saturating_sub(self.work.done),
            self.evaluations(),
        )
    }

    /// Describes estimated times, and with several ranks what they assume.
    fn time_lines(&self, times: &[Times]) -> String {
        let lines = survey::time_lines(times, self.evaluations() > 0, self.work.ranks);
        lines + &self.exchange_lines(times.iter().filter_map(|times| times.efficiency))
    }

    /// Returns the mean response lengths to estimate times for: the maximum, and a half and a quarter of it.
    pub fn means(&self) -> Vec<usize> {
        std::iter::once(self.settings.rollout.max_new_tokens).chain(self.shorter_means()).collect()
    }

    fn shorter_means(&self) -> Vec<usize> {
        [2, 4].map(|part| self.settings.rollout.max_new_tokens / part).into_iter().filter(|mean| *mean > 0).collect()
    }
}

/// Formats 1234567 as 1,234,567.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
