//! Rewards by hand, grading by the settings, and contradictory settings.

use super::testing::check;
use super::*;

#[test]
fn verdict_rewards_by_hand() {
    let responses = [r"\boxed{1/2}", r"\boxed{3}", "one half", r"\boxed{0.5"];
    check("outcome", "0.5", &responses, &[1.0, 0.0, 0.0, 0.0]);
    check("inverse", "0.5", &responses, &[0.0, 1.0, 1.0, 1.0]);
    check("format", "0.5", &responses, &[1.0, 1.0, 0.0, 0.0]);
    check("none", "0.5", &responses, &[0.0; 4]);
    // Without a label no response is correct.
    check("outcome", "", &[r"\boxed{}", r"\boxed{3}"], &[0.0, 0.0]);
    check("format", "", &[r"\boxed{3}", "3"], &[1.0, 0.0]);
}

fn problem(answer: &str, tolerance: Option<f64>) -> Problem {
    Problem { answer: answer.into(), tolerance, ..Problem::default() }
}

#[test]
fn grade_accepts_answers_within_tolerance() {
    let is_correct = |tolerance| grade(&RewardSettings::default(), &problem("4.2", tolerance), r"\boxed{4.24}").correct;
    assert!(is_correct(Some(0.1)) && !is_correct(None));
}

#[test]
fn grade_follows_the_grader_and_after_think_settings() {
    let verdict = |change: fn(&mut RewardSettings), response: &str| {
        let mut settings = RewardSettings::default();
        change(&mut settings);
        grade(&settings, &problem("12.8", None), response).correct
    };
    assert!(verdict(|_| (), r"\boxed{12.8}"));
    assert!(!verdict(|settings| settings.after_think = true, r"\boxed{12.8}"));
    assert!(verdict(|settings| settings.after_think = true, r"<think>...</think> \boxed{12.8}"));
    // The published training reward rejects a box without a brace; ours accepts it.
    assert!(verdict(|_| (), r"\boxed 12.8"));
    assert!(!verdict(|settings| settings.grader = Grader::Deepscaler, r"\boxed 12.8"));
}

/// The row that docs/extending.md adds.
#[test]
fn reward_of_the_documented_example_by_hand() {
    let entry = RewardEntry {
        name: "whole",
        parameters: &[],
        about: "1 if the answer in the last box is a whole number",
        needs: Needs::BOXES,
        make: |_, _| {
            let is_whole = |answer: &str| answer.parse::<i64>().is_ok();
            Ok(Box::new(PerResponse(move |graded: &Graded| f32::from(graded.verdict.extracted.as_deref().is_some_and(is_whole)))))
        },
    };
    let settings = RewardSettings::default();
    let rollouts = super::testing::group("46", &[r"\boxed{46}", r"\boxed{-3}", r"\boxed{1/2}", "46"]);
    let verdict = |rollout: &Rollout| grade(&settings, &rollout.prompt.problem, &rollout.text);
    let responses: Vec<Graded> = rollouts.iter().map(|rollout| Graded { rollout, verdict: verdict(rollout) }).collect();
    let interrupt = Interrupt::default();
    let batch = Batch {
        responses: &responses,
        group_size: 4,
        seed: 5,
        step: 3,
        scorer: None,
        interrupt: &interrupt,
        guard: None,
        world: World::solo(),
    };
    let reward = (entry.make)(&[], &settings).unwrap();
    assert_eq!(reward.of_batch(&batch).unwrap(), [1.0, 1.0, 0.0, 0.0]);
}

#[test]
fn validate_reports_contradictions() {
    let check = |change: fn(&mut RewardSettings), expected: &str| {
        let mut settings = RewardSettings::default();
        change(&mut settings);
        let message = format!("{:#}", settings.validate(80).unwrap_err());
        assert!(message.contains(expected), "{message}");
    };
    assert!(RewardSettings::default().validate(80).is_ok());
    check(|settings| settings.command = vec!["grade".into()], "reward.command is set, but reward.name is \"outcome\"");
    check(|settings| settings.name = "command".into(), "reward.command is empty");
    check(|settings| (settings.label, settings.label_noise) = ("4".into(), 0.5), "set one of the two");
    check(|settings| settings.overlong_buffer = 81, "reward.overlong_buffer is 81");
}
