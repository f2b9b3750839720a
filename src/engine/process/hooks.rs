//! The process that calls the hooks of gunicorn's master. The master itself runs no Python: it says when a hook's moment has come, and does
//! not wait. The file may start threads here, and open what it likes.

use std::{
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use ostler_wire::{
    Boot, BootFailure, Channel, MasterHook, ToTemplate, log,
    title::{self, Title},
};
use pyo3::prelude::*;
use slog::{Logger, error, warn};

use super::{
    fork,
    gunicorn::{self, GUNICORN},
    import::unexpected,
    inherited::error_log,
    streams,
};

/// A hook that takes longer is named in the log.
const PATIENCE: Duration = Duration::from_secs(10);

/// The hook that is called, and since when.
type Called = Arc<Mutex<Option<(Instant, &'static str)>>>;

/// Calls hooks until the master has ended, and does not return.
pub fn serve(py: Python<'_>, channel: &Channel, boot: Boot) -> ! {
    let error_log = error_log(log::Process::Hooks, &boot);
    let log = error_log.logger();
    if let Some(mut title) = Title::find() {
        title.set(title::of(&boot, log::Process::Hooks));
    }
    let called = Called::default();
    if let Err(error) = watch(called.clone(), log.clone()) {
        warn!(log, "hooks not watched"; "reason" => %error);
    }
    let busy = |hook: Option<&'static str>| {
        *called.lock().unwrap_or_else(PoisonError::into_inner) = hook.map(|hook| (Instant::now(), hook));
    };
    busy(Some("on_starting"));
    let installed = streams::install(py, error_log).map_err(|error| unexpected(py, &error));
    let mut result = installed.and_then(|()| begin(py, &boot, &log, "begun"));
    loop {
        if let Err(failure) = result {
            error!(log, "hooks not called"; "reason" => failure.message, "traceback" => failure.traceback);
        }
        busy(None);
        let message = py.detach(|| channel.receive());
        busy(message.as_ref().ok().and_then(Option::as_ref).and_then(|(message, _)| hook_of(message)));
        result = match message {
            Ok(Some((ToTemplate::Hooks(boot), _))) => begin(py, &boot, &log, "reloaded"),
            Ok(Some((ToTemplate::Hook(MasterHook::OnExit), _))) => {
                let _ = call(py, MasterHook::OnExit);
                fork::exit(0)
            }
            Ok(Some((ToTemplate::Hook(moment), _))) => call(py, moment).map_err(|error| unexpected(py, &error)),
            Ok(Some((ToTemplate::Reopen, descriptors))) => {
                if let Some(Err(error)) = descriptors.first().map(|file| log::replace(file.as_fd(), &[1, 2])) {
                    error!(log, "error log not reopened"; "reason" => error.to_string());
                }
                Ok(())
            }
            Ok(Some(_)) => Ok(()),
            // The master has ended without a word, or another one has taken its place.
            Ok(None) => fork::exit(0),
            Err(error) => {
                error!(log, "master not understood"; "reason" => error.to_string());
                fork::exit(1)
            }
        };
    }
}

/// Runs the file, and then calls this function of gunicorn.py.
fn begin(py: Python<'_>, boot: &Boot, log: &Logger, then: &str) -> Result<(), BootFailure> {
    gunicorn::make_loggers(py, boot, log)
        .and_then(|()| super::template::prepare_interpreter(py, boot))
        .map_err(|error| unexpected(py, &error))?;
    gunicorn::run(py, boot, true)?;
    gunicorn::prepare(py, boot)
        .and_then(|module| module.call_method0(then))
        .map(drop)
        .map_err(|error| unexpected(py, &error))
}

fn call(py: Python<'_>, moment: MasterHook) -> PyResult<()> {
    let module = GUNICORN.import(py)?;
    match moment {
        MasterHook::WhenReady => module.call_method0("is_ready"),
        MasterHook::PreFork { age } => module.call_method1("forking", (age,)),
        MasterHook::Forked { age, pid } => module.call_method1("has_forked", (age, pid)),
        MasterHook::ChildExit { pid } => module.call_method1("died", (pid,)),
        MasterHook::WorkersChanged { new, old } => module.call_method1("count_changed", (new, old)),
        MasterHook::OnExit => module.call_method0("leaves"),
    }
    .map(drop)
}

/// Which hook a message calls for. The file itself runs before on_reload.
fn hook_of(message: &ToTemplate) -> Option<&'static str> {
    match message {
        ToTemplate::Hooks(_) => Some("on_reload"),
        ToTemplate::Hook(MasterHook::WhenReady) => Some("when_ready"),
        ToTemplate::Hook(MasterHook::PreFork { .. }) => Some("pre_fork"),
        ToTemplate::Hook(MasterHook::ChildExit { .. }) => Some("child_exit"),
        ToTemplate::Hook(MasterHook::WorkersChanged { .. }) => Some("nworkers_changed"),
        ToTemplate::Hook(MasterHook::OnExit) => Some("on_exit"),
        _ => None,
    }
}

/// Names a hook that hangs, once. It needs no lock of the interpreter, which the hook may hold.
fn watch(called: Called, log: Logger) -> std::io::Result<()> {
    let look = move || {
        let mut named = None;
        loop {
            thread::sleep(PATIENCE / 4);
            let now = *called.lock().unwrap_or_else(PoisonError::into_inner);
            if now != named
                && let Some((began, hook)) = now.filter(|(began, _)| began.elapsed() >= PATIENCE)
            {
                warn!(log, "hook hangs"; "hook" => hook, "seconds" => began.elapsed().as_secs());
                named = now;
            }
        }
    };
    thread::Builder::new().name("ostler-hooks".into()).spawn(look).map(drop)
}
