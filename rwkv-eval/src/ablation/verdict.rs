//! What a study comes to, as sentences.

use super::{LEVEL, Outcome, Standing, Study};

impl Study {
    /// Which variants are better or worse than the baseline, which are not told apart from it, and which say nothing:
    /// sentences made of the numbers alone.
    #[must_use]
    pub fn verdict(&self) -> String {
        let standings = self.standings();
        let (baseline, metric) = (self.baseline(), self.metric);
        let Some(of_baseline) = standings.iter().find(|standing| standing.variant == baseline) else {
            return "There are no variants.".to_owned();
        };
        let Some(mean) = of_baseline.mean else {
            return format!("No run of the baseline {baseline} ended well, so there is nothing to compare with.");
        };
        let tests = standings.iter().filter(|standing| standing.test.is_some()).count();
        let error = of_baseline.stderr.map_or_else(String::new, |error| format!(" ± {error:.4}"));
        let how = match tests {
            0 => String::new(),
            1 => format!(", at p < {LEVEL} in a paired t test"),
            tests => format!(", at p < {LEVEL} in paired t tests with Holm's correction for {tests}"),
        };
        let mut text = format!("Against {baseline} ({metric} {mean:.4}{error}){how}.");
        for (outcome, words) in [
            (Outcome::Worse, "Worse"),
            (Outcome::Better, "Better"),
            (Outcome::NotToldApart, "Not told apart"),
            (Outcome::NotTested, "Not tested, having fewer than two seeds in common with it"),
            (Outcome::Failed, "Without a run that ended well"),
        ] {
            let of_outcome = standings.iter().filter(|standing| standing.outcome(self) == Some(outcome));
            let mut named: Vec<&Standing> = of_outcome.collect();
            if outcome == Outcome::Worse {
                named.reverse(); // the greatest loss first
            }
            if !named.is_empty() {
                let names: Vec<String> = named.into_iter().map(described).collect();
                text += &format!(" {words}: {}.", names.join(", "));
            }
        }
        if standings.len() == 1 { text + " There is nothing else to compare." } else { text }
    }
}

/// `no gate (+0.0512)`.
fn described(standing: &Standing) -> String {
    let difference = standing.difference.map_or_else(String::new, |difference| format!(" ({difference:+.4})"));
    format!("{}{}", standing.variant, difference.replace('-', "−"))
}
