//! Data of tasks from the Hugging Face hub, which keeps every public data set as Parquet files, too.

use super::{Source, source, split_files};
use crate::error::{Error, Result};
use hf_hub::api::Siblings;
use hf_hub::api::sync::ApiBuilder;
use hf_hub::{Cache, Repo, RepoType};
use rwkv_core::checkpoint::Progress;
use rwkv_core::checkpoint::hub::{Reporter, explain};
use rwkv_core::error::Error as CoreError;
use rwkv_core::files::replace_atomic;
use std::path::{Path, PathBuf};

/// The branch that the hub converts data sets into: `CONFIG/SPLIT/0000.parquet` and so on.
pub const BRANCH: &str = "refs/convert/parquet";

/// A hub, and the folder that keeps what came from it.
#[derive(Debug, Clone)]
pub struct DataHub {
    endpoint: String,
    cache: PathBuf,
}

impl DataHub {
    /// The hub at an address, with a cache in this folder.
    #[must_use]
    pub fn new(endpoint: impl Into<String>, cache: impl Into<PathBuf>) -> Self {
        Self { endpoint: endpoint.into(), cache: cache.into() }
    }

    /// The hub and the cache that the environment names: `HF_ENDPOINT`, and `HF_HOME` or the user's
    /// `.cache/huggingface`.
    ///
    /// # Errors
    /// [`CoreError::Download`] when there is no folder for a cache.
    pub fn from_env() -> Result<Self> {
        let endpoint = std::env::var("HF_ENDPOINT").ok().filter(|endpoint| !endpoint.is_empty());
        let endpoint = endpoint.unwrap_or_else(|| rwkv_core::checkpoint::hub::ENDPOINT.to_owned());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let home = std::env::var_os("HF_HOME").map(PathBuf::from);
        match home.or_else(|| Some(std::env::home_dir()?.join(".cache").join("huggingface"))) {
            Some(home) => Ok(Self::new(endpoint, home.join("hub"))),
            None => Err(CoreError::Download {
                model: "data".to_owned(),
                endpoint,
                problem: "there is no home folder to keep it in; set HF_HOME".to_owned(),
            }
            .into()),
        }
    }

    /// Puts a split of a task into `DIR/TASK/`, as `SPLIT-00000-of-00001.parquet` and so on, unless the split is there in
    /// any form. `progress` hears of every piece that arrives. Returns whether anything was fetched.
    ///
    /// # Errors
    /// [`CoreError::Download`] when the task's data is not published, or cannot be had; it says how to get it by hand.
    pub fn fetch(&self, dir: &Path, task: &str, split: &str, progress: &mut dyn FnMut(Progress<'_>)) -> Result<bool> {
        match split_files(dir, task, split) {
            Ok(_) => return Ok(false),
            Err(Error::NoSplit { .. }) => {}
            Err(other) => return Err(other),
        }
        let Some(source) = source(task) else {
            let by_hand = format!("put it into {}", dir.join(task).join(format!("{split}.jsonl")).display());
            let problem = format!("this library does not know where it is published; {by_hand}");
            return Err(self.failed(&format!("the data of {task}"), problem));
        };
        let what = format!("split {split} of {} ({})", source.repository, source.config);
        let failed = |problem: String| {
            let by_hand = format!(
                "by hand: open {}/datasets/{}/tree/{}/{}/{split} and put its Parquet files into {}",
                self.endpoint,
                source.repository,
                BRANCH.replace('/', "%2F"),
                source.config,
                dir.join(task).join(split).display()
            );
            self.failed(&what, format!("{problem}; {by_hand}"))
        };
        let shards = self.download(source, split, progress).map_err(failed)?;
        let folder = dir.join(task);
        std::fs::create_dir_all(&folder).map_err(CoreError::io("create", &folder))?;
        for (number, shard) in shards.iter().enumerate() {
            let path = folder.join(format!("{split}-{number:05}-of-{:05}.parquet", shards.len()));
            replace_atomic(&path, |temporary| {
                std::fs::copy(shard, temporary).map(drop).map_err(CoreError::io("write", &path))
            })?;
        }
        Ok(true)
    }

    /// The split's files in the cache, in order.
    fn download(
        &self,
        source: Source,
        split: &str,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> std::result::Result<Vec<PathBuf>, String> {
        let cache = Cache::new(self.cache.clone());
        let api = ApiBuilder::from_cache(cache).with_endpoint(self.endpoint.clone()).with_retries(2).build();
        let api = api.map_err(|error| explain(&error, "data set"))?;
        let repository = Repo::with_revision(source.repository.to_owned(), RepoType::Dataset, BRANCH.to_owned());
        let repository = api.repo(repository);
        let files = repository.info().map_err(|error| explain(&error, "data set"))?.siblings;
        let shards = shards(&files, source.config, split)?;
        let mut paths = Vec::new();
        for shard in shards {
            let reporter = Reporter::new(shard.clone(), &mut *progress);
            let path = match repository.download_with_progress(&shard, reporter) {
                Ok(path) => path,
                Err(error) => return Err(format!("{shard}: {}", explain(&error, "data set"))),
            };
            paths.push(path);
        }
        Ok(paths)
    }

    fn failed(&self, what: &str, problem: String) -> Error {
        CoreError::Download { model: what.to_owned(), endpoint: self.endpoint.clone(), problem }.into()
    }
}

/// The names of a split's files in order, from the list of all.
fn shards(files: &[Siblings], config: &str, split: &str) -> std::result::Result<Vec<String>, String> {
    let prefix = format!("{config}/{split}/");
    let number = |name: &str| name.strip_prefix(&prefix)?.strip_suffix(".parquet")?.parse::<usize>().ok();
    let mut shards: Vec<(usize, &str)> =
        files.iter().filter_map(|file| Some((number(&file.rfilename)?, file.rfilename.as_str()))).collect();
    shards.sort_unstable();
    if shards.iter().enumerate().any(|(place, (number, _))| place != *number) {
        return Err(format!("shards of {prefix} are missing"));
    }
    if shards.is_empty() {
        let inside = |name: &str| name.strip_prefix(&format!("{config}/"))?.split('/').next().map(str::to_owned);
        let splits: std::collections::BTreeSet<String> =
            files.iter().filter_map(|file| inside(&file.rfilename)).collect();
        let splits = splits.into_iter().collect::<Vec<_>>().join(", ");
        let there = if splits.is_empty() { "nothing".to_owned() } else { format!("splits {splits}") };
        return Err(format!("there is no {prefix}0000.parquet; {config} has {there}"));
    }
    Ok(shards.into_iter().map(|(_, name)| name.to_owned()).collect())
}
