//! Tests the content of the picture for typical and unusual runs, and that labels do not overlap.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

use super::*;

fn point(step: u32, value: f64) -> Point {
    Point { step, value, low: value - 0.02, high: value + 0.02 }
}

/// A run of 300 steps that saturates at step 131.
fn typical() -> Curve {
    let accuracy = |step: u32| (0.1 + step as f32 / 131.0).min(1.0);
    let rise = |top: f64| move |step: u32| point(step, 0.1 + (top - 0.1) * (f64::from(step) / 100.0).min(1.0));
    Curve {
        title: "One example".into(),
        subtitle: "tiny, GRPO".into(),
        caption: "Held-out greedy 10.0% to 88.9%.".into(),
        train: (1..=300).map(|step| (step, accuracy(step))).collect(),
        greedy: (0..=300).step_by(20).map(rise(0.889)).collect(),
        sampled: (0..=300).step_by(20).map(rise(0.885)).collect(),
        saturation_step: Some(131),
        window: 5,
    }
}

/// Returns the y of each label right of the plot, sorted.
fn label_rows(picture: &str) -> Vec<f64> {
    let mut rows: Vec<f64> = picture
        .lines()
        .filter(|line| line.starts_with("<text x=\"746.0\""))
        .map(|line| line.split('"').nth(3).unwrap().parse().unwrap())
        .collect();
    rows.sort_by(f64::total_cmp);
    rows
}

#[test]
fn svg_shows_a_typical_run() {
    let picture = svg(&typical());
    for part in [
        ">One example<",
        ">tiny, GRPO<",
        ">Held-out greedy 10.0% to 88.9%.<",
        ">train accuracy saturates at step 131<",
        " · shaded: after saturation<",
        ">88.9%</tspan><tspan font-weight=\"400\"> held-out, greedy<",
        ">88.5%</tspan><tspan font-weight=\"400\"> held-out, sampled<",
        ">100%</tspan><tspan font-weight=\"400\"> training example<",
        ">10.0%</tspan><tspan font-weight=\"400\"> base, greedy<",
    ] {
        assert!(picture.contains(part), "{part} is not in\n{picture}");
    }
    let rows = label_rows(&picture);
    assert_eq!(rows.len(), 4);
    assert!(rows.windows(2).all(|pair| pair[1] - pair[0] >= 18.9), "{rows:?}");
}

#[test]
fn svg_contains_no_nan() {
    let mut gaps = typical();
    gaps.train[40].1 = f32::NAN;
    gaps.train[299].1 = f32::INFINITY;
    gaps.greedy[3].value = f64::NAN;
    gaps.sampled[0].low = f64::NAN;
    gaps.sampled[15] = Point { step: 300, value: f64::NAN, low: f64::NAN, high: f64::NAN };
    let short = Curve { train: vec![(1, 0.0), (2, 1.0)], greedy: vec![point(0, 0.1)], ..Curve::default() };
    let nothing_finite =
        Curve { train: vec![(1, f32::NAN); 6], greedy: vec![point(0, f64::NAN)], saturation_step: Some(0), ..Curve::default() };
    let late = Curve { saturation_step: Some(300), ..typical() };
    for curve in [gaps, short, nothing_finite.clone(), late, Curve::default()] {
        let picture = svg(&curve);
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
        assert_eq!(picture.matches("<text").count(), picture.matches("</text>").count());
    }
    assert!(svg(&nothing_finite).contains("no accuracy was recorded"));
}

#[test]
fn svg_labels_a_late_saturation_on_its_left() {
    let picture = svg(&Curve { saturation_step: Some(290), ..typical() });
    let label = picture.lines().find(|line| line.contains("saturates at step 290"));
    assert!(label.unwrap().contains("text-anchor=\"end\""));
}

#[test]
fn smoothed_averages_finite_steps() {
    let train = [1.0, 0.0, f32::NAN, 1.0, 1.0, 1.0, 1.0];
    let train: Vec<(u32, f32)> = (1..).zip(train).collect();
    let found: Vec<f64> = smoothed(&train, 5).iter().map(|&(_, mean)| mean).collect();
    assert_eq!(found[..2], [1.0, 0.5]);
    assert!(found[2].is_nan());
    assert_eq!(found[3..], [2.0 / 3.0, 0.75, 0.75, 1.0]);
}
