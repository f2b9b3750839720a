//! Requests on their connections: one after the other, in pieces, refused.

use std::{net::Shutdown, sync::atomic::Ordering::Relaxed};

use ostler_wire::WorkerSettings;

use crate::{
    hello,
    site::{Site, settings},
};

#[test]
fn requests_follow_each_other_on_one_connection() {
    let site = Site::start(1, settings());
    let mut client = site.client();
    for _ in 0..3 {
        assert_eq!(client.asks("/hello"), hello());
    }
    client.get("/hello").get("/size/3").get("/hello");
    assert_eq!((client.answer(), client.answer().1, client.answer()), (hello(), b"xxx".to_vec(), hello()));
    site.settled(0);
    assert_eq!(site.board.slot(0).requests.load(Relaxed), 6);
}

#[test]
fn a_request_in_pieces_is_one_request() {
    let site = Site::start(1, settings());
    let mut client = site.client();
    client.0.set_nodelay(true).unwrap();
    for byte in b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nabcde" {
        client.send([*byte]);
    }
    assert_eq!(client.answer(), (200, b"abcde".to_vec()));
    client.send(
        "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    );
    assert_eq!(client.answer(), (200, b"abcde".to_vec()));
}

#[test]
fn a_head_longer_than_a_buffer_is_read_to_its_end() {
    let site = Site::start(1, settings());
    let mut client = site.client();
    assert_eq!(client.asks("/hello"), hello());
    let field = format!("X-Long: {}\r\n", "a".repeat(8000));
    client.send(format!("GET /hello HTTP/1.1\r\nHost: test\r\n{}\r\n", field.repeat(4)));
    assert_eq!(client.answer(), hello());
}

#[test]
fn a_refused_client_sees_the_answer_rather_than_a_reset() {
    let site = Site::start(1, WorkerSettings { limit_request_body: 1000, ..settings() });
    let mut client = site.client();
    client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n");
    client.send(vec![0; 1_000_000]);
    assert_eq!(client.answer().0, 413);
    client.0.shutdown(Shutdown::Write).unwrap();
    assert!(client.rest().is_empty());
}
