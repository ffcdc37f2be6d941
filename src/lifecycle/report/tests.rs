use super::*;
use crate::lifecycle::Cause;

fn secs(secs: u64) -> Uptime {
    Uptime::from_millis(secs * 1_000)
}

fn departure() -> Departure {
    Departure { cause: Cause::PreStop, since: secs(10), deadline: secs(70) }
}

fn counts(values: &[(Count, u64)]) -> Counts {
    let mut counts = Counts::default();
    for (count, value) in values {
        counts[*count] = *value;
    }
    counts
}

/// A journal of a drain that began at 10 s with `start`, and ended at 16 s by `proof` with `end`.
fn journal(start: &Counts, proof: Proof, end: &Counts) -> Journal {
    let mut journal = Journal::default();
    journal.entered(&Phase::Starting, secs(0), &Counts::default());
    journal.entered(&Phase::Serving, secs(1), &Counts::default());
    journal.entered(&Phase::Draining(departure()), secs(10), start);
    let departed = Departed { departure: departure(), at: secs(16), proof };
    journal.entered(&Phase::Drained(departed), secs(16), end);
    journal
}

#[test]
fn it_tells_what_happened_since_the_drain_began() {
    use Count::*;
    let start = counts(&[
        (Connections, 40),
        (Parked, 7),
        (RequestsServed, 1_000),
        (ClosedByPeer, 5),
        (AbandonedTunnels, 1),
    ]);
    let now = counts(&[
        (Connections, 2),
        (Parked, 0),
        (RequestsServed, 1_020),
        (ClosedByPeer, 25),
        (ClosedIdle, 8),
        (LateRequests, 3),
        (ParkedAnswered, 6),
        (ParkedReleased, 1),
        (PeersIgnoringClose, 2),
        (AbandonedTunnels, 1),
    ]);
    let report = journal(&start, Proof::Idle, &now).report(&now).unwrap();
    let expected = [
        r#"{"reason":"PreStop","outcome":"drained","duration_ms":6000,"#,
        r#""phases":[{"phase":"Starting","at_ms":0,"reasons":[]},"#,
        r#"{"phase":"Serving","at_ms":1000,"reasons":[]},"#,
        r#"{"phase":"Draining","at_ms":10000,"reasons":["PreStop"]},"#,
        r#"{"phase":"Drained","at_ms":16000,"reasons":["PreStop"]}],"#,
        r#""connections_at_start":40,"closed_by_peer":20,"closed_idle":8,"requests_served":20,"#,
        r#""late_requests":3,"parked_at_start":7,"parked_answered":6,"parked_released":1,"#,
        r#""goodbyes":{"http1":0,"http2":0,"grpc":0,"sse":0,"websocket":0},"abandoned":{"requests":0,"responses":0,"tunnels":0},"#,
        r#""peers_ignoring_close":2}"#,
    ];
    assert_eq!(serde_json::to_string(&report).unwrap(), expected.concat());
    assert_eq!(report.exit_code(), 0);
}

#[test]
fn there_is_none_before_a_drain_has_ended() {
    let mut journal = Journal::default();
    journal.entered(&Phase::Serving, secs(1), &Counts::default());
    assert_eq!(journal.report(&Counts::default()), None);
    journal.entered(&Phase::Draining(departure()), secs(10), &Counts::default());
    assert_eq!(journal.report(&Counts::default()), None);
}

#[test]
fn what_was_cut_makes_it_forced_and_75() {
    let end = counts(&[(Count::InFlight, 3)]);
    let now = counts(&[
        (Count::AbandonedRequests, 1),
        (Count::AbandonedResponses, 2),
        (Count::AbandonedTunnels, 3),
    ]);
    let report = journal(&Counts::default(), Proof::Deadline, &end).report(&now).unwrap();
    assert_eq!((report.outcome, report.abandoned_total()), (Ending::Forced, 6));
    assert_eq!(report.exit_code(), 75);
}

#[test]
fn a_deadline_with_goodbyes_only_is_forced_but_abandons_nothing() {
    let end = counts(&[(Count::InFlight, 3)]);
    let now = counts(&[(Count::GoodbyeHttp1, 3)]);
    let report = journal(&Counts::default(), Proof::Deadline, &end).report(&now).unwrap();
    assert_eq!((report.outcome, report.goodbyes.http1), (Ending::Forced, 3));
    assert_eq!(report.exit_code(), 0);
}

#[test]
fn a_deadline_that_found_nothing_in_flight_is_forced_but_no_failure() {
    let none = Counts::default();
    let report = journal(&none, Proof::Deadline, &none).report(&none).unwrap();
    assert_eq!((report.outcome, report.exit_code()), (Ending::Forced, EXIT_DRAINED));
}

#[test]
fn a_second_signal_is_an_abort_also_before_the_drain_has_ended() {
    let mut journal = Journal::default();
    journal.entered(&Phase::Draining(departure()), secs(10), &Counts::default());
    journal.left(Exit::Abort, secs(12));
    let report = journal.report(&Counts::default()).unwrap();
    assert_eq!((report.outcome, report.duration_ms), (Ending::Aborted, 2_000));
}

#[test]
fn an_app_that_flaps_does_not_grow_it() {
    let mut journal = Journal::default();
    for second in 0..1_000 {
        journal.entered(&Phase::Serving, secs(second), &Counts::default());
    }
    let departed = Departed { departure: departure(), at: secs(1_002), proof: Proof::Idle };
    journal.entered(&Phase::Drained(departed), secs(1_002), &Counts::default());
    let report = journal.report(&Counts::default()).unwrap();
    assert_eq!(report.phases.len(), STEPS_MAX);
    assert_eq!(report.phases.last().unwrap().phase, "Drained");
}
