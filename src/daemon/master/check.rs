//! `ostler check`: looks at what a start would need, boots a template that imports and reports, and nothing more. Binds nothing, writes no
//! file.

use std::{io, os::fd::AsFd, time::Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ostler_wire::{FromTemplate, Loaded, Preload, Tls, ToTemplate, scoreboard::Scoreboard, stacks_signal};

use super::{
    event::{Number, Plan},
    generation::{
        Generation,
        late::{ANSWER, NOT_IMPORTED},
    },
    spawn,
    team::Exchange,
};
use crate::{
    exit::{Exit, Failure, words},
    report,
    resources::{
        keeper::{Keeper, Order, Word},
        line::{self, Line},
        logs::{Logs, Standard},
        pidfile::PidFile,
    },
    settings::{LogTarget, Settings},
    sys::{
        clock::Moment,
        descriptors,
        pidfd::PidFd,
        process::{self, Ending},
    },
};

/// Prints one line of what was found, and before it a line for each bound that is out of reach.
pub fn check(mut settings: Settings) -> Result<Exit, Failure> {
    settings.error_log = LogTarget::Standard;
    settings.access_log = None;
    settings.boot.check_only = true;
    settings.boot.access_log = false;
    let told = settings.understood.iter().chain(&settings.needless).chain(&settings.suspicious);
    for why in told.chain(&settings.out_of_reach) {
        eprintln!("ostler: {}", report::safe(why));
    }
    if let Some(path) = &settings.pid_file
        && let Some(holder) = PidFile::check(path)?
    {
        // The site may be the one that is to be reloaded.
        let path = report::safe(&path.display().to_string());
        eprintln!(
            "ostler: process {holder} holds the pid file {path}: a reload may follow, and a second start would be refused"
        );
    }
    settings.boot.tls = tls(&settings)?;
    let loaded = boot(&settings)?;
    report::print(&format!("{}\n", describe(&settings, &loaded)))
}

/// What the certificates are. A key keeper that lives for as long as that takes reads and checks them.
fn tls(settings: &Settings) -> Result<Option<Tls>, Failure> {
    let system = |error: io::Error| Failure::new(Exit::System, format!("could not check: {}", words(&error)));
    let Some(order) = Order::of(settings) else { return Ok(None) };
    let mut keeper = Keeper::begin(order).map_err(system)?;
    let patience = PollTimeout::try_from(keeper.deadline - Moment::now()).unwrap_or(PollTimeout::MAX);
    let polled = poll(&mut [PollFd::new(keeper.line().as_fd(), PollFlags::POLLIN)], patience);
    let word = polled.map(|_| keeper.hear()).map_err(|error| system(error.into()))?;
    keeper.kill();
    let ending = process::bury(keeper.pid);
    match (word, keeper.kept.as_ref()) {
        (Word::Keeps, Some(kept)) => {
            kept.warnings.iter().for_each(|why| eprintln!("ostler: {}", report::safe(why)));
            Ok(keeper.told())
        }
        (Word::Refused(why), _) => Err(Failure::usage(why)),
        _ => {
            let how = ending.map_or_else(String::new, |ending| format!(": {ending}"));
            Err(Failure::new(Exit::System, format!("the certificates could not be read{how}")))
        }
    }
}

fn boot(settings: &Settings) -> Result<Loaded, Failure> {
    let system = |error: io::Error| Failure::new(Exit::System, format!("could not check: {}", words(&error)));
    descriptors::reserve_channel_place().map_err(system)?;
    let standard = Standard::remember().map_err(system)?;
    let logs = Logs::open(settings, &standard)?;
    let (pid, held, mut line) = spawn::template(settings, &logs)?;
    let plan =
        Plan { application: settings.boot.application.clone(), boot_timeout: settings.boot_timeout, ..Plan::default() };
    let mut generation = Generation::new(Number(1), Vec::new(), Moment::now());
    generation.plan = plan;
    let outcome = send_boot(settings, &mut line).and_then(|()| hear(&mut line, &mut generation, &held));
    if !matches!(outcome, Ok(Outcome::End)) {
        held.kill().map_err(system)?;
    }
    let ending = process::bury(pid).unwrap_or(Ending::Status(0));
    match outcome.map_err(system)? {
        Outcome::Word(FromTemplate::Loaded(loaded)) => Ok(loaded),
        Outcome::Word(FromTemplate::Failed(failure)) => Err(failure.into()),
        Outcome::Word(FromTemplate::Stacks(stacks)) => {
            Err(Failure { traceback: stacks, ..generation.late(NOT_IMPORTED) })
        }
        Outcome::Word(_) => Err(Failure::new(Exit::Internal, "the template forked, and was not asked to")),
        Outcome::End => Err(generation.ended("the template", ending)),
        Outcome::Nothing => Err(generation.late(NOT_IMPORTED)),
    }
}

/// How the check of the import ended.
enum Outcome {
    Word(FromTemplate),
    End,
    Nothing,
}

fn send_boot(settings: &Settings, line: &mut Line) -> io::Result<()> {
    let mut boot = settings.boot.clone();
    boot.generation = 1;
    boot.slots = 1;
    let scoreboard = Scoreboard::new(boot.slots, boot.worker.threads)?;
    let exchange = Exchange::new()?;
    let carried = [scoreboard.as_fd(), exchange.give.as_fd(), exchange.take.as_fd()];
    line.send(&ToTemplate::Boot(Box::new(boot)), &carried)
}

/// What the template says in the end. One that takes too long is asked where it is.
fn hear(line: &mut Line, generation: &mut Generation, template: &PidFd) -> io::Result<Outcome> {
    let patience = generation.plan.boot_timeout;
    let mut until = (!patience.is_zero()).then(|| Instant::now() + patience);
    let mut asked = false;
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        if poll(&mut [PollFd::new(line.as_fd(), PollFlags::POLLIN)], left)? == 0 {
            if generation.step.is_none() || std::mem::replace(&mut asked, true) {
                return Ok(Outcome::Nothing);
            }
            template.signal(stacks_signal())?;
            until = Some(Instant::now() + ANSWER);
            continue;
        }
        // Its end may come as a reset, if it did not even read what it was sent.
        match line.hear() {
            line::Heard::Message(FromTemplate::Begins(step)) => generation.step = Some(step),
            line::Heard::Message(word) => return Ok(Outcome::Word(word)),
            line::Heard::Nothing | line::Heard::Nonsense(_) | line::Heard::End => return Ok(Outcome::End),
        }
    }
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
