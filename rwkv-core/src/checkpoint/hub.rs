//! Models by name from the Hugging Face hub, in the cache that Hugging Face's own programs use, too.

use super::resolve::{HUB_PREFIX, Progress};
use super::{FOLDER_FILES, TOKENIZER_FILE, shards};
use crate::error::{Error, Result};
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use std::path::{Component, Path, PathBuf};

/// The hub unless `HF_ENDPOINT` names another.
pub const ENDPOINT: &str = "https://huggingface.co";

/// How many files an error lists.
const LISTED: usize = 5;

/// A hub, and the folder that keeps what came from it.
#[derive(Debug, Clone)]
pub struct Hub {
    endpoint: String,
    cache: PathBuf,
}

/// `OWNER/NAME[@REVISION][:FILE]`, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Reference<'a> {
    repository: &'a str,
    revision: &'a str,
    file: Option<&'a str>,
}

impl<'a> Reference<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        let (rest, file) = match name.split_once(':') {
            Some((rest, file)) => (rest, Some(file)),
            None => (name, None),
        };
        let (repository, revision) = rest.split_once('@').unwrap_or((rest, "main"));
        let (owner, model) = repository.split_once('/')?;
        let plain = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        let valid = plain(owner)
            && plain(model)
            && revision.split('/').all(plain)
            && file.is_none_or(is_inside)
            && !name.contains(['\\', '?', '#']);
        valid.then_some(Self { repository, revision, file })
    }
}

/// Whether a file's name stays inside its repository's folder.
fn is_inside(name: &str) -> bool {
    !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

impl Hub {
    /// The hub at an address, with a cache in this folder.
    #[must_use]
    pub fn new(endpoint: impl Into<String>, cache: impl Into<PathBuf>) -> Self {
        Self { endpoint: endpoint.into(), cache: cache.into() }
    }

    /// The hub and the cache that the environment names: `HF_ENDPOINT`, and `HF_HOME` or the user's
    /// `.cache/huggingface`.
    ///
    /// # Errors
    /// [`Error::Download`], which speaks of `model`, when there is no folder for a cache.
    pub fn from_env(model: &str) -> Result<Self> {
        let endpoint = std::env::var("HF_ENDPOINT").ok().filter(|endpoint| !endpoint.is_empty());
        let endpoint =
            endpoint.map_or_else(|| ENDPOINT.to_owned(), |endpoint| endpoint.trim_end_matches('/').to_owned());
        let home = std::env::var_os("HF_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(std::env::home_dir()?.join(".cache").join("huggingface")));
        match home {
            Some(home) => Ok(Self::new(endpoint, home.join("hub"))),
            None => Err(Error::Download {
                model: format!("{HUB_PREFIX}{model}"),
                endpoint,
                problem: "there is no home folder to keep it in; set HF_HOME".to_owned(),
            }),
        }
    }

    /// The path of the model `OWNER/NAME[@REVISION][:FILE]` in the cache, after downloading what is not there yet.
    ///
    /// Without `:FILE`, the repository's `model.safetensors` (or its shards, or `pytorch_model.bin`) is meant, or its
    /// only `.pth` file; a `tokenizer.json` comes along. What is in the cache needs no connection, except that a
    /// repository of `.pth` files must be asked which there are.
    ///
    /// # Errors
    /// [`Error::Download`]; [`Error::Format`] for a broken index of shards.
    pub fn fetch(&self, model: &str, progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf> {
        let failed = |problem: String| Error::Download {
            model: format!("{HUB_PREFIX}{model}"),
            endpoint: self.endpoint.clone(),
            problem,
        };
        let reference = Reference::parse(model).ok_or_else(|| {
            failed("a model is called hf:OWNER/NAME, hf:OWNER/NAME@REVISION or hf:OWNER/NAME:FILE".into())
        })?;
        let revision = reference.revision.to_owned();
        let repository = Repo::with_revision(reference.repository.to_owned(), RepoType::Model, revision);
        let cache = Cache::new(self.cache.clone());
        let api = ApiBuilder::from_cache(cache.clone()).with_endpoint(self.endpoint.clone()).with_retries(2).build();
        let api = api.map_err(|error| failed(explain(&error, "model")))?;
        let mut files = Files { cache: cache.repo(repository.clone()), api: api.repo(repository), progress };
        let outcome = match reference.file {
            Some(file) => files.get(file),
            None => files.model(),
        };
        let path = outcome.map_err(failed)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".index.json") {
            let index = std::fs::read(&path).map_err(Error::io("read", &path))?;
            for shard in shards::files(&path, &index)? {
                files.get(&shard).map_err(failed)?;
            }
        }
        Ok(path)
    }
}

/// One repository's files.
struct Files<'a> {
    cache: CacheRepo,
    api: ApiRepo,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

impl Files<'_> {
    /// A file's place in the cache, after downloading it if need be.
    fn get(&mut self, file: &str) -> std::result::Result<PathBuf, String> {
        if let Some(path) = self.cache.get(file) {
            return Ok(path);
        }
        let reporter = Reporter::new(file, &mut *self.progress);
        self.api.download_with_progress(file, reporter).map_err(|error| format!("{file}: {}", explain(&error, "model")))
    }

    /// The repository's model.
    fn model(&mut self) -> std::result::Result<PathBuf, String> {
        if let Some(path) = FOLDER_FILES.iter().find_map(|file| self.cache.get(file)) {
            return Ok(path);
        }
        let listed = self.api.info().map_err(|error| explain(&error, "model"))?.siblings;
        let names: Vec<String> = listed.into_iter().map(|file| file.rfilename).filter(|name| is_inside(name)).collect();
        let model = choose(&names)?;
        if names.iter().any(|name| name == TOKENIZER_FILE) {
            self.get(TOKENIZER_FILE)?;
        }
        self.get(model)
    }
}

/// The model among a repository's files.
fn choose(names: &[String]) -> std::result::Result<&str, String> {
    if let Some(usual) = FOLDER_FILES.iter().find(|usual| names.iter().any(|name| name == **usual)) {
        return Ok(usual);
    }
    let models: Vec<&str> = names.iter().map(String::as_str).filter(|name| name.ends_with(".pth")).collect();
    match models.as_slice() {
        [model] => Ok(model),
        [] => Err(format!("the repository has no model: none of {}, and no .pth file", FOLDER_FILES.join(", "))),
        several => {
            let more = if several.len() > LISTED { ", …" } else { "" };
            let some: Vec<String> = several.iter().take(LISTED).map(|name| name.escape_debug().to_string()).collect();
            Err(format!(
                "the repository has {} models; choose one by adding :FILE, of {}{more}",
                several.len(),
                some.join(", ")
            ))
        }
    }
}

/// The error with its causes, in one line; `what` is what was asked for, as "model".
#[must_use]
pub fn explain(error: &ApiError, what: &str) -> String {
    match error {
        ApiError::RequestError(error) => match error.to_string() {
            missing if missing.contains("404") => format!("no such {what}, revision or file (status 404)"),
            closed if closed.contains("401") || closed.contains("403") => {
                format!("{closed}: no such {what}, or one that needs a login")
            }
            other => other.replace('\n', " "),
        },
        ApiError::TooManyRetries(error) => explain(error, what),
        other => other.to_string().replace('\n', " "),
    }
}

/// Passes the progress of one file on.
pub struct Reporter<'a> {
    file: String,
    done: u64,
    total: u64,
    tell: &'a mut dyn FnMut(Progress<'_>),
}

impl<'a> Reporter<'a> {
    /// For a file of this name.
    pub fn new(file: impl Into<String>, tell: &'a mut dyn FnMut(Progress<'_>)) -> Self {
        Self { file: file.into(), done: 0, total: 0, tell }
    }
}

impl hf_hub::api::Progress for Reporter<'_> {
    fn init(&mut self, size: usize, _file: &str) {
        (self.done, self.total) = (0, size as u64);
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        (self.tell)(Progress { file: &self.file, done: self.done, total: self.total });
    }

    fn finish(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_taken_apart_and_odd_ones_refused() {
        let parsed = |name| Reference::parse(name).map(|r| (r.repository, r.revision, r.file));
        assert_eq!(parsed("RWKV/rwkv-4-169m-pile"), Some(("RWKV/rwkv-4-169m-pile", "main", None)));
        assert_eq!(
            parsed("BlinkDL/rwkv-4-raven@refs/pr/1:RWKV-4-Raven-14B-v12-Eng98%-Other2%.pth"),
            Some(("BlinkDL/rwkv-4-raven", "refs/pr/1", Some("RWKV-4-Raven-14B-v12-Eng98%-Other2%.pth")))
        );
        for odd in ["", "rwkv", "a/", "/b", "a/b/c", "a/b:", "a/b@", "a/b:../c", "a/..", "a/b@../x", "a/b:/etc/passwd"]
        {
            assert_eq!(parsed(odd), None, "{odd}");
        }
    }

    #[test]
    fn the_model_of_a_repository_is_clear_or_asked_for() {
        let choose = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            choose(&names).map(str::to_owned)
        };
        assert_eq!(choose(&["a.pth", "pytorch_model.bin", "model.safetensors"]).as_deref(), Ok("model.safetensors"));
        assert_eq!(choose(&["README.md", "a.pth"]).as_deref(), Ok("a.pth"));
        assert!(choose(&["README.md"]).expect_err("refused").contains("no model"));
        let several = choose(&["a.pth", "b.pth"]).expect_err("refused");
        assert!(several.contains("a.pth, b.pth") && several.contains(":FILE"), "{several}");
    }
}
