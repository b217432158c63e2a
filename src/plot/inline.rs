//! Pictures inside an HTML page, whose content security policy forbids style sheets in the pictures. The page has one for all of them,
//! which also has what programs without CSS find in attributes, so that these pictures are much smaller.

use std::fmt::Write;

use super::theme::{Ink, SERIES, style_sheet};

const DARK: &str = "@media screen and (prefers-color-scheme:dark)";

/// Rules instead of attributes that many elements have.
const SHAPES: &str = "[class^=rp-s]{fill:none;stroke-linejoin:round;stroke-linecap:round}";

/// Removes the style sheet from a picture, and the attributes that [`page_style`] of its page replaces.
pub fn without_style(svg: &str) -> String {
    let svg = match (svg.split_once("<style>"), svg.split_once("</style>\n")) {
        (Some((before, _)), Some((_, after))) => format!("{before}{after}"),
        _ => svg.to_owned(),
    };
    let mut short = String::with_capacity(svg.len());
    for (index, tag) in svg.split('<').enumerate() {
        if index > 0 {
            short.push('<');
        }
        let (attributes, text) = tag.split_once('>').map_or((tag, None), |(attributes, text)| (attributes, Some(text)));
        short.push_str(&without_attributes(attributes));
        if let Some(text) = text {
            short.push('>');
            short.push_str(text);
        }
    }
    short
}

/// Returns the content of a tag without the attributes for programs that do not know the page's style.
fn without_attributes(tag: &str) -> String {
    let has_class = tag.contains(r#" class=""#);
    let mut parts = tag.split('"');
    let mut short = parts.next().unwrap_or("").to_owned();
    // Values are escaped, so quotes only surround them.
    while let (Some(value), Some(after)) = (parts.next(), parts.next()) {
        let name = short.rsplit(' ').next().unwrap_or("").trim_end_matches('=').to_owned();
        let is_in_style = match name.as_str() {
            "xmlns" | "font-family" | "stroke-linejoin" | "stroke-linecap" => true,
            "fill" | "stroke" => has_class,
            _ => false,
        };
        if is_in_style {
            short.truncate(short.len() - name.len() - 2);
        } else {
            let _ = write!(short, "\"{value}\"");
        }
        short.push_str(after);
    }
    short
}

/// Returns the style sheet of a page with pictures. They follow the reader's preference for dark mode, unless the attribute `data-theme` of
/// the page's root is `light` or `dark`.
pub fn page_style() -> String {
    let sheet = style_sheet();
    let (paper, dark) = sheet.split_once(DARK).unwrap_or((&sheet, "{}"));
    let fixed = [Ink::Text, Ink::Muted, Ink::Grid, Ink::Axis, Ink::Shade, Ink::Level];
    let mut light = String::new();
    for ink in fixed.into_iter().chain((0..SERIES).flat_map(|index| [Ink::Series(index), Ink::Label(index)])) {
        let (fill, stroke, color) = (ink.fill_class(), ink.stroke_class(), ink.light());
        let _ = write!(light, ".{fill}{{fill:{color}}}.{stroke}{{stroke:{color}}}");
    }
    format!("{SHAPES}{paper}{light}{DARK}{{:root:not([data-theme=light]){dark}}}@media screen{{:root[data-theme=dark]{dark}}}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::chart::LineChart;

    #[test]
    fn without_style_keeps_shapes_and_texts() {
        let svg = LineChart { title: "a > \"b\" < c".to_owned(), ..LineChart::default() }.svg();
        let inline = without_style(&svg);
        assert!(svg.contains("<style>") && !inline.contains("style>") && !inline.contains('#'), "{inline}");
        let title = svg.split_once("<title>").unwrap().1.split_once("</title>").unwrap().0;
        assert!(inline.starts_with("<svg width=") && inline.ends_with("</svg>\n") && inline.contains(title), "{inline}");
        let count = |text: &str, part: &str| text.matches(part).count();
        assert_eq!((count(&svg, "<path"), count(&svg, "<text")), (count(&inline, "<path"), count(&inline, "<text")));
        let check = |tag: &str, expected: &str| assert_eq!(without_style(tag), expected, "{tag}");
        check(
            r##"<path d="M1,2" fill="none" class="rp-s1" stroke="#d55e00" stroke-width="2"/>"##,
            r#"<path d="M1,2" class="rp-s1" stroke-width="2"/>"#,
        );
        check(r##"<rect x="1" fill="#fff"/> fill="none""##, r##"<rect x="1" fill="#fff"/> fill="none""##);
    }

    #[test]
    fn page_style_has_light_colors_and_dark_ones_twice() {
        let (sheet, page) = (style_sheet(), page_style());
        let dark = sheet.split_once(DARK).unwrap().1;
        assert_eq!(page.matches(dark).count(), 2);
        assert!(page.contains(&format!(".rp-f0{{fill:{}}}", Ink::Series(0).light())));
        assert_eq!(page.matches('{').count(), page.matches('}').count());
    }
}
