//! Tests what the display prints without a terminal.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

use std::sync::Arc;

use serde_json::Map;

use super::*;

type Printed = Arc<Mutex<Vec<(Level, String, Map<String, Value>)>>>;

/// Returns a display without a terminal, and what it prints.
fn console(total: u64, start: u64, shows_times: bool) -> (Console, Printed) {
    let printed = Printed::default();
    let sink = printed.clone();
    let print = move |level: Level, text: &str, fields: &[(&str, Value)]| {
        let fields = fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        sink.lock().unwrap().push((level, text.to_owned(), fields));
    };
    let schedule = Schedule { steps: total, evaluation_every: None, checkpoint_every: 0 };
    (Console::printing(Progress::hidden(), schedule, start, shows_times, Box::new(print)), printed)
}

fn texts(printed: &Printed) -> Vec<String> {
    printed.lock().unwrap().iter().map(|(_, text, _)| text.clone()).collect()
}

/// Returns the line of a step, each of which takes half a second.
fn at(step: u32) -> StepLine {
    let times = Map::from_iter([("perf/phase/sample_s".to_owned(), json!(f64::from(step) * 0.5))]);
    StepLine {
        step,
        train_accuracy: 0.984,
        reward: 0.97,
        entropy: 0.125,
        response_length: 48.4,
        loss: -0.0123,
        groups: 8,
        groups_with_signal: Some(5),
        times: PhaseTimes::from_record(&times),
    }
}

fn printed_steps(total: u32, start: u32) -> Vec<u32> {
    let (console, printed) = console(u64::from(total), u64::from(start), false);
    (start + 1..=total).for_each(|step| console.step(&at(step)));
    let number = |line: &String| line.split([' ', '/']).nth(1).unwrap().parse().unwrap();
    texts(&printed).iter().map(number).collect()
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
fn console_step_prints_numbers_and_the_time_left() {
    let (console, printed) = console(10, 0, false);
    console.note("base model: greedy 9.8%");
    console.step(&at(1));
    console.warn("the gradient is 0");
    let printed = printed.lock().unwrap();
    let step = "step 1/10  train 98.4%  reward 0.970  entropy 0.125  48 tokens  loss -0.0123  signal in 5 of 8 groups  5s left";
    let levels = [(Level::Info, "base model: greedy 9.8%"), (Level::Info, step), (Level::Warning, "the gradient is 0")];
    assert!(printed.iter().map(|(level, text, _)| (*level, text.as_str())).eq(levels), "{printed:?}");
    assert_eq!([0, 1, 2].map(|line| printed[line].2["step"].clone()), [json!(0), json!(1), json!(1)]);
    assert_eq!((&printed[1].2["left_s"], &printed[1].2["groups_with_signal"]), (&json!(4.5), &json!(5)));
}

#[test]
fn console_step_prints_times_since_the_previous_line() {
    let (console, printed) = console(20, 0, true);
    (1..=4).for_each(|step| console.step(&at(step)));
    let lines = texts(&printed);
    assert!(lines.len() == 2 && lines.iter().all(|line| line.ends_with(" left  1.00 s: sample 1.00")), "{lines:?}");
}

#[test]
fn console_counts_evaluations_apart_from_steps() {
    let (console, printed) = console(10, 0, false);
    console.evaluated(100.0);
    // The times of phases include the evaluation.
    let times = Map::from_iter([("perf/phase/sample_s".to_owned(), json!(1.0)), ("perf/phase/evaluate_s".to_owned(), json!(100.0))]);
    console.step(&StepLine { times: PhaseTimes::from_record(&times), ..at(1) });
    assert_eq!(printed.lock().unwrap()[0].2["left_s"], json!(9.0));
}
