//! `rlvr train`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use toml::{Table, Value};

use super::source::{self, ComputeArgs, DataArgs};
use super::usage;
use crate::checkpoint::{Model, ensure_free};
use crate::config;
use crate::data::{Library, example, tiny};
use crate::eval::{EvalSet, sets};
use crate::flow::{Problem, Prompt};
use crate::kernels::Kernels;
use crate::model::{Decoder, Weights, shapes};
use crate::optim::Schedule;
use crate::reward::label::{Relabelled, relabel};
use crate::reward::{self, Rewards};
use crate::text::{self, ChatSettings};
use crate::tiny::{embedded, ways};
use crate::train::algorithm;
use crate::train::history::BY_MEAN;
use crate::train::{Outcome, PromptSettings, Replay, Run, RunFolder, RunInputs, RunSettings};

#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Settings in TOML; what it leaves out keeps its default
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, over the file's: --set loss.entropy=0
    #[arg(long = "set", value_name = "A.B=C")]
    sets: Vec<String>,
    /// tiny (embedded), a folder in Hugging Face layout, or a hub name
    #[arg(long)]
    model: Option<String>,
    /// What to train on: pi1 (and any pi_k of the paper), pi1,pi13, pi1..pi16, dsr-sub (all 1,209), dsr-sub/124 (one row of it),
    /// tiny/addition/334+556, tiny/train/256, or a .jsonl, .json, .toml or .parquet file
    #[arg(long)]
    example: Option<String>,
    /// A problem of your own to train on, in place of --example; rewards without labels need no --answer
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["example", "replay"])]
    question: Option<String>,
    /// Its answer
    #[arg(long, value_name = "TEXT", requires = "question", allow_hyphen_values = true)]
    answer: Option<String>,
    /// Reward this answer instead of the example's own, right or wrong
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with_all = ["label_noise", "replay"])]
    label: Option<String>,
    /// Give this share of the examples a wrong label: the answer of another example
    #[arg(long, value_name = "SHARE", conflicts_with = "replay")]
    label_noise: Option<f64>,
    /// Seed of the choice of these examples and their labels
    #[arg(long, value_name = "N", conflicts_with = "replay")]
    label_seed: Option<u64>,
    /// The algorithm, a preset of settings: grpo, ppo, dr_grpo, rloo, reinforce++, dapo, gspo or cispo
    #[arg(long)]
    algo: Option<String>,
    /// Steps (rollout batches); with --resume, extends the run to so many
    #[arg(long)]
    steps: Option<u64>,
    /// Seed of every draw in training
    #[arg(long)]
    seed: Option<u64>,
    /// Train adapters of this rank beside all projections (LoRA) instead of all weights; they want a learning rate about ten times as high
    #[arg(long, value_name = "RANK")]
    lora: Option<usize>,
    /// The model that the KL term holds to (default: the policy as it starts)
    #[arg(long, value_name = "MODEL")]
    reference: Option<String>,
    /// Train on recorded rollouts instead of sampling: JSON lines as a run records them
    #[arg(long, value_name = "FILE", conflicts_with = "example")]
    replay: Option<String>,
    /// Write the gradient of the first update, unclipped, under Hugging Face's names
    #[arg(long, value_name = "FILE.safetensors")]
    dump_gradients: Option<PathBuf>,
    /// dtype of the exported weights: f32, bf16 or f16 (default: the one that the policy computes with)
    #[arg(long, value_name = "DTYPE")]
    export_dtype: Option<String>,
    /// The run's folder; must not exist (default: a new one under runs/)
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Continue the run in this folder from its last checkpoint
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "sets", "model", "reference", "example", "question", "replay", "algo", "seed", "lora", "export_dtype", "label", "label_noise", "label_seed"])]
    resume: Option<PathBuf>,
    /// Check everything that can be checked without weights, print the settings, and stop
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// A run that was checked as far as it can be without weights.
pub struct Prepared {
    pub settings: RunSettings,
    pub replay: Option<Replay>,
    pub resumed: Option<RunFolder>,
    pub problems: Vec<Problem>,
    pub labels: Vec<Relabelled>,
    pub sets: Vec<EvalSet>,
    pub chat: ChatSettings,
    pub root: PathBuf,
}

pub fn run(args: TrainArgs) -> Result<ExitCode> {
    let prepared = prepare(&args, Need::Everything)?;
    eprintln!("{}", plan(&prepared.settings, &prepared.problems, prepared.replay.as_ref(), &prepared.sets));
    eprintln!("{}", algorithm::by_name(&prepared.settings.algo)?.expansion(&prepared.settings)?);
    tell_labels(&prepared);
    let kernels = source::open(&prepared.settings.compute, &prepared.settings.model)?;
    let refusal = super::plan::check(&prepared, &*kernels)?;
    let Prepared { mut settings, replay, resumed, problems, labels, sets, chat, root } = prepared;
    if args.dry_run {
        // The settings are sound; another machine may have the room.
        refusal.iter().for_each(|refusal| eprintln!("here it would be refused: {refusal:#}"));
        say!("{}", toml::to_string(&settings)?.trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    refusal.map_or(Ok(()), |refusal| usage(Err(refusal)))?;

    let model = source::load_with(&settings.model, &chat, &kernels)?;
    if model.text.prints_date() {
        settings.prompt.date = chat.date.unwrap_or_default();
    }
    let prompts = prompts(&settings, &model, problems)?;
    if let Some(replay) = &replay {
        usage(replay.check(model.decoder.config.vocabulary, model.decoder.config.window))
            .with_context(|| settings.rollout.replay.clone())?;
    }
    let (max_new, window) = (settings.eval.max_new, model.decoder.config.window);
    usage(room_to_answer(max_new, window, &sets))?;
    let reference = usage(reference(&settings, &model, &kernels))?;
    let interrupt = signals()?;
    let revision = source::revision(&settings.model)?;
    let inputs =
        RunInputs { revision, model, reference, prompts, labels, replay, dump_gradients: args.dump_gradients, sets, interrupt: &interrupt };
    let run = match resumed {
        Some(folder) => Run::resume(settings, folder, inputs)?,
        None => Run::start(settings, &root, inputs)?,
    };
    match run.run()? {
        Outcome::Done => Ok(ExitCode::SUCCESS),
        Outcome::Interrupted { signal } => Ok(ExitCode::from(128 + signal as u8)),
    }
}

/// What is asked of the preparation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A run: all of it must be there.
    Everything,
    /// A plan: known shapes will do, and examples or sets that nobody named and that cannot be had are stood in for.
    Sizes,
}

/// Settings, examples and sets, and a folder that is free.
pub fn prepare(args: &TrainArgs, need: Need) -> Result<Prepared> {
    let library = usage(args.data.library())?;
    let (settings, replay, resumed) = match &args.resume {
        Some(root) => {
            let (folder, mut settings) = usage(RunFolder::open(root))?;
            let steps = args.steps.unwrap_or(settings.train.steps);
            if steps != settings.train.steps && settings.optim.schedule != Schedule::Constant {
                eprintln!("{steps} steps instead of {} move the end towards which the learning rate falls", settings.train.steps);
            }
            settings.train.steps = steps;
            usage(something_left(&folder, &settings))?;
            let replay = usage(recording(&settings.rollout.replay))?;
            (settings, replay, Some(folder))
        }
        None => {
            let (settings, replay) = usage(settings(args))?;
            (settings, replay, None)
        }
    };
    let mut settings = settings;
    settings.compute = args.compute.over(&settings.compute);
    usage(settings.validate())?;
    if need == Need::Everything {
        usage(reward::ensure_program(&settings.reward))?;
    }
    if need == Need::Everything || shapes::by_name(&settings.model).is_none() {
        usage(source::recognise(&settings.model))?;
    }
    let defaults = RunSettings::defaults_for(&settings.model);
    let mut problems = match examples(&settings, &library) {
        _ if replay.is_some() => Vec::new(),
        Err(error) if need == Need::Sizes && args.example.is_none() && settings.example == defaults.example => {
            eprintln!("{error:#}\nplanned with a question of 480 characters in its place");
            let id = settings.example.clone();
            vec![Problem { id, question: "?".repeat(480), answer: "?".into(), ..Problem::default() }]
        }
        examples => usage(examples)?,
    };
    let labels = if replay.is_some() { Vec::new() } else { usage(relabel(&settings.reward, &mut problems))? };
    let mut sets = match sets::by_name(&settings.eval.benchmarks, settings.eval.limit, &library, way) {
        Err(error) if need == Need::Sizes && settings.eval.benchmarks == defaults.eval.benchmarks => {
            eprintln!("{error:#}\nplanned without evaluation");
            Vec::new()
        }
        sets => usage(sets)?,
    };
    usage(sets::decode(&mut sets, &settings.eval.decoding))?;
    if let Some(expected) = unknown_pass(&settings.eval.best_by, &sets) {
        return usage(Err(anyhow!("eval.best_by is {}, which is not evaluated; {expected}", settings.eval.best_by)));
    }
    let chat = usage(chat(&settings.prompt, replay.is_none() || !sets.is_empty()))?;
    let root = args.resume.clone().or_else(|| args.out.clone()).unwrap_or_else(|| free_folder(&settings));
    if resumed.is_none() {
        usage(ensure_free(&root))?;
    }
    Ok(Prepared { settings, replay, resumed, problems, labels, sets, chat, root })
}

/// The defaults that fit the model (and the recording), then the file, `--set`, and the flags that have names of their own.
pub(super) fn settings(args: &TrainArgs) -> Result<(RunSettings, Option<Replay>)> {
    let mut layers = args.config.as_deref().map(config::read).transpose()?.into_iter().collect::<Vec<_>>();
    layers.extend(args.sets.iter().map(|set| config::assignment(set)).collect::<Result<Vec<_>>>()?);
    layers.extend(args.replay.as_ref().map(|path| table("rollout", [("replay", Value::String(path.clone()))])));
    let inline = args.question.as_deref().map(|question| example::inline(question, args.answer.as_deref()));
    let example = args.example.clone().or(inline);
    let texts = [("model", &args.model), ("reference", &args.reference), ("example", &example), ("algo", &args.algo)];
    let mut flags = Table::new();
    flags.extend(texts.into_iter().filter_map(|(key, value)| Some((key.to_owned(), Value::String(value.clone()?)))));
    flags.extend(args.seed.map(|seed| ("seed".to_owned(), Value::Integer(seed as i64))));
    layers.push(flags);
    let label = args.label.as_ref().map(|label| ("label", Value::String(label.clone())));
    let noise = args.label_noise.map(|share| ("label_noise", Value::Float(share)));
    let label_seed = args.label_seed.map(|seed| ("label_seed", Value::Integer(seed as i64)));
    layers.extend([label, noise, label_seed].into_iter().flatten().map(|label| table("reward", [label])));
    layers.extend(args.export_dtype.as_ref().map(|dtype| table("checkpoint", [("dtype", Value::String(dtype.clone()))])));
    layers.extend(args.lora.map(|rank| table("lora", [("rank", Value::Integer(rank as i64))])));
    layers.extend(args.steps.map(|steps| table("train", [("steps", Value::Integer(steps as i64))])));
    let chosen = |key: &str| layers.iter().rev().find_map(|layer| layer.get(key)?.as_str());
    let model = match (chosen("model"), chosen("example")) {
        (Some(model), _) => model.to_owned(),
        (None, Some(example)) if is_published(example) => RunSettings::published().model,
        _ => embedded::NAME.to_owned(),
    };
    let path = layers.iter().rev().find_map(|layer| layer.get("rollout")?.get("replay")?.as_str()).unwrap_or_default();
    let Some(replay) = recording(path)? else {
        return Ok((algorithm::resolve(&RunSettings::defaults_for(&model), &layers)?, None));
    };
    layers.splice(0..0, recorded(&replay));
    let settings = algorithm::resolve(&RunSettings::defaults_for(&model), &layers)?;
    let (groups, size) = (settings.rollout.groups, settings.rollout.group_size);
    ensure!(
        (groups, size) == (replay.groups, replay.group_size),
        "rollout.groups and rollout.group_size are {groups} and {size}; the recording has {} groups of {}: leave them out",
        replay.groups,
        replay.group_size
    );
    let (ours, theirs) = (settings.rollout.temperature, replay.temperature(1).unwrap_or(settings.rollout.temperature));
    ensure!(ours == theirs, "rollout.temperature is {ours}; the recorded log-probabilities are of {theirs}: set it to that");
    Ok((settings, Some(replay)))
}

fn recording(path: &str) -> Result<Option<Replay>> {
    (!path.is_empty()).then(|| Replay::read(Path::new(path))).transpose()
}

/// The defaults of a replay: as many steps and groups as were recorded, and no evaluation.
fn recorded(replay: &Replay) -> [Table; 4] {
    let count = |count: usize| Value::Integer(count as i64);
    [
        Table::from_iter([("example".to_owned(), Value::String("recorded".to_owned()))]),
        table("rollout", [("groups", count(replay.groups)), ("group_size", count(replay.group_size))]),
        table("train", [("steps", count(replay.len()))]),
        table("eval", [("benchmarks", Value::String(String::new()))]),
    ]
}

/// One group of settings as a layer.
fn table<const N: usize>(group: &str, values: [(&str, Value); N]) -> Table {
    let values = values.map(|(key, value)| (key.to_owned(), value));
    Table::from_iter([(group.to_owned(), Value::Table(Table::from_iter(values)))])
}

/// What the best checkpoint can be chosen by, where `chosen` is none of it.
pub(super) fn unknown_pass(chosen: &str, sets: &[EvalSet]) -> Option<String> {
    let passes = sets.iter().flat_map(|set| set.decodings.iter().map(|decoding| set.pass_name(*decoding)));
    let is_one_each = sets.len() > 1 && sets.iter().all(|set| set.decodings.len() == 1);
    let mean = is_one_each.then(|| BY_MEAN.to_owned());
    let known: Vec<String> = sets.iter().map(|set| set.name.clone()).chain(passes).chain(mean).collect();
    let is_known = chosen.is_empty() || known.iter().any(|name| name == chosen);
    (!is_known).then(|| if known.is_empty() { "eval.benchmarks is empty".to_owned() } else { format!("known are {}", known.join(", ")) })
}

/// An evaluation that leaves no room for its prompts would count every problem as wrong.
pub fn room_to_answer(max_new: usize, window: usize, sets: &[EvalSet]) -> Result<()> {
    ensure!(
        max_new < window || sets.is_empty(),
        "responses of up to {max_new} tokens leave no room for a prompt in the model's window of {window}: lower eval.max_new (--max-new of eval)"
    );
    Ok(())
}

/// The model that the KL term holds to, where it is not the policy itself.
fn reference(settings: &RunSettings, policy: &Model, kernels: &Arc<dyn Kernels>) -> Result<Option<Decoder>> {
    if settings.reference.is_empty() {
        return Ok(None);
    }
    if !settings.has_reference() {
        eprintln!("loss.kl and reward.kl are 0, so the reference {} is not used", settings.reference);
        return Ok(None);
    }
    let reference = source::load(&settings.reference, kernels)?.decoder;
    let (found, expected) = (reference.config.vocabulary, policy.decoder.config.vocabulary);
    ensure!(
        found == expected,
        "the reference {} has {found} rows of vocabulary, the policy {expected}: they do not compare",
        settings.reference
    );
    let (window, needed) = (reference.config.window, policy.decoder.config.window);
    ensure!(
        window >= needed,
        "the reference {} has a window of {window} tokens, the policy one of {needed}: it cannot score all",
        settings.reference
    );
    ensure!(
        !settings.reference_moves() || Weights::shapes(&reference.config)? == Weights::shapes(&policy.decoder.config)?,
        "the reference {} has another shape than the policy, so it cannot follow it: set train.reference_every and reference_decay to 0",
        settings.reference
    );
    Ok(Some(reference))
}

/// The day on which a run begins is its day, however often it is resumed. Recorded rollouts need no template, unless sets are evaluated.
pub(super) fn chat(prompt: &PromptSettings, renders: bool) -> Result<ChatSettings> {
    let template = Some(Path::new(&prompt.chat_template)).filter(|path| !path.as_os_str().is_empty());
    let date = if prompt.date.is_empty() { text::today() } else { prompt.date.clone() };
    source::chat_settings(template, Some(date), renders)
}

/// A run that has done all its steps is not silently done again.
fn something_left(folder: &RunFolder, settings: &RunSettings) -> Result<()> {
    let (done, steps) = (folder.resumable_steps()?.last().copied().unwrap_or(0), settings.train.steps);
    ensure!(done < steps, "{} has done {done} of {steps} steps; --steps extends it", folder.root().display());
    Ok(())
}

/// Whether a name is one of the paper's examples, which its model goes with.
fn is_published(example: &str) -> bool {
    let is_pi = |name: &str| name.strip_prefix("pi").is_some_and(|rank| rank.parse::<u32>().is_ok());
    example.split(',').all(|name| name == "dsr-sub" || name.starts_with("dsr-sub/") || name.split("..").all(is_pi))
}

/// The training examples; those of the embedded model by their ids, or so many of its training problems.
pub(super) fn examples(settings: &RunSettings, library: &Library) -> Result<Vec<Problem>> {
    let is_rewarded_by_label = Rewards::new(&settings.reward, settings.rollout.max_new)?.needs_label();
    let needs_label = is_rewarded_by_label && settings.reward.label.is_empty();
    let of_tiny = match settings.example.strip_prefix("tiny/train/") {
        Some(count) => {
            let count = count.parse().ok().filter(|count| *count > 0);
            let count = count.with_context(|| format!("{} names no number of problems; 256 are tiny/train/256", settings.example))?;
            Some(tiny::problems(tiny::Split::Train, count, settings.seed)?)
        }
        // Ids such as tiny/maximum/38,91,70 have commas of their own.
        None => settings.example.replace(",tiny/", "\ntiny/").lines().map(|id| Some(tiny::by_id(id)?.problem())).collect(),
    };
    let mut problems = match of_tiny {
        Some(problems) => problems,
        None if settings.example.starts_with("tiny/") => {
            let subjects = tiny::SUBJECTS.map(|subject| subject.name).join(", ");
            anyhow::bail!(
                "{} is no problem of the embedded model; one is tiny/addition/334+556, 256 are tiny/train/256; subjects are {subjects}",
                settings.example
            )
        }
        None if needs_label => example::resolve(&settings.example, library)?,
        None => example::resolve_questions(&settings.example, library)?,
    };
    let all = problems.len();
    // Without a policy loss there is nothing to be right about.
    if needs_label && settings.loss.policy != 0.0 {
        problems.retain(|problem| !problem.answer.trim().is_empty());
    }
    ensure!(!problems.is_empty(), "{} has no answer to learn from; give one with --label, or a reward that needs none", settings.example);
    if problems.len() < all {
        eprintln!("{} of {all} examples have no answer and are left out", all - problems.len());
    }
    Ok(problems)
}

fn prompts(settings: &RunSettings, model: &Model, problems: Vec<Problem>) -> Result<Vec<Prompt>> {
    let window = model.decoder.config.window;
    let prompt = |problem: Problem| {
        let prompt = model.text.prompt(Arc::new(problem), &settings.prompt.instruction)?;
        let (tokens, max_new) = (prompt.ids.len(), settings.rollout.max_new);
        ensure!(tokens > 0, "{} is an empty prompt", prompt.problem.id);
        ensure!(
            tokens + max_new <= window,
            "{} is a prompt of {tokens} tokens; with rollout.max_new = {max_new} it exceeds the model's window of {window}: set rollout.max_new to at most {}",
            prompt.problem.id,
            window.saturating_sub(tokens)
        );
        Ok(prompt)
    };
    problems.into_iter().map(prompt).collect()
}

/// What is about to happen, in words and in every unit that people count in.
pub fn plan(settings: &RunSettings, problems: &[Problem], replay: Option<&Replay>, sets: &[EvalSet]) -> String {
    let (rows, size) = (settings.rollout.groups, settings.rollout.group_size);
    let rollouts = format!(" = {} rollouts a step, {rows} groups of {size}", rows * size);
    let examples = match (problems, replay) {
        (_, Some(replay)) => {
            format!("{} of {} on {rows} rows x {size}{rollouts}", counted(replay.len(), "recorded step"), settings.rollout.replay)
        }
        ([problem], _) => {
            let text = format!("{}: \"{}\", {}", problem.id, shortened(&problem.question), answer(settings, problem));
            format!("1 example x {rows} rows x {size}{rollouts} ({text})")
        }
        (several, _) if rows % several.len() == 0 => {
            let count = several.len();
            format!("{count} examples x {} x {size}{rollouts}", counted(rows / count, "row"))
        }
        (several, _) => format!("{} examples in turns on {rows} rows x {size}{rollouts}", several.len()),
    };
    let evaluated: Vec<String> = sets.iter().map(|set| format!("{} ({} problems)", set.name, set.problems.len())).collect();
    let evaluation = match (evaluated.is_empty(), settings.eval.every) {
        (true, _) => "no evaluation".to_owned(),
        (false, 0) => format!("evaluation of {} before and after", evaluated.join(", ")),
        (false, every) => format!("evaluation of {} before and every {every} steps", evaluated.join(", ")),
    };
    let lora = &settings.lora;
    let adapters = if lora.is_on() { format!(" and LoRA (rank {}, alpha {})", lora.rank, lora.effective_alpha()) } else { String::new() };
    format!(
        "{} with {}{adapters}: {examples}; {}, {} each; {evaluation}",
        settings.algo,
        settings.model,
        counted(settings.train.steps as usize, "step"),
        counted(settings.train.updates_per_rollout, "update"),
    )
}

/// What the example's answer is taken to be.
fn answer(settings: &RunSettings, problem: &Problem) -> String {
    match problem.answer.as_str() {
        "" => "no label".to_owned(),
        label if settings.reward.label.is_empty() => label.to_owned(),
        label => format!("label {label}"),
    }
}

/// The labels that are not the examples' own, the first of them by name.
fn tell_labels(prepared: &Prepared) {
    let (reward, labels) = (&prepared.settings.reward, &prepared.labels);
    if labels.is_empty() {
        return;
    }
    let first: Vec<String> = labels.iter().take(5).map(|one| format!("{} {} instead of {}", one.example, one.label, one.answer)).collect();
    let more = if labels.len() > first.len() { ", ..." } else { "" };
    let noise = format!("reward.label_noise {}, reward.label_seed {}", reward.label_noise, reward.label_seed);
    eprintln!(
        "{} of {} changed ({}): {}{more}; all are in {}",
        labels.len(),
        counted(prepared.problems.len(), "label"),
        if reward.label.is_empty() { noise.as_str() } else { "reward.label" },
        first.join(", "),
        prepared.root.join("labels.jsonl").display()
    );
}

/// The beginning of a text, in one line.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= 60 { line } else { line.chars().take(57).chain("...".chars()).collect() }
}

/// `1 step`, `2 steps`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// `runs/MODEL-EXAMPLE`, numbered where that is taken.
fn free_folder(settings: &RunSettings) -> PathBuf {
    let model = Path::new(&settings.model).file_name().map_or_else(|| settings.model.clone(), |name| name.to_string_lossy().into_owned());
    let example = example::title(&settings.example);
    let example = Path::new(&example).file_stem().map_or_else(|| example.clone(), |name| name.to_string_lossy().into_owned());
    let name: String =
        format!("{model}-{example}").chars().map(|c| if c.is_ascii_alphanumeric() || "+-._".contains(c) { c } else { '-' }).collect();
    let numbered = (2..).map(|n| Path::new("runs").join(format!("{name}-{n}")));
    std::iter::once(Path::new("runs").join(&name)).chain(numbered).find(|path| !path.exists()).unwrap_or_default()
}

/// The first signal asks for an orderly stop; a second one of the same kind ends the program at once.
pub(super) fn signals() -> Result<Arc<AtomicUsize>> {
    let interrupt = Arc::new(AtomicUsize::new(0));
    for signal in [SIGINT, SIGTERM] {
        let again = Arc::new(std::sync::atomic::AtomicBool::new(false));
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, again.clone()).context("cannot listen to signals")?;
        signal_hook::flag::register(signal, again)?;
        signal_hook::flag::register_usize(signal, interrupt.clone(), signal as usize)?;
    }
    Ok(interrupt)
}

pub fn way(response: &str) -> &'static str {
    ways::classify(response).name()
}
