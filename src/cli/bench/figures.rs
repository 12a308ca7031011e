//! What was measured: a name, a number, a unit.

use serde::Serialize;

/// A figure.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Figure {
    /// What was measured.
    pub(super) name: &'static str,
    /// How much.
    pub(super) value: f64,
    /// Of what.
    pub(super) unit: &'static str,
}

/// A figure.
pub(super) fn figure(name: &'static str, value: f64, unit: &'static str) -> Figure {
    Figure { name, value, unit }
}

/// For each figure the median of all runs.
pub(super) fn medians(runs: &[Vec<Figure>]) -> Vec<Figure> {
    let Some(first) = runs.first() else { return Vec::new() };
    let median = |figure: &Figure| {
        let same = |run: &Vec<Figure>| run.iter().find(|f| f.name == figure.name).map(|f| f.value);
        let mut values: Vec<f64> = runs.iter().filter_map(same).collect();
        values.sort_by(f64::total_cmp);
        Figure { value: values.get(values.len() / 2).copied().unwrap_or_default(), ..figure.clone() }
    };
    first.iter().map(median).collect()
}

/// As a table.
pub(super) fn shown(figures: &[Figure]) -> String {
    let width = figures.iter().map(|f| f.name.len()).max().unwrap_or_default();
    let line = |f: &Figure| {
        let digits = if f.value.abs() >= 1000.0 { 0 } else { 2 };
        format!("{:width$}  {:>12.digits$} {}\n", f.name, f.value, f.unit)
    };
    figures.iter().map(line).collect()
}

/// The value below which `part` of `sorted` lies.
pub(super) fn quantile(sorted: &[f64], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * part).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_three_runs_is_the_middle_one() {
        let run = |value| vec![figure("rate", value, "rows/s")];
        assert_eq!(medians(&[run(3.0), run(9.0), run(5.0)]), run(5.0));
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0, 100.0], 0.5), 3.0);
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0, 100.0], 0.99), 100.0);
    }
}
