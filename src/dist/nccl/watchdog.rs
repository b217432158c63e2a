//! Ends this process if NCCL makes no progress or reports an error. Another rank that is lost without a word, with its host or its network,
//! leaves the others waiting without a time limit. The launcher ends the other ranks when it sees that this process has failed.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The variable that sets the time limit in seconds.
pub const TIMEOUT_VARIABLE: &str = "RLVR_NCCL_TIMEOUT";
/// As long as the usual limit of other programs for NCCL. One rank waits for another while it computes more than its share or writes the
/// weights to slow storage: 15 GB at 50 MB/s take 300 s. A lost process does not need the limit, since its launcher ends the others at once.
const DEFAULT_TIMEOUT_S: u64 = 600;
/// How often the watchdog looks, at least.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The calls of this rank, which it makes one after the other.
#[derive(Default)]
pub struct Calls(Mutex<State>);

#[derive(Default)]
struct State {
    /// The number of calls so far.
    count: u64,
    running: Option<Running>,
    failure: Option<Box<dyn Fn() -> Option<String> + Send>>,
    is_closed: bool,
}

struct Running {
    what: String,
    /// For a call that has returned while its work goes on.
    is_done: Option<Box<dyn Fn() -> bool + Send>>,
}

/// What the watchdog sees when it looks.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The number of the call that runs, if one does.
    pub running: Option<u64>,
    /// What the call does.
    pub what: String,
    /// What NCCL reports.
    pub failure: Option<String>,
}

impl Calls {
    /// Notes that a call starts; `what` says what it does, after "while it".
    pub fn start(&self, what: String) {
        let mut state = self.lock();
        state.count += 1;
        state.running = Some(Running { what, is_done: None });
    }

    /// Notes that the call has ended.
    pub fn end(&self) {
        self.lock().running = None;
    }

    /// Notes that the call has returned, and how to find out whether its work has ended.
    pub fn go_on(&self, is_done: Box<dyn Fn() -> bool + Send>) {
        if let Some(running) = &mut self.lock().running {
            running.is_done = Some(is_done);
        }
    }

    /// Notes how to ask NCCL for an error.
    pub fn ask(&self, failure: Box<dyn Fn() -> Option<String> + Send>) {
        self.lock().failure = Some(failure);
    }

    /// Ends the watch. NCCL is not asked again.
    pub fn close(&self) {
        *self.lock() = State { is_closed: true, ..State::default() };
    }

    /// Returns what is to be seen now; `None` if the watch has ended.
    fn look(&self) -> Option<Seen> {
        let mut state = self.lock();
        if state.is_closed {
            return None;
        }
        if state.running.as_ref().is_some_and(|running| running.is_done.as_ref().is_some_and(|is_done| is_done())) {
            state.running = None;
        }
        let failure = state.failure.as_ref().and_then(|failure| failure());
        let what = state.running.as_ref().map(|running| running.what.clone()).unwrap_or_default();
        Some(Seen { running: state.running.is_some().then_some(state.count), what, failure })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{} calls", self.lock().count)
    }
}

/// Decides when to give up.
#[derive(Clone, Debug)]
pub struct Watch {
    rank: usize,
    world: usize,
    timeout: Duration,
    /// The last call that was seen running, and when it was first seen.
    since: Option<(u64, Duration)>,
}

impl Watch {
    /// Watches a rank.
    pub fn new(rank: usize, world: usize, timeout: Duration) -> Self {
        Self { rank, world, timeout, since: None }
    }

    /// Returns why the process must end, if it must. `now` is the time since any fixed point.
    pub fn judge(&mut self, now: Duration, seen: &Seen) -> Option<String> {
        let who = format!("rank {} of {}", self.rank, self.world);
        let meanwhile = if seen.running.is_some() { format!(" while it {}", seen.what) } else { String::new() };
        if let Some(failure) = &seen.failure {
            return Some(format!("{who}: NCCL reports \"{failure}\"{meanwhile}; another rank or the network has probably failed"));
        }
        let Some(running) = seen.running else {
            self.since = None;
            return None;
        };
        let since = self.since.filter(|(call, _)| *call == running).map_or(now, |(_, since)| since);
        self.since = Some((running, since));
        (now.saturating_sub(since) >= self.timeout).then(|| {
            let seconds = self.timeout.as_secs();
            format!(
                "{who}: NCCL made no progress for {seconds} s{meanwhile}; another rank has probably failed. If a rank may work longer \
                 between two exchanges, set {TIMEOUT_VARIABLE} to more seconds"
            )
        })
    }
}

/// Reads the time limit.
///
/// # Errors
/// If `RLVR_NCCL_TIMEOUT` is not a number of seconds above 0.
pub fn timeout() -> Result<Duration> {
    let value = std::env::var_os(TIMEOUT_VARIABLE);
    timeout_of(value.map(|value| value.to_string_lossy().into_owned()).as_deref())
}

fn timeout_of(value: Option<&str>) -> Result<Duration> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(Duration::from_secs(DEFAULT_TIMEOUT_S)) };
    let expected = || format!("{TIMEOUT_VARIABLE} is {value:?}, expected a number of seconds above 0, such as {DEFAULT_TIMEOUT_S}");
    match value.parse().with_context(expected)? {
        0 => bail!(expected()),
        seconds => Ok(Duration::from_secs(seconds)),
    }
}

/// Starts the watchdog's thread. `end` gets the reason and ends the process.
///
/// # Errors
/// If no thread can be started.
pub fn start(calls: Arc<Calls>, mut watch: Watch, end: impl FnOnce(&str) + Send + 'static) -> Result<()> {
    let (began, pause) = (Instant::now(), LONGEST_PAUSE.min(watch.timeout / 8));
    let look = move || {
        while let Some(seen) = calls.look() {
            if let Some(reason) = watch.judge(began.elapsed(), &seen) {
                return end(&reason);
            }
            std::thread::sleep(pause);
        }
    };
    std::thread::Builder::new().name("NCCL watchdog".into()).spawn(look).context("cannot start the watchdog of NCCL")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn seen(running: Option<u64>, failure: Option<&str>) -> Seen {
        Seen { running, what: "sends 8 bytes to rank 0".into(), failure: failure.map(str::to_owned) }
    }

    /// Looks at the calls at these times and checks at which of them the watch gives up.
    fn check(looks: &[(u64, Option<u64>)], expected: Option<u64>) {
        let mut watch = Watch::new(1, 4, S(10));
        let gave_up = looks.iter().find(|(now, running)| watch.judge(S(*now), &seen(*running, None)).is_some());
        assert_eq!(gave_up.map(|(now, _)| *now), expected, "{looks:?}");
    }

    #[test]
    fn judge_gives_up_when_one_call_runs_too_long() {
        check(&[(0, Some(1)), (9, Some(1)), (10, Some(1))], Some(10));
        check(&[(100, None), (200, Some(1)), (209, Some(1)), (211, Some(1))], Some(211));
    }

    #[test]
    fn judge_waits_while_calls_come_and_go() {
        check(&[(0, Some(1)), (9, Some(2)), (18, Some(3)), (27, Some(4))], None);
        check(&[(0, Some(1)), (9, None), (100, None), (101, Some(2)), (110, Some(2))], None);
        check(&[(0, None), (1_000, None)], None);
    }

    #[test]
    fn judge_names_the_rank_the_call_and_the_remedy() {
        let mut watch = Watch::new(1, 4, S(10));
        assert_eq!(watch.judge(S(0), &seen(Some(3), None)), None);
        let late = watch.judge(S(10), &seen(Some(3), None)).unwrap();
        let start = "rank 1 of 4: NCCL made no progress for 10 s while it sends 8 bytes to rank 0; another rank has probably failed";
        assert!(late.starts_with(start) && late.contains("set RLVR_NCCL_TIMEOUT to more seconds"), "{late}");
        let failed = watch.judge(S(11), &seen(None, Some("remote error"))).unwrap();
        assert_eq!(failed, "rank 1 of 4: NCCL reports \"remote error\"; another rank or the network has probably failed");
    }

    #[test]
    fn look_sees_calls_until_their_work_has_ended() {
        let calls = Calls::default();
        assert_eq!(calls.look().unwrap().running, None);
        calls.start("joins".into());
        assert_eq!(calls.look().map(|seen| (seen.running, seen.what)), Some((Some(1), "joins".into())));
        calls.end();
        assert_eq!(calls.look().unwrap().running, None);
        let is_done = Arc::new(AtomicBool::new(false));
        calls.start("broadcasts".into());
        calls.go_on({
            let is_done = is_done.clone();
            Box::new(move || is_done.load(Ordering::SeqCst))
        });
        assert_eq!(calls.look().unwrap().running, Some(2));
        is_done.store(true, Ordering::SeqCst);
        assert_eq!(calls.look().unwrap().running, None);
        calls.ask(Box::new(|| Some("remote error".into())));
        assert_eq!(calls.look().unwrap().failure, Some("remote error".into()));
        calls.close();
        assert!(calls.look().is_none());
    }

    #[test]
    fn timeout_of_reads_seconds() {
        let check = |value: Option<&str>, expected: Option<u64>| assert_eq!(timeout_of(value).ok(), expected.map(S), "{value:?}");
        check(None, Some(600));
        check(Some(""), Some(600));
        check(Some("5"), Some(5));
        ["0", "-1", "1.5", "ten"].into_iter().for_each(|wrong| check(Some(wrong), None));
        let message = timeout_of(Some("0")).unwrap_err().to_string();
        assert_eq!(message, "RLVR_NCCL_TIMEOUT is \"0\", expected a number of seconds above 0, such as 600");
    }
}
