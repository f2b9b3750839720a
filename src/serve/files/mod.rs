//! Static files (`--static`): which file a path names, and what is to be said of it. What is sent, and how, is the loop's.
//!
//! A file is looked for at each request: what changes on disk is seen at once, and nothing is kept that could be out of date.

mod answer;
mod directory;
#[cfg(fuzzing)]
pub mod fuzzing;
mod named;

use std::{
    fs::{File, Metadata},
    time::{Duration, SystemTime},
};

use nix::errno::Errno;
use ostler_http::{
    RequestHead, ResponseHead,
    representation::{
        encodings::{Coding, STORED, accepted},
        media_types::{MediaType, media_type},
        names::{is_hashed, way_below},
    },
    target::decode_path,
};
use ostler_wire::{StaticFiles, StaticRoot};
use slog::{Logger, error};

use self::directory::Directory;
pub(crate) use self::{
    answer::FileAnswer,
    named::{NamedAnswer, NamedFiles, carry_to_page},
};

/// The file that stands for its folder with `--static-index`.
const INDEX: &[u8] = b"index.html";

/// The folders whose files are served, and how.
pub(crate) struct Files {
    roots: Roots,
    index: bool,
    /// `--static-only`
    pub only: bool,
    max_age: Duration,
    /// The way to the file that is looked for, below its root.
    way: Vec<u8>,
    /// Of the answer that was made last.
    head: ResponseHead,
}

/// Open folders, each with what the paths of its files begin with: the longest first.
type Roots = Vec<(String, Option<Directory>)>;

/// What there is for a path.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// It is below none of the roots, or no path of a file.
    Elsewhere,
    /// There is no such file.
    Missing,
    /// A folder that is named without its final slash, and that has an index.
    Folder,
    /// There is no descriptor to open it.
    Full,
    /// There is something that cannot be served.
    Failed(Errno),
    Found(Found),
}

/// A file to be served.
#[derive(Debug)]
pub(crate) struct Found {
    pub file: File,
    pub length: u64,
    /// Since 1970.
    modified: Duration,
    media: MediaType,
    coding: Option<&'static Coding>,
    hashed: bool,
}

impl Files {
    /// Opens the roots; none without `--static`. A folder that has gone since the settings were read has no files.
    pub fn open(settings: &StaticFiles, log: &Logger) -> Option<Box<Files>> {
        let StaticFiles { ref roots, links, index, only, max_age } = *settings;
        (!roots.is_empty()).then(|| {
            let roots = open_roots(roots, links, log);
            Box::new(Files { roots, index, only, max_age, way: Vec::new(), head: ResponseHead::default() })
        })
    }

    /// Looks for the file that a request names.
    pub fn look_up(&mut self, head: &RequestHead, bytes: &[u8]) -> Lookup {
        let path = head.path.of(bytes);
        let way = &mut self.way;
        let root = self.roots.iter_mut().find(|(prefix, _)| way_below(prefix.as_bytes(), path, way).is_some());
        let Some((_, directory)) = root else {
            way.clear();
            decode_path(path, way);
            return self.without_way();
        };
        let Some(directory) = directory else { return Lookup::Missing };
        if way.is_empty() || way.ends_with(b"/") {
            if !self.index {
                return Lookup::Missing;
            }
            way.extend_from_slice(INDEX);
        }
        match open_again(directory, way) {
            Ok((file, about)) if about.is_file() => Lookup::Found(choose(directory, way, file, &about, head, bytes)),
            Ok((_, about)) if about.is_dir() && self.index => {
                way.push(b'/');
                way.extend_from_slice(INDEX);
                if open(directory, way).is_ok_and(|(_, about)| about.is_file()) {
                    Lookup::Folder
                } else {
                    Lookup::Missing
                }
            }
            Ok(_) => Lookup::Missing,
            Err(errno) => without_file(errno),
        }
    }

    /// A path that leads to no file may be one below a root nevertheless, or the root itself without its slash. It is in [`Files::way`].
    fn without_way(&self) -> Lookup {
        let rest = |(prefix, _): &(String, _)| {
            let rest = self.way.strip_prefix(prefix.as_bytes())?;
            (rest.is_empty() || rest.starts_with(b"/")).then_some(rest.is_empty())
        };
        let Some((is_root, root)) = self.roots.iter().find_map(|root| Some((rest(root)?, root))) else {
            return Lookup::Elsewhere;
        };
        let has_index = |directory| open(directory, INDEX).is_ok_and(|(_, about)| about.is_file());
        if is_root && self.index && root.1.as_ref().is_some_and(has_index) { Lookup::Folder } else { Lookup::Missing }
    }

    /// The way below its root that was looked up last, for the log.
    pub fn way(&self) -> String {
        String::from_utf8_lossy(&self.way).into_owned()
    }
}

fn open_roots(roots: &[StaticRoot], links: bool, log: &Logger) -> Roots {
    let open = |root: &StaticRoot| {
        let opened = Directory::open(&root.directory, links).inspect_err(|error| {
            error!(log, "no static files"; "path" => root.directory.display(), "url" => format!("{}/", root.prefix),
                "reason" => %error);
        });
        (root.prefix.clone(), opened.ok())
    };
    roots.iter().map(open).collect()
}

fn without_file(errno: Errno) -> Lookup {
    match errno {
        // A socket cannot be opened (ENXIO).
        Errno::ENOENT | Errno::ENOTDIR | Errno::ENAMETOOLONG | Errno::EINVAL | Errno::ENXIO => Lookup::Missing,
        Errno::EMFILE | Errno::ENFILE => Lookup::Full,
        errno => Lookup::Failed(errno),
    }
}

fn open(directory: &Directory, way: &[u8]) -> Result<(File, Metadata), Errno> {
    let file = directory.open_file(way)?;
    let about = file.metadata().map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    Ok((file, about))
}

/// The same, also where the folder was removed and made anew, as tools do (certbot) that need one for a moment only.
fn open_again(directory: &mut Directory, way: &[u8]) -> Result<(File, Metadata), Errno> {
    match open(directory, way) {
        Err(Errno::ENOENT) if directory.follow() => open(directory, way),
        opened => opened,
    }
}

/// The file itself, or the one beside it that holds the same compressed. A compressed file that is older is of another state of the file.
fn choose(
    directory: &Directory,
    way: &mut Vec<u8>,
    file: File,
    about: &Metadata,
    head: &RequestHead,
    bytes: &[u8],
) -> Found {
    let name = way.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let (media, hashed) = (media_type(name), is_hashed(name));
    let found = |file, about: &Metadata, coding| {
        let modified = modified(about);
        Found { file, length: about.len(), modified, media, coding, hashed }
    };
    let end = way.len();
    for coding in accepted(head, bytes, &STORED).filter(|_| media.compresses) {
        way.extend_from_slice(coding.suffix.as_bytes());
        let beside = open(directory, way);
        way.truncate(end);
        if let Ok((beside, other)) = beside
            && other.is_file()
            && modified(&other).as_secs() >= modified(about).as_secs()
        {
            return found(beside, &other, Some(coding));
        }
    }
    found(file, about, None)
}

/// Since 1970; a file from before that is as old as can be told.
fn modified(about: &Metadata) -> Duration {
    let modified = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests;
