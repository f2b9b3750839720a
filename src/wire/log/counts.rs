//! How many records and lost lines there were. The numbers are this process's own until [`count_in`] gives them a place that outlives it.

use std::{
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use slog::{Level, Logger, warn};

use crate::meters::{LOGGED, Meters};

/// The pause between attempts to log that lines were lost, while nothing else is logged.
pub const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// How many lines of this process were lost and not yet told, unless [`PLACES`] has that number.
static LOST: AtomicU32 = AtomicU32::new(0);
/// How many records of each kind of [`LOGGED`] this process has written, and how many lines it has lost in all, unless [`PLACES`] has
/// those numbers.
static RECORDS: [AtomicU64; LOGGED.len()] = [const { AtomicU64::new(0) }; LOGGED.len()];
static ALL_LOST: AtomicU64 = AtomicU64::new(0);
/// Where others can read them.
static PLACES: RwLock<(Option<&AtomicU32>, Option<&Meters>)> = RwLock::new((None, None));

/// The phrase of an exception that has left the application.
const RAISED: &str = "application raised";
/// The tag of the record that tells how many lines were lost: it is not counted when it is lost itself.
pub(super) const COUNT: &str = "count";

/// How many lines were lost and not yet told.
pub fn lost() -> u32 {
    untold().load(Relaxed)
}

/// Counts there from now on, so that the numbers outlive this process: lines that are lost, and records as [`LOGGED`] names them.
pub fn count_in(counter: &'static AtomicU32, meters: Option<&'static Meters>) {
    counter.fetch_add(LOST.swap(0, Relaxed), Relaxed);
    *PLACES.write().unwrap_or_else(PoisonError::into_inner) = (Some(counter), meters);
}

/// Counts for this process again: what it has counted for others stays theirs.
pub fn count_alone() {
    *PLACES.write().unwrap_or_else(PoisonError::into_inner) = (None, None);
}

fn meters() -> Option<&'static Meters> {
    PLACES.read().unwrap_or_else(PoisonError::into_inner).1
}

/// How many bad records this process has written since it was last asked, and how many lines it has lost, unless they are counted elsewhere.
pub fn take_counts() -> ([u64; LOGGED.len()], u64) {
    (RECORDS.each_ref().map(|counter| counter.swap(0, Relaxed)), ALL_LOST.swap(0, Relaxed))
}

/// These lines could not be written.
pub(super) fn lose(lines: u32) {
    untold().fetch_add(lines, Relaxed);
    meters().map_or(&ALL_LOST, |meters| &meters.lines_lost[0]).fetch_add(lines.into(), Relaxed);
}

/// gunicorn counts an exception of the application by that name only.
pub(super) fn count_record(level: Level, phrase: &str) {
    let place = match level {
        Level::Error if phrase == RAISED => 3,
        Level::Critical => 0,
        Level::Error => 1,
        Level::Warning => 2,
        Level::Info | Level::Debug | Level::Trace => return,
    };
    meters().map_or(&RECORDS, |meters| &meters.logged)[place].fetch_add(1, Relaxed);
}

/// Takes over what a process that is gone has not told.
pub fn take_lost(lines: u32) {
    untold().fetch_add(lines, Relaxed);
}

pub(super) fn untold() -> &'static AtomicU32 {
    PLACES.read().unwrap_or_else(PoisonError::into_inner).0.unwrap_or(&LOST)
}

/// Tells how many lines were lost, if there is room again. To be called every [`BETWEEN_TRIES`] while [`lost`] is not zero.
pub fn tell_lost(log: &Logger) {
    let lines = lost();
    if lines > 0 {
        warn!(log, #COUNT, "log lines lost"; "lines" => lines);
    }
}
