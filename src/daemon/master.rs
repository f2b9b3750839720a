//! Stands in for the master until it lands.

use std::path::Path;

use crate::{
    exit::{Exit, Failure},
    settings::Settings,
};

pub fn run(settings: Settings, reread: &dyn Fn() -> Result<Settings, Failure>) -> Exit {
    eprintln!("{settings:#?}");
    eprintln!("again: {:?}", reread().map(|settings| settings.python));
    Exit::Success
}

pub fn check(settings: Settings) -> Exit {
    eprintln!("{settings:#?}");
    Exit::Success
}

pub fn ask(socket: &Path, words: &[String]) -> Result<Exit, Failure> {
    eprintln!("{socket:?} {words:?}");
    Ok(Exit::Success)
}
