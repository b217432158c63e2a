//! Tests the pictures of charts with typical and with extreme numbers.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

use super::*;
use crate::plot::path::tests::corners_of;

/// Checks that a picture has balanced elements, and no numbers that SVG does not have.
fn check_svg(picture: &str) {
    let mut open: Vec<&str> = Vec::new();
    for tag in picture.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap();
        let name = tag.split([' ', '/']).find(|name| !name.is_empty()).unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{picture}");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
    }
    assert!(open.is_empty(), "{open:?}");
    assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
}

fn line(name: &str, style: LineStyle, points: Vec<Sample>) -> Line {
    Line { name: name.into(), points, style }
}

fn chart(lines: Vec<Line>) -> LineChart {
    let (x, y) = (Axis::new("training step", Unit::Number), Axis::new("entropy (nats)", Unit::Number));
    LineChart { title: "Entropy".into(), description: "By step".into(), x, y, lines, ..LineChart::default() }
}

fn wave(count: usize, height: f64) -> Vec<Sample> {
    let value = |index: usize| height * (index as f64 / 9.0).sin();
    (0..count).map(|index| Sample { x: index as f64, y: value(index), low: value(index) - 0.1, high: value(index) + 0.1 }).collect()
}

#[test]
fn line_chart_has_names_values_and_what_a_script_needs() {
    let points = vec![Sample::new(0.0, 1.5), Sample { x: 100.0, y: 0.25, low: 0.2, high: 0.3 }];
    let picture = LineChart {
        marks: vec![Mark { x: 60.0, label: "saturation".into() }],
        levels: vec![Level { y: 1.0, label: "paper".into() }],
        ..chart(vec![line("run <1> & \"2\"", LineStyle::Markers(0), points)])
    }
    .svg();
    check_svg(&picture);
    for part in [
        "<title>Entropy</title>",
        "<desc>By step</desc>",
        "data-chart=\"line\"",
        "data-x0=\"0\" data-x1=\"100\" data-y0=\"0\" data-y1=\"1.5\"",
        "data-xscale=\"linear\" data-yscale=\"linear\"",
        "data-name=\"run &lt;1&gt; &amp; &quot;2&quot;\"",
        "<title>run &lt;1&gt; &amp; &quot;2&quot; at training step 100: 0.25 [0.2, 0.3]</title>",
        ">saturation<",
        ">paper<",
        ">entropy (nats)<",
        ">0.25<",
    ] {
        assert!(picture.contains(part), "{part} is not in\n{picture}");
    }
}

#[test]
fn line_chart_draws_any_numbers() {
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, 0.0, -1.0, 1e-300, 1e9, 1e9 + 1.0];
    let of = |values: &[f64]| values.iter().enumerate().map(|(x, y)| Sample { x: x as f64, y: *y, low: *y, high: -y }).collect();
    let mut cases: Vec<Vec<Sample>> = odd.iter().map(|value| of(&[*value])).collect();
    cases.extend(odd.iter().map(|value| of(&[*value; 5])));
    cases.extend([of(&odd), vec![], odd.iter().map(|x| Sample::new(*x, 1.0)).collect()]);
    for points in cases {
        for (scale, size) in [(Scale::Linear, Size::Full), (Scale::Log, Size::Small)] {
            let mut chart = chart(vec![line("a", LineStyle::Markers(3), points.clone())]);
            (chart.x.scale, chart.y.scale, chart.size) = (scale, scale, size);
            chart.marks = odd.iter().map(|x| Mark { x: *x, label: "m".into() }).collect();
            chart.levels = odd.iter().map(|y| Level { y: *y, label: "l".into() }).collect();
            check_svg(&chart.svg());
        }
    }
}

#[test]
fn line_chart_without_values_says_so() {
    for lines in [vec![], vec![line("a", LineStyle::Plain(0), vec![Sample::new(1.0, f64::NAN)])]] {
        let picture = chart(lines).svg();
        check_svg(&picture);
        assert!(picture.contains(">no data<"), "{picture}");
    }
}

#[test]
fn line_chart_of_many_points_stays_small_and_keeps_a_spike() {
    let mut lines: Vec<Line> = (0..8).map(|index| line(&format!("run {index}"), LineStyle::Plain(index), wave(2000, 1.0))).collect();
    lines[3].points[1234].y = 50.0;
    let chart = chart(lines);
    let picture = chart.svg();
    check_svg(&picture);
    assert!(picture.len() < 20_000, "{} bytes", picture.len());
    let frame_top = |name: &str| picture.split(&format!("data-{name}=\"")).nth(1).unwrap().split('"').next().unwrap().to_owned();
    let spike = picture.lines().find(|line| line.contains("data-name=\"run 3\"")).unwrap();
    assert_eq!(frame_top("y1"), "60");
    let corners = corners_of(spike.split('"').nth(1).unwrap()).concat();
    let top: f64 = frame_top("top").parse().unwrap();
    let bottom: f64 = frame_top("bottom").parse().unwrap();
    let low: f64 = frame_top("y0").parse().unwrap();
    let expected = bottom - (50.0 - low) / (60.0 - low) * (bottom - top);
    assert!(corners.iter().any(|(_, y)| (y - expected).abs() < 0.06), "{expected} is not in {spike}");
    assert_eq!(chart.csv().lines().count(), 2001);
}

#[test]
fn line_chart_writes_labels_apart() {
    let lines = (0..8).map(|index| line(&format!("a long name of run {index}"), LineStyle::Plain(index), wave(50, 0.001)));
    for size in [Size::Full, Size::Small] {
        let picture = LineChart { size, ..chart(lines.clone().collect()) }.svg();
        check_svg(&picture);
        let attribute = |line: &str, index: usize| line.split('"').nth(index).unwrap().parse::<f64>().unwrap();
        // The texts of ticks are in groups.
        let without_groups = picture.split("<g ").map(|part| part.split_once("</g>").map_or(part, |(_, after)| after));
        let without_groups: String = without_groups.collect();
        let texts: Vec<(f64, f64, &str)> = without_groups
            .lines()
            .filter(|line| line.starts_with("<text") && !line.contains("text-anchor"))
            .map(|line| (attribute(line, 1), attribute(line, 3), line.split('>').nth(1).unwrap().trim_end_matches("</text")))
            .collect();
        assert!(texts.len() >= 17, "{texts:?}");
        for (index, (x, y, text)) in texts.iter().enumerate() {
            let right = x + crate::plot::text::text_width(text, size.font());
            assert!(right <= size.width(), "{text} leaves the picture");
            let overlaps = |other: &&(f64, f64, &str)| other.0 >= *x && other.0 < right && (other.1 - y).abs() < size.font();
            assert_eq!(texts[index + 1..].iter().find(overlaps), None, "{text}");
        }
    }
}

#[test]
fn line_chart_draws_few_intervals_as_error_bars() {
    let has_area = |count| chart(vec![line("a", LineStyle::Markers(0), wave(count, 1.0))]).svg().contains("fill-opacity=\"0.18\"");
    assert_eq!([has_area(2), has_area(3), has_area(4)], [false, false, true]);
}

#[test]
fn bar_chart_has_a_bar_with_a_tooltip_for_each_value() {
    let series = vec![
        BarSeries { name: "base".into(), values: vec![Value { value: 0.25, low: 0.2, high: 0.3 }, Value::new(0.5)] },
        BarSeries { name: "end".into(), values: vec![Value::new(0.75), Value::new(f64::NAN)] },
    ];
    let categories = vec!["algebra".into(), "number theory".into()];
    let chart = BarChart { value: Axis::new("accuracy", Unit::Percent), categories, series, ..BarChart::default() };
    let picture = chart.svg();
    check_svg(&picture);
    for part in ["algebra, base: 25.0% [20.0%, 30.0%]", "number theory, base: 50.0%", "algebra, end: 75.0%"] {
        assert!(picture.contains(&format!("<title>{part}</title></rect>")), "{part} is not in\n{picture}");
    }
    assert_eq!(picture.matches("</title></rect>").count(), 3);
    assert!(picture.contains("data-chart=\"bar\"") && picture.contains(">–<"));
}

#[test]
fn bar_chart_draws_any_numbers() {
    let odd = [f64::NAN, f64::INFINITY, f64::MAX, f64::MIN, 0.0, -1.0, 1e-300];
    for scale in [Scale::Linear, Scale::Log] {
        let values = odd.iter().map(|value| Value { value: *value, low: *value, high: 2.0 }).collect();
        let series = vec![BarSeries { name: String::new(), values }];
        let categories: Vec<String> = odd.iter().map(|value| format!("{} {value}", "long ".repeat(30))).collect();
        let value = Axis { scale, ..Axis::new("value", Unit::Number) };
        // One category fewer than values.
        let chart = BarChart { value, categories: categories[..6].to_vec(), series, size: Size::Small, ..BarChart::default() };
        let picture = chart.svg();
        check_svg(&picture.replace(" inf", " "));
    }
    let picture = BarChart::default().svg();
    check_svg(&picture);
    assert!(picture.contains(">no data<"));
}

#[test]
fn stacked_chart_adds_layers_up() {
    let layers = vec![("rollouts".to_owned(), vec![1.0, 3.0]), ("update".to_owned(), vec![1.0, 1.0])];
    let chart = StackedChart { y: Axis::new("time", Unit::Seconds), layers, xs: vec![1.0, 2.0], ..StackedChart::default() };
    let picture = chart.svg();
    check_svg(&picture);
    assert!(picture.contains("data-chart=\"stacked\"") && picture.contains("data-y1=\"4\"") && picture.contains("data-name=\"update\""));
    let odd = vec![f64::NAN, -1.0, f64::INFINITY];
    for xs in [vec![], vec![1.0], vec![0.0, f64::NAN, 2.0], (0..2000).map(f64::from).collect()] {
        let layers = vec![("odd".to_owned(), odd.clone()), ("long".to_owned(), vec![2.5; 2000])];
        let picture = StackedChart { layers, xs, size: Size::Small, ..StackedChart::default() }.svg();
        check_svg(&picture);
        assert!(picture.len() < 26_000);
    }
}

#[test]
fn stacked_chart_spans_all_data() {
    let xs: Vec<f64> = (1..=2000).map(f64::from).collect();
    let picture = StackedChart { layers: vec![("update".to_owned(), vec![1.0; 2000])], xs, ..StackedChart::default() }.svg();
    assert!(picture.contains("data-x0=\"1\" data-x1=\"2000\""), "{picture}");
}
