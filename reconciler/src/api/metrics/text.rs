//! The text format of Prometheus, version 0.0.4: written by hand, since it is a few lines and every reader takes it.

use std::fmt::Write as _;

use crate::controller::metrics::Histogram;

/// What kind of numbers they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// Goes up and down.
    Gauge,
    /// Only goes up.
    Counter,
}

/// The labels of a number.
pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

/// The page that is read.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    pub(super) fn text(self) -> String {
        self.0
    }

    /// Begins numbers of one name. All names are told, also those of which there are no numbers now.
    pub(super) fn begin(&mut self, name: &'static str, sort: Sort, help: &str) -> Family<'_> {
        let sort = match sort {
            Sort::Gauge => "gauge",
            Sort::Counter => "counter",
        };
        self.head(name, sort, help);
        Family { page: self, name }
    }

    /// One number without labels.
    pub(super) fn gauge(&mut self, name: &'static str, help: &str, value: f64) {
        self.begin(name, Sort::Gauge, help).add(&[], value);
    }

    /// How long something took, by one label.
    pub(super) fn histograms<'a>(
        &mut self,
        name: &'static str,
        help: &str,
        label: &'static str,
        all: impl IntoIterator<Item = (&'a str, &'a Histogram)>,
    ) {
        self.head(name, "histogram", help);
        for (value, histogram) in all {
            let mut below = 0;
            for (bound, count) in &histogram.buckets {
                below += count;
                let bound = bound.to_string();
                self.sample(name, "_bucket", &[(label, value), ("le", &bound)], &below);
            }
            let count = histogram.count;
            self.sample(name, "_bucket", &[(label, value), ("le", "+Inf")], &count);
            self.sample(name, "_sum", &[(label, value)], &histogram.sum);
            self.sample(name, "_count", &[(label, value)], &count);
        }
    }

    fn head(&mut self, name: &str, sort: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {sort}");
    }

    fn sample(
        &mut self,
        name: &str,
        suffix: &str,
        labels: Labels<'_>,
        value: &dyn std::fmt::Display,
    ) {
        self.0.push_str(name);
        self.0.push_str(suffix);
        for (number, (label, text)) in labels.iter().enumerate() {
            self.0.push(if number == 0 { '{' } else { ',' });
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(self.0, "{label}=\"{text}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }
}

/// Numbers of one name.
pub(super) struct Family<'a> {
    page: &'a mut Page,
    name: &'static str,
}

impl Family<'_> {
    pub(super) fn add(&mut self, labels: Labels<'_>, value: f64) {
        self.page.sample(self.name, "", labels, &value);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::controller::metrics::Metrics;

    #[test]
    fn numbers_stand_as_readers_want_them() {
        let mut page = Page::default();
        page.gauge("keel_a", "One.", 1.5);
        let mut family = page.begin("keel_b_total", Sort::Counter, "Some.");
        family.add(&[("source", "a\"b\\c\nd"), ("kind", "instance")], 3.0);
        let metrics = Metrics::default();
        metrics.answered("GET", "/x", 200, Duration::from_millis(2));
        let counted = metrics.counted();
        let all = counted.answered.iter().map(|(route, one)| (*route, one));
        page.histograms("keel_c_seconds", "How long.", "route", all);
        let text = page.text();
        assert!(
            text.starts_with(
                "# HELP keel_a One.\n# TYPE keel_a gauge\nkeel_a 1.5\n# HELP keel_b_total Some.\n# TYPE keel_b_total counter\n\
                 keel_b_total{source=\"a\\\"b\\\\c\\nd\",kind=\"instance\"} 3\n"
            ),
            "{text}"
        );
        for line in [
            "keel_c_seconds_bucket{route=\"/x\",le=\"0.001\"} 0",
            "keel_c_seconds_bucket{route=\"/x\",le=\"0.005\"} 1",
            "keel_c_seconds_bucket{route=\"/x\",le=\"600\"} 1",
            "keel_c_seconds_bucket{route=\"/x\",le=\"+Inf\"} 1",
            "keel_c_seconds_sum{route=\"/x\"} 0.002",
            "keel_c_seconds_count{route=\"/x\"} 1",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
    }
}
