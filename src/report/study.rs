//! The page about a study: its table, a small picture for each arm, and the comparison of its arms. Reads `study.json` and the runs.

use std::path::{Component, Path};

use anyhow::{Context, Result, ensure};
use maud::{Markup, html};
use serde::Deserialize;

use super::comparison::group::Groups;
use super::comparison::{Cells, Comparison, Unreadable, arm_figures, counted, state, table};
use super::{Page, RunRecord, RunState, Section};
use crate::input::{self, TEXT_BYTES};
use crate::study::{ArmResults, AxisLabels, read_summary};
use crate::train::history::Summary;

/// The name of the file that makes a folder a study's.
pub const FILE: &str = "study.json";

/// The records of a study.
#[derive(Debug)]
pub struct StudyRecord {
    /// The title.
    pub title: String,
    /// The axes whose combinations the arms are; empty if the study lists its arms, or an older version wrote it.
    pub axes: Vec<AxisLabels>,
    /// The passes of the study's table.
    pub passes: Vec<String>,
    /// The arms, in the order of the study.
    pub arms: Vec<ArmRecord>,
}

/// The records of an arm.
#[derive(Debug)]
pub struct ArmRecord {
    /// The name.
    pub label: String,
    /// The runs, in the order of the seeds.
    pub runs: Vec<ArmRun>,
}

/// A run of an arm.
#[derive(Debug)]
pub struct ArmRun {
    /// The seed.
    pub seed: u64,
    /// The records; an error says why there are none.
    pub record: Result<RunRecord, String>,
    /// The summary of a finished run.
    pub summary: Option<Summary>,
}

#[derive(Deserialize)]
struct File {
    title: String,
    #[serde(default)]
    axes: Vec<AxisLabels>,
    arms: Vec<FileArm>,
}

#[derive(Deserialize)]
struct FileArm {
    label: String,
    folder: String,
    #[serde(default)]
    passes: serde_json::Map<String, serde_json::Value>,
    runs: Vec<FileRun>,
}

#[derive(Deserialize)]
struct FileRun {
    seed: u64,
}

impl StudyRecord {
    /// Reads a study's folder. Runs that are missing or cannot be read are part of the record, with the reason.
    ///
    /// # Errors
    /// If `study.json` is missing or corrupt.
    pub fn read(root: &Path) -> Result<Self> {
        let path = root.join(FILE);
        let text = input::read_text(&path, TEXT_BYTES)?;
        let file: File = serde_json::from_str(&text).with_context(|| format!("{} is corrupt", path.display()))?;
        let passes = file.arms.iter().flat_map(|arm| arm.passes.keys().cloned()).fold(Vec::new(), |mut passes, pass| {
            if !passes.contains(&pass) {
                passes.push(pass);
            }
            passes
        });
        let arms = file.arms.into_iter().map(|arm| ArmRecord::read(root, arm)).collect::<Result<_>>()?;
        Ok(Self { title: file.title, axes: file.axes, passes, arms })
    }

    /// Returns the page.
    ///
    /// # Errors
    /// If settings cannot be converted to a table.
    pub fn page(&self) -> Result<Page> {
        let groups = Groups::by_arm(self.arms.iter().map(|arm| (arm.label.clone(), arm.records().collect())).collect())?;
        let arms = self.arms.iter().filter_map(ArmRecord::results).collect();
        let small = self.small_multiples(&groups);
        let unreadable = self.unfinished();
        let (passes, is_grid) = (self.passes.clone(), !self.axes.is_empty());
        let mut sections = Comparison { groups, arms, passes, unreadable, is_grid, only_finished: true }.sections()?;
        sections.insert(1, small);
        let runs = self.arms.iter().map(|arm| arm.runs.len()).sum();
        let subtitle = format!("A study of {} and {}", counted(self.arms.len(), "arm"), counted(runs, "run"));
        Ok(Page { title: self.title.clone(), subtitle, sections, ..Page::default() })
    }

    /// Returns the runs that are missing, unfinished or unreadable, with the reason.
    pub fn unfinished(&self) -> Vec<Unreadable> {
        self.arms.iter().flat_map(ArmRecord::unfinished).collect()
    }

    /// Returns one small picture for each arm, all with the same axes, in the order of the grid: a row for each combination of all axes but
    /// the last.
    fn small_multiples(&self, groups: &Groups) -> Section {
        let figures = arm_figures(groups);
        let columns = self.columns();
        let rows = figures.chunks(columns).zip(self.arms.chunks(columns));
        let body = html! {
            p.detail {
                "One picture for each arm, all with the same axes. Lines are means over the arm's runs, bands as in the other pictures."
                @if let Some(last) = self.axes.last().filter(|_| self.axes.len() > 1) { " In a row, only " (last.name) " changes." }
            }
            @for (figures, arms) in rows {
                div.small-multiples {
                    @for (figure, arm) in figures.iter().zip(arms) {
                        @match figure {
                            Some(figure) => (figure.markup()),
                            None => div.empty { h3 { (arm.label) } p { "No numbers yet." } },
                        }
                    }
                }
            }
            (self.states())
        };
        let data = figures.iter().flatten().map(super::Figure::data).collect();
        Section { id: "arms".to_owned(), title: "Each arm".to_owned(), body, data }
    }

    /// Returns the number of pictures in a row: the length of the last axis, if the arms are the combinations of several axes.
    fn columns(&self) -> usize {
        let combinations: usize = self.axes.iter().map(|axis| axis.labels.len()).product();
        match self.axes.as_slice() {
            [_, .., last] if combinations == self.arms.len() => last.labels.len().max(1),
            _ => self.arms.len().max(1),
        }
    }

    /// Returns the state of each run, in a closed section.
    fn states(&self) -> Markup {
        let cell = |run: &ArmRun| match &run.record {
            Ok(record) => state(record),
            Err(reason) => reason.clone(),
        };
        let row = |arm: &ArmRecord| {
            let cells = arm.runs.iter().map(|run| format!("seed {}: {}", run.seed, cell(run))).collect::<Vec<_>>();
            Cells { name: arm.label.clone(), cells: vec![cells.join("; ")] }
        };
        let rows: Vec<Cells> = self.arms.iter().map(row).collect();
        html! { details { summary { "The state of each run" } (table("The state of each run", &["arm", "runs"], &rows)) } }
    }
}

impl ArmRecord {
    fn read(root: &Path, arm: FileArm) -> Result<Self> {
        let mut parts = Path::new(&arm.folder).components();
        let is_name = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        ensure!(is_name, "{} is corrupt: {:?} is not the name of a folder", root.join(FILE).display(), arm.folder);
        let folder = root.join(&arm.folder);
        let runs = arm.runs.iter().map(|run| ArmRun::read(&folder.join(format!("seed-{}", run.seed)), run.seed)).collect();
        Ok(Self { label: arm.label, runs })
    }

    fn records(&self) -> impl Iterator<Item = &RunRecord> {
        self.runs.iter().filter_map(|run| run.record.as_ref().ok())
    }

    /// Returns the results for the study's table; `None` if no run can be read.
    fn results(&self) -> Option<ArmResults> {
        let settings = self.records().next()?.settings.clone();
        let runs = self.runs.iter().map(|run| (run.seed, run.summary.clone())).collect();
        Some(ArmResults { label: self.label.clone(), folder: String::new(), settings, runs })
    }

    /// Returns the runs that are missing, unfinished or unreadable, with the reason.
    fn unfinished(&self) -> impl Iterator<Item = Unreadable> {
        self.runs.iter().filter_map(|run| {
            let reason = match &run.record {
                Ok(record) if record.state == RunState::Finished && run.summary.is_some() => return None,
                Ok(record) if record.state == RunState::Finished => {
                    "its last checkpoint or its summary is missing; its numbers are only in the pictures".to_owned()
                }
                Ok(record) => format!("{}; its numbers are only in the pictures", state(record)),
                Err(reason) => reason.clone(),
            };
            Some(Unreadable { name: format!("{}, seed {}", self.label, run.seed), reason })
        })
    }
}

impl ArmRun {
    fn read(root: &Path, seed: u64) -> Self {
        if !root.exists() {
            return Self { seed, record: Err("not started".to_owned()), summary: None };
        }
        let record = RunRecord::read(root).map_err(|error| format!("{error:#}"));
        let summary = record.as_ref().ok().and_then(|record| read_summary(root, &record.settings).ok().flatten());
        Self { seed, record, summary }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::comparison::testing::record;

    fn study(root: &Path, axes: &str, arms: &[&str]) -> StudyRecord {
        let arm = |folder: &&str| {
            format!(
                "{{\"label\": \"arm {folder}\", \"folder\": \"{folder}\", \"passes\": {{\"tiny-greedy\": {{}}}}, \
                 \"runs\": [{{\"seed\": 0}}, {{\"seed\": 1}}]}}"
            )
        };
        let arms: Vec<String> = arms.iter().map(arm).collect();
        std::fs::write(root.join(FILE), format!("{{\"title\": \"Two\", {axes} \"arms\": [{}]}}", arms.join(", "))).unwrap();
        StudyRecord::read(root).unwrap()
    }

    #[test]
    fn study_record_names_missing_and_unfinished_runs() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("b/seed-1")).unwrap();
        std::fs::write(root.path().join("b/seed-1/notes.txt"), "").unwrap();
        std::fs::create_dir_all(root.path().join("a")).unwrap();
        let lines = "{\"step\":1,\"train/accuracy\":0.5}\n";
        record(&root.path().join("a/seed-0"), |run| run.train.steps = 4, lines, &[(0, 1)]);
        let study = study(root.path(), "", &["a", "b"]);
        let unfinished: Vec<String> = study.unfinished().iter().map(|one| format!("{}: {}", one.name, one.reason)).collect();
        assert_eq!(unfinished[0], "arm a, seed 0: stopped at step 1 of 4; its numbers are only in the pictures");
        assert_eq!(unfinished[1..3], ["arm a, seed 1: not started", "arm b, seed 0: not started"]);
        assert!(unfinished[3].starts_with("arm b, seed 1: ") && unfinished[3].contains("is not a run folder"), "{unfinished:?}");
        let page = study.page().unwrap().html();
        for part in ["A study of 2 arms and 4 runs", "No numbers yet.", "arm a, seed 1: not started", "0 of 2"] {
            assert!(page.contains(part), "{part}");
        }
    }

    #[test]
    fn columns_follow_the_last_axis() {
        let root = tempfile::tempdir().unwrap();
        let axis = |name: &str, labels: &str| format!("{{\"name\": \"{name}\", \"labels\": [{labels}]}}");
        let two = format!("\"axes\": [{}, {}],", axis("x", "\"1\""), axis("y", "\"1\", \"2\", \"3\""));
        assert_eq!(study(root.path(), &two, &["a", "b", "c"]).columns(), 3);
        assert_eq!(study(root.path(), &two, &["a", "b"]).columns(), 2, "the axes do not match the arms");
        assert_eq!(study(root.path(), "", &["a", "b", "c", "d"]).columns(), 4);
    }

    #[test]
    fn study_record_rejects_folders_outside_the_study() {
        let root = tempfile::tempdir().unwrap();
        let text = "{\"title\": \"t\", \"arms\": [{\"label\": \"a\", \"folder\": \"../a\", \"runs\": []}]}";
        std::fs::write(root.path().join(FILE), text).unwrap();
        let error = StudyRecord::read(root.path()).unwrap_err().to_string();
        assert!(error.contains("\"../a\" is not the name of a folder"), "{error}");
    }
}
