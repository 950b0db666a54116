//! Reported zero-shot scores of RWKV-4 and of others beside it, as data.

/// Where a row was published.
const PAPER: &str = "RWKV: Reinventing RNNs for the Transformer Era, arXiv 2305.13048v1, tables 3 and 4";
const README: &str = "pictures in RWKV-LM's readme (RWKV-eval.png, RWKV-eval2.png)";

/// The note of a row between models.
pub const INTERPOLATED: &str = "interpolated between models";

/// Tasks and metrics of the columns, in the paper's order. Accuracies are in percent.
pub const COLUMNS: [(&str, &str); 7] = [
    ("lambada_openai", "perplexity"),
    ("lambada_openai", "acc"),
    ("piqa", "acc"),
    ("winogrande", "acc"),
    ("arc_easy", "acc"),
    ("arc_challenge", "acc_norm"),
    ("sciq", "acc"),
];

/// Models that differ in size only, or nearly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// RWKV-4, trained on the Pile.
    Rwkv4,
    /// Pythia, trained on the Pile.
    Pythia,
    /// GPT-Neo, GPT-J and GPT-NeoX, trained on the Pile.
    Gpt,
    /// RWKV-4 World. Its rows are not the paper's.
    World,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rwkv4, Self::Pythia, Self::Gpt, Self::World];

    /// What a legend calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rwkv4 => "RWKV-4",
            Self::Pythia => "Pythia",
            Self::Gpt => "GPT-Neo, GPT-J, NeoX",
            Self::World => "RWKV-4 World",
        }
    }
}

/// A model with its scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PaperRow {
    /// What the table calls it.
    pub model: &'static str,
    /// Whose series it belongs to.
    pub family: Family,
    /// Parameters, in billions.
    pub billions: f64,
    /// What is special about it; mostly nothing.
    pub note: &'static str,
    /// Where the scores were published.
    pub source: &'static str,
    /// The scores, in the order of [`COLUMNS`]; accuracies in percent.
    pub scores: [f64; COLUMNS.len()],
}

impl PaperRow {
    /// The model's name with its size, as in `RWKV-4 0.17B`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} {}B", self.model, self.billions)
    }

    /// A score as reports have it: accuracies as shares of one.
    #[must_use]
    pub fn score(&self, task: &str, metric: &str) -> Option<f64> {
        let column = COLUMNS.iter().position(|column| *column == (task, metric))?;
        let factor = if super::is_share(metric) { 0.01 } else { 1.0 };
        Some(factor * self.scores[column])
    }
}

/// The rows whose label or family contains one of the words of `filter`, which commas separate; all of them where it is
/// empty.
///
/// # Example
/// ```
/// let labels: Vec<String> = rwkv_eval::report::paper::select("rwkv-4 0.17, pythia 0.16").map(|row| row.label()).collect();
/// assert_eq!(labels, ["RWKV-4 0.17B", "Pythia 0.16B"]);
/// ```
pub fn select(filter: &str) -> impl Iterator<Item = &'static PaperRow> {
    let words: Vec<String> = filter.split(',').map(|word| word.trim().to_lowercase()).collect();
    ROWS.iter().filter(move |row| {
        let names = [row.label().to_lowercase(), row.family.name().to_lowercase()];
        words.iter().any(|word| names.iter().any(|name| name.contains(word.as_str())))
    })
}

const fn row(
    model: &'static str,
    family: Family,
    billions: f64,
    note: &'static str,
    scores: [f64; COLUMNS.len()],
) -> PaperRow {
    let source = match family {
        Family::World => README,
        _ => PAPER,
    };
    PaperRow { model, family, billions, note, source, scores }
}

/// All rows.
#[rustfmt::skip] // a table
pub const ROWS: [PaperRow; 24] = [
    row("RWKV-4", Family::Rwkv4, 0.17, "", [29.33, 32.99, 65.07, 50.83, 47.47, 24.15, 77.50]),
    row("Pythia", Family::Pythia, 0.16, "", [24.38, 38.97, 62.68, 52.01, 45.12, 23.81, 76.50]),
    row("GPT-Neo", Family::Gpt, 0.16, "", [30.27, 37.36, 63.06, 50.43, 43.73, 23.12, 76.60]),
    row("World", Family::World, 0.19, "", [25.51, 36.29, 62.68, 51.30, 45.41, 22.61, 75.00]),
    row("RWKV-4", Family::Rwkv4, 0.43, "", [13.04, 45.16, 67.52, 51.14, 52.86, 25.17, 80.30]),
    row("Pythia", Family::Pythia, 0.4, "", [11.58, 50.44, 66.70, 53.35, 50.38, 25.77, 81.50]),
    row("GPT-Neo", Family::Gpt, 0.4, "", [13.88, 47.29, 65.07, 51.14, 48.91, 25.34, 81.10]),
    row("World", Family::World, 0.46, "", [11.10, 48.65, 65.94, 50.12, 50.17, 23.98, 80.80]),
    row("RWKV-4", Family::Rwkv4, 1.5, "", [7.04, 56.43, 72.36, 54.62, 60.48, 29.44, 85.00]),
    row("Pythia", Family::Pythia, 1.4, "", [6.58, 60.43, 71.11, 56.51, 57.74, 28.58, 85.50]),
    row("GPT-Neo", Family::Gpt, 1.4, "", [7.50, 57.25, 71.16, 54.93, 56.19, 25.85, 86.00]),
    row("World", Family::World, 1.6, "", [6.13, 59.83, 71.11, 55.64, 59.97, 30.12, 85.40]),
    row("RWKV-4", Family::Rwkv4, 3.0, "the checkpoint with context 4096", [5.25, 63.96, 74.16, 59.59, 65.19, 33.11, 86.50]),
    row("Pythia", Family::Pythia, 2.8, "", [4.93, 65.36, 73.83, 61.25, 62.84, 32.25, 87.70]),
    row("GPT-Neo", Family::Gpt, 2.8, "", [5.63, 62.22, 72.14, 57.62, 61.07, 30.20, 89.30]),
    row("World", Family::World, 3.1, "", [4.68, 65.86, 73.01, 58.88, 64.65, 34.47, 87.50]),
    row("RWKV-4", Family::Rwkv4, 7.4, "", [4.38, 67.18, 76.06, 61.01, 67.80, 37.46, 88.80]),
    row("Pythia", Family::Pythia, 6.9, "", [4.30, 67.98, 74.54, 61.01, 66.79, 35.07, 90.00]),
    row("GPT-J", Family::Gpt, 6.1, "", [4.10, 68.31, 75.41, 64.09, 66.92, 36.60, 91.50]),
    row("World", Family::World, 7.5, "", [3.93, 70.15, 75.24, 62.19, 68.18, 36.52, 91.20]),
    row("RWKV-4", Family::Rwkv4, 14.2, "the checkpoint with context 8192", [3.86, 70.83, 77.48, 63.85, 70.24, 38.99, 90.40]),
    row("GPT-level", Family::Gpt, 14.2, INTERPOLATED, [3.81, 70.94, 76.49, 65.14, 70.77, 37.99, 92.20]),
    row("Pythia", Family::Pythia, 11.8, "", [3.89, 70.44, 75.90, 64.72, 69.82, 36.77, 91.80]),
    row("GPT-NeoX", Family::Gpt, 20.6, "", [3.64, 71.94, 77.69, 65.98, 72.69, 40.44, 93.00]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_those_of_the_table() {
        let find = |label: &str| ROWS.iter().find(|row| row.label() == label).expect("a row");
        assert_eq!(find("RWKV-4 0.17B").score("lambada_openai", "perplexity"), Some(29.33));
        assert_eq!(find("RWKV-4 14.2B").scores, [3.86, 70.83, 77.48, 63.85, 70.24, 38.99, 90.40]);
        assert_eq!(find("Pythia 6.9B").scores[2], 74.54);
        assert_eq!(find("GPT-NeoX 20.6B").scores[6], 93.00);
        assert_eq!(find("World 1.6B").scores[5], 30.12);
        let share = find("RWKV-4 0.43B").score("arc_challenge", "acc_norm").expect("a score");
        assert!((share - 0.2517).abs() < 1e-12);
        assert_eq!(find("RWKV-4 0.43B").score("arc_challenge", "acc"), None, "the paper has acc_norm");
    }

    #[test]
    fn families_have_their_sizes_in_order() {
        let sizes = |family| ROWS.iter().filter(|row| row.family == family).map(|row| row.billions).collect::<Vec<_>>();
        assert_eq!(sizes(Family::Rwkv4), [0.17, 0.43, 1.5, 3.0, 7.4, 14.2]);
        assert_eq!(sizes(Family::Pythia), [0.16, 0.4, 1.4, 2.8, 6.9, 11.8]);
        assert_eq!(sizes(Family::Gpt), [0.16, 0.4, 1.4, 2.8, 6.1, 14.2, 20.6]);
        assert_eq!(sizes(Family::World), [0.19, 0.46, 1.6, 3.1, 7.5]);
        // Larger models of a family are better at LAMBADA, a typing error would hardly be.
        for family in Family::ALL {
            let of_family: Vec<_> = ROWS.iter().filter(|row| row.family == family).collect();
            assert!(of_family.windows(2).all(|pair| pair[0].scores[0] > pair[1].scores[0]), "{family:?}");
            assert!(of_family.windows(2).all(|pair| pair[0].scores[1] < pair[1].scores[1]), "{family:?}");
        }
    }

    #[test]
    fn a_filter_takes_what_it_names() {
        assert_eq!(select("").count(), 24);
        assert_eq!(select("World").count(), 5);
        assert_eq!(select("rwkv-4").count(), 11, "World is of the same architecture");
        assert_eq!(select("nothing such").count(), 0);
    }
}
