//! Checks an HTML page without a parser of its own dependencies: balanced tags, unique ids, references that lead somewhere, and nothing that
//! the page's content security policy forbids or that would make a request.

use std::collections::BTreeSet;

/// Elements without an end tag.
const VOID: [&str; 6] = ["meta", "input", "br", "hr", "img", "link"];
/// Elements whose content is not markup.
const RAW: [&str; 3] = ["script", "style", "title"];

/// A start tag.
#[derive(Debug)]
pub struct Tag {
    pub name: String,
    pub attributes: Vec<(String, String)>,
}

impl Tag {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// Returns the start tags of a valid page. Panics with the place of the first fault.
pub fn check(page: &str) -> Vec<Tag> {
    assert!(page.starts_with("<!DOCTYPE html><html"), "{}", &page[..60]);
    let tags = parse(page);
    let ids: Vec<&str> = tags.iter().filter_map(|tag| tag.get("id")).collect();
    let distinct: BTreeSet<&str> = ids.iter().copied().collect();
    let repeated = || ids.iter().filter(|id| ids.iter().filter(|other| other == id).count() > 1).collect::<Vec<_>>();
    assert_eq!(ids.len(), distinct.len(), "repeated ids: {:?}", repeated());
    for tag in &tags {
        for (name, value) in &tag.attributes {
            let refers = match name.as_str() {
                "aria-labelledby" | "aria-describedby" | "for" | "data-csv" | "data-download" | "data-filter" => value.as_str(),
                "href" => value.strip_prefix('#').unwrap_or_else(|| panic!("a link to {value}")),
                _ => "",
            };
            refers.split_whitespace().for_each(|id| assert!(distinct.contains(id), "{name}=\"{value}\" leads nowhere"));
            assert!(name != "style" && !name.starts_with("on") && name != "src", "{}: {name}=\"{value}\"", tag.name);
        }
        assert!(!["link", "iframe", "object", "img", "base"].contains(&tag.name.as_str()), "{tag:?}");
    }
    let addresses = page.split("http").skip(1).filter(|rest| rest.starts_with("://") || rest.starts_with("s://"));
    addresses.for_each(|rest| assert!(rest.starts_with("://www.w3.org/2000/svg"), "an address: http{}", &rest[..40]));
    tags
}

fn parse(page: &str) -> Vec<Tag> {
    let (mut rest, mut open, mut tags) = (page.strip_prefix("<!DOCTYPE html>").unwrap(), Vec::<String>::new(), Vec::new());
    while let Some((text, after)) = rest.split_once('<') {
        assert!(!text.contains('>'), "an unescaped > after {:?}: {text}", open.last());
        if let Some(end) = after.strip_prefix('/') {
            let (name, after) = end.split_once('>').unwrap();
            assert_eq!(open.pop().as_deref(), Some(name), "end tag out of order");
            rest = after;
            continue;
        }
        let (tag, is_closed, after) = start_tag(after);
        rest = after;
        if RAW.contains(&tag.name.as_str()) && !open.iter().any(|name| name == "svg") {
            let end = format!("</{}>", tag.name);
            rest = rest.split_once(end.as_str()).unwrap_or_else(|| panic!("{} is not closed", tag.name)).1;
        } else if !is_closed && !VOID.contains(&tag.name.as_str()) {
            open.push(tag.name.clone());
        }
        tags.push(tag);
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "not closed: {open:?}");
    tags
}

/// Parses a start tag after its `<`. Returns it, whether it ends in `/>`, and the text after it.
fn start_tag(text: &str) -> (Tag, bool, &str) {
    let end = text.find(|c: char| c.is_whitespace() || c == '>' || c == '/').unwrap();
    let (name, mut rest) = text.split_at(end);
    let mut attributes = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix("/>") {
            return (Tag { name: name.to_owned(), attributes }, true, after);
        }
        if let Some(after) = rest.strip_prefix('>') {
            return (Tag { name: name.to_owned(), attributes }, false, after);
        }
        let end = rest.find(|c: char| c.is_whitespace() || c == '=' || c == '>').unwrap();
        let (attribute, after) = rest.split_at(end);
        let (value, after) = match after.strip_prefix("=\"") {
            Some(quoted) => quoted.split_once('"').unwrap(),
            None => ("", after),
        };
        assert!(!value.contains('<'), "{attribute} has an unescaped <");
        attributes.push((attribute.to_owned(), value.to_owned()));
        rest = after;
    }
}
