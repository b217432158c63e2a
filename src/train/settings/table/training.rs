//! The rows of `critic.*`, `lora.*`, `train.*`, `eval.*`, `checkpoint.*` and `tracking.*`.

use super::{COUNT, GRADER, MAX_COUNT, MAX_RESPONSES, MAX_TOKENS, SEED};
use crate::config::range::{Range, Row, above, at_least, from_below, row, whole};
use crate::data::benchmark::Decoding;
use crate::metrics::tracking::check_address;

const COUNT_FROM_1: Range = whole(1, MAX_COUNT);
const DECAY: Range = from_below(0.0, 1.0);
const DECODING: Range = Range::Parsed {
    syntax: "`published`, `greedy`, `t0.6x8` (8 samples at temperature 0.6), `t0.6p0.95x8` (top-p 0.95)",
    parse: |text| if text == crate::eval::settings::PUBLISHED { Ok(()) } else { text.parse::<Decoding>().map(drop) },
};

const MLFLOW: Range = Range::Parsed {
    syntax: "an address such as `http://127.0.0.1:5000`, `off`, or empty",
    parse: |text| check_address(text).map_err(|error| format!("{error:#}")),
};

#[rustfmt::skip] // a row is two lines
pub(super) const ROWS: &[Row] = &[
    row("critic.lr", at_least(0.0), "Learning rate of the critic, constant; 0 without a critic.")
        .because("There is no critic by default. `ppo` sets 1e-5, the default of the published code."),
    row("critic.weight_decay", at_least(0.0), "Decoupled weight decay of the critic.")
        .because("Default of the published code for PPO."),
    row("critic.clip", at_least(0.0), "Clip range of the value loss: how far a value may move from its old one; 0 turns clipping off.")
        .because("Default of the published code for PPO."),
    row("critic.warmup_steps", COUNT, "Initial steps that train only the critic, not the policy.").in_unit("steps")
        .because("Default of the published code for PPO: none."),
    row("critic.head_init", at_least(0.0), "Standard deviation of the value head's initial weights.")
        .because("As transformers initializes a classification head."),
    row("critic.beta1", DECAY, "Decay rate of the first moment.")
        .because("As for the policy."),
    row("critic.beta2", DECAY, "Decay rate of the second moment.")
        .because("As for the policy."),
    row("critic.eps", above(0.0), "Added to the square root of the second moment.")
        .because("As for the policy."),
    row("critic.clip_norm", at_least(0.0), "Maximum global gradient norm of the critic; 0 turns clipping off.")
        .because("As for the policy."),
    row("lora.rank", whole(0, 65_536), "Rank of the LoRA adapters on all projections, at most the model's width; 0 trains all weights.")
        .because("As published: all weights are trained."),
    row("lora.alpha", at_least(0.0), "Adapters are scaled by alpha / rank; 0 means twice the rank.")
        .because("Common practice; the scale then does not depend on the rank."),
    row("train.steps", COUNT_FROM_1, "Training steps. Each samples one batch of rollouts.").in_unit("steps")
        .because("As published for the 1.5B model. 300 steps show the embedded model's saturation and its gain afterwards."),
    row("train.updates_per_rollout", whole(1, MAX_RESPONSES), "Optimizer updates per rollout batch, over all epochs. With 1, every ratio is 1.").in_unit("updates")
        .because("As the published code runs (the paper's text says eight): every ratio is 1, and clipping never acts."),
    row("train.epochs", whole(1, MAX_RESPONSES), "Passes over each rollout batch. Each pass splits the groups evenly among its updates.").in_unit("passes")
        .because("As published."),
    row("train.reference_every", COUNT, "Steps between resets of the reference model to the policy; 0 never resets it.").in_unit("steps")
        .because("As published: the reference stays the initial policy."),
    row("train.reference_decay", DECAY, "After each step the reference becomes `decay * reference + (1 - decay) * policy`; 0 keeps it fixed.")
        .because("As published: the reference stays the initial policy."),
    row("train.micro_batch_tokens", COUNT_FROM_1, "Maximum number of tokens in a packed micro-batch. Does not change the gradient. Automatic activation checkpointing may use fewer on a GPU.").in_unit("tokens")
        .because("Large enough to keep a GPU's products busy; less needs less memory. Not tuned."),
    row("train.activation_checkpointing", Range::OneOf(&["auto", "full", "selective", "none"]), "Activation checkpointing: the backward pass recomputes whole blocks (`full`), only norms and SwiGLU (`selective`), or nothing (`none`). `auto` decides by the size of the activations and, on a GPU, by its total memory.")
        .because("Recomputation costs a forward pass, so it is used only where memory requires it. The embedded model's activations always fit."),
    row("train.stream_reference", Range::Boolean, "Keep the reference model in host memory and stream it through the GPU block by block.")
        .because("Copying the weights at each step takes time; it pays only if the reference does not fit."),
    row("train.workers", whole(0, 1024), "Worker threads, each with its own micro-batch or sequences; 0 chooses by the model's size. The number fixes the order of sums.").in_unit("threads")
        .because("Measured: products of small models are slower with two threads, so these use several workers, and large models one."),
    row("train.shards", whole(0, 1024), "Shards whose gradients are summed by a binary tree, a power of two; the number of processes must divide it. 0 sums over workers, in one process.").in_unit("shards")
        .because("One process needs no shards, and each doubling of the shards per process needs another set of gradients. For several processes, set it to the largest number of processes that the run may ever have."),
    row("eval.every", COUNT, "Steps between evaluations; 0 evaluates only before the first step and after the last.").in_unit("steps")
        .because("As published. The demonstration's 15 gives 20 evaluations in 300 steps."),
    row("eval.benchmarks", Range::Text, "Comma-separated benchmarks to evaluate; empty evaluates none.")
        .because("As published during training; `paper` adds the other five. The embedded model has its own benchmark."),
    row("eval.limit", COUNT, "Maximum number of problems per benchmark; 0 evaluates all.").in_unit("problems")
        .because("All problems: fewer widen the confidence interval."),
    row("eval.max_new_tokens", whole(1, MAX_TOKENS), "Maximum number of tokens in a response.").in_unit("tokens")
        .because("As published, and as in training."),
    row("eval.decoding", DECODING, "`published` decodes each benchmark as in its published evaluation; the others apply to all benchmarks.")
        .because("Scores are comparable with the paper's only with its decoding."),
    row("eval.seed", SEED, "The seed of sampled responses, the same at every evaluation.")
        .because("With the same random numbers, two evaluations differ only in the weights."),
    row("eval.grader", GRADER, "The grader that decides whether an answer equals the gold answer. See [graders.md](graders.md).")
        .because("Runs on the paper's examples use its grader, so that scores are comparable; all others use ours."),
    row("eval.reflection_words", Range::Text, "Comma-separated words that count as self-reflection, regardless of case.")
        .because("The words that the paper counts."),
    row("eval.best_by", Range::Text, "The benchmark or pass whose accuracy selects the best checkpoint. Empty uses the mean of all greedy passes; `mean` uses the unweighted mean over benchmarks.")
        .because("Greedy accuracy has no sampling noise. Most of the paper's tables use `mean`."),
    row("eval.saturation_window", whole(1, 1_000_000), "Saturation is detected on the training accuracy averaged over this many steps.").in_unit("steps")
        .because("A trade-off: averages over the noise of single steps, and reports saturation only a few steps late. Not tuned."),
    row("checkpoint.every", COUNT, "Steps between checkpoints; 0 writes only the last one.").in_unit("steps")
        .because("As published. The demonstration loses at most a few minutes of work with 100."),
    row("checkpoint.keep_last", COUNT_FROM_1, "Number of resumable checkpoints to keep, in addition to the last good one (see [runs.md](runs.md)). Older ones keep only their weights.").in_unit("checkpoints")
        .because("If the newest checkpoint is damaged, the one before it still resumes. A state takes at least 8 bytes per parameter in f32."),
    row("checkpoint.keep_spaced", COUNT, "Maximum number of older checkpoints to keep, evenly spaced over the run so far and without states; 0 keeps all. Checkpoints of the steps that `summary.json` names are kept as well (see [runs.md](runs.md)).").in_unit("checkpoints")
        .because("Enough to study the course of a run; all 100 of a published run would take 309 GB at 1.5B in bf16."),
    row("checkpoint.dtype", Range::OneOf(&["auto", "f32", "bf16", "f16"]), "The dtype of exported weights; `auto` uses the dtype that the policy computes with.")
        .because("Exports exactly what the policy computes with."),
    row("checkpoint.max_shard_bytes", whole(1, i64::MAX), "Maximum size of a weight file in bytes; larger models are split into shards.").in_unit("bytes")
        .because("A common size of shards on the hub."),
    row("tracking.tensorboard", Range::Boolean, "Write TensorBoard event files to the run's folder.")
        .because("They cost little: another thread writes them."),
    row("tracking.mlflow", MLFLOW, "The MLflow server to record the run in; empty uses the address in `MLFLOW_TRACKING_URI`, if any. Credentials come only from the environment: `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`, or `MLFLOW_TRACKING_TOKEN`.")
        .because("Where MLflow is set up, its variable is set too."),
    row("tracking.experiment", Range::Text, "The name of the MLflow experiment, which is created if there is none.")
        .because("Keeps these runs apart from those of other programs."),
    row("tracking.run_name", Range::Text, "The name of the MLflow run; empty uses the name of the run's folder.")
        .because("The folder's name leads back to the run."),
];
