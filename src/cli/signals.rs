//! Turns signals into requests to stop. The first SIGINT lets the current step finish. A second SIGINT, a SIGTERM (sent by job schedulers),
//! a SIGUSR1 (which MPI's launchers pass on) or a SIGHUP (sent by a closing terminal) requests a stop as soon as possible. A separate thread receives signals, so that users get an
//! immediate response.

use std::io::IsTerminal;
use std::sync::Arc;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::interrupt::Interrupt;
use crate::output::mode::{self, Format};

/// The effect of the first SIGINT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtrlC {
    /// Finishes the current step, and prints that it does.
    Finishes,
    /// Stops as soon as possible, because nothing would be lost.
    Stops,
}

/// Starts handling signals. Until then a signal ends the program as usual, so downloads and loading need no special care.
pub fn listen(interrupt: &Arc<Interrupt>, ctrl_c: CtrlC) -> Result<()> {
    let interrupt = interrupt.clone();
    spawn_listener(stop_signals(), move |signal| handle(&interrupt, signal, ctrl_c)).context("cannot install signal handlers")
}

/// Starts handling SIGINT: it requests a stop of the work in progress, without a message. Other signals keep their effect.
pub fn listen_for_ctrl_c(interrupt: &Arc<Interrupt>) -> Result<()> {
    let interrupt = interrupt.clone();
    spawn_listener(vec![SIGINT], move |signal| interrupt.request_stop_now(signal as usize)).context("cannot install signal handlers")
}

/// Calls `on_signal` for each signal that requests a stop, which then has no other effect.
pub fn listen_to_all(on_signal: impl FnMut(i32) + Send + 'static) -> Result<()> {
    spawn_listener(stop_signals(), on_signal).context("cannot install signal handlers")
}

/// Requests a stop and prints its effect. Prints nothing if the signal changes nothing, since schedulers send the same signal several
/// times.
fn handle(interrupt: &Interrupt, signal: i32, ctrl_c: CtrlC) {
    if signal == SIGINT && ctrl_c == CtrlC::Finishes && !interrupt.stop_after_step() {
        interrupt.request_stop_after_step(signal as usize);
        print_line(&format!("finishing {}, then saving; press Ctrl-C again to stop now", interrupt.doing()));
    } else if !interrupt.stop_now() {
        interrupt.request_stop_now(signal as usize);
        print_line("stopping now");
    }
}

/// Prints a message. In a terminal it starts on a new line, since the terminal has just echoed `^C`.
fn print_line(text: &str) {
    let line_end = if mode::current().format == Format::Text && std::io::stderr().is_terminal() { "\n" } else { "" };
    message!("{line_end}{text}");
}

/// Returns the signals that request a stop.
fn stop_signals() -> Vec<i32> {
    let mut signals = vec![SIGINT, SIGTERM];
    // Launchers of several processes pass this one on, whereas they end their processes on others.
    #[cfg(unix)]
    signals.push(signal_hook::consts::SIGUSR1);
    #[cfg(unix)]
    signals.extend(Some(signal_hook::consts::SIGHUP).filter(|hangup| !is_ignored(*hangup)));
    signals
}

#[cfg(unix)]
fn spawn_listener(signals: Vec<i32>, mut on_signal: impl FnMut(i32) + Send + 'static) -> std::io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new(signals)?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || signals.forever().for_each(&mut on_signal))?;
    Ok(())
}

/// Polls for signals, as there is no iterator over signals outside Unix.
#[cfg(not(unix))]
fn spawn_listener(signals: Vec<i32>, mut on_signal: impl FnMut(i32) + Send + 'static) -> std::io::Result<()> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    let last = Arc::new(AtomicUsize::new(0));
    for signal in signals {
        signal_hook::flag::register_usize(signal, last.clone(), signal as usize)?;
    }
    let poll = move || {
        loop {
            std::thread::sleep(Duration::from_millis(50));
            match last.swap(0, Ordering::SeqCst) {
                0 => {}
                signal => on_signal(signal as i32),
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(poll)?;
    Ok(())
}

/// True if the signal was ignored when the program started, as SIGHUP is under `nohup`; it then stays ignored. Reads the
/// ignored signals from `/proc` on Linux; returns true if that fails, so that SIGHUP keeps its disposition.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    std::fs::read_to_string("/proc/self/status").map_or(true, |status| ignored(&status) & (1 << (signal - 1)) != 0)
}

/// Parses the set of ignored signals; bit `n - 1` is signal `n`.
#[cfg(unix)]
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handle_treats_a_second_ctrl_c_like_sigterm() {
        let check = |ctrl_c: CtrlC, signals: &[i32], expected: (bool, bool, Option<usize>)| {
            let interrupt = Interrupt::default();
            signals.iter().for_each(|signal| handle(&interrupt, *signal, ctrl_c));
            assert_eq!((interrupt.stop_after_step(), interrupt.stop_now(), interrupt.signal()), expected, "{signals:?}");
        };
        check(CtrlC::Finishes, &[], (false, false, None));
        check(CtrlC::Finishes, &[2], (true, false, Some(2)));
        check(CtrlC::Finishes, &[2, 2], (true, true, Some(2)));
        check(CtrlC::Finishes, &[2, 15], (true, true, Some(15)));
        check(CtrlC::Finishes, &[15, 2], (true, true, Some(15)));
        check(CtrlC::Finishes, &[1], (true, true, Some(1)));
        check(CtrlC::Finishes, &[10], (true, true, Some(10)));
        check(CtrlC::Stops, &[2], (true, true, Some(2)));
    }

    #[cfg(unix)]
    #[test]
    fn ignored_parses_proc_status() {
        let status = "Name:\trlvr\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0000000180000000\n";
        assert_eq!(ignored(status), 0x1001);
        assert_eq!(ignored("Name:\trlvr\n"), 0);
    }
}
