//! What is true after any sequence of inputs: all short ones, and many long random ones.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Act {
    /// A request comes and stays.
    Arrive,
    /// Everything in flight ends.
    Finish,
    Input(Input),
    /// Time passes until the machine wants to be called.
    Timeout,
    Wait(Duration),
}

const ACTS: [Act; 16] = [
    Act::Arrive,
    Act::Finish,
    Act::Input(Input::ContainerHook),
    Act::Input(Input::Drain),
    Act::Input(Input::PodHook),
    Act::Input(Input::Readiness(false)),
    Act::Input(Input::Readiness(true)),
    Act::Input(Input::Signal(Signal::Term)),
    Act::Input(Input::Undrain),
    Act::Input(Input::Upstream(Reach::Accepted)),
    Act::Input(Input::Upstream(Reach::Refused)),
    Act::Input(Input::UserHook(Errand::Done)),
    Act::Input(Input::UserHook(Errand::Due)),
    Act::Timeout,
    Act::Wait(Duration::from_millis(700)),
    Act::Wait(Duration::from_secs(6)),
];

/// A machine that is driven as the driver does, and watched.
#[derive(Clone)]
struct Walk {
    machine: Machine,
    now: Uptime,
    load: Load,
    /// Since when the youngest unanswered hook of the app has been held.
    held: Option<Uptime>,
    signals: u32,
    errands: u32,
}

impl Walk {
    fn new(entry: Entry) -> Self {
        let machine = Machine::new(budget(), entry);
        let load = Load::default();
        Self { machine, now: Uptime::ZERO, load, held: None, signals: 0, errands: 0 }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Arrive => {
                self.load.in_flight += 1;
                self.load.last_arrival = self.now;
                self.load.last_proxied = self.now;
                self.turn(None);
            }
            Act::Finish => {
                self.load.in_flight = 0;
                self.load.last_proxied = self.now;
                self.turn(None);
            }
            Act::Input(input) => self.turn(Some(input)),
            Act::Timeout => {
                if let Some(due) = self.machine.poll_timeout() {
                    self.now = due;
                    self.turn(None);
                }
            }
            Act::Wait(time) => {
                let end = self.now + time;
                while let Some(due) = self.machine.poll_timeout().filter(|due| *due <= end) {
                    self.now = due;
                    self.turn(None);
                }
                self.now = end;
                self.turn(None);
            }
        }
    }

    fn turn(&mut self, input: Option<Input>) {
        let before = self.machine.phase();
        self.machine.handle(self.now, Input::Load(self.load));
        if let Some(input) = input {
            self.machine.handle(self.now, input);
            if input == Input::ContainerHook {
                self.held = Some(self.now);
            }
            self.signals += u32::from(matches!(input, Input::Signal(_)));
            if let Input::UserHook(errand) = input {
                self.errands = match errand {
                    Errand::Due => self.errands + 1,
                    Errand::Done => self.errands.saturating_sub(1),
                };
            }
            self.went(before);
        }
        let between = self.machine.phase();
        self.machine.handle_timeout(self.now);
        self.went(between);
        self.rests();
    }

    /// What is true of each step from `before` to the phase now.
    fn went(&mut self, before: Phase) {
        let after = self.machine.phase();
        match (before, after) {
            (Phase::Drained(_), _) => assert_eq!(before, after, "the end is the end"),
            (Phase::Draining(departure), Phase::Draining(_) | Phase::Drained(_)) => {
                assert_eq!(Some(departure), after.departure(), "one drain, one deadline");
            }
            (Phase::Draining(_), _) => panic!("back from Draining to {after:?}"),
            (Phase::Starting, _) => {}
            (_, Phase::Starting) => panic!("back to Starting from {before:?}"),
            (Phase::Shedding(one), Phase::Shedding(other)) => assert_eq!(one.since, other.since),
            (_, Phase::Drained(_)) => panic!("skipped Draining from {before:?}"),
            _ => {}
        }
        if let Phase::Shedding(shed) = after {
            assert!(!shed.reasons.is_empty());
        }
        if let Phase::Drained(departed) = after {
            assert!(departed.at <= departed.departure.deadline, "{departed:?}");
        }
        if after.container_hook() == HookAnswer::Release {
            self.held = None;
        }
    }

    /// What is true whenever the driver sleeps.
    fn rests(&self) {
        let (machine, now) = (&self.machine, self.now);
        let phase = machine.phase();
        if let Phase::Draining(departure) = phase {
            assert!(now < departure.deadline, "the deadline was missed");
        } else if let Some(held) = self.held {
            assert!(now < held + budget().container_drain_timeout(), "a hook is held too long");
        }
        match machine.exit(now) {
            Exit::Abort => assert!(self.signals >= 2),
            Exit::HardStop => assert_eq!(self.signals, 1),
            Exit::Leave => assert_eq!((self.signals, self.errands), (1, 0)),
            Exit::Stay => assert!(self.signals < 2),
        }
        let timeout = machine.poll_timeout();
        if let Some(timeout) = timeout {
            assert!(timeout > now, "livelock: {timeout} at {now}");
        }
        // Nothing happens before the time it asks for.
        let idle = timeout.map_or(Duration::from_secs(3_600), |timeout| {
            timeout.saturating_since(now).saturating_sub(Duration::from_nanos(1))
        });
        let mut early = machine.clone();
        early.handle_timeout(now + idle);
        assert_eq!(early.phase(), phase, "a step nobody was told of");
        assert_eq!(early.exit(now + idle), machine.exit(now), "an exit nobody was told of");
        assert_eq!(early.poll_timeout(), timeout);
    }
}

fn walk_all(walk: &Walk, depth: usize, walked: &mut usize) {
    for act in ACTS {
        let mut next = walk.clone();
        next.act(act);
        *walked += 1;
        if depth > 1 {
            walk_all(&next, depth - 1, walked);
        }
    }
}

#[test]
fn all_short_sequences_keep_the_rules() {
    for entry in [Entry::Accepts, Entry::Ready] {
        let mut walked = 0;
        walk_all(&Walk::new(entry), 5, &mut walked);
        assert_eq!(walked, (1..=5).map(|depth| ACTS.len().pow(depth)).sum::<usize>());
    }
}

#[test]
fn all_short_sequences_keep_the_rules_once_the_app_is_up() {
    let mut walk = Walk::new(Entry::Accepts);
    walk.act(Act::Input(Input::Upstream(Reach::Accepted)));
    walk_all(&walk, 5, &mut 0);
}

fn act() -> impl Strategy<Value = Act> {
    let millis = |range| prop::num::u64::ANY.prop_map(move |n: u64| n % range);
    prop_oneof![
        8 => prop::sample::select(&ACTS[..]),
        4 => millis(2_500).prop_map(|ms| Act::Wait(Duration::from_millis(ms))),
        1 => millis(90_000).prop_map(|ms| Act::Wait(Duration::from_millis(ms))),
    ]
}

proptest! {
    #[test]
    fn long_sequences_keep_the_rules(
        entry in prop::sample::select(vec![Entry::Accepts, Entry::Anyhow, Entry::Ready]),
        acts in prop::collection::vec(act(), 1..80),
    ) {
        let mut walk = Walk::new(entry);
        for act in acts {
            walk.act(act);
        }
    }

    #[test]
    fn whatever_came_before_a_drain_ends_by_its_deadline_and_releases_hooks(
        acts in prop::collection::vec(act(), 0..40),
        later in prop::collection::vec(act(), 0..10),
    ) {
        let mut walk = Walk::new(Entry::Accepts);
        acts.into_iter().for_each(|act| walk.act(act));
        walk.act(Act::Input(Input::ContainerHook));
        walk.act(Act::Input(Input::PodHook));
        later.into_iter().for_each(|act| walk.act(act));
        let departure = walk.machine.phase().departure().unwrap();
        walk.act(Act::Wait(departure.deadline.saturating_since(walk.now)));
        prop_assert_eq!(walk.machine.phase().name(), "Drained");
        prop_assert_eq!(walk.machine.phase().container_hook(), HookAnswer::Release);
        prop_assert_eq!(walk.held, None);
    }
}
