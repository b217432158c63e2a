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
        gain: Some(Estimate { mean: 0.102, low: 0.088, high: 0.116 }),
        levels: Vec::new(),
        window: 5,
    }
}

/// Returns the y of each bold label right of the plot, from the top.
fn label_rows(picture: &str) -> Vec<f64> {
    let labels = picture.lines().filter(|line| line.starts_with("<text") && line.contains("font-weight=\"700\""));
    let attribute = |line: &str, index: usize| line.split('"').nth(index).unwrap().parse::<f64>().unwrap();
    let mut rows: Vec<f64> = labels.filter(|line| attribute(line, 1) > 500.0).map(|line| attribute(line, 3)).collect();
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
        ">training example (mean of 5)<",
        ">each step<",
        ">held-out, greedy<",
        ">88.9%<",
        ">held-out, sampled<",
        ">88.5%<",
        ">base, greedy<",
        ">10.0%<",
        ">95% interval<",
        ">+10.2 points [+8.8, +11.6]<",
        ">sampled, after saturation<",
        "data-chart=\"line\"",
        "data-x1=\"300\"",
        "data-name=\"held-out, greedy\"",
        "<title>held-out, greedy at training step 300: 88.9% [86.9%, 90.9%]</title>",
    ] {
        assert!(picture.contains(part), "{part} is not in\n{picture}");
    }
    let rows = label_rows(&picture);
    assert_eq!(rows.len(), 4);
    assert!(rows.windows(2).all(|pair| pair[1] - pair[0] >= 17.0), "{rows:?}");
}

#[test]
fn svg_text_is_legible_at_360_pixels() {
    let picture = svg(&typical());
    let sizes = picture.split("font-size=\"").skip(1).map(|rest| rest.split('"').next().unwrap().parse::<f64>().unwrap());
    assert!(sizes.clone().count() >= 2 && sizes.fold(f64::MAX, f64::min) * 360.0 / SIZE.width() >= 9.0);
}

/// Some renderers drop spaces at the ends of a text element.
#[test]
fn svg_texts_have_no_spaces_at_their_ends() {
    let picture = svg(&typical());
    let texts = picture.lines().filter(|line| line.starts_with("<text")).map(|line| &line[line.find('>').unwrap() + 1..line.len() - 7]);
    assert!(texts.clone().count() > 10);
    texts.for_each(|text| assert_eq!(text, text.trim()));
}

#[test]
fn svg_of_a_short_run_has_neither_bands_nor_shade() {
    let has_areas = |curve: &Curve| svg(curve).contains("fill-opacity=\"0.18\"");
    let has_shade = |curve: &Curve| svg(curve).contains("class=\"rp-fh\"");
    assert!(has_areas(&typical()) && has_shade(&typical()));
    let short = Curve {
        train: vec![(1, 0.5), (2, 1.0)],
        greedy: vec![point(0, 0.1), point(2, 0.2)],
        sampled: vec![point(0, 0.1), point(2, 0.2)],
        saturation_step: Some(1),
        ..typical()
    };
    assert!(!has_areas(&short) && !has_shade(&short));
    assert!(svg(&short).contains(">training example (mean of 2)<"));
}

#[test]
fn svg_marks_levels_at_the_right_edge() {
    let levels = vec![("paper: base 36.0%".to_owned(), 0.36), ("paper: best 73.6%".to_owned(), 0.736)];
    let picture = svg(&Curve { levels, ..typical() });
    for part in [">paper: base 36.0%<", ">36.0%<", ">paper: best 73.6%<", ">73.6%<"] {
        assert!(picture.contains(part), "{part} is not in\n{picture}");
    }
    assert_eq!(label_rows(&picture).len(), 6);
}

#[test]
fn svg_leaves_out_a_gain_without_room() {
    let picture = svg(&Curve { saturation_step: Some(250), ..typical() });
    assert!(!picture.contains("points ["), "{picture}");
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
    assert!(svg(&nothing_finite).contains("no data"));
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
