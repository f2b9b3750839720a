//! The cases of tests/cases hold under each pair of the options that change how a request is read, logged or answered.

use crate::cases::{Mode, play_under};

const fn mode(switches: [bool; 6], threads: u8, header_map: &'static str) -> Mode {
    let [buffering, access_log, sendfile, keep_alive, proxy_protocol, unix_socket] = switches;
    Mode { buffering, access_log, sendfile, threads, keep_alive, proxy_protocol, header_map, unix_socket }
}

const YES: bool = true;
const NOT: bool = false;

/// Buffering, access log, sendfile, keep-alive, PROXY protocol, Unix socket; threads; `--header-map`.
const MODES: [Mode; 8] = [
    mode([NOT, NOT, YES, NOT, NOT, NOT], 4, "dangerous"),
    mode([YES, YES, NOT, YES, YES, YES], 1, "dangerous"),
    mode([NOT, YES, YES, NOT, NOT, YES], 1, "drop"),
    mode([YES, NOT, NOT, YES, NOT, NOT], 1, "refuse"),
    mode([NOT, NOT, NOT, YES, YES, NOT], 4, "drop"),
    mode([NOT, YES, YES, YES, YES, NOT], 4, "refuse"),
    mode([YES, NOT, NOT, NOT, YES, YES], 4, "refuse"),
    mode([YES, NOT, YES, YES, NOT, NOT], 4, "drop"),
];

macro_rules! modes {
    ($($name:ident: $index:literal,)*) => {
        $(#[test]
        fn $name() {
            play_under(MODES[$index]);
        })*
    };
}

modes! {
    the_cases_hold_under_options_1: 0,
    the_cases_hold_under_options_2: 1,
    the_cases_hold_under_options_3: 2,
    the_cases_hold_under_options_4: 3,
    the_cases_hold_under_options_5: 4,
    the_cases_hold_under_options_6: 5,
    the_cases_hold_under_options_7: 6,
    the_cases_hold_under_options_8: 7,
}

#[test]
fn each_pair_of_options_is_among_them() {
    let values = |mode: &Mode| {
        let map = ["drop", "refuse", "dangerous"].iter().position(|map| *map == mode.header_map).expect("one of three");
        let threads = usize::from(mode.threads > 1);
        let switches = [mode.buffering, mode.access_log, mode.sendfile, mode.keep_alive];
        let others = [mode.proxy_protocol, mode.unix_socket];
        switches.into_iter().chain(others).map(usize::from).chain([threads, map]).collect::<Vec<_>>()
    };
    let counts = [2, 2, 2, 2, 2, 2, 2, 3];
    for (one, other) in (0..8).flat_map(|one| (0..one).map(move |other| (one, other))) {
        for (a, b) in (0..counts[one]).flat_map(|a| (0..counts[other]).map(move |b| (a, b))) {
            let found = MODES.iter().map(values).any(|mode| (mode[one], mode[other]) == (a, b));
            assert!(found, "no mode has {a} at {one} and {b} at {other}");
        }
    }
}
