//! Workers in this process, each on a thread of its own, around that application.

use std::{
    io::Read,
    net::{SocketAddr, TcpListener, TcpStream},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use ostler_serve::{LoopEnd, Membership, Setup};
use ostler_tls::Sign;
use ostler_wire::{
    Boot, Channel, FromWorker, Listener, Peers, Preload, Protocol, TicketKeys, Tls, ToWorker, Trust, WorkerSettings,
    meters::MoveReason, scoreboard::Scoreboard,
};

use crate::{
    client::Client,
    script::{PATIENCE, Script},
};

/// No peer is trusted.
pub fn nobody() -> Trust {
    Trust {
        forwarded_allow: Peers::default(),
        forwarded_fields: vec![],
        proxy_allow: Peers::default(),
        ..Trust::default()
    }
}

/// What a test may set.
pub fn settings() -> WorkerSettings {
    let minute = Duration::from_secs(60);
    WorkerSettings {
        timeout: Duration::ZERO,
        keep_alive: minute,
        header_timeout: minute,
        body_timeout: minute,
        write_timeout: minute,
        min_rate: 0,
        connections: 1000,
        graceful_timeout: minute,
        body_memory: 256 * 1024,
        spool_limit: 0,
        access_log_format: "%(r)s %(s)s".parse().unwrap(),
        ..WorkerSettings::default()
    }
}

/// Some workers of one generation, behind one listener.
pub struct Site {
    pub script: Arc<Script>,
    pub board: Arc<Scoreboard>,
    pub address: SocketAddr,
    workers: Vec<(Channel, Option<JoinHandle<LoopEnd>>)>,
    listener: TcpListener,
    settings: WorkerSettings,
    exchange: (OwnedFd, OwnedFd),
    access_log: std::fs::File,
    /// With these certificates the listener speaks TLS.
    pub tls: Option<Certified>,
    trust: Trust,
}

/// Certificates, and who signs with their keys.
pub type Certified = (Tls, Arc<dyn Sign>);

impl Site {
    pub fn start(workers: usize, settings: WorkerSettings) -> Site {
        Site::start_with(workers, settings, None, nobody())
    }

    pub fn start_with(workers: usize, settings: WorkerSettings, tls: Option<Certified>, trust: Trust) -> Site {
        let (give, take) = Channel::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut site = Site {
            script: Arc::default(),
            board: Arc::new(Scoreboard::new(8, settings.threads).unwrap()),
            address: listener.local_addr().unwrap(),
            workers: Vec::new(),
            listener,
            settings,
            exchange: (give.into(), take.into()),
            access_log: nix::sys::memfd::memfd_create("access log", nix::sys::memfd::MFdFlags::empty()).unwrap().into(),
            tls,
            trust,
        };
        for _ in 0..workers {
            site.add_worker();
        }
        site
    }

    /// Starts one more; returns its slot when it is ready.
    pub fn add_worker(&mut self) -> usize {
        let slot = self.workers.len();
        let (ours, theirs) = Channel::pair().unwrap();
        let (terminated, _writer) = nix::unistd::pipe().unwrap();
        let setup = Setup {
            boot: self.boot(),
            slot: slot as u16,
            listeners: vec![self.listener.try_clone().unwrap().into()],
            site: Some(Membership {
                channel: theirs,
                exchange_give: self.exchange.0.try_clone().unwrap(),
                exchange_take: self.exchange.1.try_clone().unwrap(),
                becomes: Arc::default(),
            }),
            attention: None,
            // Never readable: the writing end would have to close for that, and it lives as long as the process.
            terminated: {
                std::mem::forget(_writer);
                terminated
            },
            access_log: Some(self.access_log.try_clone().unwrap().into()),
            signer: self.tls.as_ref().map(|(_, signer)| signer.clone()),
            scoreboard: self.board.clone(),
            log: slog::Logger::root(slog::Discard, slog::o!()),
        };
        let script = self.script.clone();
        let thread = thread::spawn(move || ostler_serve::run(setup, &*script).unwrap());
        assert!(matches!(ours.receive::<FromWorker>().unwrap().unwrap().0, FromWorker::Ready));
        ours.send(&ToWorker::Serve, &[]).unwrap();
        self.workers.push((ours, Some(thread)));
        slot
    }

    fn boot(&self) -> Boot {
        let name = format!("http://{}", self.address);
        let protocol = if self.tls.is_some() { Protocol::Https } else { Protocol::Http };
        let listener = Listener::http(name, "127.0.0.1", Some(self.address.port())).speaking(protocol);
        Boot {
            application: "script".into(),
            preload: Preload::Off,
            slots: self.board.slots(),
            listeners: vec![Listener { trust: self.trust.clone(), ..listener }],
            tls: self.tls.as_ref().map(|(tls, _)| tls.clone()),
            ticket_keys: self.tls.as_ref().map(|_| TicketKeys { previous: [1; 32], current: [2; 32], next: [3; 32] }),
            worker: self.settings.clone(),
            ..Boot::default()
        }
    }

    pub fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client(stream)
    }

    pub fn tell(&self, worker: usize, message: ToWorker) {
        self.workers[worker].0.send(&message, &[]).unwrap();
    }

    /// A connection of the site's own to a worker, and the worker has it.
    pub fn smoke(&self, worker: usize) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.workers[worker].0.send(&ToWorker::Smoke { https: true, port: 443 }, &[theirs.as_fd()]).unwrap();
        self.settled(worker);
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        ours
    }

    /// The worker's next message, other than [`FromWorker::AtWork`] and [`FromWorker::AcceptsNoMore`].
    pub fn hear(&self, worker: usize) -> FromWorker {
        loop {
            match self.workers[worker].0.receive().unwrap().expect("the worker lives").0 {
                FromWorker::AtWork | FromWorker::AcceptsNoMore => {}
                message => return message,
            }
        }
    }

    pub fn drain(&self, worker: usize, hand_over: bool) {
        self.tell(
            worker,
            ToWorker::Drain {
                within: PATIENCE,
                hand_over,
                delay: Duration::ZERO,
                closes: vec![],
                why: MoveReason::Recycle,
            },
        );
    }

    /// Waits until a worker has done what it was told before.
    pub fn settled(&self, worker: usize) {
        self.tell(worker, ToWorker::Stacks);
        while !matches!(self.hear(worker), FromWorker::Stacks(_)) {}
    }

    /// The access log so far, of a worker that has nothing to do.
    pub fn logged(&self) -> Vec<String> {
        // A worker writes its lines before it waits; the second answer shows that it has waited.
        self.settled(0);
        self.settled(0);
        let mut text = String::new();
        let mut file = std::fs::File::open(format!("/proc/self/fd/{}", self.access_log.as_raw_fd())).unwrap();
        file.read_to_string(&mut text).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits for a worker's end.
    pub fn ended(&mut self, worker: usize) -> LoopEnd {
        self.workers[worker].1.take().unwrap().join().unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for (channel, thread) in &mut self.workers {
            let drain = ToWorker::Drain {
                within: PATIENCE,
                hand_over: false,
                delay: Duration::ZERO,
                closes: vec![],
                why: MoveReason::Recycle,
            };
            let _ = channel.send(&drain, &[]);
            if let (Some(thread), false) = (thread.take(), thread::panicking()) {
                thread.join().unwrap();
            }
        }
    }
}
