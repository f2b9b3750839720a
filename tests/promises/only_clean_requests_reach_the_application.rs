//! Only clean requests reach the application, and it sees exactly PEP 3333: the cases of tests/cases, each of which names its
//! section of RFC 9110, RFC 9112 or PEP 3333.

use std::{collections::BTreeSet, fs};

use ostler_tests::repository;

use crate::cases::play_all;

/// A test for each file, so that they run in parallel, and a test that no file is forgotten.
macro_rules! groups {
    ($($name:ident: $file:literal,)*) => {
        $(#[test]
        fn $name() {
            play_all($file);
        })*

        #[test]
        fn every_file_of_cases_is_played() {
            let folder = fs::read_dir(repository("tests/cases")).expect("the folder is there").flatten();
            let files = folder.map(|entry| entry.file_name().into_string().expect("a plain name"));
            let files: BTreeSet<String> = files.filter(|name| name.ends_with(".toml")).collect();
            assert_eq!(files, BTreeSet::from([$($file.to_string()),*]));
        }
    };
}

groups! {
    request_lines: "01-request-line.toml",
    fields: "02-fields.toml",
    framing: "03-framing.toml",
    chunked_bodies: "04-chunked.toml",
    environ: "05-environ.toml",
    input: "06-input.toml",
    bodies: "07-bodies.toml",
    start_response: "08-start-response.toml",
    answers: "09-answers.toml",
    refusals: "10-refusals.toml",
    proxies: "11-proxies.toml",
}
