//! The folder of a run: the paths of its files, and protection against overwriting them by accident.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::retention::Checkpoints;
use super::settings::RunSettings;
use crate::checkpoint::lock::{FolderInUse, FolderLock};
use crate::checkpoint::{sync_folder, write_file};
use crate::config;
use crate::data::example;

/// Subfolders of a run folder.
const SUBFOLDERS: [&str; 3] = ["rollouts", "eval", "checkpoints"];

/// The extension added to the name of a corrupt folder that is set aside.
const SET_ASIDE: &str = "broken";

/// The folder of one run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    root: PathBuf,
    /// The lock of a writer, held until the last clone is dropped; `None` for a reader.
    lock: Option<Arc<FolderLock>>,
}

impl RunFolder {
    /// Returns a path that does not exist yet: `runs/MODEL-EXAMPLE`, or the same with a number appended.
    pub fn unused_path(settings: &RunSettings) -> PathBuf {
        let model =
            Path::new(&settings.model).file_name().map_or_else(|| settings.model.clone(), |name| name.to_string_lossy().into_owned());
        let example = example::title(&settings.example);
        let example = Path::new(&example).file_stem().map_or_else(|| example.clone(), |name| name.to_string_lossy().into_owned());
        let name: String =
            format!("{model}-{example}").chars().map(|c| if c.is_ascii_alphanumeric() || "+-._".contains(c) { c } else { '-' }).collect();
        let numbered = (2..).map(|n| Path::new("runs").join(format!("{name}-{n}")));
        std::iter::once(Path::new("runs").join(&name)).chain(numbered).find(|path| !path.exists()).unwrap_or_default()
    }

    /// Creates a run folder, locks it and writes the settings to it.
    ///
    /// # Errors
    /// [`FolderInUse`] if the folder exists; other errors if it cannot be created or written.
    pub fn create(root: &Path, settings: &RunSettings) -> Result<Self> {
        let cannot = || format!("cannot create {}", root.display());
        std::fs::create_dir_all(root.parent().unwrap_or(Path::new(""))).with_context(cannot)?;
        match std::fs::create_dir(root) {
            // If two runs start at the same time, only one of them creates the folder.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(FolderLock::holder(root).unwrap_or_else(|| FolderInUse { folder: root.to_owned(), holder: None }).into());
            }
            created => created.with_context(cannot)?,
        }
        let mut folder = Self { root: root.to_owned(), lock: None };
        folder.lock()?;
        for part in SUBFOLDERS {
            let path = root.join(part);
            std::fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        }
        folder.write_settings(settings)?;
        folder.sync_records()?;
        Ok(folder)
    }

    /// The folder of a run that another process writes.
    pub fn of_other(root: &Path) -> Self {
        Self { root: root.to_owned(), lock: None }
    }

    /// Writes all settings to `config.toml`.
    ///
    /// # Errors
    /// If the settings cannot be serialized or the file cannot be written.
    pub fn write_settings(&self, settings: &RunSettings) -> Result<()> {
        write_file(&self.config(), toml::to_string(settings)?.as_bytes())
    }

    /// Locks the folder for writing until the last clone is dropped.
    ///
    /// # Errors
    /// [`FolderInUse`] if another process holds the lock; other errors if the lock file cannot be written.
    pub fn lock(&mut self) -> Result<()> {
        self.lock = Some(Arc::new(FolderLock::acquire(&self.root)?));
        Ok(())
    }

    /// Opens an existing run folder for reading and returns its settings.
    ///
    /// # Errors
    /// If the folder or its `config.toml` is missing, or the settings cannot be parsed.
    pub fn open(root: &Path) -> Result<(Self, RunSettings)> {
        let folder = Self { root: root.to_owned(), lock: None };
        let path = root.display();
        ensure!(root.exists(), "{path} is not a run folder: there is no such folder");
        ensure!(
            folder.config().exists() || !folder.is_empty_skeleton(),
            "{path} is not a run folder yet: the run was killed before it had written config.toml, so nothing is lost; delete the folder and \
             start the run again with the same arguments"
        );
        ensure!(folder.config().exists(), "{path} is not a run folder: it has no config.toml");
        let settings = config::read_recorded(&folder.config())?;
        Ok((folder, settings))
    }

    /// True if all subfolders exist and are empty, as in a folder that was just created.
    fn is_empty_skeleton(&self) -> bool {
        SUBFOLDERS.iter().all(|part| std::fs::read_dir(self.root.join(part)).is_ok_and(|mut entries| entries.next().is_none()))
    }

    /// Opens the run folder that contains a checkpoint, with its settings; `None` if it is not in one, or the folder cannot be opened.
    pub fn of_checkpoint(checkpoint: &Path) -> Option<(Self, RunSettings)> {
        let checkpoints = checkpoint.parent().filter(|folder| folder.file_name().is_some_and(|name| name == "checkpoints"))?;
        Self::open(checkpoints.parent()?).ok()
    }

    /// The path of the run folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `config.toml`: all settings.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// `metrics.jsonl`: one line per step.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// `labels.jsonl`: the labels that replace the examples' own answers, one per line; absent if there are none.
    pub fn labels(&self) -> PathBuf {
        self.root.join("labels.jsonl")
    }

    /// `summary.json`: the results in numbers.
    pub fn summary(&self) -> PathBuf {
        self.root.join("summary.json")
    }

    /// `curves.svg`: the results as a picture.
    pub fn picture(&self) -> PathBuf {
        self.root.join("curves.svg")
    }

    /// The responses of a step, as gzipped JSON lines.
    pub fn rollouts(&self, step: u64) -> PathBuf {
        self.root.join("rollouts").join(format!("{step:05}.jsonl.gz"))
    }

    /// The responses whose update made the run diverge, as gzipped JSON lines that `--replay` reads.
    pub fn diverged(&self, step: u64) -> PathBuf {
        self.root.join("diverged").join(format!("{step:05}.jsonl.gz"))
    }

    /// The evaluation after a step: a file of graded responses per pass, and `scores.json`.
    pub fn eval(&self, step: u64) -> PathBuf {
        self.root.join("eval").join(format!("{step:05}"))
    }

    /// The checkpoint after a step.
    pub fn checkpoint(&self, step: u64) -> PathBuf {
        self.root.join("checkpoints").join(format!("{step:05}"))
    }

    /// The best checkpoint.
    pub fn best(&self) -> PathBuf {
        self.root.join("checkpoints").join("best")
    }

    /// Deletes the checkpoints, evaluations and rollouts of steps after `step`, which will run again, possibly with other settings. Also
    /// deletes the best checkpoint if it is of a later step. Deletes checkpoints first, because an existing checkpoint needs its records.
    ///
    /// # Errors
    /// If a file or folder cannot be read or deleted.
    pub fn delete_after(&self, step: u64) -> Result<()> {
        let best = std::fs::read_to_string(self.best().join("step")).ok().and_then(|text| text.trim().parse::<u64>().ok());
        let mut later: Vec<PathBuf> = best.filter(|best| *best > step).map(|_| self.best()).into_iter().collect();
        for part in ["checkpoints", "eval", "rollouts"] {
            let folder = self.root.join(part);
            for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
                let path = entry?.path();
                let name = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.ends_with(SET_ASIDE));
                let name = name.and_then(|name| name.split('.').next());
                later.extend(name.and_then(|name| name.parse::<u64>().ok()).filter(|found| *found > step).map(|_| path.clone()));
            }
        }
        for path in later {
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }

    /// Renames a corrupt folder, to keep it until its step has run again. Replaces an older copy.
    ///
    /// # Errors
    /// If the folder cannot be renamed, or an older copy cannot be deleted.
    pub fn set_aside(&self, folder: &Path) -> Result<()> {
        let aside = folder.with_added_extension(SET_ASIDE);
        if aside.exists() {
            std::fs::remove_dir_all(&aside).with_context(|| format!("cannot remove {}", aside.display()))?;
        }
        std::fs::rename(folder, &aside).with_context(|| format!("cannot rename {}", folder.display()))
    }

    /// Deletes the copy of a folder that [`set_aside`](Self::set_aside) made, if any.
    ///
    /// # Errors
    /// If the copy cannot be deleted.
    pub fn delete_set_aside(&self, folder: &Path) -> Result<()> {
        let aside = folder.with_added_extension(SET_ASIDE);
        let removed = if aside.exists() { std::fs::remove_dir_all(&aside) } else { Ok(()) };
        removed.with_context(|| format!("cannot remove {}", aside.display()))
    }

    /// Returns the files in `rollouts/`, in order of their steps.
    ///
    /// # Errors
    /// If the folder `rollouts` cannot be read.
    pub fn rollout_files(&self) -> Result<Vec<PathBuf>> {
        let folder = self.root.join("rollouts");
        let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        let step = |path: &PathBuf| path.file_name()?.to_str()?.strip_suffix(".jsonl.gz")?.parse::<u64>().ok();
        let mut recorded: Vec<(u64, PathBuf)> = paths.into_iter().filter_map(|path| Some((step(&path)?, path))).collect();
        recorded.sort_unstable();
        Ok(recorded.into_iter().map(|(_, path)| path).collect())
    }

    /// Returns the steps with a complete evaluation, in order.
    ///
    /// # Errors
    /// If the folder `eval` cannot be read.
    pub fn evaluated_steps(&self) -> Result<Vec<u64>> {
        steps_in(&self.root.join("eval"), "scores.json")
    }

    /// Returns the steps with a resumable checkpoint, in order.
    ///
    /// # Errors
    /// If the folder `checkpoints` cannot be read.
    pub fn resumable_steps(&self) -> Result<Vec<u64>> {
        steps_in(&self.root.join("checkpoints"), "state/progress.json")
    }

    /// Returns the steps whose checkpoint has a state, resumable or not, in order.
    ///
    /// # Errors
    /// If the folder `checkpoints` cannot be read.
    pub fn steps_with_state(&self) -> Result<Vec<u64>> {
        steps_in(&self.root.join("checkpoints"), "state")
    }

    /// Returns the steps with a checkpoint, resumable or not, in order.
    ///
    /// # Errors
    /// If the folder `checkpoints` cannot be read.
    pub fn exported_steps(&self) -> Result<Vec<u64>> {
        steps_in(&self.root.join("checkpoints"), "")
    }

    /// Returns the steps of all checkpoints.
    ///
    /// # Errors
    /// If the folder `checkpoints` cannot be read.
    pub fn checkpoints(&self) -> Result<Checkpoints> {
        let (exported, with_state, resumable) = (self.exported_steps()?, self.steps_with_state()?, self.resumable_steps()?);
        Ok(Checkpoints { exported, with_state, resumable })
    }

    /// Deletes the state of a checkpoint, which keeps its weights.
    ///
    /// # Errors
    /// If the state cannot be deleted.
    pub fn delete_state(&self, step: u64) -> Result<()> {
        let path = self.checkpoint(step).join("state");
        std::fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))
    }

    /// Deletes a checkpoint with its state, if any. Renames it first, so that no incomplete checkpoint remains if the process is killed.
    ///
    /// # Errors
    /// If the checkpoint cannot be renamed or deleted.
    pub fn delete_checkpoint(&self, step: u64) -> Result<()> {
        let path = self.checkpoint(step);
        let partial = path.with_added_extension("partial");
        std::fs::rename(&path, &partial)
            .and_then(|()| std::fs::remove_dir_all(&partial))
            .with_context(|| format!("cannot remove {}", path.display()))
    }

    /// Syncs the files that a checkpoint depends on to disk: metrics and labels, and the directory entries of rollouts, evaluations and
    /// checkpoints, whose contents are already synced.
    ///
    /// # Errors
    /// If a file or folder cannot be synced.
    pub fn sync_records(&self) -> Result<()> {
        for path in [self.metrics(), self.labels()].iter().filter(|path| path.exists()) {
            File::open(path).and_then(|file| file.sync_all()).with_context(|| format!("cannot sync {} to disk", path.display()))?;
        }
        ["rollouts", "eval", "checkpoints", ""].iter().try_for_each(|part| sync_folder(&self.root.join(part)))
    }
}

/// Returns the steps that have a subfolder with the file or folder `marker`, in order.
fn steps_in(folder: &Path, marker: &str) -> Result<Vec<u64>> {
    let mut steps = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let step = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u64>().ok());
        steps.extend(step.filter(|_| path.join(marker).exists()));
    }
    steps.sort_unstable();
    Ok(steps)
}

/// Writes JSON lines as one gzipped file, atomically.
///
/// # Errors
/// If a line cannot be serialized or the file cannot be written.
pub fn write_gzip_lines(path: &Path, lines: impl IntoIterator<Item = serde_json::Value>) -> Result<()> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for line in lines {
        serde_json::to_writer(&mut encoder, &line)?;
        encoder.write_all(b"\n")?;
    }
    write_file(path, &encoder.finish()?)
}
