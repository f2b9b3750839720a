//! What interpreters have said of themselves. To ask one is to start it: 10 ms of processor time in each reload. Its answer holds until
//! its file is another one.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use super::{Identity, environment::Surroundings};

/// Of this process, and of those that it forks to read the settings again.
static ANSWERS: Mutex<Vec<Answer>> = Mutex::new(Vec::new());

struct Answer {
    asked: AnswerKey,
    text: String,
}

/// What an answer depends on.
#[derive(Debug, PartialEq, Eq)]
pub struct AnswerKey {
    path: PathBuf,
    file: File,
    environment: Vec<(OsString, OsString)>,
    identity: Option<Identity>,
}

/// Which file it is, and when it was last changed.
#[derive(Debug, PartialEq, Eq)]
struct File {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl AnswerKey {
    /// The interpreter behind this path, as it is now.
    pub fn of(path: &Path, surroundings: Surroundings) -> io::Result<AnswerKey> {
        Ok(AnswerKey {
            path: path.into(),
            file: File::at(path)?,
            environment: surroundings.environment.into(),
            identity: surroundings.guise.identity.cloned(),
        })
    }

    /// What it said.
    pub fn answer(&self) -> Option<String> {
        let answers = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
        answers.iter().find(|answer| answer.asked == *self).map(|answer| answer.text.clone())
    }

    /// Keeps what it said, if it is the interpreter itself: a script may lead to another interpreter tomorrow.
    pub fn keep(self, text: &str, executable: &Path) {
        if File::at(executable).is_ok_and(|file| file == self.file) {
            let mut answers = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
            answers.push(Answer { asked: self, text: text.into() });
        }
    }
}

impl File {
    fn at(path: &Path) -> io::Result<File> {
        let file = fs::metadata(path)?;
        Ok(File { device: file.dev(), inode: file.ino(), changed: (file.ctime(), file.ctime_nsec()) })
    }
}
