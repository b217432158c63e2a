//! The colors of pictures in light and in dark mode.
//!
//! Elements have the light color as an attribute, for programs without CSS, and a class, for which the style sheet has the dark color.
//! All class names start with `rp-`, because a style sheet inside an SVG applies to the whole page that contains it.

use std::fmt::Write;

/// What a color is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    /// The background.
    Paper,
    /// Text in the foreground.
    Text,
    /// Less important text.
    Muted,
    /// Grid lines.
    Grid,
    /// The axes and their ticks.
    Axis,
    /// The background of a region that matters.
    Shade,
    /// Lines for comparison.
    Level,
    /// Lines and areas of the series with this index.
    Series(usize),
    /// Text about the series with this index.
    Label(usize),
}

/// The number of different colors of series.
pub(super) const SERIES: usize = 8;

/// The colors of series in light mode: Okabe and Ito's palette, which people with any common color vision can distinguish. Purple and
/// yellow are darker here, to be visible on white.
const LIGHT: [&str; SERIES] = ["#0072b2", "#d55e00", "#009e73", "#bf6597", "#555b63", "#e69f00", "#56b4e9", "#a89a00"];
/// Darker shades of the same colors, for text on white.
const LIGHT_TEXT: [&str; SERIES] = ["#005a8e", "#b04a00", "#00734f", "#9a4375", "#454b53", "#8a5f00", "#1f6f9f", "#6b6200"];
/// Lighter shades of the same colors, for lines and text on black.
const DARK: [&str; SERIES] = ["#58aee8", "#ff8b4d", "#35c99a", "#e592c0", "#b4bcc6", "#f2b63c", "#9bd6fa", "#eee05c"];

impl Ink {
    /// Returns the color in light mode.
    pub fn light(self) -> &'static str {
        match self {
            Self::Paper => "#ffffff",
            Self::Text => "#1f2630",
            Self::Muted => "#59626d",
            Self::Grid => "#dfe3e8",
            Self::Axis => "#6b7480",
            Self::Shade => "#f6f1df",
            Self::Level => "#7a8490",
            Self::Series(index) => LIGHT[index % SERIES],
            Self::Label(index) => LIGHT_TEXT[index % SERIES],
        }
    }

    /// Returns the color for lines that belong to text of this color.
    pub fn of_line(self) -> Self {
        if let Self::Label(index) = self { Self::Series(index) } else { Self::Level }
    }

    /// Returns the color in dark mode.
    fn dark(self) -> &'static str {
        match self {
            Self::Paper => "#15191f",
            Self::Text => "#e6e9ed",
            Self::Muted => "#a5aeb9",
            Self::Grid => "#2d343d",
            Self::Axis => "#838d99",
            Self::Shade => "#25231a",
            Self::Level => "#8e98a4",
            Self::Series(index) | Self::Label(index) => DARK[index % SERIES],
        }
    }

    /// Returns the class of elements that are filled with the color.
    pub fn fill_class(self) -> String {
        format!("rp-f{}", self.name())
    }

    /// Returns the class of elements with an outline in the color.
    pub fn stroke_class(self) -> String {
        format!("rp-s{}", self.name())
    }

    fn name(self) -> String {
        match self {
            Self::Paper => "p".to_owned(),
            Self::Text => "t".to_owned(),
            Self::Muted => "m".to_owned(),
            Self::Grid => "g".to_owned(),
            Self::Axis => "a".to_owned(),
            Self::Shade => "h".to_owned(),
            Self::Level => "v".to_owned(),
            Self::Series(index) => format!("{}", index % SERIES),
            Self::Label(index) => format!("l{}", index % SERIES),
        }
    }
}

/// Returns the style sheet inside every picture. It is always the same, so that a page's security policy can name its hash. A page sets
/// `--rp-paper` to its own background. Print uses the light colors.
pub fn style_sheet() -> String {
    let fixed = [Ink::Text, Ink::Muted, Ink::Grid, Ink::Axis, Ink::Shade, Ink::Level];
    let series = (0..SERIES).flat_map(|index| [Ink::Series(index), Ink::Label(index)]);
    let paper = |color: &str| format!(".rp-fp{{fill:var(--rp-paper,{color})}}.rp-sp{{stroke:var(--rp-paper,{color})}}");
    let mut dark = paper(Ink::Paper.dark());
    for ink in fixed.into_iter().chain(series) {
        let _ = write!(dark, ".{}{{fill:{}}}", ink.fill_class(), ink.dark());
        if !matches!(ink, Ink::Label(_)) {
            let _ = write!(dark, ".{}{{stroke:{}}}", ink.stroke_class(), ink.dark());
        }
    }
    format!("{}@media screen and (prefers-color-scheme:dark){{{dark}}}", paper(Ink::Paper.light()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the relative luminance of a color as WCAG defines it.
    fn luminance(color: &str) -> f64 {
        let channel = |at: usize| {
            let value = f64::from(u8::from_str_radix(&color[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    }

    fn contrast(one: &str, other: &str) -> f64 {
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn text_inks_contrast_with_paper_in_both_modes() {
        for ink in [Ink::Text, Ink::Muted].into_iter().chain((0..SERIES).map(Ink::Label)) {
            assert!(contrast(ink.light(), Ink::Paper.light()) >= 4.5, "{ink:?} in light mode");
            assert!(contrast(ink.light(), Ink::Shade.light()) >= 4.5, "{ink:?} on the shade in light mode");
            assert!(contrast(ink.dark(), Ink::Paper.dark()) >= 4.5, "{ink:?} in dark mode");
        }
    }

    #[test]
    fn style_sheet_has_a_rule_for_every_class() {
        let sheet = style_sheet();
        for ink in [Ink::Paper, Ink::Text, Ink::Shade, Ink::Series(0), Ink::Series(7)] {
            assert!(
                sheet.contains(&format!(".{}{{", ink.fill_class())) && sheet.contains(&format!(".{}{{", ink.stroke_class())),
                "{ink:?}"
            );
        }
        assert!(sheet.contains(&format!(".{}{{fill:{}}}", Ink::Label(7).fill_class(), DARK[7])));
        assert!(sheet.split('.').skip(1).all(|rule| rule.starts_with("rp-")), "{sheet}");
    }
}
