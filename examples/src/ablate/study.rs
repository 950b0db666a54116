//! What is to be compared: a study's file, or configurations.

use super::overlay::{flat, overlay};
use crate::Failure;
use rwkv_core::error::Error;
use rwkv_train::config::{RunConfig, explain};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// In a folder, the file that is a study; without it every file is a variant.
const STUDY_FILE: &str = "study.toml";
/// Keys of a study that no configuration has at its top.
const STUDY_KEYS: [&str; 8] =
    ["question", "baseline", "metric", "seeds", "equal_params", "base", "variant", "variants"];
/// Keys of `[data]` that say how data are used. Any other names them.
const NO_SOURCE: [&str; 5] = ["val_fraction", "tokenizer", "order", "document_reset", "prompt"];

/// A study, as its file and the command line have it.
#[derive(Debug)]
pub(super) struct Design {
    pub name: String,
    pub question: String,
    pub baseline: Option<String>,
    pub metric: Option<String>,
    pub seeds: Option<Seeds>,
    pub equal_params: bool,
    pub variants: Vec<Designed>,
    /// Whether a variant trains on the built-in stories.
    pub stories: bool,
}

/// A variant.
#[derive(Debug, Clone)]
pub(super) struct Designed {
    pub name: String,
    pub note: Option<String>,
    pub group: Option<String>,
    pub x: Option<f64>,
    pub config: RunConfig,
}

/// How many, or which.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Seeds {
    Count(u64),
    List(Vec<u64>),
}

/// A study's file.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct StudyFile {
    question: String,
    baseline: Option<String>,
    metric: Option<String>,
    seeds: Option<Value>,
    equal_params: bool,
    base: Table,
    variant: Vec<VariantFile>,
}

/// A variant in a study's file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VariantFile {
    name: String,
    note: Option<String>,
    group: Option<String>,
    x: Option<f64>,
    #[serde(default)]
    model: Table,
    #[serde(default)]
    data: Table,
    #[serde(default)]
    train: Table,
    #[serde(default)]
    tune: Table,
}

impl Design {
    /// Reads a study's file, a folder with one, a folder of configurations, or configurations. `sets` are laid over the base,
    /// and `stories` is the text of configurations that name no data.
    pub(super) fn read(files: &[PathBuf], sets: &[Table], stories: &Path) -> Result<Self, Failure> {
        let mut design = match files {
            [folder] if folder.is_dir() => match folder.join(STUDY_FILE) {
                study if study.exists() => Self::of_study(&study, sets, stories)?,
                _ => Self::of_configs(&configs_in(folder)?, sets, stories)?,
            },
            [file] if is_study(&parse(file)?) => Self::of_study(file, sets, stories)?,
            files => {
                for file in files {
                    if is_study(&parse(file)?) {
                        return Err(Failure(format!("{} is a study, which stands alone", file.display())));
                    }
                }
                Self::of_configs(files, sets, stories)?
            }
        };
        design.name = name_of(&files[0]);
        for (i, variant) in design.variants.iter().enumerate() {
            if design.variants[..i].iter().any(|before| before.name == variant.name) {
                return Err(Failure(format!("two variants are called `{}`", variant.name)));
            }
        }
        Ok(design)
    }

    fn of_configs(files: &[PathBuf], sets: &[Table], stories: &Path) -> Result<Self, Failure> {
        let mut design = Self::empty();
        for file in files {
            RunConfig::load(file)?;
            let table = sets.iter().fold(parse(file)?, |table, set| laid_over(&table, set));
            let name = name_of(file);
            let config = design.config(table, stories, &file.display().to_string())?;
            design.variants.push(Designed { name, note: None, group: None, x: None, config });
        }
        Ok(design)
    }

    fn of_study(file: &Path, sets: &[Table], stories: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(file).map_err(Error::io("read", file))?;
        let wrong = |problem: String| Failure(format!("{}: {problem}", file.display()));
        let study: StudyFile = toml::from_str(&text).map_err(|error| wrong(explain(&text, &error)))?;
        let mut design = Self {
            question: study.question,
            baseline: study.baseline,
            metric: study.metric,
            seeds: study.seeds.map(seeds).transpose().map_err(wrong)?,
            equal_params: study.equal_params,
            ..Self::empty()
        };
        RunConfig::from_toml(&study.base.to_string())
            .map_err(|problem| wrong(format!("[base]: {}", line(&problem))))?;
        let base = sets.iter().fold(study.base, |base, set| laid_over(&base, set));
        if study.variant.is_empty() {
            return Err(wrong("there is no [[variant]]".to_owned()));
        }
        for variant in study.variant {
            let own =
                [("model", variant.model), ("data", variant.data), ("train", variant.train), ("tune", variant.tune)];
            let own: Table = own.into_iter().map(|(section, keys)| (section.to_owned(), Value::Table(keys))).collect();
            if own["train"].get("seed").is_some() {
                let name = variant.name;
                return Err(wrong(format!(
                    "variant `{name}` sets train.seed, but all variants have the study's seeds"
                )));
            }
            let place = format!("{}: variant `{}`", file.display(), variant.name);
            let config = design.config(laid_over(&base, &own), stories, &place)?;
            let VariantFile { name, note, group, x, .. } = variant;
            design.variants.push(Designed { name, note, group, x, config });
        }
        Ok(design)
    }

    fn empty() -> Self {
        let (name, question, variants) = (String::new(), String::new(), Vec::new());
        Self {
            name,
            question,
            baseline: None,
            metric: None,
            seeds: None,
            equal_params: false,
            variants,
            stories: false,
        }
    }

    /// The configuration that a table says, on the stories if it names no data.
    fn config(&mut self, mut table: Table, stories: &Path, place: &str) -> Result<RunConfig, Failure> {
        let data = table.entry("data").or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(data) = data
            && data.keys().all(|key| NO_SOURCE.contains(&key.as_str()))
        {
            data.insert("text".to_owned(), Value::String(stories.display().to_string()));
            self.stories = true;
        }
        let wrong = |problem: String| Failure(format!("{place}: {problem}"));
        let config = RunConfig::from_toml(&table.to_string()).map_err(|problem| wrong(line(&problem)))?;
        config.validate().map_err(|error| wrong(error.to_string()))?;
        Ok(config)
    }

    /// Which seeds: those asked for, or three, from the baseline's own on.
    pub(super) fn seeds(&self, asked: Option<u64>, first: u64) -> Result<Vec<u64>, Failure> {
        let seeds = asked.map(Seeds::Count).or_else(|| self.seeds.clone()).unwrap_or(Seeds::Count(3));
        let list = match seeds {
            Seeds::Count(count) => (first..first + count).collect(),
            Seeds::List(list) => list,
        };
        if list.is_empty() {
            return Err(Failure("seeds: at least one is needed".to_owned()));
        }
        match list.iter().enumerate().find(|(i, seed)| list[..*i].contains(seed)) {
            Some((_, twice)) => Err(Failure(format!("seeds names {twice} twice"))),
            None => Ok(list),
        }
    }
}

/// What a configuration says key by key, the mixers in full, but for the seed.
pub(super) fn keys(config: &RunConfig) -> Result<Vec<(String, String)>, Failure> {
    let mut whole = Table::try_from(config)?;
    if let Some(Value::Table(model)) = whole.get_mut("model") {
        model.insert("mixers".to_owned(), Value::try_from(config.model.mixers)?);
    }
    let mut keys = flat(&whole);
    keys.retain(|(key, _)| key != "train.seed");
    Ok(keys)
}

/// The keys of a configuration whose values are not the baseline's.
pub(super) fn changes(config: &RunConfig, baseline: &RunConfig) -> Result<Vec<(String, String)>, Failure> {
    let (own, of_baseline) = (keys(config)?, keys(baseline)?);
    let mut changes: Vec<(String, String)> = own.iter().filter(|pair| !of_baseline.contains(pair)).cloned().collect();
    for (key, _) in of_baseline {
        // Another mixer has other keys, which tell that it took the place.
        if !key.starts_with("model.mixers.") && !own.iter().any(|(there, _)| *there == key) {
            changes.push((key, "unset".to_owned()));
        }
    }
    Ok(changes)
}

fn laid_over(base: &Table, over: &Table) -> Table {
    overlay(base, over, &|whole| RunConfig::from_toml(&whole.to_string()).is_ok())
}

fn parse(file: &Path) -> Result<Table, Failure> {
    let text = std::fs::read_to_string(file).map_err(Error::io("read", file))?;
    toml::from_str(&text).map_err(|error| Failure(format!("{}: {}", file.display(), explain(&text, &error))))
}

fn is_study(table: &Table) -> bool {
    STUDY_KEYS.iter().any(|key| table.contains_key(*key))
}

/// The configurations in a folder, by name.
fn configs_in(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut files: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "toml")).collect();
    files.sort();
    if files.is_empty() { Err(Failure(format!("{} has no .toml file", folder.display()))) } else { Ok(files) }
}

/// A file's stem; for a study that fills its folder, the folder's name.
pub(super) fn name_of(path: &Path) -> String {
    let path =
        if path.file_name().is_some_and(|name| name == STUDY_FILE) { path.parent().unwrap_or(path) } else { path };
    let named = if path.is_dir() { path.file_name() } else { path.file_stem() };
    named.map_or_else(|| "study".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn seeds(value: Value) -> Result<Seeds, String> {
    let number = |value: &Value| value.as_integer().and_then(|number| u64::try_from(number).ok());
    let found = match &value {
        Value::Array(list) => list.iter().map(number).collect::<Option<Vec<u64>>>().map(Seeds::List),
        count => number(count).map(Seeds::Count),
    };
    found.ok_or_else(|| format!("seeds = {value}: expected how many, or a list of numbers that are not negative"))
}

/// A problem of a table that stands in no file as it is, without the number of the line.
fn line(problem: &str) -> String {
    let without = problem.strip_prefix("line ").and_then(|rest| rest.split_once(", "));
    without.map_or(problem, |(_, rest)| rest).to_owned()
}
