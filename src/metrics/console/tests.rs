//! Tests the display without a terminal, and the clock with fixed times.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

use std::sync::Arc;

use serde_json::{Map, Value};

use super::*;

/// A writer whose text can be read while the console owns a clone.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Buffer {
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

fn at(step: u32) -> StepLine {
    StepLine {
        step,
        train_accuracy: 0.984,
        reward: 0.97,
        entropy: 0.125,
        response_length: 48.4,
        loss: -0.0123,
        groups: 8,
        groups_with_signal: Some(5),
        times: PhaseTimes::default(),
    }
}

fn printed_steps(total: u32, start: u32) -> Vec<u32> {
    let buffer = Buffer::default();
    let console = Console::plain(total, start, false, Box::new(buffer.clone()));
    (start + 1..=total).for_each(|step| console.step(&at(step)));
    console.finish();
    let number = |line: &String| line.split([' ', '/']).nth(1).unwrap().parse().unwrap();
    buffer.lines().iter().map(number).collect()
}

#[test]
fn console_step_prints_every_tenth_without_a_terminal() {
    assert_eq!(printed_steps(300, 0), [30, 60, 90, 120, 150, 180, 210, 240, 270, 300]);
    assert_eq!(printed_steps(2, 0), [1, 2]);
    assert_eq!(printed_steps(100, 75), [80, 90, 100]);
    assert_eq!(printed_steps(15, 0), [2, 3, 5, 6, 8, 9, 11, 12, 14, 15]);
    assert_eq!(printed_steps(0, 0), [0_u32; 0]);
}

#[test]
fn console_note_prints_a_line_between_steps() {
    let buffer = Buffer::default();
    let console = Console::plain(10, 0, false, Box::new(buffer.clone()));
    console.note("base model: greedy 9.8%");
    console.step(&at(1));
    let step = "step 1/10  train 98.4%  reward 0.970  entropy 0.125  48 tokens  loss -0.0123  signal in 5 of 8 groups";
    assert_eq!(buffer.lines(), ["base model: greedy 9.8%", step]);
    console.step(&at(2));
    assert!(buffer.lines()[2].ends_with("s left"), "{:?}", buffer.lines());
}

#[test]
fn console_step_prints_times_since_the_previous_line() {
    let buffer = Buffer::default();
    let console = Console::plain(20, 0, true, Box::new(buffer.clone()));
    for step in 1..=4 {
        let line = Map::from_iter([("perf/phase/sample_s".to_owned(), Value::from(f64::from(step) * 0.5))]);
        console.step(&StepLine { times: PhaseTimes::from_record(&line), ..at(step) });
    }
    let lines = buffer.lines();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line.ends_with("  1.00 s: sample 1.00")), "{lines:?}");
}

#[test]
fn clock_time_left_extrapolates_from_finished_steps() {
    let mut clock = Clock { first: None, last_step: 0, times: PhaseTimes::default() };
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    // The first step has no estimate, since the time before it also covers the setup.
    assert_eq!(clock.time_left(10, 100, after(50)), None);
    let left = clock.time_left(15, 100, after(60));
    assert_eq!(left, Some(Duration::from_secs(2 * 85)));
    assert_eq!(clock.time_left(100, 100, after(500)), None);
    for (seconds, text) in [(0, "0s"), (59, "59s"), (100, "1m 40s"), (7_530, "2h 05m")] {
        assert_eq!(short(Duration::from_secs(seconds)), text);
    }
}
