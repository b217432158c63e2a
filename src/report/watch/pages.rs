//! Builds the page that the server shows. Rebuilds it after the run has written something, but at a limited rate, so that the training
//! keeps its processor time.

use std::time::{Duration, Instant};

use anyhow::Result;
use maud::html;

use super::fingerprint::fingerprint;
use crate::report::responses::StepSummaries;
use crate::report::subject::{Subject, Told};
use crate::report::{Page, ReportOptions, ResponseSource, RunRecord, Section};

/// The shortest time between two pages.
const SHORTEST_PAUSE: Duration = Duration::from_secs(2);
/// The time between two pages is at least this many times what making the last one took, so that pages take at most a tenth of the time of
/// one core.
const PAUSE_FACTOR: u32 = 9;
/// The address that a page asks for the newest version. Its own version follows as the query.
pub const VERSION: &str = "/version";

/// The newest page about a subject.
#[derive(Debug)]
pub struct Pages {
    subject: Subject,
    summaries: StepSummaries,
    made: Option<Made>,
    pool: rayon::ThreadPool,
}

/// A page and what it was made from.
#[derive(Debug)]
struct Made {
    fingerprint: String,
    html: String,
    run: Option<RunRecord>,
    at: Instant,
    took: Duration,
}

impl Pages {
    /// Prepares a thread of low priority that makes the pages.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn new(subject: Subject) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).thread_name(|_| "report".to_owned()).start_handler(|_| lower_priority());
        Ok(Self { subject, summaries: StepSummaries::default(), made: None, pool: pool.build()? })
    }

    /// Returns the version of the page that [`html`](Self::html) would return now. With `at_once`, the pause between pages does not count.
    pub fn version(&self, at_once: bool) -> String {
        match &self.made {
            Some(made) if !at_once && !may_remake(made.at.elapsed(), made.took) => made.fingerprint.clone(),
            _ => fingerprint(&self.subject.paths),
        }
    }

    /// Returns the page and its version. Makes a new page if a run has written since the last one and the pause is over.
    pub fn html(&mut self, at_once: bool) -> (&str, &str) {
        self.refresh(at_once);
        self.made.as_ref().map_or(("", ""), |made| (&made.html, &made.fingerprint))
    }

    /// Calls `work` in the thread that makes pages, with the records of the run that the newest page is about and the summaries of its steps.
    /// Makes a page only if there is none, so that the answer comes soon and fits the page that asks. `None` if the page is about several
    /// runs or a study, or cannot be made.
    pub fn with_run<T: Send>(&mut self, work: impl FnOnce(&RunRecord, &mut StepSummaries) -> T + Send) -> Option<T> {
        if self.made.is_none() {
            self.refresh(false);
        }
        let run = self.made.as_ref()?.run.as_ref()?;
        let summaries = &mut self.summaries;
        Some(self.pool.install(|| work(run, summaries)))
    }

    fn refresh(&mut self, at_once: bool) {
        let version = self.version(at_once);
        if self.made.as_ref().is_some_and(|made| made.fingerprint == version) {
            return;
        }
        let started = Instant::now();
        let (subject, options) = (&self.subject, ReportOptions { responses: ResponseSource::Server });
        let (page, run) = self.pool.install(|| match subject.tell(&options) {
            Ok(Told { page, run, .. }) => (page, run),
            Err(error) => (waiting(subject, &format!("{error:#}")), None),
        });
        let html = Page { watch: Some(format!("{VERSION}?{version}")), ..page }.html();
        self.made = Some(Made { fingerprint: version, html, run, at: Instant::now(), took: started.elapsed() });
    }
}

/// True if a page may be made this long after the last one, which took `took`.
fn may_remake(since: Duration, took: Duration) -> bool {
    since >= SHORTEST_PAUSE.max(took * PAUSE_FACTOR)
}

/// Returns the page that is shown until there is something to report.
fn waiting(subject: &Subject, reason: &str) -> Page {
    let names: Vec<String> = subject.paths.iter().map(|path| path.display().to_string()).collect();
    let body = html! {
        p { "There is nothing to report yet: " (reason) "." }
        p { "This page refreshes as soon as there are records." }
    };
    let section = Section { id: "waiting".to_owned(), title: "Waiting for records".to_owned(), body, data: Vec::new() };
    Page { title: names.join(", "), sections: vec![section], ..Page::default() }
}

/// Lets other threads go first. Only on Linux, where the priority of a single thread can be lowered.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(10);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::comparison::testing::record;

    #[test]
    fn may_remake_leaves_the_machine_to_the_run() {
        let check = |since_s: f64, took_s: f64, expected: bool| {
            assert_eq!(may_remake(Duration::from_secs_f64(since_s), Duration::from_secs_f64(took_s)), expected, "{since_s} {took_s}");
        };
        check(1.9, 0.1, false);
        check(2.0, 0.1, true);
        check(8.9, 1.0, false);
        check(9.0, 1.0, true);
    }

    #[test]
    fn html_follows_the_run_when_asked_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("run");
        let mut pages = Pages::new(Subject::of(std::slice::from_ref(&root))).unwrap();
        assert!(pages.html(true).0.contains("there is no such folder") && pages.with_run(|_, _| ()).is_none());
        let absent = pages.version(true);
        record(&root, |_| {}, "{\"step\":1}\n", &[(0, 1)]);
        assert_ne!(pages.version(true), absent);
        let page = pages.html(true).0.to_owned();
        assert!(!page.contains("nothing to report yet") && page.contains("data-watch=\"/version?"), "{page}");
        assert_eq!(pages.with_run(|run, _| run.metrics.last_step()), Some(Some(1)));
        // Within the pause, the page and its version stay together.
        std::fs::write(root.join("metrics.jsonl"), "{\"step\":1}\n{\"step\":2}\n").unwrap();
        pages.made.as_mut().unwrap().took = Duration::from_secs(3600);
        let version = pages.version(false);
        assert!(pages.html(false) == (page.as_str(), version.as_str()) && pages.version(true) != version);
    }
}
