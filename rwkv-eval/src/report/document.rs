//! A report, before it is Markdown or HTML, and its files.

use super::table::Table;
use super::{html, markdown};
use crate::error::Result;
use rwkv_core::chart::Chart;
use rwkv_core::error::Error;
use rwkv_core::files::write_atomic;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// A report.
///
/// All its texts are plain: what looks like HTML or Markdown in them is shown as it is.
///
/// # Example
/// ```
/// use rwkv_eval::report::{Document, Part, Section};
/// let mut report = Document::new("Speed of <my> model");
/// report.summary.push("300 tokens/s at every length.".into());
/// report.settings.push(("threads".into(), "2".into()));
/// report.sections.push(Section::new("How", [Part::text("On two cores.")]));
/// let folder = tempfile::tempdir().unwrap();
/// let written = report.write(folder.path(), "speed", &serde_json::json!({"tokens_per_second": 300})).unwrap();
/// assert!(std::fs::read_to_string(written.html).unwrap().contains("Speed of &lt;my&gt; model"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Document {
    /// The title.
    pub title: String,
    /// What it comes to: a paragraph each.
    pub summary: Vec<String>,
    /// What can go wrong in reading it: a paragraph each, set apart.
    pub warnings: Vec<String>,
    /// The results.
    pub sections: Vec<Section>,
    /// Everything that the results depend on, by name; at the report's end.
    pub settings: Vec<(String, String)>,
}

/// A part of a report under a heading.
#[derive(Debug, Clone)]
pub struct Section {
    /// The heading.
    pub title: String,
    /// What stands under it.
    pub parts: Vec<Part>,
}

impl Section {
    /// A section.
    #[must_use]
    pub fn new(title: impl Into<String>, parts: impl IntoIterator<Item = Part>) -> Self {
        Self { title: title.into(), parts: parts.into_iter().collect() }
    }
}

/// A piece of a section.
#[derive(Debug, Clone)]
pub enum Part {
    /// A paragraph.
    Text(String),
    /// A table.
    Table(Table),
    /// A chart.
    Figure(Box<Figure>),
}

impl Part {
    /// A paragraph.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A chart, the end of its file's name, and what stands below it.
    #[must_use]
    pub fn figure(name: impl Into<String>, chart: Chart, caption: impl Into<String>) -> Self {
        Self::Figure(Box::new(Figure { name: name.into(), caption: caption.into(), chart }))
    }
}

/// A chart with its caption.
#[derive(Debug, Clone)]
pub struct Figure {
    /// The end of its file's name: `REPORT-NAME.svg`. Names in a report differ.
    pub name: String,
    /// What it shows.
    pub caption: String,
    /// The chart.
    pub chart: Chart,
}

/// A report's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Written {
    /// The numbers.
    pub json: PathBuf,
    /// The report as Markdown, which shows the charts' files.
    pub markdown: PathBuf,
    /// The report as one page that needs no other file.
    pub html: PathBuf,
    /// The charts.
    pub charts: Vec<PathBuf>,
}

/// A chart's SVG, in the order of the document's figures.
pub(super) type Pictures = Vec<String>;

impl Document {
    /// A report without content.
    #[must_use]
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// Writes `NAME.md`, `NAME.html`, `NAME-CHART.svg` for every chart, and last `NAME.json` with `json` in it. The folder
    /// is made if need be; each file is whole or not there, and what was there under these names is replaced.
    ///
    /// # Errors
    /// When a chart has nothing to show, `json` has no JSON form (nothing is written then), or a file cannot be written;
    /// the file is named.
    pub fn write(&self, folder: &Path, name: &str, json: &impl Serialize) -> Result<Written> {
        let at = |ending: &str| folder.join(format!("{name}{ending}"));
        let chart_file = |figure: &Figure| at(&format!("-{}.svg", figure.name));
        let pictures = self.pictures(chart_file)?;
        let charts = self.figures().map(chart_file).collect();
        let written = Written { json: at(".json"), markdown: at(".md"), html: at(".html"), charts };
        let numbers = serde_json::to_string_pretty(json);
        let numbers = numbers.map_err(|error| Error::format(&written.json, format!("cannot be written: {error}")))?;
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        for (path, svg) in written.charts.iter().zip(&pictures) {
            write_atomic(path, svg.as_bytes())?;
        }
        write_atomic(&written.markdown, self.markdown(name).as_bytes())?;
        write_atomic(&written.html, html::page(self, &pictures).as_bytes())?;
        write_atomic(&written.json, (numbers + "\n").as_bytes())?;
        Ok(written)
    }

    /// The report as Markdown; it shows its charts from files `NAME-CHART.svg` beside it.
    #[must_use]
    pub fn markdown(&self, name: &str) -> String {
        markdown::page(self, name)
    }

    /// The report as one HTML page that needs nothing from elsewhere: styles and charts are in it.
    ///
    /// # Errors
    /// When a chart has nothing to show.
    pub fn html(&self) -> Result<String> {
        Ok(html::page(self, &self.pictures(|figure| PathBuf::from(&figure.name))?))
    }

    /// The figures' pictures; errors speak of the file that `named` gives.
    fn pictures(&self, named: impl Fn(&Figure) -> PathBuf) -> Result<Pictures> {
        let mut pictures = Pictures::new();
        for figure in self.figures() {
            let svg = figure.chart.svg();
            pictures.push(svg.map_err(|error| Error::format(named(figure), format!("cannot be drawn: {error}")))?);
        }
        Ok(pictures)
    }

    fn figures(&self) -> impl Iterator<Item = &Figure> {
        self.sections.iter().flat_map(|section| &section.parts).filter_map(|part| match part {
            Part::Figure(figure) => Some(figure.as_ref()),
            _ => None,
        })
    }
}
