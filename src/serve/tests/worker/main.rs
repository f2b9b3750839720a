//! A worker's promises, with an application in Rust that waits where the test wants it to. Nothing here depends on speed: tests wait
//! for events, not for the clock, and time-outs only end failing tests.

mod bodies;
mod client;
mod greedy_clients;
mod life;
mod moves;
mod overload;
mod requests;
mod script;
mod site;
mod slow_clients;
mod threads;
mod tls;

fn hello() -> (u16, Vec<u8>) {
    (200, b"hello".to_vec())
}
