//! How are families, samples and labels written in the text format 0.0.4?

use std::fmt::{Display, Write};

use super::super::counter::ReasonTotals;
use super::super::histogram::Snapshot;

/// The type of numbers that only grow.
pub(super) const COUNTER: &str = "counter";
/// The type of numbers that go up and down.
pub(super) const GAUGE: &str = "gauge";

/// The text as it grows.
pub(super) struct Text {
    out: String,
    /// The labels of every sample, escaped.
    constant: String,
}

impl Text {
    /// An empty text whose samples all carry `labels`.
    pub(super) fn new(capacity: usize, labels: &[(&str, &str)]) -> Self {
        let mut constant = String::new();
        push_labels(&mut constant, labels);
        Self {
            out: String::with_capacity(capacity),
            constant,
        }
    }

    /// All that was written.
    pub(super) fn into_string(self) -> String {
        self.out
    }

    /// The labels of a series, escaped once for all its samples.
    pub(super) fn series(&self, labels: &[(&str, &str)]) -> String {
        let mut series = self.constant.clone();
        push_labels(&mut series, labels);
        series
    }

    /// Begins a family.
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.push(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// A sample of a series; an empty series stands for the proxy as a whole.
    pub(super) fn sample(&mut self, name: &str, series: &str, labels: &[(&str, &str)], value: impl Display) {
        self.out.push_str(name);
        let series = if series.is_empty() {
            self.constant.as_str()
        } else {
            series
        };
        if !series.is_empty() || !labels.is_empty() {
            self.out.push('{');
            let from = self.out.len();
            self.out.push_str(series);
            push_labels_after(&mut self.out, from, labels);
            self.out.push('}');
        }
        self.push(format_args!(" {value}\n"));
    }

    /// A family of one sample; nothing at all when it is not known.
    pub(super) fn single(&mut self, name: &str, kind: &str, help: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.family(name, kind, help);
            self.sample(name, "", &[], value);
        }
    }

    /// A family with one number of each series.
    pub(super) fn numbers<T, N: Display>(
        &mut self,
        all: &[(String, &T)],
        name: &str,
        kind: &str,
        help: &str,
        number: impl Fn(&T) -> N,
    ) {
        self.family(name, kind, help);
        for (series, totals) in all {
            self.sample(name, series, &[], number(totals));
        }
    }

    /// One sample for each reason that occurred.
    pub(super) fn reasons(&mut self, name: &str, series: &str, reasons: &ReasonTotals) {
        for (reason, count) in reasons.iter() {
            self.sample(name, series, &[("reason", reason.as_str())], count);
        }
    }

    /// A family with one histogram of each series.
    pub(super) fn histograms<T>(
        &mut self,
        all: &[(String, &T)],
        name: &str,
        help: &str,
        histogram: impl Fn(&T) -> &Snapshot,
    ) {
        self.family(name, "histogram", help);
        let names = [
            format!("{name}_bucket"),
            format!("{name}_sum"),
            format!("{name}_count"),
        ];
        let [bucket, sum, count] = &names;
        for (series, totals) in all {
            let histogram = histogram(totals);
            for (le, count) in histogram.exposition() {
                self.sample(bucket, series, &[("le", le)], count);
            }
            self.sample(sum, series, &[], histogram.sum() as f64 / 1e9);
            self.sample(count, series, &[], histogram.count());
        }
    }

    fn push(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a string can't fail.
        let _ = self.out.write_fmt(arguments);
    }
}

fn push_labels(out: &mut String, labels: &[(&str, &str)]) {
    push_labels_after(out, 0, labels);
}

/// Appends labels to those that begin at `from`.
fn push_labels_after(out: &mut String, from: usize, labels: &[(&str, &str)]) {
    for (name, value) in labels {
        if out.len() > from {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        for character in value.chars() {
            match character {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                _ => out.push(character),
            }
        }
        out.push('"');
    }
}
