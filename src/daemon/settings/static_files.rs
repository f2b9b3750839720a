//! `--static` and what goes with it.

use std::{
    cmp::Reverse,
    path::{Path, PathBuf},
};

use ostler_wire::{SendfileRoots, StaticFiles, StaticRoot, WorkerSettings};

use super::parse;
use crate::{
    exit::{Failure, words},
    options::Options,
};

/// What workers serve without the application.
pub fn static_files(options: &Options, chdir: &Path) -> Result<StaticFiles, Failure> {
    let mut roots = options.list("static", |text| root(chdir, text))?;
    refuse_twice("static", &roots, options)?;
    roots.sort_by_key(|root| Reverse(root.prefix.len()));
    Ok(StaticFiles {
        roots,
        links: options.switch("static-links")?,
        index: options.switch("static-index")?,
        only: options.switch("static-only")?,
        max_age: options.value("static-max-age", parse::duration)?,
    })
}

/// Which files the application may name. The directory of a file is known by its name and by what that leads to.
pub fn sendfile_roots(options: &Options, chdir: &Path) -> Result<SendfileRoots, Failure> {
    let mut roots = SendfileRoots::default();
    for (url, typed, directory) in options.list("sendfile-root", |text| sendfile_root(chdir, text))? {
        let named =
            |prefix: String| StaticRoot { prefix: prefix.trim_end_matches('/').into(), directory: directory.clone() };
        roots.urls.extend(url.map(named));
        let real = directory.to_string_lossy().into_owned();
        roots.paths.extend((typed != real).then_some(typed).into_iter().chain([real]).map(named));
    }
    refuse_twice("sendfile-root", &roots.urls, options)?;
    roots.urls.sort_by_key(|root| Reverse(root.prefix.len()));
    roots.paths.sort_by_key(|root| Reverse(root.prefix.len()));
    Ok(roots)
}

fn refuse_twice(name: &'static str, roots: &[StaticRoot], options: &Options) -> Result<(), Failure> {
    let twice = |place: usize, root: &StaticRoot| roots[..place].iter().any(|other| other.prefix == root.prefix);
    match roots.iter().enumerate().find(|(place, root)| twice(*place, root)) {
        Some((_, root)) => Err(options.failure(name, &format!("{}/", root.prefix), "this path is named twice")),
        None => Ok(()),
    }
}

/// The URL, the directory as it was typed, and what that leads to.
fn sendfile_root(chdir: &Path, text: &str) -> Result<(Option<String>, String, PathBuf), String> {
    let (url, typed) = match text.split_once('=') {
        // The directory's own name may hold a `=`.
        Some((url, typed)) if !chdir.join(text).is_dir() => (Some(url), typed),
        _ => (None, text),
    };
    // A URL is as of --static; a directory alone is any path.
    let root = root(chdir, &format!("{}={typed}", url.unwrap_or("/")))?;
    let typed = chdir.join(typed).to_string_lossy().into_owned();
    Ok((url.map(|_| root.prefix), typed, root.directory))
}

/// A root that no request can reach, because it is not below `--root-path`.
pub fn out_of_reach(worker: &WorkerSettings) -> Option<&StaticRoot> {
    let is_below = |root: &StaticRoot| match root.prefix.strip_prefix(&worker.root_path) {
        Some(rest) => rest.is_empty() || rest.starts_with('/'),
        None => worker.root_path.starts_with(&format!("{}/", root.prefix)),
    };
    worker.static_files.roots.iter().find(|root| !is_below(root))
}

/// The directory is the one that the path leads to now: a worker that is replaced later serves the files of its own release.
fn root(chdir: &Path, text: &str) -> Result<StaticRoot, String> {
    let expected = || "expected a path that begins with /, = and a directory, as in /static=public".to_string();
    let (prefix, directory) =
        parse::line(text)?.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned())).ok_or_else(expected)?;
    let prefix = prefix.trim_end_matches('/');
    if !text.starts_with('/')
        || directory.is_empty()
        || prefix.split('/').skip(1).any(|part| matches!(part, "" | "." | ".."))
    {
        return Err(expected());
    }
    let found = chdir.join(&directory).canonicalize().map_err(|error| format!("{directory}: {}", words(&error)))?;
    match found.is_dir() {
        true => Ok(StaticRoot { prefix: prefix.into(), directory: found }),
        false => Err(format!("{directory} is not a directory")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Folder;

    #[test]
    fn a_root_is_a_path_and_a_directory() {
        let folder = Folder::new();
        let here = folder.path().canonicalize().unwrap();
        std::fs::create_dir(here.join("public=1")).unwrap();
        std::os::unix::fs::symlink("public=1", here.join("current")).unwrap();
        let directory = here.join("public=1");
        for (text, prefix) in [("/static=public=1", "/static"), ("/static/=current", "/static"), ("/=current", "")] {
            let expected = StaticRoot { prefix: prefix.into(), directory: directory.clone() };
            assert_eq!(root(&here, text), Ok(expected), "{text}");
        }
        for text in ["", "/static", "static=current", "/static=", "=current", "/a//b=current", "/a/../b=current"] {
            assert!(root(&here, text).unwrap_err().starts_with("expected a path"), "{text}");
        }
        assert_eq!(root(&here, "/a=gone").unwrap_err(), "gone: no such file or directory");
    }

    #[test]
    fn a_file_is_named_by_the_directory_as_it_was_typed_and_as_it_is() {
        let folder = Folder::new();
        let here = folder.path().canonicalize().unwrap();
        std::fs::create_dir(here.join("media")).unwrap();
        std::os::unix::fs::symlink("media", here.join("current")).unwrap();
        let (media, current) = (here.join("media"), here.join("current").display().to_string());
        let named = |text: &str| sendfile_root(&here, text).unwrap();
        assert_eq!(named("/private/=current"), (Some("/private".into()), current.clone(), media.clone()));
        assert_eq!(named("current"), (None, current.clone(), media.clone()));
        assert_eq!(named(&current), (None, current.clone(), media));
        std::fs::create_dir(here.join("media=1")).unwrap();
        let media = here.join("media=1");
        let typed = media.display().to_string();
        assert_eq!(named("media=1"), (None, typed.clone(), media.clone()));
        assert_eq!(named(&typed), (None, typed.clone(), media.clone()));
        assert_eq!(named(&format!("/private={typed}")), (Some("/private".into()), typed, media));
        for text in ["", "/private=", "private=current"] {
            assert!(sendfile_root(&here, text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_root_that_nobody_can_ask_for_is_found() {
        let worker = |prefix: &str| {
            let roots = vec![StaticRoot { prefix: prefix.into(), directory: PathBuf::new() }];
            let static_files = StaticFiles { roots, ..StaticFiles::default() };
            WorkerSettings { root_path: "/shop".into(), static_files, ..WorkerSettings::default() }
        };
        for (prefix, reachable) in
            [("/shop/static", true), ("/shop", true), ("", true), ("/static", false), ("/shopper", false)]
        {
            assert_eq!(out_of_reach(&worker(prefix)).is_none(), reachable, "{prefix}");
        }
    }
}
