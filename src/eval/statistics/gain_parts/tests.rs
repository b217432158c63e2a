use super::*;
use crate::rng::{Purpose, Stream};

/// A response from letters: its style, then `b` if the boxed answer is right, `u` if only the unboxed one is, and `x` if it is broken.
fn response(text: &str) -> GradedResponse {
    let (style, flags) = text.split_at(1);
    let correct = flags.contains('b');
    GradedResponse {
        correct,
        correct_with_fallback: correct || flags.contains('u'),
        style: Some(style.to_owned()).filter(|style| style != "-"),
        broken: flags.contains('x'),
    }
}

/// One response per problem.
fn problems(text: &str) -> Vec<Vec<GradedResponse>> {
    text.split(' ').map(|one| vec![response(one)]).collect()
}

fn check(before: &str, after: &str, elsewhere: &str, expected: [f64; 4]) -> GainParts {
    let elsewhere: Vec<GradedResponse> = elsewhere.split_whitespace().map(response).collect();
    let parts = gain_parts(&problems(before), &problems(after), &elsewhere).unwrap();
    let found = [&parts.format, &parts.styles, &parts.broken, &parts.rest].map(|part| part.mean);
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-12, "{before} -> {after}: {parts:?}");
    }
    parts
}

#[test]
fn gain_parts_by_hand() {
    // Right answers get their box.
    check("-u -u - -b", "-b -b - -b", "", [0.5, 0.0, 0.0, 0.0]);
    // Wrong answers become right.
    check("- - - -b", "-b - - -b", "", [0.0, 0.0, 0.0, 0.25]);
    // Half of the responses were cut off, of which none was right; the other half stays as it is.
    check("-x -x -b -b", "-b -b -b -b", "", [0.0, 0.0, 0.5, 0.0]);
    // The style g is never right, c always is: only the choice changes.
    check("g g g cb", "g cb cb cb", "", [0.0, 0.5, 0.0, 0.0]);
    // The style c is right half of the time before. Its share grows by a half (a quarter of the gain), then it improves.
    check("g g cb c", "cb cb cb cb", "", [0.0, 0.25, 0.0, 0.5]);
    // Everything gets worse.
    check("cb cb cb cb", "g gx cu c", "", [-0.25, 0.0, 0.0, -0.75]);
}

#[test]
fn gain_parts_take_the_accuracy_of_a_new_style_from_elsewhere() {
    let parts = check("g g", "cb cb", "cb c c c", [0.0, 0.25, 0.0, 0.75]);
    assert_eq!(parts.by_style[0].assumed, Some(0.25));
    assert_eq!((parts.by_style[0].share, parts.by_style[0].accuracy), ([0.0, 1.0], [None, Some(1.0)]));
    // How often c was right before is unknown, so the change of style explains nothing.
    let parts = check("g gb", "cb cb", "", [0.0, 0.0, 0.0, 0.5]);
    assert_eq!((parts.by_style[0].assumed, parts.by_style[1].assumed), (None, Some(0.5)));
}

#[test]
fn gain_parts_add_up_to_the_gain() {
    let mut stream = Stream::new(7, Purpose::Corpus, 0);
    let mut random = |samples: usize| {
        let one = |stream: &mut Stream| {
            let correct = stream.below(3) == 0;
            GradedResponse {
                correct,
                correct_with_fallback: correct || stream.below(4) == 0,
                style: [None, Some("a"), Some("b"), Some("c")][stream.below(4) as usize].map(str::to_owned),
                broken: stream.below(5) == 0,
            }
        };
        (0..samples).map(|_| one(&mut stream)).collect::<Vec<_>>()
    };
    for samples in [1, 3, 8] {
        for problems in [1, 2, 20] {
            let [before, after] = [0, 1].map(|_| (0..problems).map(|_| random(samples)).collect::<Vec<_>>());
            let parts = gain_parts(&before, &after, &random(4)).unwrap();
            let accuracy = |problems: &[Vec<GradedResponse>]| {
                let of = |problem: &Vec<GradedResponse>| problem.iter().filter(|one| one.correct).count() as f64 / problem.len() as f64;
                problems.iter().map(of).sum::<f64>() / problems.len() as f64
            };
            let sum = parts.format.mean + parts.styles.mean + parts.broken.mean + parts.rest.mean;
            assert!((sum - parts.gain.mean).abs() < 1e-12, "{parts:?}");
            assert!((accuracy(&after) - accuracy(&before) - parts.gain.mean).abs() < 1e-12, "{parts:?}");
        }
    }
}

#[test]
fn gain_parts_have_the_interval_of_a_paired_comparison() {
    let (before, after) = (problems("- -b - - -u"), problems("-b -b - -b -b"));
    let parts = gain_parts(&before, &after, &[]).unwrap();
    let scores = |problems: &[Vec<GradedResponse>]| problems.iter().map(|one| f64::from(u8::from(one[0].correct))).collect::<Vec<_>>();
    let compared = super::super::compare(&scores(&before), &scores(&after)).unwrap().difference;
    for (found, expected) in [(parts.gain.mean, compared.mean), (parts.gain.low, compared.low), (parts.gain.high, compared.high)] {
        assert!((found - expected).abs() < 1e-9, "{parts:?} {compared:?}");
    }
    assert!(gain_parts(&before, &after[1..], &[]).is_none() && gain_parts(&[], &[], &[]).is_none());
    assert!(gain_parts(&[vec![]], &[vec![]], &[]).is_none());
}
