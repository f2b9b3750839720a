//! README and docs: each link leads to an existing file and heading.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ostler_tests::repository;

#[test]
fn each_link_leads_to_a_file_and_a_heading() {
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page is text");
        for link in links(&text) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if path.is_empty() { page.clone() } else { page.parent().expect("it is in a folder").join(path) };
            assert!(target.exists(), "{}: {link}", page.display());
            assert!(
                heading.is_empty() || headings(&target).contains(&heading.to_owned()),
                "{}: {link}",
                page.display()
            );
        }
    }
}

fn pages() -> Vec<PathBuf> {
    let folders = [repository(""), repository("docs"), repository("src"), repository("tests/cases")];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("the folder is there").flatten());
    files.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|ending| ending == "md")).collect()
}

/// The targets in `](…)`, except web addresses.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|link| !link.contains("://"))
}

/// The headings of a page as links name them: in lower case, with dashes for blanks, without punctuation.
fn headings(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).expect("a page is text");
    let titles = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let named = |c: char| c.is_alphanumeric() || "-_ ".contains(c);
    titles.map(|title| title.to_lowercase().replace(|c| !named(c), "").replace(' ', "-")).collect()
}
