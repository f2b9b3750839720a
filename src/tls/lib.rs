//! TLS (RFC 8446, RFC 5246) without sockets: handshakes through rustls, records with keys that can move to another process.
