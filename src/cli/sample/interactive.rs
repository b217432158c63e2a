//! `rlvr sample --interactive`: answers questions as they are typed. Without a terminal, each line of stdin is a question or a command.

mod command;

use std::io::{BufRead, IsTerminal};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::output::Output;
use super::prompt::PromptInput;
use super::{SampleArgs, requests};
use crate::checkpoint::Model;
use crate::cli::signals;
use crate::flow::Completion;
use crate::input::Lines;
use crate::interrupt::{Interrupt, Interrupted};
use crate::rollout::limits::EngineSettings;
use crate::rollout::{Engine, SamplingSettings};
use crate::verify::{Settings, Verifier};
use crate::workers::Workers;
use command::{Command, HELP};

/// Talks until the input ends or the person leaves.
///
/// # Errors
/// If the input cannot be read, or the model fails.
pub fn run(args: &SampleArgs, model: &Model, sampling: SamplingSettings) -> Result<()> {
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let mut input = Input::open(is_terminal)?;
    let interrupt = Arc::new(Interrupt::default());
    if is_terminal {
        message!("{} is ready: type a question, or /help", args.model);
        signals::listen_for_ctrl_c(&interrupt)?;
    }
    let mut talk =
        Talk { args, model, count: args.n, base_seed: sampling.seed, sampling, gold: None, last: None, interrupt: &interrupt, is_terminal };
    while let Some(line) = input.next_line()? {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        match Command::parse(line) {
            Ok(Command::Exit) => break,
            Ok(command) => talk.obey(command)?,
            Err(error) => message!("{error}"),
        }
    }
    Ok(())
}

/// The state of a conversation.
struct Talk<'a> {
    args: &'a SampleArgs,
    model: &'a Model,
    /// Number of answers to each question.
    count: usize,
    sampling: SamplingSettings,
    /// The seed of the first answer to each question.
    base_seed: u64,
    /// Grades the answers.
    gold: Option<String>,
    /// The last question.
    last: Option<String>,
    interrupt: &'a Interrupt,
    is_terminal: bool,
}

impl Talk<'_> {
    fn obey(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Question(question) => {
                self.sampling.seed = self.base_seed;
                self.last = Some(question);
                return self.answer();
            }
            Command::Again if self.last.is_none() => message!("there is no question to answer again: type one"),
            Command::Again => {
                self.sampling.seed = self.sampling.seed.wrapping_add(1);
                return self.answer();
            }
            Command::Help => message!("{HELP}"),
            Command::Temperature(temperature) => self.sampling.temperature = temperature,
            Command::Count(count) => self.count = count,
            Command::Gold(gold) => self.gold = gold,
            Command::Exit => {}
        }
        Ok(())
    }

    /// Answers the last question. A question that does not fit the model, or an answer that is canceled, is not an error.
    fn answer(&self) -> Result<()> {
        let question = self.last.as_deref().unwrap_or_default();
        let prompt = match PromptInput::text(question).encode(self.model, self.args.raw, self.args.max_new_tokens) {
            Ok(prompt) => prompt,
            Err(error) => {
                message!("{error:#}");
                return Ok(());
            }
        };
        let requests = requests(std::slice::from_ref(&prompt), self.count);
        let workers = Workers::new(self.model.decoder.default_workers().min(requests.len()))?;
        let engine = Engine {
            decoder: &self.model.decoder,
            workers: &workers,
            settings: &EngineSettings::default(),
            end_tokens: &self.model.end_tokens,
            vocabulary: self.model.text.vocabulary(),
            interrupt: self.interrupt,
        };
        let output = if self.count == 1 { Output::stream(&self.model.text) } else { Output::text(&self.model.text) };
        self.interrupt.reset();
        let started = Instant::now();
        match engine.generate(&requests, &self.sampling, &|event| output.on_event(event)) {
            Ok(completions) => {
                output.finish()?;
                self.comment(&completions, started)
            }
            Err(error) if error.is::<Interrupted>() => {
                message!("\ncanceled");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Prints the verdicts, and on a terminal the speed.
    fn comment(&self, completions: &[Completion], started: Instant) -> Result<()> {
        let elapsed_s = started.elapsed().as_secs_f64();
        if let Some(gold) = &self.gold {
            for (number, completion) in completions.iter().enumerate() {
                let (verdict, trace) = Verifier::new(Settings::default()).explain(gold, &self.model.text.decode(&completion.ids)?);
                let number = if completions.len() > 1 { format!("{number}: ") } else { String::new() };
                let word = if verdict.correct { "right" } else { "wrong" };
                print_result!("{number}{word} (gold {gold}): {}", trace.reason(verdict.method));
            }
        }
        if self.is_terminal {
            let tokens: usize = completions.iter().map(|completion| completion.ids.len()).sum();
            message!("{tokens} tokens, {:.0} tokens/s, seed {}", tokens as f64 / elapsed_s.max(1e-9), self.sampling.seed);
        }
        Ok(())
    }
}

/// Where lines come from.
enum Input {
    /// A terminal, with a prompt and the history of the session.
    Terminal(Box<DefaultEditor>),
    /// Stdin, line by line.
    Piped(Lines<Box<dyn BufRead>>),
}

impl Input {
    fn open(is_terminal: bool) -> Result<Self> {
        Ok(match is_terminal {
            true => Self::Terminal(Box::new(DefaultEditor::new()?)),
            false => Self::Piped(Lines::over(Box::new(std::io::stdin().lock()), "stdin".to_owned())),
        })
    }

    /// Returns the next line; `None` at the end.
    fn next_line(&mut self) -> Result<Option<String>> {
        match self {
            Self::Piped(lines) => Ok(lines.next().transpose()?.map(|line| line.text)),
            Self::Terminal(editor) => match editor.readline("> ") {
                Ok(line) => {
                    editor.add_history_entry(&line)?;
                    Ok(Some(line))
                }
                // Clears the line, as in a shell.
                Err(ReadlineError::Interrupted) => Ok(Some(String::new())),
                Err(ReadlineError::Eof) => Ok(None),
                Err(error) => Err(error.into()),
            },
        }
    }
}
