//! Everything of the picture that is words: heading, caption and small print.

use super::curve::{Curve, HEIGHT, PLAIN, QUIET, SIDE, WIDTH};
use super::frame::Frame;
use super::svg::{Canvas, Type};
use super::text::wrap;

/// Title and subtitle; returns where they end.
pub(super) fn draw_heading(canvas: &mut Canvas, curve: &Curve) -> f64 {
    let title = Type { size: 19.0, weight: 700, ..PLAIN };
    let subtitle = Type { color: QUIET, ..PLAIN };
    let mut y = 14.0;
    for (style, text, lines) in [(title, &curve.title, 2), (subtitle, &curve.subtitle, 2)] {
        for line in wrap(text, style.size, WIDTH - 2.0 * SIDE, lines) {
            y += style.size + 4.0;
            canvas.text((SIDE, y), style, &line);
        }
        y += 3.0;
    }
    y
}

/// The caption at the foot; returns where it begins.
pub(super) fn draw_caption(canvas: &mut Canvas, curve: &Curve) -> f64 {
    let lines = wrap(&curve.caption, PLAIN.size, WIDTH - 2.0 * SIDE, 3);
    let top = HEIGHT - 12.0 - lines.len() as f64 * 18.0;
    for (index, line) in lines.iter().enumerate() {
        canvas.text((SIDE, top + 14.0 + index as f64 * 18.0), PLAIN, line);
    }
    top
}

/// What the thin and the pale mean, in small print under the right end; and what to say when there is nothing to draw.
pub(super) fn draw_notes(canvas: &mut Canvas, curve: &Curve, frame: &Frame) {
    let trained = curve.train.iter().any(|(_, accuracy)| accuracy.is_finite());
    let mut points = curve.greedy.iter().chain(&curve.sampled);
    let evaluated = points.any(|point| point.value.is_finite());
    let note = Type { size: 11.0, color: QUIET, anchor: "end", weight: 400 };
    let steps = format!("thin: every step, thick: mean of {}", curve.window.max(1));
    let parts: Vec<&str> =
        [(trained, steps.as_str()), (evaluated, "bands: 95% intervals"), (curve.saturation_step.is_some(), "shaded: after saturation")]
            .iter()
            .filter_map(|&(drawn, part)| drawn.then_some(part))
            .collect();
    canvas.text((WIDTH - SIDE, frame.bottom + 39.0), note, &parts.join(" · "));
    if !trained && !evaluated {
        let middle = ((frame.left + frame.right) / 2.0, (frame.top + frame.bottom) / 2.0);
        let style = Type { color: QUIET, anchor: "middle", ..PLAIN };
        canvas.text(middle, style, "no accuracy was recorded");
    }
}
