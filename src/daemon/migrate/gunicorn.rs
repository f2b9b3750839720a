//! gunicorn's settings files: the interpreter of the site runs them, as it does for a start, and what they say becomes settings.

use super::page::{Entry, Page};
use crate::{
    exit::Failure,
    options::{ENGINE_VARIABLE, FileTexts, Invocation, Texts, setting},
    settings,
};

const STAYS: &str = "ostler reads this file as it is: `ostler -c FILE`, or no -c at all for ./gunicorn.conf.py. Migrate only what is to stay; \
                     values that the program computes (from cpu_count() or the environment) are those of this machine and this moment.";

/// The page that does what this file says.
pub fn migrate(invocation: &Invocation, file: &str) -> Result<String, Failure> {
    // What else says something of a start is not in the file.
    let is_kept = |name: &str| !name.starts_with("OSTLER_") || name == ENGINE_VARIABLE;
    let environment = invocation.environment.iter().filter(|(name, _)| name.to_str().is_none_or(is_kept)).cloned();
    let invocation = Invocation { environment: environment.collect(), gunicorn_args: None, ..invocation.clone() };
    let typed = Texts::from([("config", vec![file.to_owned()])]);
    Ok(page(file, settings::program_says(&invocation, &typed)?).text())
}

fn page(file: &str, said: FileTexts) -> Page {
    let mut page = Page { source: file.to_owned(), first: vec![STAYS.into()], ..Page::default() };
    for (name, texts) in said.texts {
        let place = match said.lines.get(name) {
            Some(line) => format!("{file}, line {line}"),
            None => file.to_owned(),
        };
        page.settings.insert(name, Entry { texts, comments: vec![place] });
    }
    let one_worker = || Entry {
        texts: vec!["1".into()],
        comments: vec!["gunicorn's default. Without this line there are as many as CPUs, at least 2.".into()],
    };
    page.settings.entry(setting("workers").name).or_insert_with(one_worker);
    if !said.hooks.is_empty() {
        page.first.push(format!(
            "Hooks and the configuration of logging need the file itself: {}. With this ostler.toml they are not in force; to keep them, go on with {file}.",
            said.hooks.join(", ")
        ));
    }
    page.rest = vec![
        ("Not carried, because ostler has nothing like it", said.refused),
        ("Left out, because it has no effect here", said.needless),
        ("No settings of gunicorn's, which ignored them", said.suspicious),
    ];
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::read_text;

    #[test]
    fn what_was_said_is_carried_and_hooks_are_named() {
        let said = FileTexts {
            texts: Texts::from([
                ("timeout", vec!["60".into()]),
                ("umask", vec!["022".into()]),
                ("bind", vec![":1".into(), "unix:a".into()]),
            ]),
            lines: [("timeout", 3)].into(),
            hooks: vec!["post_fork".into()],
            refused: vec!["gunicorn.conf.py, line 9: spew: ostler has no such setting".into()],
            ..FileTexts::default()
        };
        let text = page("gunicorn.conf.py", said).text();
        let read = read_text(&text).unwrap();
        assert_eq!((&read["timeout"][..], &read["workers"][..]), (&["60".to_owned()][..], &["1".to_owned()][..]));
        assert_eq!((&read["umask"][0], read["bind"].len()), (&"022".to_owned(), 2));
        for part in ["# gunicorn.conf.py, line 3\ntimeout = 60", "post_fork", "line 9: spew"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
