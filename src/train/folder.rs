//! The run's folder: where each record lies, and that nothing in it is ever overwritten by accident.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::settings::RunSettings;
use crate::checkpoint::lock::{FolderLock, Held};
use crate::checkpoint::{sync_folder, write_file};
use crate::config;
use crate::data::example;

/// Its subfolders.
const PARTS: [&str; 3] = ["rollouts", "eval", "checkpoints"];

/// The ending of a checkpoint that was found broken.
const SET_ASIDE: &str = "broken";

/// The folder of one run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    root: PathBuf,
    /// Held by whoever writes, as long as any copy of this lives.
    lock: Option<Arc<FolderLock>>,
}

impl RunFolder {
    /// A folder that is not there yet: `runs/MODEL-EXAMPLE`, numbered where that is taken.
    pub fn free(settings: &RunSettings) -> PathBuf {
        let model =
            Path::new(&settings.model).file_name().map_or_else(|| settings.model.clone(), |name| name.to_string_lossy().into_owned());
        let example = example::title(&settings.example);
        let example = Path::new(&example).file_stem().map_or_else(|| example.clone(), |name| name.to_string_lossy().into_owned());
        let name: String =
            format!("{model}-{example}").chars().map(|c| if c.is_ascii_alphanumeric() || "+-._".contains(c) { c } else { '-' }).collect();
        let numbered = (2..).map(|n| Path::new("runs").join(format!("{name}-{n}")));
        std::iter::once(Path::new("runs").join(&name)).chain(numbered).find(|path| !path.exists()).unwrap_or_default()
    }

    /// Makes a new folder and records the settings in it. A folder that is there is an error.
    pub fn create(root: &Path, settings: &RunSettings) -> Result<Self> {
        let cannot = || format!("cannot create {}", root.display());
        std::fs::create_dir_all(root.parent().unwrap_or(Path::new(""))).with_context(cannot)?;
        match std::fs::create_dir(root) {
            // Of two who begin at once, the one who makes the folder has it.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(FolderLock::holder(root).unwrap_or_else(|| Held { folder: root.to_owned(), holder: None }).into());
            }
            made => made.with_context(cannot)?,
        }
        let mut folder = Self { root: root.to_owned(), lock: None };
        folder.lock()?;
        for part in PARTS {
            let path = root.join(part);
            std::fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        }
        folder.record(settings)?;
        folder.sync_records()?;
        Ok(folder)
    }

    /// Records the settings, complete.
    pub fn record(&self, settings: &RunSettings) -> Result<()> {
        write_file(&self.config(), toml::to_string(settings)?.as_bytes())
    }

    /// Becomes the only writer, until the last copy of this is dropped.
    ///
    /// # Errors
    /// [`Held`] where another process writes there.
    pub fn lock(&mut self) -> Result<()> {
        self.lock = Some(Arc::new(FolderLock::take(&self.root)?));
        Ok(())
    }

    /// Opens the folder of a run that was stopped, with its settings, to read it.
    pub fn open(root: &Path) -> Result<(Self, RunSettings)> {
        let folder = Self { root: root.to_owned(), lock: None };
        let place = root.display();
        ensure!(root.exists(), "{place} is no run's folder: there is no such folder");
        ensure!(
            folder.config().exists() || !folder.is_begun(),
            "{place} is no run's folder yet: the run was killed before it had written config.toml, so nothing is lost. Remove the folder, and \
             start the run again with its arguments"
        );
        ensure!(folder.config().exists(), "{place} is no run's folder: it has no config.toml");
        let settings = config::read_complete(&folder.config())?;
        Ok((folder, settings))
    }

    /// Whether a run's subfolders are there, and nothing in them.
    fn is_begun(&self) -> bool {
        PARTS.iter().all(|part| std::fs::read_dir(self.root.join(part)).is_ok_and(|mut entries| entries.next().is_none()))
    }

    /// The run that a checkpoint belongs to, if it lies in the folder of one.
    pub fn of_checkpoint(checkpoint: &Path) -> Option<(Self, RunSettings)> {
        let checkpoints = checkpoint.parent().filter(|folder| folder.file_name().is_some_and(|name| name == "checkpoints"))?;
        Self::open(checkpoints.parent()?).ok()
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The complete settings.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// One line a step.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// The labels that are not the examples' own, a line each; missing where there are none.
    pub fn labels(&self) -> PathBuf {
        self.root.join("labels.jsonl")
    }

    /// The result in numbers.
    pub fn summary(&self) -> PathBuf {
        self.root.join("summary.json")
    }

    /// The result as a picture.
    pub fn picture(&self) -> PathBuf {
        self.root.join("curves.svg")
    }

    /// The responses of a step, compressed JSON lines.
    pub fn rollouts(&self, step: u64) -> PathBuf {
        self.root.join("rollouts").join(format!("{step:05}.jsonl.gz"))
    }

    /// The responses of the step whose update ended the run, compressed JSON lines that can be replayed.
    pub fn diverged(&self, step: u64) -> PathBuf {
        self.root.join("diverged").join(format!("{step:05}.jsonl.gz"))
    }

    /// The evaluation after a step: one file of graded responses a pass, and `scores.json`.
    pub fn eval(&self, step: u64) -> PathBuf {
        self.root.join("eval").join(format!("{step:05}"))
    }

    /// The checkpoint after a step.
    pub fn checkpoint(&self, step: u64) -> PathBuf {
        self.root.join("checkpoints").join(format!("{step:05}"))
    }

    /// The best checkpoint so far.
    pub fn best(&self) -> PathBuf {
        self.root.join("checkpoints").join("best")
    }

    /// Removes what was recorded after `step`: those steps will be made again, perhaps under other settings. A best checkpoint of a later step
    /// goes too; it comes again when its step does. Checkpoints go first: one that is there must have its records.
    pub fn forget_after(&self, step: u64) -> Result<()> {
        let best = std::fs::read_to_string(self.best().join("step")).ok().and_then(|text| text.trim().parse::<u64>().ok());
        let mut later: Vec<PathBuf> = best.filter(|best| *best > step).map(|_| self.best()).into_iter().collect();
        for part in ["checkpoints", "eval", "rollouts"] {
            let folder = self.root.join(part);
            for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
                let path = entry?.path();
                let name = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.ends_with(SET_ASIDE));
                let name = name.and_then(|name| name.split('.').next());
                later.extend(name.and_then(|name| name.parse::<u64>().ok()).filter(|made| *made > step).map(|_| path.clone()));
            }
        }
        for path in later {
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }

    /// Takes a broken folder out of the way without losing it: it is renamed, and goes when its step has been made again.
    pub fn set_aside(&self, folder: &Path) -> Result<()> {
        let aside = folder.with_added_extension(SET_ASIDE);
        if aside.exists() {
            std::fs::remove_dir_all(&aside).with_context(|| format!("cannot remove {}", aside.display()))?;
        }
        std::fs::rename(folder, &aside).with_context(|| format!("cannot rename {}", folder.display()))
    }

    /// Removes what [`RunFolder::set_aside`] has kept of a folder.
    pub fn replaced(&self, folder: &Path) -> Result<()> {
        let aside = folder.with_added_extension(SET_ASIDE);
        let removed = if aside.exists() { std::fs::remove_dir_all(&aside) } else { Ok(()) };
        removed.with_context(|| format!("cannot remove {}", aside.display()))
    }

    /// Files of responses, in the order of their steps.
    pub fn recorded(&self) -> Result<Vec<PathBuf>> {
        let folder = self.root.join("rollouts");
        let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        let step = |path: &PathBuf| path.file_name()?.to_str()?.strip_suffix(".jsonl.gz")?.parse::<u64>().ok();
        let mut recorded: Vec<(u64, PathBuf)> = paths.into_iter().filter_map(|path| Some((step(&path)?, path))).collect();
        recorded.sort_unstable();
        Ok(recorded.into_iter().map(|(_, path)| path).collect())
    }

    /// Steps that have a complete evaluation, in order.
    pub fn evaluated_steps(&self) -> Result<Vec<u64>> {
        steps_in(&self.root.join("eval"), "scores.json")
    }

    /// Steps whose checkpoint can be resumed, in order.
    pub fn resumable_steps(&self) -> Result<Vec<u64>> {
        steps_in(&self.root.join("checkpoints"), "state/progress.json")
    }

    /// Steps whose checkpoint has a state, whole or not, in order.
    pub fn steps_with_state(&self) -> Result<Vec<u64>> {
        steps_in(&self.root.join("checkpoints"), "state")
    }

    /// Steps whose model is there, in order.
    pub fn exported_steps(&self) -> Result<Vec<u64>> {
        steps_in(&self.root.join("checkpoints"), "")
    }

    /// Has on disk what checkpoints depend on: metrics, and the names of rollouts and evaluations, which were written durably one by one.
    pub fn sync_records(&self) -> Result<()> {
        for path in [self.metrics(), self.labels()].iter().filter(|path| path.exists()) {
            File::open(path).and_then(|file| file.sync_all()).with_context(|| format!("cannot make {} durable", path.display()))?;
        }
        ["rollouts", "eval", "checkpoints", ""].iter().try_for_each(|part| sync_folder(&self.root.join(part)))
    }
}

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

/// Writes JSON lines, compressed with gzip, as one whole file.
pub fn write_gzip_lines(path: &Path, lines: impl IntoIterator<Item = serde_json::Value>) -> Result<()> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for line in lines {
        serde_json::to_writer(&mut encoder, &line)?;
        encoder.write_all(b"\n")?;
    }
    write_file(path, &encoder.finish()?)
}
