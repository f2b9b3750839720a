//! The floor: an epoll loop that reads whatever comes and writes one fixed answer. What it costs is what the kernel costs.
//! It parses nothing, so that no server can be cheaper with the same calls: one read and one write per request.
//!
//! Usage: `floor 127.0.0.1:8000`

use std::{
    env,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd,
};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\
Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: floor\r\n\r\nHello, World!";

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8000".into());
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, listener.as_raw_fd() as u64))?;

    // Indexed by file descriptor.
    let mut connections: Vec<Option<TcpStream>> = Vec::new();
    let mut input = vec![0; 16384];
    let mut events = [EpollEvent::empty(); 256];
    loop {
        // A wait that a signal or a debugger broke off has seen nothing.
        let count = epoll.wait(&mut events, EpollTimeout::NONE).unwrap_or(0);
        for event in &events[..count] {
            let number = event.data() as usize;
            if number == listener.as_raw_fd() as usize {
                accept_all(&listener, &epoll, &mut connections)?;
            } else if !answer(connections[number].as_ref(), &mut input) {
                connections[number] = None;
            }
        }
    }
}

fn accept_all(listener: &TcpListener, epoll: &Epoll, connections: &mut Vec<Option<TcpStream>>) -> io::Result<()> {
    while let Ok((connection, _)) = listener.accept() {
        connection.set_nonblocking(true)?;
        let number = connection.as_raw_fd() as usize;
        epoll.add(&connection, EpollEvent::new(EpollFlags::EPOLLIN, number as u64))?;
        if connections.len() <= number {
            connections.resize_with(number + 1, || None);
        }
        connections[number] = Some(connection);
    }
    Ok(())
}

/// Whether the connection goes on. The answer is small enough to be written whole.
fn answer(connection: Option<&TcpStream>, input: &mut [u8]) -> bool {
    let Some(mut connection) = connection else { return false };
    connection.read(input).is_ok_and(|read| read > 0) && connection.write_all(ANSWER).is_ok()
}
