//! Times of a run by phase, in seconds, measured at the transitions between phases of the training loop. Owns the phases and their names in
//! records and tables. Independent of what happens in a phase.

use std::time::Instant;

use serde_json::{Map, Value, json};

use super::table::table;

/// A phase of the training loop. Every moment of the loop belongs to one phase.
///
/// On a GPU, work is queued, and a phase ends when the host has read its results; the measurement adds no synchronization. The backward
/// pass of a step's last micro-batch therefore counts as `Optimizer`, which reads the gradient norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Sampling responses.
    Sample,
    /// Grading responses and computing rewards.
    Reward,
    /// Scoring responses with the reference model, and updating it.
    Reference,
    /// The critic's values and its updates, including its optimizer.
    Critic,
    /// The policy's passes: old log-probabilities, loss and gradients.
    Update,
    /// Gradient clipping, AdamW, merging adapters, and checking the new weights.
    Optimizer,
    /// Answering and grading held-out problems.
    Evaluate,
    /// Writing records, checkpoints and the best model.
    Save,
}

/// Each phase with its name in tables and its key in `metrics.jsonl`, in the order of [`Phase`].
const PHASES: [(Phase, &str, &str); 8] = [
    (Phase::Sample, "sample", "perf/phase/sample_s"),
    (Phase::Reward, "reward", "perf/phase/reward_s"),
    (Phase::Reference, "reference", "perf/phase/reference_s"),
    (Phase::Critic, "critic", "perf/phase/critic_s"),
    (Phase::Update, "update", "perf/phase/update_s"),
    (Phase::Optimizer, "optimizer", "perf/phase/optimizer_s"),
    (Phase::Evaluate, "evaluate", "perf/phase/evaluate_s"),
    (Phase::Save, "save", "perf/phase/save_s"),
];

/// Tables and lines omit phases with less than this share of the time.
const MIN_SHARE: f64 = 0.001;

/// Seconds by phase.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PhaseTimes {
    seconds: [f64; PHASES.len()],
}

impl PhaseTimes {
    /// Reads the times in a line of metrics; 0 for missing ones, as in lines of older versions.
    pub fn from_record(line: &Map<String, Value>) -> Self {
        Self { seconds: PHASES.map(|(_, _, key)| line.get(key).and_then(Value::as_f64).unwrap_or(0.0)) }
    }

    /// Returns the seconds of one phase.
    pub fn of(&self, phase: Phase) -> f64 {
        self.seconds[phase as usize]
    }

    /// Returns the total seconds of some phases.
    pub fn of_all(&self, phases: &[Phase]) -> f64 {
        phases.iter().map(|phase| self.of(*phase)).sum()
    }

    /// Returns the total seconds of all phases.
    pub fn sum(&self) -> f64 {
        self.seconds.iter().sum()
    }

    /// Adds two times phase by phase.
    pub fn plus(&self, other: &Self) -> Self {
        Self { seconds: std::array::from_fn(|phase| self.seconds[phase] + other.seconds[phase]) }
    }

    /// Subtracts `earlier` phase by phase.
    pub fn since(&self, earlier: &Self) -> Self {
        Self { seconds: std::array::from_fn(|phase| self.seconds[phase] - earlier.seconds[phase]) }
    }

    /// Returns the times as metrics `(perf/phase/NAME_s, seconds)`.
    pub fn metrics(&self) -> [(&'static str, f64); PHASES.len()] {
        PHASES.map(|(phase, _, key)| (key, self.of(phase)))
    }

    /// Formats the times in one line: `0.8 s: sample 0.61, update 0.15, ...`. Omits phases with an insignificant share.
    pub fn summary(&self) -> String {
        let phases: Vec<String> = self.significant(self.sum()).map(|(name, seconds)| format!("{name} {seconds:.2}")).collect();
        format!("{:.2} s: {}", self.sum(), phases.join(", "))
    }

    /// Formats the times as a table, with their shares of `elapsed_s` seconds. The row `other` is the time outside all phases: loading a
    /// checkpoint, and steps recorded by older versions.
    pub fn table(&self, elapsed_s: f64) -> String {
        let other = Some(("other", elapsed_s - self.sum())).filter(|(_, seconds)| *seconds >= MIN_SHARE * elapsed_s);
        let row =
            |(name, seconds): (&str, f64)| vec![name.to_owned(), format!("{seconds:.1}"), format!("{:.1}%", 100.0 * seconds / elapsed_s)];
        let rows: Vec<Vec<String>> = self.significant(elapsed_s).chain(other).chain([("all", elapsed_s)]).map(row).collect();
        table(&["where the time went", "seconds", "share"], &rows)
    }

    /// Returns `(name, seconds)` of each phase with a significant share of `all_s` seconds.
    fn significant(&self, all_s: f64) -> impl Iterator<Item = (&'static str, f64)> {
        PHASES.iter().map(|(phase, name, _)| (*name, self.of(*phase))).filter(move |(_, seconds)| *seconds >= MIN_SHARE * all_s)
    }
}

/// Accumulates the times of a run by phase within this process.
#[derive(Debug)]
pub struct Stopwatch {
    last: Instant,
    total: PhaseTimes,
    /// The total at the last call of [`Stopwatch::record`].
    recorded: PhaseTimes,
}

impl Stopwatch {
    /// Starts the stopwatch.
    pub fn start() -> Self {
        Self { last: Instant::now(), total: PhaseTimes::default(), recorded: PhaseTimes::default() }
    }

    /// Assigns the time since the last `lap` or `skip` to a phase.
    pub fn lap(&mut self, phase: Phase) {
        let now = Instant::now();
        self.total.seconds[phase as usize] += now.duration_since(self.last).as_secs_f64();
        self.last = now;
    }

    /// Assigns the time since the last `lap` or `skip` to no phase.
    pub fn skip(&mut self) {
        self.last = Instant::now();
    }

    /// Returns the accumulated times.
    pub fn total(&self) -> PhaseTimes {
        self.total
    }

    /// Adds the times since the last call to the times in a line of metrics.
    pub fn record(&mut self, line: &mut Map<String, Value>) {
        let times = PhaseTimes::from_record(line).plus(&self.total.since(&self.recorded));
        self.recorded = self.total;
        line.extend(times.metrics().map(|(key, seconds)| (key.to_owned(), json!(seconds))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(seconds: &[(Phase, f64)]) -> PhaseTimes {
        let mut times = PhaseTimes::default();
        seconds.iter().for_each(|(phase, seconds)| times.seconds[*phase as usize] = *seconds);
        times
    }

    #[test]
    fn phases_are_in_order() {
        assert!(
            PHASES.iter().enumerate().all(|(index, (phase, name, key))| *phase as usize == index && *key == format!("perf/phase/{name}_s"))
        );
    }

    #[test]
    fn stopwatch_record_adds_times_since_the_last_call() {
        let mut watch = Stopwatch::start();
        let mut line = Map::new();
        watch.total = times(&[(Phase::Sample, 2.0), (Phase::Update, 1.0)]);
        watch.record(&mut line);
        // The evaluation of a step comes later, and its time is added to the same line.
        watch.total = watch.total.plus(&times(&[(Phase::Evaluate, 4.0)]));
        watch.record(&mut line);
        let expected = times(&[(Phase::Sample, 2.0), (Phase::Update, 1.0), (Phase::Evaluate, 4.0)]);
        assert_eq!((PhaseTimes::from_record(&line), line.len()), (expected, PHASES.len()));
        let mut next = Map::new();
        watch.total = watch.total.plus(&times(&[(Phase::Save, 0.5), (Phase::Sample, 3.0)]));
        watch.record(&mut next);
        assert_eq!(PhaseTimes::from_record(&next), times(&[(Phase::Save, 0.5), (Phase::Sample, 3.0)]));
        assert_eq!(PhaseTimes::from_record(&line).plus(&PhaseTimes::from_record(&next)), watch.total());
    }

    #[test]
    fn stopwatch_laps_add_up_to_the_elapsed_time() {
        let began = Instant::now();
        let mut watch = Stopwatch { last: began, ..Stopwatch::start() };
        watch.lap(Phase::Sample);
        watch.lap(Phase::Reward);
        watch.lap(Phase::Sample);
        let passed = watch.last.duration_since(began).as_secs_f64();
        assert!((watch.total().sum() - passed).abs() < 1e-9);
        assert_eq!(watch.total().of_all(&[Phase::Sample, Phase::Reward]), watch.total().sum());
    }

    #[test]
    fn phase_times_table_omits_short_phases() {
        let times = times(&[(Phase::Sample, 6.0), (Phase::Reward, 0.0004), (Phase::Optimizer, 2.0)]);
        assert_eq!(times.summary(), "8.00 s: sample 6.00, optimizer 2.00");
        let expected = "
where the time went  seconds   share
────────────────────────────────────
sample                   6.0   60.0%
optimizer                2.0   20.0%
other                    2.0   20.0%
all                     10.0  100.0%";
        assert_eq!(times.table(10.0).trim_end(), expected.trim_start());
    }
}
