use super::*;

const SHRINK_AFTER: Duration = Duration::from_secs(30);

/// A site of 4..16 workers, and its clock.
struct Site {
    rule: Elastic,
    now: Moment,
    figures: Figures,
}

impl Site {
    fn new() -> Site {
        let rule = Elastic::new(Number(1), WorkerRange { least: 4, most: 16 }, SHRINK_AFTER, Moment(0));
        let figures = Figures { wanted: 4, threads: 1, idle: 4, settled: true, ..Figures::default() };
        Site { rule, now: Moment(0), figures }
    }

    /// One look: this many calls are under way, and this many requests wait.
    fn look(&mut self, calls: usize, waiting: usize) -> Decision {
        self.now = self.now + WAITING;
        let idle = usize::from(self.figures.wanted) - calls.min(self.figures.wanted.into());
        self.figures = Figures { calls, waiting, idle, ..self.figures.clone() };
        let decision = self.rule.look(&self.figures, self.now);
        match decision {
            Decision::Grow(more, _) => self.figures.wanted += more,
            Decision::Shrink(_) => self.figures.wanted -= 1,
            _ => {}
        }
        decision
    }
}

#[test]
fn two_looks_at_which_requests_wait_bring_as_many_workers() {
    let mut site = Site::new();
    assert_eq!(site.look(4, 7), Decision::Stay);
    let Decision::Grow(7, why) = site.look(4, 7) else { panic!("{:?}", site.figures) };
    assert_eq!(why, "7 requests waited and none of 4 workers was idle");
    assert_eq!(site.look(11, 0), Decision::Stay);
    assert_eq!(site.look(11, 9), Decision::Stay);
    assert!(matches!(site.look(11, 9), Decision::Grow(5, _)), "no more than the range allows");
}

#[test]
fn one_look_or_an_idle_worker_brings_none() {
    let mut site = Site::new();
    for _ in 0..9 {
        assert_eq!(site.look(4, 3), Decision::Stay);
        assert_eq!(site.look(4, 0), Decision::Stay);
        assert_eq!(site.look(3, 3), Decision::Stay);
    }
}

#[test]
fn those_that_boot_count_already() {
    let mut site = Site::new();
    site.figures.coming = 2;
    site.look(4, 2);
    assert_eq!(site.look(4, 2), Decision::Stay);
    assert!(matches!(site.look(4, 5), Decision::Grow(3, _)));
}

#[test]
fn each_worker_has_all_its_threads() {
    let mut site = Site::new();
    site.figures.threads = 4;
    site.look(16, 5);
    assert!(matches!(site.look(16, 5), Decision::Grow(2, _)));
}

#[test]
fn one_at_a_time_goes_and_one_stays_in_reserve() {
    let mut site = Site::new();
    site.look(4, 12);
    site.look(4, 12);
    assert_eq!(site.figures.wanted, 16);
    let grown = site.now;
    let mut gone = Vec::new();
    while site.now < grown + Duration::from_secs(60) {
        if matches!(site.look(6, 0), Decision::Shrink(_)) {
            gone.push(site.now);
        }
    }
    assert_eq!(site.figures.wanted, 7);
    assert!(gone[0] - grown >= SHRINK_AFTER, "{gone:?}");
    assert!(gone.windows(2).all(|two| two[1] - two[0] >= BETWEEN_STEPS), "{gone:?}");
}

#[test]
fn an_idle_site_is_looked_at_until_it_has_shrunk_and_no_more() {
    let mut site = Site::new();
    site.look(4, 2);
    site.look(4, 2);
    assert_eq!(site.look(0, 0), Decision::Stay);
    let mut looks = 0;
    while let Some(due) = site.rule.due(site.now) {
        assert!(due > site.now);
        site.now = Moment(due.0 - 100);
        site.look(0, 0);
        looks += 1;
    }
    assert_eq!((site.figures.wanted, looks), (4, 2));
}

#[test]
fn what_a_reload_would_notice_waits() {
    let mut site = Site::new();
    site.figures.wanted = 8;
    site.figures.settled = false;
    assert!((0..600).all(|_| site.look(1, 0) == Decision::Stay));
    site.figures.settled = true;
    assert!(matches!(site.look(1, 0), Decision::Shrink(_)));
}

#[test]
fn workers_that_compute_are_no_more_than_the_processors() {
    let ceiling =
        |wanted, each, pressure| Processors { count: 2, each, pressure }.ceiling(wanted).map(|(most, _)| most);
    assert_eq!(ceiling(1, 1.0, 0.0), Some(2), "one worker leaves a processor idle");
    assert_eq!(ceiling(4, 0.5, 0.0), Some(3), "both are used");
    assert_eq!(ceiling(4, 0.2, 0.0), Some(9), "each computes a fifth of its time");
    assert_eq!(ceiling(4, 0.2, 0.8), Some(3), "the processors have others to serve");
    assert_eq!(ceiling(4, 0.01, 0.8), None, "they wait for something else");
    let mut site = Site::new();
    site.figures.processors = Some(Processors { count: 2, each: 0.49, pressure: 0.0 });
    site.look(4, 9);
    let why = "4 workers need 2.0 of 2 processors";
    assert_eq!(site.look(4, 9), Decision::Held(why.into()));
}

#[test]
fn memory_is_kept_for_what_workers_grow_to() {
    const MEGA: u64 = 1 << 20;
    let which = "memory.max of /site is 512M".to_owned();
    let room =
        Room { limit: 512 * MEGA, which, free: 232 * MEGA, each: 60 * MEGA, is_known: true, growing: 0, pressure: 0.0 };
    assert_eq!(room.ceiling(4).unwrap().0, 7, "32M stay free");
    assert_eq!(Room { growing: 100 * MEGA, ..room.clone() }.ceiling(4).unwrap().0, 5);
    assert_eq!(Room { free: 0, ..room.clone() }.ceiling(4).unwrap().0, 4);
    let (most, why) = Room { pressure: 0.25, ..room.clone() }.ceiling(4).unwrap();
    assert_eq!((most, why.as_str()), (4, "somebody waited for memory in 25% of the last 10 s"));
    let mut site = Site::new();
    site.figures.room = Some(room);
    site.look(4, 9);
    let Decision::Grow(3, why) = site.look(4, 9) else { panic!("{:?}", site.figures) };
    assert!(why.ends_with("because a worker takes 60.0M, 232.0M are free and memory.max of /site is 512M"), "{why}");
}

#[test]
fn figures_of_memory_are_waited_for_but_not_for_long() {
    let mut site = Site::new();
    site.figures.reading = true;
    let looks = (1..).find(|_| matches!(site.look(4, 3), Decision::Grow(..))).unwrap();
    assert_eq!(looks, 6);
}
