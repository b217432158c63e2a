//! The page about several runs: groups of runs with the same settings, their means over seeds, and paired comparisons of their last
//! evaluations.

mod details;
pub mod group;
mod matrix;
mod pictures;
mod quantity;
mod results;
pub mod seeds;
mod sentence;
mod table;
#[cfg(test)]
pub mod testing;

use anyhow::Result;
use maud::{Markup, html};

use super::page::figure::{data_of, grid};
use super::{Figure, Page, RunRecord, Section};
use crate::study::ArmResults;
use group::Groups;
use matrix::Matrix;
use sentence::Facts;

pub use details::state;
pub use pictures::{arm_figures, counted};
pub use table::{Cells, table};

/// A folder that should be part of the page and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The folder, or the run as the study names it.
    pub name: String,
    /// Why it cannot be read.
    pub reason: String,
}

impl Unreadable {
    /// Returns the name and the reason as one sentence.
    pub fn sentence(&self) -> String {
        if self.reason.starts_with(&self.name) { self.reason.clone() } else { format!("{}: {}", self.name, self.reason) }
    }
}

/// What a page compares.
#[derive(Debug)]
pub struct Comparison<'a> {
    /// The groups.
    pub groups: Groups<'a>,
    /// The results of the groups that have runs, by the group's name.
    pub arms: Vec<ArmResults>,
    /// The passes of the tables; empty for all.
    pub passes: Vec<String>,
    /// The runs that cannot be read.
    pub unreadable: Vec<Unreadable>,
    /// True if the groups are the combinations of a study's axes.
    pub is_grid: bool,
    /// True if unfinished runs are only part of the pictures.
    pub only_finished: bool,
}

/// Returns the page that compares runs. Also names the runs that cannot be read.
///
/// # Errors
/// If settings cannot be converted to a table.
pub fn comparison_page(runs: &[RunRecord], unreadable: Vec<Unreadable>) -> Result<Page> {
    let groups = Groups::by_settings(runs)?;
    let title = format!("{} in {}", counted(runs.len(), "run"), counted(groups.groups.len(), "group"));
    let arms = results::arms_of(&groups);
    let compared = Comparison { groups, arms, passes: Vec::new(), unreadable, is_grid: false, only_finished: false };
    Ok(Page { title, sections: compared.sections()?, ..Page::default() })
}

impl Comparison<'_> {
    /// Returns the sections of the page.
    ///
    /// # Errors
    /// If settings cannot be converted to a table.
    pub fn sections(&self) -> Result<Vec<Section>> {
        let groups = &self.groups;
        let passes = if self.passes.is_empty() { pictures::passes(groups) } else { self.passes.clone() };
        let matrices: Vec<Matrix> = match groups.groups.len() {
            2..=matrix::MOST_GROUPS => passes.iter().map(|pass| Matrix::of(groups, pass, self.only_finished)).collect(),
            _ => Vec::new(),
        };
        let pass = passes.first().map(String::as_str).unwrap_or_default();
        let facts = Facts::of(groups, &self.arms, pass, matrices.first(), self.is_grid);
        let mut sections = vec![section("start", "Result", self.start(&facts))];
        let accuracy = FigureSection {
            id: "accuracy",
            title: "Accuracy",
            about: seeds::BAND,
            large: pictures::accuracy_figures(groups),
            small: pictures::pass_figures(groups),
        };
        sections.push(accuracy.section(groups));
        sections.extend((groups.groups.len() > 1).then(|| section("paired", "Paired comparison", paired(groups, &matrices))));
        let training = FigureSection {
            id: "training",
            title: "Training",
            about: seeds::BAND,
            large: Vec::new(),
            small: pictures::training_figures(groups),
        };
        sections.push(training.section(groups));
        let subjects = FigureSection {
            id: "subjects",
            title: "By subject",
            about: "Accuracy at the last evaluation of each run. Bars and their intervals are over runs, as in the other pictures.",
            large: pictures::subject_figures(groups),
            small: Vec::new(),
        };
        sections.extend((!subjects.large.is_empty()).then(|| subjects.section(groups)));
        sections.push(section("runs", "Runs and settings", html! { (details::runs(groups)) (details::shared_settings(groups)?) }));
        Ok(sections)
    }

    fn start(&self, facts: &Facts) -> Markup {
        let limits = sentence::limits(facts);
        html! {
            p.sentence { (sentence::found(facts)) }
            @if !limits.is_empty() {
                h3 { "What this does not show" }
                ul { @for limit in &limits { li { (limit) } } }
            }
            @if !self.unreadable.is_empty() {
                h3 { "Missing" }
                ul { @for one in &self.unreadable { li { (one.sentence()) } } }
            }
            h3 { "Groups" }
            (results::groups_table(&self.groups))
            (results::result_tables(&self.groups, &self.arms, &self.passes))
        }
    }
}

fn paired(groups: &Groups, matrices: &[Matrix]) -> Markup {
    let count = groups.groups.len() * (groups.groups.len() - 1) / 2;
    html! {
        @if groups.groups.len() > matrix::MOST_GROUPS {
            p {
                "There are " (groups.groups.len()) " groups. Paired comparisons are shown for up to " (matrix::MOST_GROUPS) "; use "
                code { "rlvr compare" } " for two evaluations."
            }
        } @else {
            p.detail {
                "Last evaluations, problem by problem: the mean difference with its 95% interval over problems. The score of a problem is its \
                 mean over the runs of a group. The interval covers the choice of problems, not the seed. A star marks an interval without 0. \
                 Of 20 comparisons of equal groups, about one has a star by chance"
                @if count > 1 { "; each table here has " (count) " comparisons" }
                "."
            }
            @for matrix in matrices { (matrix.markup(groups)) }
        }
    }
}

fn section(id: &str, title: &str, body: Markup) -> Section {
    Section { id: id.to_owned(), title: title.to_owned(), body, data: Vec::new() }
}

/// A section of large pictures followed by small ones.
struct FigureSection<'a> {
    id: &'a str,
    title: &'a str,
    /// How to read the pictures.
    about: &'a str,
    large: Vec<Figure>,
    small: Vec<Figure>,
}

impl FigureSection<'_> {
    fn section(&self, groups: &Groups) -> Section {
        let most = pictures::MOST_GROUPS;
        let body = html! {
            @if self.large.is_empty() && self.small.is_empty() {
                p { "No run has recorded numbers for these pictures yet." }
            } @else {
                p.detail {
                    (self.about)
                    @if groups.groups.len() > most { " Pictures show the first " (most) " of " (groups.groups.len()) " groups." }
                }
            }
            @for figure in &self.large { (figure.markup()) }
            @if !self.small.is_empty() { (grid(&self.small)) }
        };
        let data = data_of(&self.large).into_iter().chain(data_of(&self.small)).collect();
        Section { id: self.id.to_owned(), title: self.title.to_owned(), body, data }
    }
}
