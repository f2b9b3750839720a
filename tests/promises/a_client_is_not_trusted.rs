//! A client is not trusted by anybody: whatever it sends, the application, the log and the other clients see what is so.

use ostler_tests::Rig;

#[test]
fn a_body_that_the_application_reads_spoils_neither_the_loop_nor_the_access_log() {
    let rig = Rig::new("corners.py").flag("--no-request-buffering");
    let mut site = rig.option("--access-logfile", "-").option("--access-logformat", "%(r)s %(s)s %({x-n}i)s").start();
    let mut client = site.connect();
    let post = |n: u8, body: &str| {
        format!("POST /hello?{n} HTTP/1.1\r\nHost: a\r\nX-N: {n}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let get = |n: u8| format!("GET /hello?{n} HTTP/1.1\r\nHost: a\r\nX-N: {n}\r\n\r\n");
    client.send([post(1, "body"), get(2), post(3, ""), post(4, &"x".repeat(9000)), post(5, "b"), get(6)].concat());
    for _ in 1..=6 {
        assert_eq!(client.answer().text(), "hello\n");
    }
    site.stop();
    let methods = ["POST", "GET", "POST", "POST", "POST", "GET"].iter().zip(1..);
    let expected: Vec<String> = methods.map(|(method, n)| format!("{method} /hello?{n} HTTP/1.1 200 {n}")).collect();
    assert_eq!(site.whole_output().lines().collect::<Vec<_>>(), expected);
}
