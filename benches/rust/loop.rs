//! ostler's own loop with an application in Rust in the place of Python: what is left when Python costs nothing.
//!
//! Usage: `loop 127.0.0.1:8000 [FORMAT]`. With a format it writes an access log, to /dev/null. One worker with the daemon's defaults, without a master.

use std::{env, fs::File, hint::black_box, io, net::TcpListener, sync::Arc};

use ostler_http::ResponseHead;
use ostler_serve::{Application, Membership, Request, Response, Setup};
use ostler_wire::{Boot, Channel, Listener, ToWorker, log, scoreboard::Scoreboard};

struct Hello;

impl Application for Hello {
    type Caller = ResponseHead;

    fn caller(&self, _thread: u16) -> ResponseHead {
        ResponseHead::default()
    }

    fn prepare(&self, _head: &mut ResponseHead) {}

    fn is_prepared(&self, _head: &ResponseHead) -> bool {
        true
    }

    fn call(&self, head: &mut ResponseHead, _request: &mut Request<'_>, response: &mut Response<'_>) {
        // The compiler must not check at build time what it cannot know of Python's responses.
        let text = |text: &'static [u8]| black_box(text);
        head.begin(text(b"200 OK")).expect("it is a status");
        head.field(text(b"Content-Type"), text(b"text/plain")).expect("it is a field");
        head.field(text(b"Content-Length"), text(b"13")).expect("it is a length");
        response.whole(head, b"Hello, World!", &mut |wait| wait()).expect("the length is right");
    }

    fn stacks(&self) -> String {
        String::new()
    }

    fn abandon(&self, code: i32) -> ! {
        std::process::exit(code)
    }

    fn release(&self, _head: &mut ResponseHead) {}
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8000".into());
    let format = env::args().nth(2);
    let listener = TcpListener::bind(&address)?;
    listener.set_nonblocking(true)?;
    // Stand for the master, and live as long as the process.
    let (master, channel) = Channel::pair()?;
    let (terminated, _never_written) = nix::unistd::pipe()?;
    let (give, take) = Channel::pair()?;
    master.send(&ToWorker::Serve, &[])?;
    let setup = Setup {
        boot: boot(&address, listener.local_addr()?.port(), format.as_deref()),
        slot: 0,
        site: Some(Membership {
            channel,
            exchange_give: give.into(),
            exchange_take: take.into(),
            becomes: Arc::default(),
        }),
        listeners: vec![listener.into()],
        terminated,
        attention: None,
        access_log: format.map(|_| File::options().append(true).open("/dev/null")).transpose()?.map(Into::into),
        signer: None,
        scoreboard: Arc::new(Scoreboard::new(1, 1)?),
        log: log::logger(log::Process::Worker(1, 0), slog::Level::Info, &Default::default()),
    };
    ostler_serve::run(setup, &Hello).map(drop)
}

fn boot(address: &str, port: u16, format: Option<&str>) -> Boot {
    let listener = Listener::http(format!("http://{address}"), "127.0.0.1", Some(port));
    let mut boot = Boot { listeners: vec![listener], process_name: "loop".into(), ..Boot::default() };
    if let Some(format) = format {
        boot.worker.access_log_format = format.parse().expect("a format of the access log");
    }
    boot
}
