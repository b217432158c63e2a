//! Pictures inside an HTML page, whose content security policy forbids style sheets in the pictures. The page has one for all of them.

use super::theme::style_sheet;

const DARK: &str = "@media screen and (prefers-color-scheme:dark)";

/// Removes the style sheet from a picture. The page that contains it needs [`page_style`].
pub fn without_style(svg: &str) -> String {
    match (svg.split_once("<style>"), svg.split_once("</style>\n")) {
        (Some((before, _)), Some((_, after))) => format!("{before}{after}"),
        _ => svg.to_owned(),
    }
}

/// Returns the style sheet of a page with pictures. They follow the reader's preference for dark mode, unless the attribute `data-theme` of
/// the page's root is `light` or `dark`.
pub fn page_style() -> String {
    let sheet = style_sheet();
    let (light, dark) = sheet.split_once(DARK).unwrap_or((&sheet, "{}"));
    format!("{light}{DARK}{{:root:not([data-theme=light]){dark}}}@media screen{{:root[data-theme=dark]{dark}}}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::chart::LineChart;

    #[test]
    fn without_style_removes_only_the_style_sheet() {
        let svg = LineChart { title: "a".to_owned(), ..LineChart::default() }.svg();
        let inline = without_style(&svg);
        assert!(svg.contains("<style>") && !inline.contains("style>") && inline.len() + style_sheet().len() + 16 == svg.len());
        assert!(inline.starts_with("<svg") && inline.ends_with("</svg>\n") && inline.contains("<title>a</title>\n<desc></desc>\n<rect"));
        assert_eq!(without_style("<svg/>"), "<svg/>");
    }

    #[test]
    fn page_style_has_the_dark_colors_twice() {
        let (sheet, page) = (style_sheet(), page_style());
        let dark = sheet.split_once(DARK).unwrap().1;
        assert_eq!(page.matches(dark).count(), 2);
        assert!(page.starts_with(sheet.split_once(DARK).unwrap().0));
        assert_eq!(page.matches('{').count(), page.matches('}').count());
    }
}
