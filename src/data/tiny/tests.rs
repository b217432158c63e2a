use std::collections::{HashMap, HashSet};

use super::*;
use crate::rng::Purpose;

fn stream() -> Stream {
    Stream::new(17, Purpose::Problems, 99)
}

#[test]
fn by_id_returns_the_stated_question_and_answer() {
    let check = |id: &str, question: usize, text: &str, answer: u32| {
        let exercise = by_id(id).unwrap_or_else(|| panic!("{id} should be a problem"));
        assert_eq!((exercise.questions[question].as_str(), exercise.answer), (text, answer));
    };
    check("tiny/addition/334+556", 0, "What is 334+556?", 890);
    check("tiny/subtraction/834-556", 1, "Compute 834-556.", 278);
    check("tiny/linear/5y+29=294", 0, "If 5y+29=294, find y.", 53);
    check("tiny/remainder/847mod6", 0, "What is the remainder when 847 is divided by 6?", 1);
    check("tiny/sequence/37,+8,term6", 0, "A sequence starts at 37 and goes up by 8. What is term 6?", 77);
    check("tiny/digit-sum/473819", 1, "Add up the digits of 473,819.", 32);
    check("tiny/maximum/38,91,27", 0, "What is the largest of 38, 91 and 27?", 91);
    check("tiny/bags/7*38+5", 0, "How many are 7 bags of 38 and 5 more?", 271);
    check("tiny/evaluation/4(x+25),x=17", 0, "What is 4(x+25) at x=17?", 168);
    check("tiny/perimeter/6*384", 1, "A shape has 6 equal sides of 384. Find its perimeter.", 2304);
}

#[test]
fn by_id_inverts_the_problem_id() {
    for subject in SUBJECTS {
        let exercise = subject.exercise(&mut stream());
        let problem = exercise.problem();
        assert_eq!(by_id(&problem.id), Some(exercise));
    }
    for id in ["", "tiny/addition", "tiny/addition/99+556", "tiny/addition/334 + 556", "tiny/chess/1", "tiny/linear/5y+29=295"] {
        assert_eq!(by_id(id), None, "{id}");
    }
}

#[test]
fn exercise_worked_steps_end_with_the_answer() {
    let mut stream = stream();
    for subject in SUBJECTS {
        for _ in 0..2_000 {
            let exercise = subject.exercise(&mut stream);
            let answer = exercise.answer.to_string();
            let found = match subject.name {
                // The digits of the quotient.
                "linear" => {
                    let mut quotients = exercise.worked_steps.match_indices('r').map(|(at, _)| &exercise.worked_steps[at - 1..at]);
                    answer.chars().all(|digit| quotients.next() == Some(&digit.to_string()))
                }
                "remainder" => exercise.worked_steps.ends_with(&format!("r{answer}")),
                "digit-sum" => exercise.worked_steps.ends_with(&format!("={:02}", exercise.answer)),
                // The result of the last column.
                _ => exercise.worked_steps.ends_with(&format!("({answer})")),
            };
            assert!(found, "{exercise:?}");
            assert!(!exercise.worked_steps.contains(':'), "the prompt's last token must not occur in a step: {exercise:?}");
        }
    }
}

#[test]
fn exercise_canonical_ignores_operand_order() {
    let canonical = |id| by_id(id).map(|exercise| (exercise.canonical.clone(), exercise.split()));
    let check = |one, other| assert!(canonical(one).is_some() && canonical(one) == canonical(other), "{one} {other}");
    check("tiny/addition/334+556", "tiny/addition/556+334");
    check("tiny/maximum/38,91,27", "tiny/maximum/27,38,91");
    check("tiny/digit-sum/473819", "tiny/digit-sum/918374");
    check("tiny/evaluation/4(x+25),x=17", "tiny/evaluation/4(x+17),x=25");
    check("tiny/sequence/37,+8,term6", "tiny/sequence/37,+5,term9");
}

#[test]
fn subjects_have_enough_problems() {
    for subject in SUBJECTS {
        let mut stream = stream();
        let canonical: HashSet<_> = (0..40_000).map(|_| subject.exercise(&mut stream).canonical).collect();
        assert!(canonical.len() >= 3_100, "{}: {}", subject.name, canonical.len());
    }
}

#[test]
fn subjects_share_no_arithmetic() {
    // Sort the operands of each expression, so that 7*38 and 38*7 collide.
    let mut owners: HashMap<String, &str> = HashMap::new();
    let mut stream = stream();
    for subject in SUBJECTS {
        for _ in 0..5_000 {
            let exercise = subject.exercise(&mut stream);
            let shape: String = exercise.expression.chars().filter(|c| !c.is_ascii_digit()).collect();
            let mut operands: Vec<_> = exercise.expression.split(|c: char| !c.is_ascii_digit()).collect();
            operands.sort_unstable();
            let owner = *owners.entry(format!("{shape} {operands:?}")).or_insert(subject.name);
            assert_eq!(owner, subject.name, "{exercise:?}");
        }
    }
}

#[test]
fn problems_are_balanced_distinct_disjoint_and_repeatable() {
    let canonical = |problem: &Problem| {
        let exercise = by_id(&problem.id).expect("every problem's id resolves");
        (exercise.subject, exercise.canonical)
    };
    let mut seen = HashSet::new();
    for split in [Split::Train, Split::Validation, Split::Test] {
        let set = problems(split, split.default_count(), 1).expect("the default sets exist");
        assert_eq!(set.len(), split.default_count());
        assert_eq!(set, problems(split, split.default_count(), 1).expect("again"));
        assert_eq!(set[..7], problems(split, 7, 1).expect("a prefix"));
        assert_ne!(set, problems(split, split.default_count(), 2).expect("another seed"));
        for subject in SUBJECTS {
            let share = set.iter().filter(|problem| problem.subject == subject.name).count();
            assert_eq!(share, split.default_count() / SUBJECTS.len(), "{}", subject.name);
        }
        assert!(set.iter().all(|problem| by_id(&problem.id).map(|exercise| exercise.split()) == Some(split)));
        assert!(set.iter().all(|problem| seen.insert(canonical(problem))), "a problem appears twice");
    }
}

#[test]
fn split_is_80_10_10_and_stable() {
    let mut stream = stream();
    let mut counts = HashMap::new();
    for subject in SUBJECTS {
        (0..3_000).for_each(|_| *counts.entry(subject.exercise(&mut stream).split()).or_insert(0u32) += 1);
    }
    // The standard deviations are 69 and 52.
    assert!(counts[&Split::Train].abs_diff(24_000) < 400, "{counts:?}");
    assert!(counts[&Split::Test].abs_diff(3_000) < 300, "{counts:?}");
    assert_eq!(by_id("tiny/addition/334+556").map(|exercise| exercise.split()), Some(Split::Train));
}

#[test]
fn problems_rejects_more_than_a_subject_has() {
    let message = problems(Split::Test, 100_000, 1).expect_err("no subject has this many").to_string();
    assert!(message.contains("100000 were requested") && message.contains("test problems"), "{message}");
}
