//! What a client of rustls's says to this server's handshakes and records.

mod handshakes;
mod rig;
mod sessions;
