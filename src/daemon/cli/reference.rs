//! The pages of docs that are made from tables, as Markdown: every setting; every signal, exit status and phrase of the log; every
//! counter and gauge.
//! `make man` writes them; a test fails when a page and its table differ.

use ostler_wire::counters::{METRICS, Metric, MetricSource};

use super::{
    grammar,
    manual::{LOG, PHRASES, SIGNALS, TO_WORKERS},
    topics,
};
use crate::{
    exit::Exit,
    options::{GROUPS, SETTINGS, Setting},
};

const OPENING: &str = "\
# Settings

`make man` writes this page from the table of settings (`src/daemon/options/table.rs`), as it writes the man page.
`ostler help --graceful-timeout` prints one entry; `ostler settings` prints every value in force and where it came from.

Each setting is an option, a variable of the environment and a key of the settings file. The option is stronger than the variable
`OSTLER_…`, and the variable is stronger than the file. A variable that other programs set, too, such as `PORT`, is weaker than the file.
The file is `ostler.toml` in the directory of the start, or the one that `--config` names:

```toml
app = \"mysite.wsgi\"
bind = [\"127.0.0.1:8000\", \"unix:/run/mysite.sock\"]
workers = 4
graceful-timeout = \"2m\"
env = { DJANGO_SETTINGS_MODULE = \"mysite.settings\" }
```

A TIME is in seconds, or a number with ms, s, m, h or d. A SIZE is in bytes, or a number with k, M or G, of 1024. A switch stands alone, or
takes `on` or `off` after an equals sign. An option may be shortened while it is unambiguous.
";

const METRICS_OPENING: &str = "\
# Counters and gauges

`make man` writes this page from the table of counters (`src/wire/counters.rs`).

`--metrics` serves each of these for [Prometheus](operating.md#metrics), and `ostler status --json` tells them under `metrics`. A counter only grows as long as there is a master: what a worker has
counted stays in the total after the worker is gone, through crashes, reloads and upgrades. The master asks no worker for any of it.

| name | kind | means |
|---|---|---|
";

/// docs/settings.md
pub fn settings() -> String {
    let sections = GROUPS.iter().enumerate().map(|(group, name)| section(group, name));
    OPENING.to_owned() + &sections.collect::<String>()
}

fn section(group: usize, name: &str) -> String {
    let entries = SETTINGS.iter().filter(|setting| setting.group == group).map(entry);
    format!("\n## {name}\n{}", entries.collect::<String>())
}

fn entry(setting: &Setting) -> String {
    format!("\n### `{}`\n\n{}\n", topics::names(setting), grammar::long_text(setting))
}

/// docs/messages.md
pub fn messages() -> String {
    let signals = rows(SIGNALS.iter().copied());
    let numbers = Exit::MEANINGS.map(|(exit, meaning)| ((exit as u8).to_string(), meaning));
    let statuses = rows(numbers.iter().map(|(number, meaning)| (number.as_str(), *meaning)));
    let phrases = rows(PHRASES.iter().copied());
    format!(
        "# Signals, exit statuses and the log\n\n`make man` writes this page, as it writes the man page.\n\n\
         ## Signals\n\n| signal | does |\n|---|---|\n{signals}\n{TO_WORKERS}\n\n\
         ## Exit statuses\n\n| status | means |\n|---|---|\n{statuses}\n\
         ## The log\n\n{LOG}\n\n| phrase | means |\n|---|---|\n{phrases}"
    )
}

/// docs/metrics.md
pub fn metrics() -> String {
    let row = |metric: &Metric| {
        let label = match metric.place {
            MetricSource::Master { label, .. } if !label.is_empty() => format!("{{{label}=…}}"),
            MetricSource::Labelled { labels, .. } if !labels.is_empty() => {
                let labels: Vec<_> = labels.iter().map(|(name, _)| format!("{name}=…")).collect();
                format!("{{{}}}", labels.join(","))
            }
            MetricSource::BySlot { .. } => "{slot=…}".into(),
            _ => String::new(),
        };
        format!("| `{}{label}` | {} | {} |\n", metric.name, format!("{:?}", metric.kind).to_lowercase(), metric.help)
    };
    METRICS_OPENING.to_owned() + &METRICS.iter().map(row).collect::<String>()
}

fn rows<'a>(rows: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    rows.map(|(name, meaning)| format!("| `{name}` | {meaning} |\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_pages_are_what_the_tables_say() {
        for (name, committed, made) in [
            ("settings", include_str!("../../../docs/settings.md"), settings()),
            ("messages", include_str!("../../../docs/messages.md"), messages()),
            ("metrics", include_str!("../../../docs/metrics.md"), metrics()),
        ] {
            assert!(committed == made, "docs/{name}.md is old. Write it anew: make man");
        }
    }
}
