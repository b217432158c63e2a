//! What a report is about: one run, several runs, or a study. Finds out by looking at the folders, each time a page is made, because a run
//! that is being watched may not have written anything yet.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};

use super::comparison::{Unreadable, comparison_page};
use super::study::{self, StudyRecord};
use super::{Page, ReportOptions, RunRecord, run_page};
use crate::checkpoint::write_file;
use crate::usage::usage;

/// The beginning of a page by this program, by which [`write_page`] recognizes a file that it may replace.
const MARK: &str = "<meta name=\"generator\" content=\"rlvr ";
/// [`MARK`] is within this many bytes of the beginning of a page.
const MARK_WITHIN: usize = 4096;

/// The folders that a report is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The folders as given, without repetitions.
    pub paths: Vec<PathBuf>,
}

/// A page, and the records of the run that it is about.
#[derive(Debug)]
pub struct Told {
    /// The page.
    pub page: Page,
    /// The run; `None` if the page is about several runs or a study.
    pub run: Option<RunRecord>,
    /// What is missing or cannot be read, one sentence each.
    pub missing: Vec<String>,
}

impl Subject {
    /// Makes the subject of the given folders. Drops a folder that is given twice, and the locks and logs that a study keeps next to its
    /// runs, which a pattern like `ARM/seed-*` matches too.
    pub fn of(paths: &[PathBuf]) -> Self {
        let mut seen = Vec::new();
        let is_new = |path: &&PathBuf| {
            let absolute = std::fs::canonicalize(path).unwrap_or_else(|_| (*path).clone());
            let is_new = !seen.contains(&absolute);
            seen.extend(is_new.then_some(absolute));
            is_new
        };
        Self { paths: paths.iter().filter(|path| !is_beside_run(path)).filter(is_new).cloned().collect() }
    }

    /// Makes the page.
    ///
    /// # Errors
    /// If the folder of a single run or study, or none of several runs, can be read; or if a study is given together with other folders.
    pub fn tell(&self, options: &ReportOptions) -> Result<Told> {
        match self.paths.as_slice() {
            [one] if is_study(one) => {
                let study = StudyRecord::read(one)?;
                Ok(Told { page: study.page()?, run: None, missing: sentences(&study.unfinished()) })
            }
            [one] => {
                let is_known = one.join("config.toml").exists() || !one.is_dir() || !has_files(one);
                usage(is_known.then_some(()).with_context(|| {
                    format!(
                        "{} is neither the folder of a run (it has no config.toml) nor of a study (it has no {}): give a folder that rlvr \
                         train or rlvr study has written",
                        one.display(),
                        study::FILE
                    )
                }))?;
                let run = if one.join("config.toml").exists() { RunRecord::read(one) } else { usage(RunRecord::read(one)) }?;
                Ok(Told { page: run_page(&run, options), missing: run.missing.clone(), run: Some(run) })
            }
            paths => {
                let study = paths.iter().find(|path| is_study(path));
                let alone = study
                    .map_or(Ok(()), |path| Err(anyhow!("{} is a study: give it alone, or give the folders of its runs", path.display())));
                usage(alone)?;
                compare(paths)
            }
        }
    }

    /// Returns the file that the page is written to by default: `report.html` in the folder of the run or study, or in the current folder
    /// for several runs.
    pub fn default_file(&self) -> PathBuf {
        match self.paths.as_slice() {
            [one] => one.join("report.html"),
            _ => PathBuf::from("report.html"),
        }
    }
}

/// True for the file `seed-0.lock` or `seed-0.log` next to `seed-0`.
fn is_beside_run(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "lock" || extension == "log")
        && path.is_file()
        && path.with_extension("").is_dir()
}

fn is_study(path: &Path) -> bool {
    path.join(study::FILE).is_file()
}

fn has_files(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

/// Compares the runs that can be read.
fn compare(paths: &[PathBuf]) -> Result<Told> {
    let (mut runs, mut unreadable) = (Vec::new(), Vec::new());
    for path in paths {
        match RunRecord::read(path) {
            Ok(run) => runs.push(run),
            Err(error) => unreadable.push(Unreadable { name: path.display().to_string(), reason: format!("{error:#}") }),
        }
    }
    let reasons = unreadable.iter().map(|one| one.reason.as_str()).collect::<Vec<_>>();
    ensure!(!runs.is_empty(), "no run can be read: {}", reasons.join("; "));
    let missing = sentences(&unreadable);
    Ok(Told { page: comparison_page(&runs, unreadable)?, run: None, missing })
}

fn sentences(unreadable: &[Unreadable]) -> Vec<String> {
    unreadable.iter().map(Unreadable::sentence).collect()
}

/// Writes a page to a file, replacing only a page by this program.
///
/// # Errors
/// If the file exists and is something else, or cannot be written.
pub fn write_page(path: &Path, html: &str) -> Result<()> {
    ensure!(
        !path.exists() || is_page(path)?,
        "{} already exists and is not a report by rlvr, so it is left unchanged: choose another file with -o",
        path.display()
    );
    write_file(path, html.as_bytes())
}

/// True if the file begins like a page by this program.
fn is_page(path: &Path) -> Result<bool> {
    use std::io::Read;

    let mut beginning = Vec::new();
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    file.take(MARK_WITHIN as u64).read_to_end(&mut beginning).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&beginning).contains(MARK))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::comparison::testing::record;

    #[test]
    fn write_page_replaces_only_its_own_pages() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        let html = Page { title: "x".repeat(2000), ..Page::default() }.html();
        write_page(&path, &html).unwrap();
        write_page(&path, &html).unwrap();
        for foreign in ["", "<html>my notes on rlvr</html>"] {
            std::fs::write(&path, foreign).unwrap();
            let error = write_page(&path, &html).unwrap_err().to_string();
            assert!(error.contains("is not a report by rlvr") && error.contains("-o"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), foreign);
        }
    }

    #[test]
    fn tell_finds_out_what_the_folders_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let tell = |names: &[&str]| Subject::of(&names.iter().map(|name| path(name)).collect::<Vec<_>>()).tell(&ReportOptions::default());
        let error = |names: &[&str]| format!("{:#}", tell(names).unwrap_err());
        record(&path("a"), |_| {}, "", &[(0, 1)]);
        record(&path("b"), |run| run.seed = 1, "", &[(0, 2)]);
        std::fs::create_dir(path("notes")).unwrap();
        std::fs::write(path("notes/letter.txt"), "").unwrap();
        std::fs::create_dir(path("study")).unwrap();
        std::fs::write(path("study/study.json"), "{\"title\": \"All of it\", \"arms\": []}").unwrap();
        std::fs::write(path("a.log"), "").unwrap();
        assert_eq!(tell(&["a", "a", "a.log"]).unwrap().run.unwrap().name, "a");
        assert_eq!(tell(&["a", "b"]).unwrap().page.title, "2 runs in 1 group");
        assert_eq!(tell(&["study"]).unwrap().page.title, "All of it");
        assert!(tell(&["a", "absent"]).unwrap().page.html().contains("there is no such folder"));
        assert!(error(&["absent"]).contains("there is no such folder"));
        assert!(error(&["notes"]).contains("neither the folder of a run"));
        assert!(error(&["a", "study"]).contains("is a study: give it alone"));
        assert!(error(&["notes", "absent"]).contains("no run can be read"));
        std::fs::write(path("study/study.json"), "{").unwrap();
        assert!(error(&["study"]).contains("study.json is corrupt"));
    }
}
