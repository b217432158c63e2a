//! The lines of the progress display as text: which numbers they show and what they leave out in a narrow terminal. Plain functions of plain
//! data; `super::progress` draws them.

use std::time::Duration;

use console::{Style, measure_text_width, truncate_str};

use super::escape_controls;

/// The narrowest and the widest bar.
const BAR_COLUMNS: (usize, usize) = (10, 24);
/// The frames of the spinner, one for each tenth of a second.
const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
/// Work in a run is named once it has lasted this long. The names of shorter work would flicker.
const NAMED_AFTER: Duration = Duration::from_millis(400);

/// The state of long work: its steps and their latest numbers.
#[derive(Clone, Debug, Default)]
pub struct Headline {
    /// The number of finished steps.
    pub done: u64,
    /// The number of all steps.
    pub total: u64,
    /// The latest numbers, the most important first. A narrow terminal shows the first ones only.
    pub fields: Vec<String>,
}

/// The work in progress.
#[derive(Clone, Debug, Default)]
pub(super) struct Activity {
    /// What it is, as in "rollouts".
    pub what: String,
    /// True if its parts are the bytes of a file.
    pub is_bytes: bool,
    /// The number of finished parts.
    pub done: u64,
    /// The number of parts that were finished at its start, as of a continued download.
    pub done_before: u64,
    /// The number of all parts; 0 if unknown.
    pub total: u64,
    /// The number of tokens computed so far.
    pub tokens: u64,
    /// The time since its start.
    pub elapsed: Duration,
    /// The time since its parts are counted: less than `elapsed` if it reads several files, one after the other.
    pub counted: Duration,
}

/// Returns the line of a headline: a bar, the steps, as many fields as fit, and the time left.
pub(super) fn headline_line(headline: &Headline, left: Option<Duration>, columns: usize) -> String {
    let Headline { done, total, fields } = headline;
    let bar_columns = (columns / 7).clamp(BAR_COLUMNS.0, BAR_COLUMNS.1);
    let filled = (done * bar_columns as u64 / (*total).max(1)) as usize;
    let left = left.map(|left| format!("{} left", duration(left)));
    let count = format!("{done}/{total}");
    let fixed = [Some(count.clone()), left.clone()].into_iter().flatten();
    let fixed: usize = fixed.map(|text| measure_text_width(&text) + 2).sum::<usize>() + bar_columns;
    let mut room = columns.saturating_sub(fixed);
    let fits = |field: &&String| {
        let width = measure_text_width(field) + 2;
        let fits = width <= room;
        room = if fits { room - width } else { 0 };
        fits
    };
    let shown: Vec<&String> = fields.iter().take_while(fits).collect();
    let texts = std::iter::once(&count).chain(shown).chain(&left);
    let texts: String = texts.map(|text| format!("  {text}")).collect();
    if fixed > columns {
        return texts.trim_start().chars().take(columns).collect();
    }
    let bar = Style::new().for_stderr().cyan().apply_to("━".repeat(filled));
    let rest = Style::new().for_stderr().dim().apply_to("─".repeat(bar_columns - filled));
    format!("{bar}{rest}{texts}")
}

/// Returns the line of the work in progress: `⠹ rollouts 310/1024, 21k tokens/s, 14s`. Within the steps of a headline, names only work that
/// has lasted a moment, and otherwise the step. Outside, shows the time left if it is known.
pub(super) fn activity_line(activity: &Activity, headline: Option<&Headline>, clock: Duration, columns: usize) -> String {
    let is_named = headline.is_none() || activity.elapsed >= NAMED_AFTER;
    let work = match headline {
        Some(headline) if !is_named => format!("step {}/{}", (headline.done + 1).min(headline.total), headline.total),
        _ => {
            let count = activity.count();
            let room = columns.saturating_sub(2 + measure_text_width(&count));
            let what = if activity.what.is_empty() { "working" } else { &activity.what };
            format!("{}{count}", shortened(what, room))
        }
    };
    let rate = activity.rate().filter(|_| is_named);
    let mut line = format!("{} {work}", spinner(clock));
    for part in [rate, activity.time(headline.is_none())].into_iter().flatten() {
        if measure_text_width(&line) + 2 + measure_text_width(&part) <= columns {
            line += ", ";
            line += &part;
        }
    }
    line
}

/// Returns the line of one of several parallel parts of the work: `⠹ terms, seed 0: step 12/300`.
pub(super) fn part_line(part: &str, clock: Duration, columns: usize) -> String {
    format!("{} {}", spinner(clock), shortened(part, columns.saturating_sub(2)))
}

/// Returns the work in progress as a line for a log file, with the finished steps of the headline:
/// `rollouts 310/1024, 21k tokens/s, 1m 14s, 120 of 300 steps done`.
pub(super) fn log_line(activity: &Activity, headline: Option<&Headline>) -> String {
    let steps = headline.map(|Headline { done, total, .. }| format!("{done} of {total} steps done"));
    let work = format!("{}{}", activity.what, activity.count());
    let parts = [Some(work), activity.rate(), activity.time(headline.is_none()), steps];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

impl Activity {
    /// Returns the finished parts and all parts, with a space before; empty if the work is not counted.
    fn count(&self) -> String {
        match (self.is_bytes, self.total) {
            (true, 0) if self.done == 0 => String::new(),
            (true, total) => format!(" {}", bytes_of(self.done, total)),
            (false, 0) => String::new(),
            (false, total) => format!(" {}/{total}", self.done),
        }
    }

    /// Returns the mean speed since the parts are counted.
    fn rate(&self) -> Option<String> {
        let per_second = |count: u64| count as f64 / self.counted.as_secs_f64().max(0.1);
        match self.is_bytes {
            true if self.done_now() > 0 => Some(format!("{:.1} MB/s", per_second(self.done_now()) / 1e6)),
            false if self.tokens > 0 => Some(format!("{} tokens/s", abbreviated(per_second(self.tokens)))),
            _ => None,
        }
    }

    /// Returns the time left, if `shows_left` and it is known, and otherwise the time since the start, if it is at least a second.
    fn time(&self, shows_left: bool) -> Option<String> {
        if shows_left && self.done_now() > 0 && self.done < self.total {
            let left = self.counted.as_secs_f64() * (self.total - self.done) as f64 / self.done_now() as f64;
            // A total from a corrupt file can be huge.
            return Duration::try_from_secs_f64(left).ok().map(|left| format!("{} left", duration(left)));
        }
        (self.elapsed.as_secs() > 0).then(|| duration(self.elapsed))
    }

    /// Returns the number of parts finished since the start.
    fn done_now(&self) -> u64 {
        self.done.saturating_sub(self.done_before)
    }
}

fn spinner(clock: Duration) -> char {
    SPINNER[(clock.as_millis() / 100) as usize % SPINNER.len()]
}

/// Formats bytes in the unit of their total: `3.1/6.7 GB`, or `3.1 GB` if the total is 0.
fn bytes_of(done: u64, total: u64) -> String {
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let (unit, name) = units.into_iter().find(|(unit, _)| done.max(total) as f64 >= *unit).unwrap_or((1e3, "kB"));
    let done = done as f64 / unit;
    if total == 0 { format!("{done:.1} {name}") } else { format!("{done:.1}/{:.1} {name}", total as f64 / unit) }
}

/// Cuts a text to at most `columns` columns of one line, with control characters escaped. A cut text ends with `…`.
fn shortened(text: &str, columns: usize) -> String {
    let text = escape_controls(text).replace(['\n', '\t'], " ");
    truncate_str(&text, columns, "…").into_owned()
}

/// Formats a number with at most three digits: `845`, `1.2k`, `21k`, `1.5M`.
pub(super) fn abbreviated(number: f64) -> String {
    match number {
        n if n < 999.5 => format!("{n:.0}"),
        n if n < 9_950.0 => format!("{:.1}k", n / 1e3),
        n if n < 999_500.0 => format!("{:.0}k", n / 1e3),
        n => format!("{:.1}M", n / 1e6),
    }
}

/// Formats a duration as `45s`, `1m 40s` or `2h 05m`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m {s:02}s"),
        (h, m, _) => format!("{h}h {m:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headline() -> Headline {
        let fields = ["train 98.4%", "entropy 0.125", "48 tokens", "reward 0.984", "loss -0.0123", "signal in 5 of 8 groups"];
        Headline { done: 120, total: 300, fields: fields.map(str::to_owned).into() }
    }

    fn rollouts() -> Activity {
        let (what, elapsed) = ("rollouts".into(), Duration::from_secs(14));
        Activity { what, done: 310, total: 1024, tokens: 294_000, elapsed, counted: elapsed, ..Activity::default() }
    }

    #[test]
    fn headline_line_shows_as_many_fields_as_fit() {
        let check = |columns: usize, expected: &str| {
            let line = headline_line(&headline(), Some(Duration::from_secs(130)), columns);
            let line = console::strip_ansi_codes(&line).into_owned();
            assert_eq!(line, expected);
            assert!(measure_text_width(&line) <= columns, "{columns}");
        };
        check(80, "━━━━───────  120/300  train 98.4%  entropy 0.125  48 tokens  2m 10s left");
        check(120, "━━━━━━───────────  120/300  train 98.4%  entropy 0.125  48 tokens  reward 0.984  loss -0.0123  2m 10s left");
        check(44, "━━━━──────  120/300  2m 10s left");
        check(30, "120/300  2m 10s left");
    }

    #[test]
    fn activity_line_fits_and_names_work_that_lasts() {
        let check = |activity: &Activity, headline: Option<&Headline>, columns: usize, expected: &str| {
            let line = activity_line(activity, headline, Duration::from_millis(230), columns);
            assert_eq!(line, expected);
            assert!(measure_text_width(&line) <= columns, "{columns}");
        };
        let seconds = Duration::from_secs;
        let rollouts = rollouts();
        check(&rollouts, Some(&headline()), 80, "⠹ rollouts 310/1024, 21k tokens/s, 14s");
        check(&rollouts, None, 80, "⠹ rollouts 310/1024, 21k tokens/s, 32s left");
        check(&rollouts, Some(&headline()), 34, "⠹ rollouts 310/1024, 21k tokens/s");
        check(&rollouts, Some(&headline()), 24, "⠹ rollouts 310/1024, 14s");
        check(&rollouts, Some(&headline()), 16, "⠹ roll… 310/1024");
        check(&Activity { elapsed: Duration::from_millis(90), ..rollouts }, Some(&headline()), 80, "⠹ step 121/300");
        let load = Activity { what: "loading a/b".into(), elapsed: seconds(75), counted: seconds(75), ..Activity::default() };
        check(&load, None, 80, "⠹ loading a/b, 1m 15s");
        let download = Activity { what: "downloading a".into(), is_bytes: true, done: 3_100_000_000, total: 6_700_000_000, ..load };
        check(&download, None, 80, "⠹ downloading a 3.1/6.7 GB, 41.3 MB/s, 1m 27s left");
        let continued = Activity { done_before: 1_600_000_000, ..download.clone() };
        check(&continued, None, 80, "⠹ downloading a 3.1/6.7 GB, 20.0 MB/s, 3m 00s left");
        // The second of two files.
        let second = Activity { counted: seconds(25), ..download.clone() };
        check(&second, None, 80, "⠹ downloading a 3.1/6.7 GB, 124.0 MB/s, 29s left");
        let begun = Activity { elapsed: Duration::from_millis(90), ..download };
        check(&begun, Some(&headline()), 80, "⠹ step 121/300");
    }

    #[test]
    fn log_line_shows_everything() {
        let check = |activity: &Activity, headline: Option<&Headline>, expected: &str| assert_eq!(log_line(activity, headline), expected);
        check(&rollouts(), Some(&headline()), "rollouts 310/1024, 21k tokens/s, 14s, 120 of 300 steps done");
        check(&rollouts(), None, "rollouts 310/1024, 21k tokens/s, 32s left");
        let save = Activity { what: "saving a checkpoint".into(), elapsed: Duration::from_secs(75), ..Activity::default() };
        check(&save, Some(&headline()), "saving a checkpoint, 1m 15s, 120 of 300 steps done");
        check(&Activity { is_bytes: true, ..save }, None, "saving a checkpoint, 1m 15s");
    }

    #[test]
    fn part_line_is_cut_to_the_columns() {
        assert_eq!(part_line("terms, seed 0: step 12/300", Duration::ZERO, 80), "⠋ terms, seed 0: step 12/300");
        assert_eq!(part_line("terms, seed 0: step 12/300", Duration::ZERO, 12), "⠋ terms, se…");
        assert_eq!(part_line("a\n\x1b[2J雪雪雪", Duration::ZERO, 80), "⠋ a \\u{1b}[2J雪雪雪");
        assert_eq!(part_line("雪雪雪雪", Duration::ZERO, 9), "⠋ 雪雪雪…");
    }

    #[test]
    fn numbers_are_short() {
        for (number, text) in [(0.0, "0"), (845.2, "845"), (1_234.0, "1.2k"), (21_040.0, "21k"), (999_400.0, "999k"), (1.5e6, "1.5M")] {
            assert_eq!(abbreviated(number), text);
        }
        for (seconds, text) in [(0, "0s"), (59, "59s"), (100, "1m 40s"), (7_530, "2h 05m")] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }
}
