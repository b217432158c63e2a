//! Signals as requests to stop. SIGTERM and SIGHUP ask for a stop as soon as possible, as schedulers and terminals that close do; so does a second
//! SIGINT, while the first one lets the step in progress finish. A thread of its own hears them, so that people are answered at once.

use std::io::IsTerminal;
use std::sync::Arc;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::interrupt::Interrupt;

/// What the first SIGINT does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtrlC {
    /// Lets what is in progress finish, and says so.
    Finishes,
    /// Stops as soon as possible: there is nothing that would be lost.
    Stops,
}

/// Listens from here on. Before, a signal ends the program as usual, so downloads and loading need no attention.
pub fn listen(interrupt: &Arc<Interrupt>, ctrl_c: CtrlC) -> Result<()> {
    let interrupt = interrupt.clone();
    hear(move |signal| answer(&interrupt, signal, ctrl_c)).context("cannot listen to signals")
}

/// Notes a signal and says what comes of it. One that changes nothing is not answered: schedulers send the same one several times.
fn answer(interrupt: &Interrupt, signal: i32, ctrl_c: CtrlC) {
    if signal == SIGINT && ctrl_c == CtrlC::Finishes && !interrupt.stop_after_step() {
        interrupt.ask_after_step(signal as usize);
        say(&format!("finishing {}, then saving; press Ctrl-C again to stop now", interrupt.doing()));
    } else if !interrupt.stop_now() {
        interrupt.ask_now(signal as usize);
        say("stopping now");
    }
}

/// A terminal has just echoed `^C`, perhaps behind a bar.
fn say(text: &str) {
    let line_end = if std::io::stderr().is_terminal() { "\n" } else { "" };
    tell!("{line_end}{text}");
}

#[cfg(unix)]
fn hear(mut on_signal: impl FnMut(i32) + Send + 'static) -> std::io::Result<()> {
    use signal_hook::consts::SIGHUP;

    let mut signals = vec![SIGINT, SIGTERM];
    signals.extend((!is_ignored(SIGHUP)).then_some(SIGHUP));
    let mut signals = signal_hook::iterator::Signals::new(signals)?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || signals.forever().for_each(&mut on_signal))?;
    Ok(())
}

/// Elsewhere there is no stream of signals; which one came is looked at from time to time.
#[cfg(not(unix))]
fn hear(mut on_signal: impl FnMut(i32) + Send + 'static) -> std::io::Result<()> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    let last = Arc::new(AtomicUsize::new(0));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_usize(signal, last.clone(), signal as usize)?;
    }
    let look = move || {
        loop {
            std::thread::sleep(Duration::from_millis(50));
            match last.swap(0, Ordering::SeqCst) {
                0 => {}
                signal => on_signal(signal as i32),
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(look)?;
    Ok(())
}

/// Whether the signal was ignored as the program began, as `nohup` has SIGHUP: then it stays ignored. Linux says so in `/proc`; where that
/// cannot be read, SIGHUP is left as it is.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    std::fs::read_to_string("/proc/self/status").map_or(true, |status| ignored(&status) & (1 << (signal - 1)) != 0)
}

/// The set of ignored signals, the first in the lowest bit.
#[cfg(unix)]
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_ctrl_c_is_as_urgent_as_a_sigterm() {
        let check = |ctrl_c: CtrlC, signals: &[i32], expected: (bool, bool, Option<usize>)| {
            let interrupt = Interrupt::default();
            signals.iter().for_each(|signal| answer(&interrupt, *signal, ctrl_c));
            assert_eq!((interrupt.stop_after_step(), interrupt.stop_now(), interrupt.signal()), expected, "{signals:?}");
        };
        check(CtrlC::Finishes, &[], (false, false, None));
        check(CtrlC::Finishes, &[2], (true, false, Some(2)));
        check(CtrlC::Finishes, &[2, 2], (true, true, Some(2)));
        check(CtrlC::Finishes, &[2, 15], (true, true, Some(15)));
        check(CtrlC::Finishes, &[15, 2], (true, true, Some(15)));
        check(CtrlC::Finishes, &[1], (true, true, Some(1)));
        check(CtrlC::Stops, &[2], (true, true, Some(2)));
    }

    #[cfg(unix)]
    #[test]
    fn ignored_signals_are_read_from_the_status() {
        let status = "Name:\trlvr\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0000000180000000\n";
        assert_eq!(ignored(status), 0x1001);
        assert_eq!(ignored("Name:\trlvr\n"), 0);
    }
}
