//! `ostler check`: boots a template that imports and reports, and nothing more. Binds nothing, writes no file.

use std::{io, os::fd::AsFd, time::Duration};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ostler_wire::{FromTemplate, Loaded, Preload, ToTemplate, scoreboard::Scoreboard};

use super::{
    event::{Ending, Failure},
    line::{self, Line},
    team::Exchange,
};
use crate::{
    exit::{self, Exit, words},
    logs::{Logs, Standard},
    report,
    settings::{LogTarget, Settings},
    sys::{descriptors, process},
    template,
};

/// Prints one line of what was found.
pub fn check(mut settings: Settings) -> Result<Exit, exit::Failure> {
    settings.error_log = LogTarget::Standard;
    settings.access_log = None;
    settings.boot.check_only = true;
    settings.boot.access_log = false;
    let loaded = boot(&settings).map_err(exit::Failure::from)?;
    report::print(&format!("{}\n", describe(&settings, &loaded)))
}

fn boot(settings: &Settings) -> Result<Loaded, Failure> {
    let system = |error: io::Error| Failure::new(Exit::System, format!("could not check: {}", words(&error)));
    descriptors::reserve_channel_place().map_err(system)?;
    let standard = Standard::remember().map_err(system)?;
    let logs = Logs::open(settings, &standard)?;
    let (pid, held, mut line) = template::spawn(settings, &logs)?;
    let heard = converse(settings, &mut line);
    if !matches!(heard, Ok(Heard::End)) {
        held.kill().map_err(system)?;
    }
    let ending = process::bury(pid);
    match heard.map_err(system)? {
        Heard::Word(FromTemplate::Loaded(loaded)) => Ok(loaded),
        Heard::Word(FromTemplate::Failed(failure)) => Err(failure.into()),
        Heard::Word(FromTemplate::Forked { .. } | FromTemplate::ForkFailed { .. }) => {
            Err(Failure::new(Exit::Internal, "the template forked, and was not asked to"))
        }
        Heard::End => {
            let ending = ending.map_or_else(String::new, |ending: Ending| format!(": {ending}"));
            Err(Failure::new(Exit::Interpreter, format!("the template ended by itself{ending}")))
        }
        Heard::Nothing => {
            let within = settings.boot_timeout.as_secs_f64();
            Err(Failure::new(Exit::Import, format!("the application was not imported within {within} s")))
        }
    }
}

enum Heard {
    Word(FromTemplate),
    End,
    Nothing,
}

fn converse(settings: &Settings, line: &mut Line) -> io::Result<Heard> {
    let mut boot = settings.boot.clone();
    boot.generation = 1;
    boot.slots = 1;
    let scoreboard = Scoreboard::new(boot.slots, boot.worker.threads)?;
    let exchange = Exchange::new()?;
    let carried = [scoreboard.as_fd(), exchange.give.as_fd(), exchange.take.as_fd()];
    line.send(&ToTemplate::Boot(Box::new(boot)), &carried)?;
    let patience = match settings.boot_timeout {
        Duration::ZERO => PollTimeout::NONE,
        patience => PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX),
    };
    if poll(&mut [PollFd::new(line.as_fd(), PollFlags::POLLIN)], patience)? == 0 {
        return Ok(Heard::Nothing);
    }
    // Its end may come as a reset, if it did not even read what it was sent.
    Ok(match line.hear() {
        line::Heard::Message(word) => Heard::Word(word),
        line::Heard::Nothing | line::Heard::Nonsense(_) | line::Heard::End => Heard::End,
    })
}

fn describe(settings: &Settings, loaded: &Loaded) -> String {
    let preload = match (settings.boot.preload, loaded.unsafe_to_fork.as_slice()) {
        (Preload::Off, _) => "each worker imports for itself, as told".to_owned(),
        (Preload::On, _) => "imported before workers are forked, as told".to_owned(),
        (Preload::Auto, []) => "imported before workers are forked, which is safe".to_owned(),
        (Preload::Auto, found) => format!("each worker imports for itself, for the import leaves {}", found.join(", ")),
    };
    format!(
        "{} imported in {:.3} s by Python {} ({}) with {}; {preload}",
        settings.boot.application,
        loaded.import.as_secs_f64(),
        loaded.python,
        loaded.executable,
        settings.engine.display()
    )
}
