use super::*;
use crate::proxy::{
    request::{self, HeadLimits, Parsed},
    response,
};

const LIMITS: HeadLimits = HeadLimits { bytes: 32 * 1024, fields: 100 };
const FORWARDING: Forwarding<'_> = Forwarding {
    peer: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)),
    scheme: Scheme::Http,
    trusted: false,
    default_host: "app:80",
};

fn sent_on(forwarding: &Forwarding<'_>, head: &str) -> String {
    let parsed = request::parse(head.as_bytes(), LIMITS, |_, request| {
        let mut out = Vec::new();
        to_upstream(request, forwarding, &mut out);
        Ok(String::from_utf8(out).unwrap())
    });
    match parsed.unwrap() {
        Parsed::Whole(_, sent) => sent,
        Parsed::Partial => panic!("partial: {head:?}"),
    }
}

fn answered(policy: KeepAlive, verdict: Verdict, delivery: Delivery, head: &str) -> String {
    let parsed = response::parse(head.as_bytes(), LIMITS, false, |_, response| {
        let mut out = Vec::new();
        let closing = Closing { verdict, policy, idle_timeout: Duration::from_secs(620) };
        to_client(response, delivery, &closing, &mut out);
        Ok(String::from_utf8(out).unwrap())
    });
    match parsed.unwrap() {
        Parsed::Whole(_, sent) => sent,
        Parsed::Partial => panic!("partial: {head:?}"),
    }
}

#[test]
fn end_to_end_fields_pass_as_they_came() {
    let sent = sent_on(
        &FORWARDING,
        "GET /a HTTP/1.1\r\nX-B: 1\r\nHost: h\r\nx-a: \u{e9}\r\nX-B: 2\r\nCookie: a=b\r\n\r\n",
    );
    assert_eq!(
        sent,
        "GET /a HTTP/1.1\r\nHost: h\r\nX-B: 1\r\nx-a: \u{e9}\r\nX-B: 2\r\nCookie: a=b\r\n\
         X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n\r\n"
    );
}

#[test]
fn fields_for_one_hop_stay_on_it() {
    let sent = sent_on(
        &FORWARDING,
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, X-One\r\nConnection: x-two\r\nX-One: 1\r\nX-Two: 2\r\n\
         Keep-Alive: 5\r\nProxy-Connection: close\r\nProxy-Authorization: x\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\
         TE: trailers, deflate\r\nX-Three: 3\r\n\r\n",
    );
    assert_eq!(
        sent,
        "GET / HTTP/1.1\r\nHost: h\r\nX-Three: 3\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n\
         X-Forwarded-Host: h\r\nTE: trailers\r\nConnection: TE\r\n\r\n"
    );
}

#[test]
fn what_the_peer_claims_is_believed_only_if_it_is_trusted() {
    let head = "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 203.0.113.1\r\nX-Forwarded-Proto: https\r\n\
                X-Forwarded-Host: outside\r\nForwarded: for=203.0.113.1\r\n\r\n";
    assert_eq!(
        sent_on(&FORWARDING, head),
        "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 192.0.2.7\r\n\
         X-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\nForwarded: for=192.0.2.7;proto=http\r\n\r\n"
    );
    assert_eq!(
        sent_on(&Forwarding { trusted: true, ..FORWARDING }, head),
        "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: outside\r\n\
         Forwarded: for=203.0.113.1\r\nX-Forwarded-For: 203.0.113.1, 192.0.2.7\r\n\
         Forwarded: for=192.0.2.7;proto=http\r\n\r\n"
    );
}

#[test]
fn an_http_1_0_request_gets_a_host() {
    assert!(
        sent_on(&FORWARDING, "GET / HTTP/1.0\r\n\r\n")
            .starts_with("GET / HTTP/1.1\r\nHost: app:80\r\n")
    );
}

#[test]
fn the_apps_own_connection_is_its_own() {
    let head = "HTTP/1.0 200 Fine\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
                Content-Length: 3\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nServer: s\r\n\r\n";
    assert_eq!(
        answered(KeepAlive::Strip, Verdict::Persist, Delivery::Plain, head),
        "HTTP/1.1 200 Fine\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nServer: s\r\nContent-Length: 3\r\n\r\n"
    );
}

#[test]
fn each_policy_says_what_it_promises() {
    let head = "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n";
    let tail = |policy, verdict| {
        let whole = answered(policy, verdict, Delivery::Plain, head);
        whole.strip_prefix("HTTP/1.1 200 OK\r\n").unwrap().to_owned()
    };
    assert_eq!(tail(KeepAlive::Strip, Verdict::Persist), "Content-Length: 0\r\n\r\n");
    assert_eq!(
        tail(KeepAlive::Rewrite, Verdict::Persist),
        "Content-Length: 0\r\nConnection: keep-alive\r\nKeep-Alive: timeout=620\r\n\r\n"
    );
    assert_eq!(
        tail(KeepAlive::Pass, Verdict::Persist),
        "Keep-Alive: timeout=5\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"
    );
    for policy in [KeepAlive::Strip, KeepAlive::Rewrite, KeepAlive::Pass, KeepAlive::Close] {
        assert_eq!(tail(policy, Verdict::Close), "Content-Length: 0\r\nConnection: close\r\n\r\n");
    }
}

#[test]
fn a_body_is_announced_as_it_is_sent() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let plain = answered(KeepAlive::Strip, Verdict::Close, Delivery::Plain, chunked);
    assert_eq!(plain, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    let again = answered(KeepAlive::Strip, Verdict::Persist, Delivery::Chunked, chunked);
    assert_eq!(again, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    let none = "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n";
    let none = answered(KeepAlive::Strip, Verdict::Persist, Delivery::Plain, none);
    assert_eq!(none, "HTTP/1.1 204 No Content\r\n\r\n");
}

#[test]
fn of_the_trailers_only_the_declared_and_harmless_pass() {
    let mut out = Vec::new();
    let raw = b"X-Sum: 1\r\nContent-Length: 9\r\nHost: h\r\nX-Other: 2\r\n";
    trailers(raw, b"x-sum, content-length, host,", &mut out).unwrap();
    assert_eq!(out, b"X-Sum: 1\r\n");
}

#[test]
fn our_own_answers_say_whose_fault_it_is() {
    let mut out = Vec::new();
    fault(Fault::Departing, false, &mut out);
    let answer = String::from_utf8(out).unwrap();
    for part in [
        "HTTP/1.1 503 Service Unavailable\r\n",
        "Proxy-Status: lameduck; error=destination_unavailable",
        "Retry-After: 1\r\n",
        "Connection: close\r\n",
    ] {
        assert!(answer.contains(part), "{part:?} is missing in {answer:?}");
    }
    let mut head = Vec::new();
    fault(Fault::Departing, true, &mut head);
    assert!(head.ends_with(b"\r\n\r\n"), "a response to HEAD has no body");
}

#[test]
fn the_app_is_told_how_the_client_has_connected() {
    let head =
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: http\r\nForwarded: proto=http\r\n\r\n";
    let sent = sent_on(&Forwarding { scheme: Scheme::Https, ..FORWARDING }, head);
    assert!(sent.contains("\r\nX-Forwarded-Proto: https\r\n"), "{sent}");
    assert!(sent.contains("\r\nForwarded: for=192.0.2.7;proto=https\r\n"), "{sent}");
    // A trusted proxy in front knows better who its client is.
    let forwarding = Forwarding { scheme: Scheme::Https, trusted: true, ..FORWARDING };
    assert!(sent_on(&forwarding, head).contains("\r\nX-Forwarded-Proto: http\r\n"));
}

#[test]
fn certificates_that_clients_merely_claim_are_dropped() {
    for name in ["Client-Cert", "CLIENT-CERT-CHAIN", "X-Forwarded-Client-Cert"] {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{name}: :AAAA:\r\n\r\n");
        assert!(!sent_on(&FORWARDING, &head).contains(name), "{name}");
        let trusted = Forwarding { trusted: true, ..FORWARDING };
        assert!(sent_on(&trusted, &head).contains(name), "{name}");
    }
}
