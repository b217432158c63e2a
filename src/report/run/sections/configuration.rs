//! The section about configuration and environment: all settings, the machine, versions, data, and the commands to reproduce and resume.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};
use toml::{Table, Value};

use crate::config::{self, range::format_value};
use crate::eval::Conditions;
use crate::report::page::Section;
use crate::report::page::packed::DataBlock;
use crate::report::record::run_record::{RunRecord, RunState};
use crate::train::settings::table::ROWS;
use crate::train::{RunSettings, algorithm};

/// The data block with `config.toml`.
const CONFIG: &str = "config-toml";

/// Writes the section.
pub fn section(run: &RunRecord) -> Section {
    let changed = changed_settings(run);
    let body = html! {
        (commands(run))
        h3 { "Environment" }
        (environment(run))
        h3 { "Settings" }
        p {
            (changed.len()) " of " (ROWS.len()) " settings differ from the defaults of " (run.settings.model) " with " (run.settings.algo)
            ", marked with •."
        }
        div.controls {
            label hidden { "Filter settings " input #settings-filter type="search" autocomplete="off" data-filter="settings"; }
            label hidden { input type="checkbox" data-only="changed" data-filter-of="settings"; " only changed" }
            button type="button" hidden data-download=(CONFIG) data-name="config.toml" { "config.toml" }
        }
        p #settings-count .detail aria-live="polite" {}
        (settings_table(run, &changed))
    };
    Section {
        id: "configuration".to_owned(),
        title: "Configuration and environment".to_owned(),
        body,
        data: vec![DataBlock::new(CONFIG, run.config_text.as_bytes())],
    }
}

fn commands(run: &RunRecord) -> Markup {
    let folder = quoted(&run.folder.root().display().to_string());
    let data = run.invocation.as_ref().and_then(|invocation| invocation.data_dir.as_ref());
    let data = data.map_or_else(String::new, |path| format!(" --data-dir {}", quoted(&path.display().to_string())));
    let directory = run.invocation.as_ref().map(|invocation| invocation.directory.display().to_string()).filter(|path| !path.is_empty());
    html! {
        p {
            "To repeat the run with the same settings and seed"
            @if let Some(directory) = directory { ", in the folder " code.path { (directory) } }
            ":"
        }
        pre tabindex="0" { "rlvr train --config " (folder) "/config.toml" (data) " --out NEW_FOLDER" }
        p {
            @match run.state {
                RunState::Finished => "To continue it with more steps (200 more, for example):",
                RunState::Running { .. } => "The run is in progress. If it stops, this continues it:",
                RunState::Stopped => "The run stopped before its last step. To continue it:",
            }
        }
        pre tabindex="0" {
            "rlvr train --resume " (folder)
            @if run.state == RunState::Finished { " --steps " (run.settings.train.steps + 200) }
        }
    }
}

/// Quotes an argument for a shell if it needs quotes.
fn quoted(argument: &str) -> String {
    let is_plain = argument.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+=:@,".contains(c));
    if is_plain && !argument.is_empty() { argument.to_owned() } else { format!("'{}'", argument.replace('\'', r"'\''")) }
}

fn environment(run: &RunRecord) -> Markup {
    let newest = run.evaluations.iter().rev().find_map(|one| run.conditions(one.step).ok().filter(|found| !found.is_empty()));
    let conditions: Vec<Conditions> = newest.map(|found| found.into_values().collect()).unwrap_or_default();
    let sets: BTreeMap<&str, &Conditions> = conditions.iter().map(|one| (one.set.as_str(), one)).collect();
    let computed = run.invocation.as_ref().map(|invocation| invocation.computed_on.clone()).filter(|text| !text.is_empty());
    let distinct = |of: fn(&Conditions) -> String| {
        let values: BTreeSet<String> = conditions.iter().map(of).filter(|value| !value.is_empty()).collect();
        values.into_iter().collect::<Vec<_>>().join(", ")
    };
    let mut rows = vec![
        ("computed on", computed.unwrap_or_default()),
        ("rlvr at the start", run.invocation.as_ref().map(|invocation| invocation.version.clone()).unwrap_or_default()),
        ("rlvr at the last evaluation", distinct(|one| one.rlvr.clone())),
        ("model", run.settings.model.clone()),
        ("weights at the last evaluation", distinct(|one| one.identity.revision.clone())),
        ("device", distinct(|one| one.identity.device.clone())),
        ("kernels and dtype", distinct(|one| format!("{}, {}", one.identity.kernels, one.identity.dtype))),
        ("chat template (SHA-256)", distinct(|one| one.identity.template.clone())),
        ("date that templates show", distinct(|one| one.identity.date.clone())),
        ("grader of evaluations", distinct(|one| format!("{:?}, version {}", one.grader, one.grader_version).to_lowercase())),
    ];
    rows.retain(|(_, value)| !value.is_empty());
    html! {
        div.scroll tabindex="0" role="region" aria-label="Environment" {
            table.facts {
                tbody { @for (name, value) in &rows { tr { th scope="row" { (name) } td { (value) } } } }
                @for one in sets.values() {
                    tbody {
                        tr {
                            th scope="row" { "data of " (one.set) }
                            td {
                                (one.problems) " problems, up to " (one.max_new_tokens) " tokens; problems " code { (one.problems_sha256) }
                                @if !one.data_sha256.is_empty() { ", file " code { (one.data_sha256) } }
                            }
                        }
                    }
                }
            }
        }
        @if conditions.is_empty() { p.detail { "The conditions of evaluations were not recorded." } }
    }
}

/// Returns the full names of settings that differ from the defaults for the run's model and algorithm.
fn changed_settings(run: &RunRecord) -> BTreeSet<String> {
    let defaults = defaults_of(&run.settings);
    let (Ok(defaults), Ok(table)) = (Table::try_from(defaults), Table::try_from(&run.settings)) else { return BTreeSet::new() };
    let defaults: BTreeMap<String, &Value> = config::flatten(&defaults).into_iter().collect();
    let is_changed = |(path, value): &(String, &Value)| defaults.get(path) != Some(value);
    config::flatten(&table).into_iter().filter(is_changed).map(|(path, _)| path).collect()
}

/// Returns the defaults for a model, with the preset of the algorithm for the run's response length.
fn defaults_of(settings: &RunSettings) -> RunSettings {
    let defaults = RunSettings::defaults_for(&settings.model);
    let length = Value::Integer(settings.rollout.max_new_tokens as i64);
    let preset = Table::from_iter([("algo".to_owned(), Value::String(settings.algo.clone()))]);
    let resolved = algorithm::resolve(&defaults, &[config::group("rollout", [("max_new_tokens", length)]), preset]);
    let max_new_tokens = defaults.rollout.max_new_tokens;
    let mut resolved = resolved.unwrap_or(defaults);
    resolved.rollout.max_new_tokens = max_new_tokens;
    resolved
}

fn settings_table(run: &RunRecord, changed: &BTreeSet<String>) -> Markup {
    let table = Table::try_from(&run.settings).unwrap_or_default();
    let about = |path: &str| ROWS.iter().find(|row| row.path == path).map_or("", |row| row.about);
    let rows = config::flatten(&table);
    html! {
        div.scroll.tall tabindex="0" role="region" aria-label="Settings" {
            table.facts #settings {
                thead { tr { th scope="col" { "setting" } th scope="col" { "value" } th scope="col" { "meaning" } } }
                tbody {
                    @for (path, value) in &rows {
                        tr.changed[changed.contains(path)] {
                            th scope="row" { code { (path) } @if changed.contains(path) { span.mark title="changed from the default" { " •" } } }
                            td { code { (format_value(value)) } }
                            td { (inline_markdown(about(path))) }
                        }
                    }
                }
            }
        }
    }
}

/// Writes the Markdown of a settings row: code in backticks, and the texts of links, whose pages are not part of the report.
fn inline_markdown(text: &str) -> Markup {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("](") {
        let (before, label) = before.rsplit_once('[').unwrap_or((before, ""));
        plain.extend([before, label]);
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    plain.push_str(rest);
    html! { @for (index, part) in plain.split('`').enumerate() { @if index % 2 == 1 { code { (part) } } @else { (part) } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_markdown_keeps_code_and_the_texts_of_links() {
        let check = |text: &str, expected: &str| assert_eq!(inline_markdown(text).into_string(), expected, "{text}");
        check("`a` < b ([runs.md](runs.md), `c`). See [x](y).", "<code>a</code> &lt; b (runs.md, <code>c</code>). See x.");
        check("plain", "plain");
    }

    #[test]
    fn quoted_protects_arguments_from_the_shell() {
        for (argument, expected) in [("runs/tiny-a+b", "runs/tiny-a+b"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("", "''")] {
            assert_eq!(quoted(argument), expected);
        }
    }
}
