use super::*;

fn traits() -> RunTraits {
    RunTraits {
        max_entropy: 464_f64.ln(),
        max_new_tokens: 80,
        independent_samples: 64,
        reads_boxes: true,
        learns_from_reward: true,
        has_entropy_term: true,
    }
}

/// The metrics of a normal step of the demonstration at the given accuracy.
fn step(accuracy: f64) -> StepMetrics {
    StepMetrics {
        entropy: Some(0.37),
        grad_norm: Some(0.24),
        reward: accuracy,
        reward_min: 0.0,
        reward_max: if accuracy > 0.0 { 1.0 } else { 0.0 },
        accuracy,
        length: 22.0,
        truncated: 0.03,
        boxed: 0.42,
        garbled: 0.0,
        without_signal: 0.4,
        skipped: false,
    }
}

/// Returns the step and the key of each warning of a run with these steps, counted from 1.
fn warned(traits: RunTraits, steps: &[StepMetrics]) -> Vec<(u64, &'static str)> {
    let mut monitor = Monitor::new(traits);
    let steps = (1..).zip(steps);
    steps.flat_map(|(step, metrics)| monitor.observe(step, *metrics).into_iter().map(move |warning| (step, warning.key))).collect()
}

/// Checks the warnings of a run with `steps` normal steps at a low reward, followed by `times` steps that `change` has modified.
fn check(steps: usize, times: usize, change: fn(&mut StepMetrics), expected: &[(u64, &'static str)]) {
    let mut changed = step(0.1);
    change(&mut changed);
    let all = [vec![step(0.1); steps], vec![changed; times]].concat();
    assert_eq!(warned(traits(), &all), expected);
}

#[test]
fn observe_warns_once_per_check_after_its_patience() {
    check(10, 9, |metrics| metrics.entropy = Some(5.0), &[(12, "entropy_explosion")]);
    check(10, 9, |metrics| metrics.entropy = Some(f64::NAN), &[(12, "entropy_explosion")]);
    check(10, 9, |metrics| metrics.entropy = Some(0.001), &[(13, "entropy_collapse")]);
    check(10, 9, |metrics| metrics.grad_norm = Some(0.0), &[(13, "gradient_zero")]);
    check(10, 9, |metrics| metrics.grad_norm = Some(20.0), &[(13, "gradient_explosion")]);
    check(10, 9, |metrics| metrics.length = 1.5, &[(13, "short_responses")]);
    check(10, 9, |metrics| metrics.truncated = 1.0, &[(13, "all_truncated")]);
    check(10, 9, |metrics| metrics.garbled = 0.5, &[(11, "garbled")]);
    check(10, 9, |metrics| metrics.boxed = 0.0, &[(13, "no_box")]);
    check(0, 30, |metrics| metrics.boxed = 0.0, &[(20, "no_box")]);
    check(0, 30, |metrics| metrics.without_signal = 1.0, &[(20, "no_signal")]);
    // One bad step is below the patience.
    check(10, 1, |metrics| (metrics.entropy, metrics.grad_norm, metrics.truncated) = (Some(5.0), Some(99.0), 1.0), &[]);
}

#[test]
fn observe_warns_when_the_reward_collapses() {
    let rise: Vec<StepMetrics> = (0..20).map(|number| step(f64::from(number) / 20.0)).collect();
    let fall: Vec<StepMetrics> = (0..10).map(|_| step(0.05)).collect();
    assert_eq!(warned(traits(), &[rise.clone(), fall.clone()].concat()), [(23, "reward_collapse")]);
    // With few independent samples, such a difference may be chance.
    let few = RunTraits { independent_samples: 2, ..traits() };
    assert_eq!(warned(few, &[rise, fall].concat()), []);
    // Noise around a low reward is not a collapse.
    let noise: Vec<StepMetrics> = (0..200).map(|number| step(if number % 7 < 5 { 0.02 } else { 0.15 })).collect();
    assert_eq!(warned(traits(), &noise), []);
}

#[test]
fn observe_does_not_warn_about_a_saturated_run() {
    let mut solved = step(1.0);
    (solved.without_signal, solved.entropy, solved.grad_norm, solved.reward_min) = (1.0, Some(0.0005), Some(0.0), 1.0);
    let all = [vec![step(0.1); 5], vec![step(0.5); 5], vec![solved; 300]].concat();
    assert_eq!(warned(traits(), &all), []);
    // The same holds for other rewards, such as a penalty that is nearly 0.
    let poor = StepMetrics { reward: -0.5, reward_min: -1.0, ..step(0.0) };
    let shaped = StepMetrics { reward: -0.02, without_signal: 1.0, entropy: Some(0.0005), boxed: 0.0, ..poor };
    assert_eq!(warned(traits(), &[vec![poor; 5], vec![shaped; 100]].concat()), []);
    // At a low reward, the same numbers cause warnings.
    let ruined = StepMetrics { reward: -0.6, ..shaped };
    assert_eq!(warned(traits(), &[vec![poor; 5], vec![ruined; 9]].concat()), [(8, "entropy_collapse"), (8, "no_box")]);
}

#[test]
fn observe_ignores_losses_and_rewards_that_are_off() {
    let silent = StepMetrics { without_signal: 1.0, boxed: 0.0, grad_norm: Some(0.0), ..step(0.0) };
    let off = RunTraits { learns_from_reward: false, reads_boxes: false, has_entropy_term: false, ..traits() };
    assert_eq!(warned(off, &[silent; 60]), []);
    // During a critic's warm-up, the policy has no metrics.
    let warm_up = StepMetrics { entropy: None, grad_norm: None, ..step(0.1) };
    assert_eq!(warned(traits(), &[warm_up; 30]), []);
}

#[test]
fn observe_repeats_a_warning_only_after_it_cleared() {
    let garbled = StepMetrics { garbled: 0.9, ..step(0.1) };
    let steps = |normal: usize| [vec![garbled; 2], vec![step(0.1); normal], vec![garbled; 2]].concat();
    assert_eq!(warned(traits(), &steps(CLEAR_AFTER - 1)), [(1, "garbled")]);
    assert_eq!(warned(traits(), &steps(CLEAR_AFTER)), [(1, "garbled"), (8, "garbled")]);
    let mut monitor = Monitor::new(traits());
    (1..).zip(steps(CLEAR_AFTER)).for_each(|(step, metrics)| drop(monitor.observe(step, metrics)));
    // The check stays active until it clears.
    let without_warning: Vec<u64> = (1..=9).filter(|step| monitor.had_no_warning_at(*step)).collect();
    assert_eq!(without_warning, [7]);
}

#[test]
fn skipped_in_a_row_counts_consecutive_skips() {
    let skipped = StepMetrics { skipped: true, grad_norm: Some(f64::NAN), ..step(0.1) };
    let mut monitor = Monitor::new(traits());
    let count = |monitor: &mut Monitor, number: u64, metrics: StepMetrics| {
        assert_eq!(monitor.observe(number, metrics), []);
        monitor.skipped_in_a_row()
    };
    let counts: Vec<usize> =
        (1..).zip([skipped, skipped, step(0.1), skipped]).map(|(number, metrics)| count(&mut monitor, number, metrics)).collect();
    assert_eq!(counts, [1, 2, 0, 1]);
    assert!(!monitor.had_no_warning_at(2) && monitor.had_no_warning_at(3));
}

#[test]
fn from_record_reads_recorded_metrics() {
    let line = serde_json::json!({"step": 3, "actor/entropy": 0.4, "actor/grad_norm": null, "reward/mean": 0.25, "watch/skipped": 1.0});
    let metrics = StepMetrics::from_record(line.as_object().unwrap());
    assert_eq!((metrics.entropy, metrics.reward, metrics.reward_max, metrics.skipped), (Some(0.4), 0.25, 0.25, true));
    assert!(metrics.grad_norm.is_some_and(f64::is_nan));
    // Without rewards in the line, each response has a reward of 0 or 1.
    let rewards = |accuracy: f64| {
        let line = serde_json::json!({"train/accuracy": accuracy});
        let StepMetrics { reward, reward_min, reward_max, .. } = StepMetrics::from_record(line.as_object().unwrap());
        (reward, reward_min, reward_max)
    };
    assert_eq!([0.0, 0.25, 1.0].map(rewards), [(0.0, 0.0, 0.0), (0.25, 0.0, 1.0), (1.0, 1.0, 1.0)]);
    // Lines of older versions have fewer keys, and missing keys raise no warning.
    assert_eq!(StepMetrics::from_record(&Map::new()), StepMetrics::default());
}
