//! What a progress knows: the work in progress and its counters, the steps that it belongs to, and the parts that run in parallel. Decides
//! which lines a terminal shows, and which lines a log file gets and when.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::output::activity::{Activity, Headline, activity_line, headline_line, log_line, part_line};

/// Nothing is drawn before, so that short commands do not flicker.
const FIRST_DRAWN_AFTER: Duration = Duration::from_millis(300);
/// A log file gets a line about work that has lasted this long, and again after each such time.
const LOGGED_EVERY: Duration = Duration::from_secs(60);
/// The maximum number of parallel parts to show.
const MAX_PARTS: usize = 8;

/// The state of a progress.
pub(super) struct State {
    started: Instant,
    headline: Mutex<Option<(Headline, Option<Instant>)>>,
    parts: Mutex<Vec<String>>,
    work: Mutex<Work>,
    done: AtomicU64,
    total: AtomicU64,
    tokens: AtomicU64,
}

/// The work in progress.
#[derive(Clone)]
struct Work {
    what: String,
    began: Instant,
    /// The time of its last line in the log, or else of its start.
    logged: Instant,
    /// True if its parts are bytes.
    is_bytes: bool,
    done_before: u64,
    /// The time since which its parts are counted.
    counted_since: Instant,
}

/// A line with its fields for the JSON format.
pub(super) type LogLine = (String, Vec<(&'static str, Value)>);

impl State {
    /// Creates a state without work.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            started: now,
            headline: Mutex::new(None),
            parts: Mutex::new(Vec::new()),
            work: Mutex::new(Work::new(String::new(), now)),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
        }
    }

    /// Starts work and ends the previous one.
    pub(super) fn begin(&self, what: String, now: Instant) {
        let mut work = locked(&self.work);
        *work = Work::new(what, now);
        self.reset(0);
        self.tokens.store(0, Ordering::Relaxed);
    }

    /// Starts or continues work whose parts are bytes.
    pub(super) fn transfer(&self, what: &str, done: u64, total: u64, now: Instant) {
        let mut work = locked(&self.work);
        if work.what != what {
            *work = Work { is_bytes: true, done_before: done, ..Work::new(what.to_owned(), now) };
            self.tokens.store(0, Ordering::Relaxed);
        }
        self.total.store(total, Ordering::Relaxed);
        self.done.store(done, Ordering::Relaxed);
    }

    /// Returns the name of the work in progress.
    pub(super) fn what(&self) -> String {
        locked(&self.work).what.clone()
    }

    /// Returns the number of finished parts and of all parts.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    /// Sets the number of parts, forgets the finished ones, and measures the speed of the others from now on. `is_bytes`: the parts are bytes.
    pub(super) fn expect(&self, parts: u64, is_bytes: bool, now: Instant) {
        let mut work = locked(&self.work);
        (work.is_bytes, work.done_before, work.counted_since) = (is_bytes, 0, now);
        self.reset(parts);
    }

    fn reset(&self, parts: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(parts, Ordering::Relaxed);
    }

    /// Counts finished parts. Returns the number of finished parts before.
    pub(super) fn add(&self, parts: u64) -> u64 {
        self.done.fetch_add(parts, Ordering::Relaxed)
    }

    /// Counts a computed token.
    pub(super) fn add_token(&self) {
        self.tokens.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets the steps to show above the work, and the end of all steps.
    pub(super) fn set_headline(&self, headline: Headline, end: Option<Instant>) {
        *locked(&self.headline) = Some((headline, end));
    }

    /// Sets the parallel parts of the work, which are shown instead of it.
    pub(super) fn set_parts(&self, parts: Vec<String>) {
        *locked(&self.parts) = parts;
    }

    /// Returns the lines to draw, each of at most `columns` columns.
    pub(super) fn drawing(&self, columns: usize, now: Instant) -> String {
        let clock = now.saturating_duration_since(self.started);
        let headline = locked(&self.headline).clone();
        if headline.is_none() && clock < FIRST_DRAWN_AFTER {
            return String::new();
        }
        let Some((headline, end)) = headline else { return activity_line(&self.activity(now), None, clock, columns) };
        let left = end.map(|end| end.saturating_duration_since(now));
        let mut lines = vec![headline_line(&headline, left, columns)];
        let parts = locked(&self.parts).clone();
        match parts.len() {
            0 => lines.push(activity_line(&self.activity(now), Some(&headline), clock, columns)),
            count => {
                let hidden = count - count.min(MAX_PARTS);
                let more = (hidden > 0).then(|| format!("and {hidden} more"));
                let shown = parts.into_iter().take(MAX_PARTS).chain(more);
                lines.extend(shown.map(|part| part_line(&part, clock, columns)));
            }
        }
        lines.join("\n")
    }

    /// Returns the line for a log file if a tenth of the work ended between `before` and `after` finished parts.
    pub(super) fn tenth(&self, before: u64, after: u64, now: Instant) -> Option<LogLine> {
        let total = self.total.load(Ordering::Relaxed);
        let mut work = locked(&self.work);
        if total == 0 || work.is_bytes || before * 10 / total == after * 10 / total {
            return None;
        }
        work.logged = now;
        let what = &work.what;
        Some((format!("{what} {after}/{total}"), vec![("work", json!(what)), ("done", json!(after)), ("total", json!(total))]))
    }

    /// Returns the line for a log file if the work has lasted for a while since its start and its last line.
    pub(super) fn due_line(&self, now: Instant) -> Option<LogLine> {
        let mut work = locked(&self.work);
        if work.what.is_empty() || now.saturating_duration_since(work.logged) < LOGGED_EVERY {
            return None;
        }
        work.logged = now;
        drop(work);
        let activity = self.activity(now);
        let headline = locked(&self.headline).clone().map(|(headline, _)| headline);
        let mut fields = vec![("work", json!(activity.what)), ("elapsed_s", json!(activity.elapsed.as_secs()))];
        if activity.total > 0 {
            let [done, total] = if activity.is_bytes { ["done_bytes", "total_bytes"] } else { ["done", "total"] };
            fields.extend([(done, json!(activity.done)), (total, json!(activity.total))]);
        }
        fields.extend((activity.tokens > 0).then(|| ("tokens", json!(activity.tokens))));
        fields.extend(headline.iter().flat_map(|headline| [("step", json!(headline.done)), ("steps", json!(headline.total))]));
        Some((log_line(&activity, headline.as_ref()), fields))
    }

    fn activity(&self, now: Instant) -> Activity {
        let Work { what, began, is_bytes, done_before, counted_since, .. } = locked(&self.work).clone();
        Activity {
            what,
            is_bytes,
            done: self.done.load(Ordering::Relaxed),
            done_before,
            total: self.total.load(Ordering::Relaxed),
            tokens: self.tokens.load(Ordering::Relaxed),
            elapsed: now.saturating_duration_since(began),
            counted: now.saturating_duration_since(counted_since),
        }
    }
}

impl Work {
    fn new(what: String, began: Instant) -> Self {
        Self { what, began, logged: began, is_bytes: false, done_before: 0, counted_since: began }
    }
}

/// Locks a mutex, also after a panic of another thread.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headline(done: u64) -> Headline {
        Headline { done, total: 20, fields: vec!["train 98.4%".into()] }
    }

    #[test]
    fn due_line_appears_once_per_interval_of_work_that_goes_on() {
        let start = Instant::now();
        let state = State::new(start);
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let due = |seconds: u64| state.due_line(at(seconds)).map(|(text, _)| text);
        assert_eq!(due(500), None, "no work has begun");
        state.begin("evaluating math500-greedy".into(), at(1000));
        state.expect(500, false, at(1000));
        state.add(120);
        assert_eq!(due(1059), None);
        assert_eq!(due(1060).as_deref(), Some("evaluating math500-greedy 120/500, 3m 10s left"));
        assert_eq!((due(1060), due(1061), due(1119)), (None, None, None));
        assert!(due(1121).is_some());
        state.begin("saving a checkpoint".into(), at(1130));
        assert_eq!(due(1185), None, "other work has begun");
        state.set_headline(headline(10), None);
        assert_eq!(due(1192).as_deref(), Some("saving a checkpoint, 1m 02s, 10 of 20 steps done"));
    }

    #[test]
    fn due_line_waits_after_the_line_of_a_tenth() {
        let start = Instant::now();
        let state = State::new(start);
        state.begin("evaluating a".into(), start);
        state.expect(20, false, start);
        let tenth = |before: u64, after: u64, seconds: u64| {
            let line = state.tenth(before, after, start + Duration::from_secs(seconds));
            line.map(|(text, _)| text)
        };
        assert_eq!((tenth(0, 1, 5), tenth(1, 2, 50)), (None, Some("evaluating a 2/20".into())));
        assert!(state.due_line(start + Duration::from_secs(100)).is_none());
        assert!(state.due_line(start + Duration::from_secs(110)).is_some());
    }

    #[test]
    fn due_line_has_fields() {
        let start = Instant::now();
        let state = State::new(start);
        let fields = |seconds: u64| {
            let (_, fields) = state.due_line(start + Duration::from_secs(seconds)).unwrap();
            Value::Object(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
        };
        state.set_headline(headline(3), None);
        state.begin("rollouts".into(), start);
        state.expect(1024, false, start);
        state.add(310);
        (0..7).for_each(|_| state.add_token());
        let expected = json!({"work": "rollouts", "elapsed_s": 60, "done": 310, "total": 1024, "tokens": 7, "step": 3, "steps": 20});
        assert_eq!(fields(60), expected);
        state.transfer("downloading a", 5, 9, start);
        let expected = json!({"work": "downloading a", "elapsed_s": 60, "done_bytes": 5, "total_bytes": 9, "step": 3, "steps": 20});
        assert_eq!(fields(60), expected);
    }

    #[test]
    fn drawing_shows_the_steps_and_the_parallel_parts() {
        let start = Instant::now();
        let state = State::new(start);
        let drawing = |columns: usize| console::strip_ansi_codes(&state.drawing(columns, start + Duration::from_secs(1))).into_owned();
        state.begin("loading a".into(), start);
        state.expect(6_000_000, true, start);
        state.add(1_500_000);
        assert_eq!(drawing(79), "⠋ loading a 1.5/6.0 MB, 1.5 MB/s, 3s left");
        state.set_headline(headline(10), None);
        assert_eq!(drawing(79), "━━━━━──────  10/20  train 98.4%\n⠋ loading a 1.5/6.0 MB, 1.5 MB/s, 1s");
        state.set_parts((0..10).map(|seed| format!("terms, seed {seed}")).collect());
        let lines = drawing(79);
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!((lines.len(), lines[1], lines[8], lines[9]), (10, "⠋ terms, seed 0", "⠋ terms, seed 7", "⠋ and 2 more"));
    }
}
